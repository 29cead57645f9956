"""A mistake in `invoke.yaml` is one line, before Invoke would show a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke import Config
from invoke.util import yaml

from deploy.project import file
from tests import support

#: Invoke's own sections.
KNOWN = Config.global_defaults()


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
        ("run: true\n", "invoke.yaml: run must have keys below it: it is Invoke's own"),
        ("run: {echo: {a: 1}}\n", "invoke.yaml: run.echo must be one value, without keys: it is Invoke's own"),
        ("own: {~: x}\n", "invoke.yaml: the key None must be a text: write it in quotes"),
        ("project:\n  name: a\n  name: b\n", "invoke.yaml:3: project.name is defined twice; remove one"),
        ("project: {name: a}\nx: 1\nproject: {name: b}\n", "invoke.yaml:3: project is defined twice; remove one"),
        ("x: &x {a: 1}\nproject: {name: shop, env: *x}\n", ""),
        ("project:\n  name: \0\n", "invoke.yaml:1: unacceptable character #x0000: special characters are not allowed"),
        ("own: {1: x}\n", "invoke.yaml: the key 1 must be a text: write it in quotes"),
        ("project: &a {env: *a}\n", "invoke.yaml: a value contains itself; write it out"),
        ("name: !!python/object:x.y {}\n", "invoke.yaml:1: could not determine a constructor for the tag"),
        ("", ""),
    ],
)
def test_each_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "invoke.yaml").write_text(text)
    found = file.wrong(tmp_path, ["invoke"], yaml, KNOWN)
    assert found.startswith(said)
    assert bool(found) == bool(said)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("more.yaml", "a: [\n", "more.yaml:2: "),
        ("more.yml", "- a\n", "more.yml:1: must have sections"),
        ("more.json", '{"project": ', "more.json:1: Expecting value; fix the line"),
        ("more.json", '{"project": 3}', "more.json: `project` must have keys below it"),
        ("more.py", "x = 1\ny = (\n", "more.py:2: '(' was never closed; fix the line"),
        ("more.txt", "", "--config {path}: must end in .yaml, .yml, .json or .py"),
        ("more", "", "--config {path}: must end in .yaml, .yml, .json or .py"),
        ("more.yaml", None, "--config {path}: there is no such file"),
        ("more.py", "raise SystemExit\n", ""),
        ("more.yaml", "project: {name: shop}\n", ""),
    ],
)
def test_a_file_that_the_command_line_or_a_variable_names_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    for words in (["-f", str(path)], [f"-f{path}"], ["status", f"--config={path}"]):
        found = file.wrong(tmp_path, ["invoke", *words], yaml, KNOWN)
        assert found.startswith(said.format(path=path))
        assert bool(found) == bool(said)
    monkeypatch.setenv("INVOKE_RUNTIME_CONFIG", str(path))
    assert file.wrong(tmp_path, ["invoke", "status"], yaml, KNOWN) == found


def test_no_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    assert file.problem(tmp_path / "invoke.yaml", yaml, KNOWN) == ""
    (tmp_path / "invoke.yaml").write_bytes(b"\xff\xfe")
    assert file.problem(tmp_path / "invoke.yaml", yaml, KNOWN) == "invoke.yaml: is not UTF-8; save it as UTF-8"


def test_invoke_shows_the_line_and_no_traceback(tmp_path: Path) -> None:
    project = support.copy_project(tmp_path / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    (project / "invoke.yaml").write_text("project: shop\n")

    def says(*words: str, **env: str) -> str:
        result = support.invoke(project, *words, env=env)
        assert (result.code, result.stdout) == (1, "")
        return result.stderr.strip()

    assert says("status") == "invoke.yaml: `project` must have keys below it, such as `name: shop`"
    (project / "invoke.yaml").write_text("project: {name: shop, port: 8000}\n")
    wrong = "invoke: invalid literal for int() with base 10: 'x'; check its options, the variables INVOKE_"
    assert says("venv-tree", INVOKE_PROJECT_PORT="x").startswith(wrong)
    assert "Traceback" in says("--debug", "venv-tree", INVOKE_PROJECT_PORT="x")
    assert says("-T", "x", "venv-tree") == "--command-timeout is 'x', but must be a whole number"
