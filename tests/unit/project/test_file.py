"""A mistake in `invoke.yaml` is one line, before Invoke would show a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.util import yaml

from deploy.project import file
from tests import support


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("project:\n\tname: x\n", "invoke.yaml:2: found character '\\t' that cannot start any token; fix the line"),
        ("- a\n", "invoke.yaml:1: must have sections, such as `project:`"),
        ("project: shop\n", "invoke.yaml: `project` must have keys below it, such as `name: shop`"),
        ("project:\n", "invoke.yaml: `project` must have keys below it, such as `name: shop`"),
        ("project:\n  name: {a: b}\n", "invoke.yaml: project.name must be one value, without keys of its own"),
        ("project:\n  name: shop\n  env: {A: plain}\n", ""),
        ("run: {echo: true}\n", ""),
        ("", ""),
    ],
)
def test_each_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "invoke.yaml").write_text(text)
    assert file.problem(tmp_path / "invoke.yaml", yaml) == said


def test_no_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    assert file.problem(tmp_path / "invoke.yaml", yaml) == ""
    (tmp_path / "invoke.yaml").write_bytes(b"\xff\xfe")
    assert file.problem(tmp_path / "invoke.yaml", yaml) == "invoke.yaml: is not UTF-8; save it as UTF-8"


def test_invoke_shows_the_line_and_no_traceback(tmp_path: Path) -> None:
    project = support.copy_project(tmp_path / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    (project / "invoke.yaml").write_text("project: shop\n")
    result = support.invoke(project, "status")
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.strip() == "invoke.yaml: `project` must have keys below it, such as `name: shop`"
