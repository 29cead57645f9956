"""The processes of the native runtime, and how they are stopped."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from honcho.printer import Message

from deploy.core.errors import Failure
from deploy.native import runtime as native
from deploy.native import side_by_side
from deploy.project import workers
from deploy.project.assets import Assets
from deploy.project.services import Redis
from deploy.venvs import build
from tests.rig.ports import free_port
from tests.support import wait_until
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


def test_a_front_end_is_built_where_it_never_was_and_watched_beside_the_site(tmp_path: Path) -> None:
    project = replace(PROJECT, root=tmp_path, assets=Assets("npm run build", "site/dist", watch="npm run watch"))
    plan = native.plan(project, STORE, 8123, workers=1)
    assert list(plan.processes) == ["web", "worker", "beat", "assets"]
    assert list(plan.first) == ["assets", "migrate"]
    assert list(plan.first["assets"].argv) == ["sh", "-c", "npm run build"]
    assert plan.first["assets"].cwd == tmp_path
    (tmp_path / "site" / "dist").mkdir(parents=True)
    assert list(native.plan(project, STORE, 8123, workers=1).first) == ["migrate"]


def test_all_that_a_watcher_has_started_ends_with_it(tmp_path: Path) -> None:
    watch = f"sh -c 'echo $$ >{tmp_path}/inner; exec sleep 600' && true"
    project = replace(PROJECT, root=tmp_path, assets=Assets("x", "site/dist", watch=watch))
    words = native.plan(project, STORE, 8123, workers=1).processes["assets"].argv
    watcher = subprocess.Popen(words[words.index("--") + 1 :], start_new_session=True)
    inner = tmp_path / "inner"
    wait_until(lambda: inner.exists() and inner.read_text().strip() != "", 30, "the watcher has started")
    watcher.terminate()
    watcher.wait(30)
    wait_until(lambda: not Path(f"/proc/{inner.read_text().strip()}/cmdline").exists(), 30, "its child has ended")


def test_the_projects_own_variables_come_from_env_and_are_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("EMAIL_HOST=mail\nTOKEN=env:SHOP_TOKEN\nOTHER=x\nGIVEN=file\n")
    kinds = {"EMAIL_HOST": "plain", "TOKEN": "secret", "GIVEN": "plain", "MISSING": "plain"}
    project = replace(PROJECT, root=tmp_path, env=kinds)
    monkeypatch.setenv("SHOP_TOKEN", "hunter2")
    monkeypatch.setenv("GIVEN", "shell")
    assert native.own_variables(project) == {"EMAIL_HOST": "mail", "TOKEN": "hunter2"}
    assert "hunter2" not in native.manage(project, STORE, ["check"]).render()
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(Failure, match=r"\.env: TOKEN: is not set in this shell; export it"):
        native.own_variables(project)


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


def test_an_asynchronous_site_has_an_asynchronous_server_and_others_have_runserver() -> None:
    def served(asgi: str) -> str:
        project = replace(PROJECT, declared=replace(PROJECT.declared, asgi=asgi))
        return native.plan(project, STORE, 8123, workers=1).processes["web"].render()

    assert "-m portico_site.serve 127.0.0.1:8123" in served("mysite.asgi:application")
    assert "manage.py runserver --noreload 127.0.0.1:8123" in served("")


def test_each_kind_of_workers_is_a_process_with_its_queues() -> None:
    kinds = workers.parse({"mail": {"queues": ["mail"]}, "billing": {"queues": ["billing"], "alone": True}})
    plan = native.plan(replace(PROJECT, workers=kinds), STORE, 8123, workers=2)
    assert list(plan.processes) == ["web", "worker1", "worker2", "worker_mail", "worker_billing", "beat"]
    mail = plan.processes["worker_mail"]
    assert "-n worker_mail@%h -c 2 -Q mail" in " ".join(mail.argv)
    assert mail.env["PORTICO_KINDS"] == "default,mail,billing"
    assert "PORTICO_KINDS" not in native.plan(PROJECT, STORE, 8123, workers=1).processes["worker"].env
    alone = replace(PROJECT, workers=workers.parse({"default": {"alone": True}}))
    with pytest.raises(Failure, match=r"--workers: there must be one: project\.workers\.default\.alone"):
        native.plan(alone, STORE, 8123, workers=2)


def test_redis_of_this_machine_is_asked_for_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    project = replace(PROJECT, redis=Redis(broker=True))
    monkeypatch.delenv("REDIS_URL", raising=False)
    variables = native.environment(project, {})
    assert variables["REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert variables["CELERY_BROKER_URL"] == "filesystem://", "the embedded one"
    given = native.environment(project, {"REDIS_URL": "redis://:word@mine:6380/5?timeout=3"})
    assert "REDIS_URL" not in given
    assert given["CACHE_URL"] == "redis://:word@mine:6380/1", "the server that is named, not this machine's"


def test_a_port_that_was_taken_while_it_prepared_is_one_line_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, port = replace(PROJECT, root=tmp_path), free_port()
    ran: list[str] = []
    monkeypatch.setattr(build, "ensure", lambda *_, **__: ran.append("built"))
    monkeypatch.setattr(native, "run_all", lambda _: ran.append("ran"))
    with socket.socket() as another:

        def take(_: object) -> None:
            another.bind(("127.0.0.1", port))
            another.listen()

        monkeypatch.setattr(native, "prepare", take)
        with pytest.raises(Failure, match=rf"^port {port} is in use by another program; try --port \d+$"):
            native.development(project, STORE, port, 1, lambda _: None).do()
    assert ran == ["built"]


def test_a_port_is_taken_from_the_first_moment_and_free_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, port = replace(PROJECT, root=tmp_path), free_port()
    said: list[str] = []

    def start_another(*_: object, **__: object) -> None:
        """What builds the environments here; meanwhile another checkout starts on the same port."""
        with pytest.raises(Failure) as refused:
            native.development(replace(project, root=tmp_path / "other"), STORE, port, 1, lambda _: None).do()
        said.append(refused.value.message)

    monkeypatch.setattr(build, "ensure", start_another)
    monkeypatch.setattr(native, "prepare", lambda _: None)
    monkeypatch.setattr(native, "run_all", lambda _: None)
    for number in (1, 2):
        native.development(project, STORE, port, 1, lambda _: None).do()
        assert len(said) == number
    assert all(line.startswith(f"port {port} is in use by another program; try --port ") for line in said)
