"""Which Python an environment gets: one that its lock is for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.venvs import layers, store
from deploy.venvs.store import Python, Store

RUNNING = store.describe_running()
NEXT = (sys.version_info[0], sys.version_info[1] + 1)


def made(tmp_path: Path, lowest: tuple[int, int]) -> Store:
    (tmp_path / "dev.txt").write_text(layers.for_python("", lowest))
    return Store(tmp_path / "venvs", tmp_path)


def test_the_running_one_if_it_is_new_enough(tmp_path: Path) -> None:
    assert store.chosen_python(made(tmp_path, (3, 11)), "dev") == RUNNING


def test_else_the_oldest_on_this_machine_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (NEXT[0], NEXT[1] + 1)
    there = {f"python{NEXT[0]}.{NEXT[1]}": "/shim", f"python{later[0]}.{later[1]}": "/real"}
    found = Python("/real", f"cpython-{later[0]}.{later[1]}-x-y")

    def find(name: str) -> Python:
        if name == "/shim":
            raise Failure("nothing behind it")
        return found

    monkeypatch.setattr(shutil, "which", there.get)
    monkeypatch.setattr(store, "find_python", find)
    assert store.chosen_python(made(tmp_path, NEXT), "dev") == found


def test_none_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    wanted = ".".join(map(str, NEXT))
    words = rf"requirements/dev.txt is for Python {wanted} and newer, but this is .*: install python{wanted}, or name"
    with pytest.raises(Failure, match=words):
        store.chosen_python(made(tmp_path, NEXT), "dev")


def test_one_that_is_named_and_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"is for Python .* and newer, but this is"):
        store.chosen_python(made(tmp_path, NEXT), "dev", sys.executable)
