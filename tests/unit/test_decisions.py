"""What would be done: configuration, plans and command lists, compared as values."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from honcho.printer import Message

from deploy import checks, doctor
from deploy.core import running
from deploy.core.errors import Failure
from deploy.native import runtime as native
from deploy.native import side_by_side
from deploy.project import config
from deploy.project.config import Project
from deploy.venvs import build as venvs
from deploy.venvs import locking as lock
from deploy.venvs.layers import Layer, Pin
from deploy.venvs.store import Python, Store
from tests.conftest import LONGEST
from tests.support import ROOT

VALUES: dict[str, object] = {"name": "portico", "site": "site", "package": "mysite", "port": 8000, "run": ".run"}
VALUES |= {"samples": "load_samples", "probes": "/readyz", "free_gigabytes": "3"}
PROJECT = Project(Path("/p q"), "portico", "site", "mysite", 8000, "load_samples", ".run", ("/readyz",), 3)
STORE = Store.of(PROJECT.root)
LAYER = Layer("dev", "cpython-3.11", (Pin("six", "1", "", ("--hash=sha256:00",)),))


def test_the_configuration_becomes_a_value() -> None:
    assert config.load(ROOT, VALUES).manage == ROOT / "site" / "manage.py"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "Portico!", "project.name is 'Portico!'"),
        ("package", "my-site", "project.package is 'my-site'"),
        ("port", "http", "project.port is 'http', but must be a number"),
        ("port", 80, "1024 to 65535"),
        ("site", "elsewhere", "there is no elsewhere/manage.py"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: object, words: str) -> None:
    with pytest.raises(Failure) as caught:
        config.load(ROOT, {**VALUES, key: value})
    assert words in caught.value.message


def test_the_native_plan_has_a_process_for_each_part() -> None:
    plan = native.plan(PROJECT, STORE, 8123, workers=3)
    assert list(plan.processes) == ["web", "worker1", "worker2", "worker3", "beat"]
    assert list(plan.first) == ["migrate", "samples"]
    assert [sign.name for sign in plan.signs] == ["worker1", "worker2", "worker3", "beat"]
    assert plan.url == "http://127.0.0.1:8123/"


def test_each_worker_has_a_name_of_its_own() -> None:
    plan = native.plan(PROJECT, STORE, 8123, workers=2)
    nodes = [run.argv[run.argv.index("-n") + 1] for name, run in plan.processes.items() if name.startswith("worker")]
    assert nodes == ["worker1@%h", "worker2@%h"]


@pytest.mark.parametrize("workers", ["0", "-1", "33", "many", ""])
def test_a_number_of_workers_that_is_none_is_refused(workers: str) -> None:
    with pytest.raises(Failure, match=r"--workers is .*, but must be a number from 1 to 32"):
        config.whole_number(workers, "--workers", 1, 32)


def test_no_database_password_is_put_into_a_command() -> None:
    plan = native.plan(PROJECT, STORE, 8123, workers=1)
    for command in [*plan.first.values(), *plan.processes.values()]:
        assert "DATABASE_URL" not in command.render()


def test_a_broken_migration_is_told_from_its_output() -> None:
    said = "  Applying polls.0001_initial... OK\n  Applying polls.0007_break..."
    error = "Traceback (most recent call last):\n  File x\ndjango.db.utils.OperationalError: no such table: gone\n"
    assert running.explain(said, error) == "polls.0007_break: django.db.utils.OperationalError: no such table: gone"


def test_the_difference_is_installed_with_hashes_and_nothing_else() -> None:
    command = venvs.installation(STORE, LAYER, Path("/b"), "/uv", ())
    assert command.argv[:3] == ["/uv", "pip", "install"]
    assert {"--no-deps", "--require-hashes"} <= set(command.argv)
    assert command.env == {"UV_PYTHON_DOWNLOADS": "never"}


def test_without_uv_the_tools_environments_pip_installs_into_the_others() -> None:
    command = venvs.installation(STORE, LAYER, Path("/b"), None, ())
    assert command.argv[:5] == ["/p q/.venvs/tools/bin/python", "-m", "pip", "--python", "/b/bin/python"]


@pytest.mark.parametrize("uv", ["/uv", None])
def test_packages_are_compiled_where_those_who_run_them_may_not_write(uv: str | None) -> None:
    for store, compiled in ((STORE, False), (replace(STORE, compiled=True), True)):
        words = venvs.installation(store, LAYER, Path("/b"), uv, ()).argv
        assert ("--compile-bytecode" in words or (uv is None and "--no-compile" not in words)) == compiled


def test_a_layer_gets_its_name_last() -> None:
    steps = venvs.building_steps(STORE, LAYER, Python("/usr/bin/python3", "cpython-3.11"), "/uv")
    assert steps[-1].render() == f"mv '{STORE.building(LAYER)}' '{STORE.path(LAYER)}'"


def test_each_lock_is_constrained_by_those_below() -> None:
    graph = {"base": (), "dev": ("base",), "tools": (), "test": ("base", "tools")}
    commands = lock.commands(graph, "uv", Path("/r"))
    constraints = {
        name: [word for flag, word in zip(command.argv, command.argv[1:], strict=False) if flag == "-c"]
        for name, command in commands.items()
    }
    assert constraints == {"base": [], "dev": ["base.txt"], "tools": ["base.txt"], "test": ["base.txt", "tools.txt"]}


def test_a_conflict_names_both_files_and_the_reason() -> None:
    said = (
        "  \u00d7 No solution found when resolving dependencies:\n  ╰─▶ Because you require a and b,\n      none fits."
    )
    line = lock.explain("dev", ["base"], said)
    assert line.startswith("requirements/dev.in is in conflict with base.in: Because you require a and b, none fits.")


def test_required_suites_are_passed_on() -> None:
    command = checks.pytest(PROJECT, STORE, "unit,site", "all", ["-k", "vote"])
    assert command.argv[1:] == [
        *["-m", "pytest", "--require", "unit,site,native,acceptance,browser,docker,swarm,hosts"],
        *["tests/unit", "tests/site", "-k", "vote"],
    ]


def test_all_suites_share_several_processes_and_what_is_named_has_one() -> None:
    def shared(suite: str, *words: str, processes: int | None = None) -> list[str]:
        argv = list(checks.pytest(replace(PROJECT, root=ROOT), STORE, suite, "", [*words], processes=processes).argv)
        return argv[3:7] if "-n" in argv else []

    assert shared("") == ["-n", "3", "--dist", "loadfile"]
    assert shared("", "-k", "vote") == ["-n", "3", "--dist", "loadfile"]
    assert shared("docker,swarm") == shared("", "tests/unit/test_decisions.py") == shared("", processes=1) == []
    assert shared("docker,swarm", processes=2) == ["-n", "2", "--dist", "loadfile"]


def test_the_files_that_are_begun_first_exist() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Failure, match=r"--suite bogus: .* unit, site, native, acceptance, browser"):
        checks.pytest(PROJECT, STORE, "bogus", "", [])


def test_the_doctor_knows_a_remedy_for_each_thing_on_each_system() -> None:
    for system in (doctor.DEBIAN, doctor.MACOS):
        assert all(check.remedy for check in doctor.examine(Store.of(ROOT), system))


def test_the_doctor_names_what_only_tests_need_too() -> None:
    needs = {check.name: check.purpose for check in doctor.examine(Store.of(ROOT), doctor.DEBIAN)}
    assert needs["sshd"] == "`test --suite hosts`"
    assert doctor.DEBIAN.install("sshd") == "sudo apt install openssh-server"


def test_a_signal_before_the_processes_have_told_their_ids_is_kept_for_then(capsys: pytest.CaptureFixture[str]) -> None:
    announcer = side_by_side.Announcer(lambda: None)
    manager = announcer.manager
    manager.add_process("web", "true")
    manager.terminate()  # honcho's own would end in a KeyError here
    ended: list[int] = []
    manager._processes["web"]["pid"] = 4711
    manager._procmgr = type("Processes", (), {"terminate": ended.append})
    announcer.write(Message("line", "web started", datetime.now(), "system", None))
    assert ended == [4711]
