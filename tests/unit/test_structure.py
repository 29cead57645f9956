"""Who may import whom, and the one place that starts processes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

DEPLOY = sorted((ROOT / "deploy").rglob("*.py"))
SITE = sorted((ROOT / "site").rglob("*.py"))
STANDARD_ONLY = ["bootstrap", "venvs/build", "venvs/layers", "core/shell", "core/errors", "venvs/finish_layer"]
THIRD_PARTY = {"invoke", "fabric", "rich", "honcho", "watchfiles", "pydantic", "yaml", "paramiko"}


def imports(path: Path) -> set[str]:
    """The top-level names that a file imports, late imports too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", DEPLOY, ids=lambda path: path.stem)
def test_the_machinery_knows_neither_the_front_door_nor_django(path: Path) -> None:
    assert not imports(path) & {"tasks", "django", "celery", "mysite", "polls", "invoke"}


@pytest.mark.parametrize("path", SITE, ids=lambda path: path.stem)
def test_the_site_knows_nothing_of_ours(path: Path) -> None:
    assert not imports(path) & {"tasks", "deploy", "invoke"}


@pytest.mark.parametrize("name", STANDARD_ONLY)
def test_what_the_bootstrap_needs_is_in_the_standard_library(name: str) -> None:
    assert not imports(ROOT / "deploy" / f"{name}.py") & THIRD_PARTY


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield f"{owner.id}.{node.func.attr}" if isinstance(owner, ast.Name) else node.func.attr


def test_one_function_starts_processes() -> None:
    starters = {
        "subprocess.Popen",
        "subprocess.run",
        "subprocess.call",
        "subprocess.check_output",
        "os.system",
        "os.popen",
    }
    found = [(path.name, call) for path in [*DEPLOY, ROOT / "tasks.py"] for call in calls(path) if call in starters]
    assert found == [("shell.py", "subprocess.Popen")]
