"""The exchange of files: killed at each of its steps, the next command finds all as before or all as after."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.project.upgrade import swap

BEFORE = {
    "tasks.py": "old",
    "Dockerfile": "old",
    "deploy/bootstrap.py": "old",
    "deploy/core/a.py": "old",
    "deploy/core/gone.py": "old",
    "deploy/former/b.py": "old",
    "deploy/single.py": "old",
    "nginx/site.conf": "old",
    "deploy/environments/example.yaml": "old",
    "deploy/local/README.md": "old",
}
AFTER = {
    "tasks.py": "new",
    "Dockerfile": "new",
    "deploy/bootstrap.py": "new",
    "deploy/core/a.py": "new",
    "deploy/added/c.py": "new",
    "deploy/single.py/now_a_folder.py": "new",
    "nginx/site.conf": "new",
    "deploy/environments/example.yaml": "new",
    "deploy/local/README.md": "new",
}
THEIRS = {
    "deploy/environments/production.yaml": "own",
    "deploy/local/compose.yaml": "own",
    "requirements/base.in": "own",
    "project_tasks.py": "own",
}


class Killed(BaseException):
    """As a kill: nothing of the program runs afterwards."""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and swap.STAGE not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def prepared(root: Path) -> None:
    write(root, BEFORE | THEIRS)
    stage = swap.begin(root)
    write(stage / swap.NEW, AFTER)
    write(stage / swap.OLD, BEFORE)


def decide(root: Path) -> None:
    swap.decide(root, swap.units(AFTER), swap.units(BEFORE) - swap.units(AFTER))


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> bool:
    """Run with the n-th rename or removal killed before it happens; whether there were so many."""
    left = [number]

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def replaced(*args: object, **kwargs: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            real(*args, **kwargs)

        return replaced

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            action()
        except Killed:
            return True
    return False


def test_killed_at_any_step_it_is_as_before_or_the_next_command_makes_it_as_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        root = tmp_path / str(number)
        prepared(root)

        def upgrade(root: Path = root) -> None:
            decide(root)
            swap.finish(root)

        killed = killed_at(number, monkeypatch, upgrade)
        if not swap.is_decided(root):
            assert content(root) == (BEFORE if number == 0 else AFTER) | THEIRS
        else:
            assert (root / "tasks.py").exists()
            assert (root / "deploy" / "bootstrap.py").exists(), "the next command begins here"
            assert not killed_at(1000, monkeypatch, lambda root=root: swap.finish(root))  # type: ignore[misc]
            assert content(root) == AFTER | THEIRS
        if not killed:
            assert number > len(swap.units(AFTER))
            return
    raise AssertionError("it has no end")


def test_a_second_kill_while_the_next_command_finishes_is_finished_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path)
    decide(tmp_path)
    kills = 0
    while killed_at(2, monkeypatch, lambda: swap.finish(tmp_path)):
        kills += 1
    assert kills > 3
    assert content(tmp_path) == AFTER | THEIRS


def test_what_was_put_is_taken_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (4, 1000):
        root = tmp_path / str(number)
        prepared(root)
        decide(root)
        killed_at(number, monkeypatch, lambda root=root: swap.finish(root))  # type: ignore[misc]
        swap.decide(root, swap.units(BEFORE), swap.units(AFTER) - swap.units(BEFORE), swap.OLD)
        swap.finish(root)
        assert content(root) == BEFORE | THEIRS


def test_the_next_command_finishes_it_by_a_program_that_needs_nothing_else_and_then_runs(tmp_path: Path) -> None:
    prepared(tmp_path)
    decide(tmp_path)
    (tmp_path / "deploy" / "core").rename(tmp_path / "elsewhere")  # as between two renames
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / bootstrap.FINISH), "sh", "-c", "echo asked for"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "asked for\n")
    assert done.stderr == "an upgrade that was stopped half-way is finished now\n"
    assert content(tmp_path).items() >= (AFTER | THEIRS).items()
    assert not (tmp_path / bootstrap.HALF_WAY).exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    with swap.locked(tmp_path, 0) as free, swap.locked(tmp_path, 0) as second:
        assert (free, second) == (True, False)
    with swap.locked(tmp_path, 0) as free:
        assert free


def test_git_does_not_see_the_folder_of_an_upgrade(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    prepared(tmp_path)
    said = subprocess.run(["git", "-C", str(tmp_path), "status", "--porcelain"], capture_output=True, check=True)
    assert swap.STAGE.encode() not in said.stdout


def test_bootstrap_looks_for_what_is_written_here() -> None:
    assert f"{swap.STAGE}/{swap.PLAN}" == bootstrap.HALF_WAY
    assert f"{swap.STAGE}/{swap.PROGRAM}" == bootstrap.FINISH
