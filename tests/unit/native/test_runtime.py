"""The processes of the native runtime, and how they are stopped."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from honcho.printer import Message

from deploy.native import runtime as native
from deploy.native import side_by_side
from tests.unit.examples import PROJECT
from tests.unit.test_checks import STORE


def test_the_native_plan_has_a_process_for_each_part() -> None:
    plan = native.plan(PROJECT, STORE, 8123, workers=3)
    assert list(plan.processes) == ["web", "worker1", "worker2", "worker3", "beat"]
    assert list(plan.first) == ["migrate"]
    assert plan.first["migrate"].env["PORTICO_SAMPLES"] == "load_samples"
    assert [path.name for path in plan.ready_files] == ["worker1", "worker2", "worker3", "beat"]
    assert plan.url == "http://127.0.0.1:8123/"


def test_each_worker_has_a_name_of_its_own() -> None:
    plan = native.plan(PROJECT, STORE, 8123, workers=2)
    nodes = [run.argv[run.argv.index("-n") + 1] for name, run in plan.processes.items() if name.startswith("worker")]
    assert nodes == ["worker1@%h", "worker2@%h"]


def test_a_project_without_celery_has_neither_worker_nor_beat() -> None:
    alone = replace(PROJECT, declared=replace(PROJECT.declared, celery="none"))
    plan = native.plan(alone, STORE, 8123, workers=3)
    assert list(plan.processes) == ["web"]
    assert plan.ready_files == ()
    assert "CELERY_BROKER_URL" not in plan.processes["web"].env


def test_no_database_password_is_put_into_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://site:hunter2@127.0.0.1/site")
    plan = native.plan(PROJECT, STORE, 8123, workers=1)
    for command in [*plan.first.values(), *plan.processes.values()]:
        assert "DATABASE_URL" not in command.render()
        assert "hunter2" not in command.render()


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
