"""Who may import whom, computed from the imports; the one place that starts processes; how long a module may be."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

KIT = sorted((ROOT / "deploy" / "kit").rglob("*.py"))
DEPLOY = sorted(set((ROOT / "deploy").rglob("*.py")) - set(KIT))
SITE = sorted((ROOT / "site").rglob("*.py"))
SUITES = sorted(
    path for path in (ROOT / "tests").rglob("*.py") if path.parent != ROOT / "tests" and "bench" not in path.parts
)
#: The rooms that each room may import from. Every arrow that is not here is forbidden.
BELOW: dict[str, set[str]] = {
    "core": set(),
    "project": {"core"},
    "venvs": {"core", "project"},
    "doctor": {"core", "project", "venvs"},
    "checks": {"core", "project", "venvs"},
    "bootstrap": {"core", "venvs"},
    "front": {"core", "project", "venvs"},
    "places": {
        *("core", "project", "venvs", "doctor", "native", "docker", "compose", "swarm"),
        *("hosts.environment", "hosts.release", "hosts.operate"),
    },
    "native": {"core", "project", "venvs"},
    "docker": {"core", "project", "venvs", "doctor"},
    "compose": {"core", "project", "venvs", "doctor", "docker"},
    "swarm": {"core", "project", "venvs", "doctor", "docker"},
    "hosts.layout": {"core", "project"},
    "hosts.store": {"core", "venvs"},
    "hosts.rekey": set(),
    "hosts.environment": {"core", "project", "hosts.layout"},
    "hosts.ssh": {"core", "project", "hosts.layout", "hosts.environment"},
    "hosts.logs": {"core", "hosts.environment", "hosts.ssh"},
    "hosts.setup": {"core", "project", "hosts.layout", "hosts.environment", "hosts.ssh"},
    "hosts.release": {
        "core",
        "project",
        "hosts.layout",
        "hosts.environment",
        "hosts.ssh",
        "hosts.setup",
        "hosts.rekey",
    },
    "hosts.backup": {
        *("core", "project", "hosts.layout", "hosts.environment", "hosts.ssh"),
        *("hosts.setup", "hosts.release"),
    },
    "hosts.operate": {
        *("core", "project", "hosts.layout", "hosts.environment", "hosts.ssh"),
        *("hosts.setup", "hosts.release", "hosts.backup", "hosts.logs"),
    },
}
#: What a Python that has only its standard library runs.
BARE = (
    "deploy.bootstrap",
    "deploy.hosts.store",
    "deploy.hosts.rekey",
    "deploy.venvs.finish_layer",
    "deploy.project.upgrade.swap",
)
LONGEST = 400


def module(path: Path) -> str:
    """The dotted name of a file of the project."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in DEPLOY}


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports, late imports too; not what only a type checker does."""
    found = set()
    tree = ast.parse(path.read_text())
    typing = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return frozenset(found)


def room(name: str) -> str:
    """The room of a module of `deploy`: its folder, and within `hosts` the folder there."""
    parts = name.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] == "hosts" else parts[0]


def within(name: str) -> set[str]:
    """What a module of `deploy` imports of `deploy`."""
    return {each for each in imports(MODULES[name]) if each in MODULES and each != "deploy"}


@pytest.mark.parametrize("name", [name for name in MODULES if not MODULES[name].name.startswith("__init__")])
def test_a_room_imports_only_from_the_rooms_below_it(name: str) -> None:
    here = room(name)
    wrong = {each for each in within(name) if room(each) != here and room(each) not in BELOW[here]}
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def test_the_map_in_the_page_is_this_one() -> None:
    text = (ROOT / "deploy" / "README.md").read_text().partition("## Rooms, and who may import whom")[2]
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|$", text.partition("\n## ")[0], re.MULTILINE)
    shown = {
        name: set(re.findall(r"`([\w.]+)`", below)) for row, below in rows for name in re.findall(r"`([\w.]+)`", row)
    }
    assert {name: below - {"deploy"} for name, below in shown.items()} == BELOW


def test_no_module_imports_itself_by_way_of_others() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for each in sorted(within(name)):
                visit(each, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("name", BARE)
def test_what_runs_without_packages_reaches_only_the_standard_library(name: str) -> None:
    reached, waiting = set(), [name]
    while waiting:
        each = waiting.pop()
        if each in reached:
            continue
        reached.add(each)
        folders = {".".join(each.split(".")[:end]) for end in range(1, each.count(".") + 1)}
        for other in imports(MODULES[each]) | folders:
            if other in MODULES:
                waiting.append(other)
            else:
                assert other.split(".")[0] in sys.stdlib_module_names, f"{each} imports {other}"


@pytest.mark.parametrize("path", DEPLOY, ids=module)
def test_the_machinery_knows_neither_the_front_door_nor_django(path: Path) -> None:
    outer = {name.split(".")[0] for name in imports(path)}
    assert not outer & {"tasks", "django", "celery", "mysite", "polls", "invoke"}


@pytest.mark.parametrize("path", SITE, ids=lambda path: path.stem)
def test_the_site_knows_nothing_of_ours(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"tasks", "deploy", "invoke", "portico_site"}


@pytest.mark.parametrize("path", KIT, ids=lambda path: path.stem)
def test_the_kit_imports_only_django_celery_and_the_standard_library(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    # kombu, amqp and billiard are Celery's own, asgiref is Django's; the result backend is imported where it is.
    known = {"django", "asgiref", "celery", "kombu", "amqp", "billiard", "django_celery_results", "portico_site"}
    assert outside <= known


@pytest.mark.parametrize("path", [path for path in DEPLOY if path.name == "__init__.py"], ids=module)
def test_a_room_is_described_where_it_begins_and_imports_nothing_there(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert not imports(path)


@pytest.mark.parametrize("path", [*DEPLOY, *KIT], ids=module)
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


def test_all_tasks_are_read_in_one_file_of_600_lines() -> None:
    assert len((ROOT / "tasks.py").read_text().splitlines()) <= 600


def test_an_older_commit_is_asked_for_its_layers_in_the_way_it_knows() -> None:
    # `remote-deploy --ref OLD` runs that commit's module under the script of today.
    script = (ROOT / "deploy" / "hosts" / "scripts" / "ship.sh").read_text()
    assert 'python3 -m deploy.hosts.store "$srv/layers" "$release"' in script
    assert "deploy.hosts.store" in MODULES


@pytest.mark.parametrize("path", SUITES, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_a_suite_imports_no_other_suite(path: Path) -> None:
    own = path.relative_to(ROOT / "tests").parts[0]
    shared = {"support", "demonstration", "rig", "contract", "conftest", "site_settings", own}
    found = {name.split(".")[1] for name in imports(path) if name.startswith("tests.")}
    assert found <= shared, f"what suites share lies in tests/rig: {found - shared}"


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
