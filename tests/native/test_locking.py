"""Locks of another team's project, made by the real resolver: its Python and its pins are its own affair."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.venvs import layers, locking
from tests.support import TOOLS

UV = str(TOOLS / "uv")


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.in").write_text(text)
    return folder


def compiled(tmp_path: Path, requirements: Path, python: tuple[int, int]) -> Path:
    locking.compile_into(tmp_path / "made", requirements, UV, False, lambda _: None, python=python)
    return tmp_path / "made"


def test_django_6_is_locked_for_its_python_and_the_tools_for_theirs(tmp_path: Path) -> None:
    requirements = write(tmp_path / "r", base="django>=6,<6.1\n", prod="-r base.in\ngunicorn\n", tools="invoke<3\n")
    with pytest.raises(Failure, match=r'Set `python: "3.12"` under project in invoke.yaml'):
        compiled(tmp_path, requirements, (3, 11))
    made = compiled(tmp_path, requirements, (3, 12))
    assert {name: layers.lowest(made, name) for name in ("base", "prod", "tools")} == {
        "base": (3, 12),
        "prod": (3, 12),
        "tools": (3, 11),
    }
    assert next(pin.version for pin in layers.read_lock(made, "base") if pin.name == "django").startswith("6.0")


def test_a_pin_of_the_projects_does_not_change_the_tools(tmp_path: Path) -> None:
    requirements = write(tmp_path / "r", base="pydantic<2\n", test="-r base.in\n", tools="pydantic>=2.7\n")
    made = compiled(tmp_path, requirements, (3, 11))
    versions = {
        name: next(pin.version for pin in layers.read_lock(made, name) if pin.name == "pydantic")
        for name in ("base", "tools")
    }
    assert versions["base"].startswith("1.")
    assert versions["tools"].startswith("2.")


def test_an_environment_on_both_is_a_conflict_with_its_reason(tmp_path: Path) -> None:
    texts = {"base": "pydantic<2\n", "test": "-r base.in\n-r tools.in\n", "tools": "pydantic>=2.7\n"}
    with pytest.raises(Failure, match=r"requirements/base.in conflicts with tools.in: .*pydantic.*no lock was changed"):
        compiled(tmp_path, write(tmp_path / "r", **texts), (3, 11))
