"""tasks.py as a whole: which place a command means, that every task is guarded, that a dry run starts nothing."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from invoke import Config, Context, Exit

from deploy import bootstrap
from deploy.compose import operate as compose
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.groups import Where
from deploy.core.report import Grid, Report
from deploy.core.shell import Run
from deploy.hosts.environment import file as environments
from deploy.native.operate import Native
from deploy.places import Places
from deploy.project.services import Redis
from deploy.swarm import ledger
from deploy.swarm import operate as swarm
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Service, Snapshot
from deploy.venvs import build
from deploy.venvs.store import Store
from tests.rig import startproject
from tests.unit import shapes
from tests.unit.stacks import PROJECT, stack

STORE = Store.of(PROJECT.root)


def ignore(_: str) -> None:
    """For those that report."""


APP = Service("id", "app", "replicated", 1, "", "", {}, {})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been started or executed; none of them is."""
    found: list[list[str]] = []

    def start(command: Run, **_: object) -> NoReturn:
        found.append(list(command.argv))
        raise Failure("nothing must be started")

    def exec_command(program: str, argv: list[str], env: object) -> NoReturn:
        found.append(argv)
        raise Failure("nothing must be executed")

    monkeypatch.setattr(shell, "start", start)
    monkeypatch.setattr("os.execvpe", exec_command)
    monkeypatch.setattr(build, "ensure", lambda *_, **__: False)
    return found


class Answering(Manager):
    """A manager that answers questions; ``replica`` is the app's on its own node, if any."""

    replica = "abc"

    def ask(self, *words: str) -> str:
        return f"{self.replica}\n" if words[0] == "ps" else ""

    def look(self, before: Snapshot | None = None) -> Snapshot:
        return Snapshot([], [APP])


class WithoutReplica(Answering):
    replica = ""


def place(where: str) -> object:
    """A place whose questions are answered."""
    if where == "native":
        return Native(PROJECT, STORE, ignore)
    if where == "prod":
        return compose.Compose(stack("prod"), ignore)
    manager = (Answering if where == "swarm" else WithoutReplica)("shop", {"DOCKER_HOST": "ssh://me@node1"})
    return swarm.Swarm(manager, stack("swarm"), ignore)


@pytest.mark.parametrize("task", ["manage", "shell"])
@pytest.mark.parametrize("where", ["native", "prod", "swarm", "swarm without a replica here"])
def test_a_dry_run_of_a_command_shows_it_and_starts_nothing(
    tasks: ModuleType,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    where: str,
) -> None:
    entry = ledger.Release(1, 1, "r", "me", "now", StackFile({"release": {"image": "shop@sha256:1"}}, {}))
    monkeypatch.setattr(ledger, "read", lambda _: [entry])
    named: list[tuple[object, ...]] = []

    def there(c: Context, *words: object) -> object:
        named.append(words)
        return place(where)

    monkeypatch.setattr(tasks, "place", there)
    monkeypatch.setattr(sys, "argv", ["invoke", task, "--", "flush", "--no-input"])
    body: Callable[..., None] = getattr(tasks, task).body
    body(Context(), on="somewhere", host="ssh://me@node1", dry_run=True)
    assert started == []
    assert named == [(Where(on="somewhere", host="ssh://me@node1"),)], "the named place is the one that is used"
    shown = capsys.readouterr().out
    words = ["manage.py", *(["flush", "--no-input"] if task == "manage" else ["shell"])]
    assert all(word in shown for word in words), shown
    if "replica" in where:
        assert "docker stack deploy" in shown
        assert "docker service rm shop_manage-" in shown


def test_all_tasks_are_made_by_the_one_function_that_guards_them(tasks: ModuleType) -> None:
    assert len(tasks.ns.tasks) > 30
    assert all(each.body.__wrapped__ for each in tasks.ns.tasks.values())


def test_the_reason_of_a_failure_does_not_control_the_terminal(tasks: ModuleType) -> None:
    def body(c: Context) -> None:
        raise Failure("app: \x1b[2Jended\nweb: \x07ended")

    with pytest.raises(Exit) as ended:
        tasks.task()(body).body(Context())
    assert ended.value.message == "app:  [2Jended\nweb:  ended"


def test_a_report_with_something_wrong_is_shown_and_fails(
    tasks: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failure, match="app-1 is unhealthy"):
        tasks.tell(Report([Grid(("container",), [("app-1 [x]",)])], ["a remark"], ["app-1 is unhealthy"]))
    said = capsys.readouterr()
    assert "app-1 [x]" in said.out
    assert said.err == "a remark\n"


def test_check_prints_what_it_detects_and_advises_and_fails_with_the_errors(
    tasks: ModuleType,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    settings = "polls/settings.py"
    lines = "DEBUG = True\nINSTALLED_APPS = []\n"
    manage = {"manage.py": startproject.MANAGE.format(settings="polls.settings")}
    shapes.write(tmp_path, shapes.LOCKS, manage, {settings: lines + shapes.STORAGES, ".python-version": "3.13\n"})
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    c = Context(Config(overrides={"project": {"name": "shop", "site": ".", "samples": "", "probes": "/readyz"}}))
    with pytest.raises(Exit) as ended:
        tasks.check.body(c)
    assert ended.value.code == 1
    assert str(ended.value.message).startswith(f"{settings}:1: DEBUG is on")
    said = capsys.readouterr()
    assert "polls.settings" in said.out
    assert said.err.startswith(".python-version:1: advice: ")
    shapes.write(tmp_path, {settings: lines.replace("True", "False") + shapes.STORAGES})
    tasks.check.body(c)
    with pytest.raises(Exit, match="--for prods: there is no such runtime"):
        tasks.check.body(c, for_="prods")
    assert started == []


# --- Maintenance ---


def test_a_place_without_nginx_says_that_it_has_no_maintenance() -> None:
    with pytest.raises(Failure, match="the native site has no nginx that could show a page: Ctrl-C"):
        place("native").maintenance(None)  # type: ignore[attr-defined]
    with pytest.raises(Failure, match="dev has no nginx that could show a page: `invoke down --on dev`"):
        compose.Compose(stack("dev"), ignore).maintenance(None)


def test_what_a_maintenance_cannot_mean_is_said_before_a_place_is_asked(
    tasks: ModuleType, started: list[object]
) -> None:
    for task, words in (("maintenance", {}), ("remote_maintenance", {"env": "production"})):
        with pytest.raises(Exit, match="say --start, or --stop for its end"):
            getattr(tasks, task).body(Context(), **words)
    assert started == []


# --- Which place ---


def test_a_place_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(Failure, match=r"--on nowhere: there is no such place; there are: native, dev, prod, swarm"):
        Places(PROJECT, STORE, ignore).named("nowhere")


def test_a_name_of_two_places_is_guessed_for_neither(tmp_path: Path) -> None:
    folder = tmp_path / "deploy" / "environments"
    folder.mkdir(parents=True)
    (folder / "prod.yaml").touch()
    with pytest.raises(Failure, match=r"--on prod: is both a runtime and the hosts of deploy/environments/prod\.yaml"):
        Places(replace(PROJECT, root=tmp_path), STORE, ignore).named("prod")


def test_where_two_stacks_run_one_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = [compose.Compose(stack(kind), ignore) for kind in ("prod", "dev")]
    monkeypatch.setattr(Places, "_running", lambda *_: iter(both))
    with pytest.raises(Failure, match="prod and dev both run here: say which with --on prod, or --on dev"):
        Places(PROJECT, STORE, ignore).running()


def test_where_nothing_runs_commands_go_on_natively_and_others_say_what_starts_it(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "_running", lambda *_: iter(()))
    monkeypatch.setattr(tasks, "project", lambda _, env="": PROJECT)
    with pytest.raises(Exit) as ended:
        tasks.status.body(Context())
    assert str(ended.value.message).startswith(
        "nothing of this project runs here: `invoke dev` or `invoke prod` starts it"
    )
    carried: list[object] = []
    monkeypatch.setattr(tasks, "carry_out", lambda action, **_: carried.append(action))
    monkeypatch.setattr(Native, "manage", lambda *_: "native")
    tasks.manage.body(Context())
    assert carried == ["native"]


@pytest.mark.parametrize("task", ["remote_trust", "remote_setup", "remote_remove"])
def test_a_task_of_hosts_reads_their_file_for_the_servers_that_the_project_declares(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    project = replace(PROJECT, redis=Redis())
    monkeypatch.setattr(tasks, "project", lambda *_, **__: project)
    said: dict[str, object] = {}

    def load(*_: object, **words: object) -> NoReturn:
        said.update(words)
        raise Failure("that is all")

    monkeypatch.setattr(environments, "load", load)
    body: Callable[..., None] = getattr(tasks, task).body
    with pytest.raises((Failure, Exit)):
        body(Context(), env="production")
    assert said["redis"] == project.redis
    assert said["redis"] is not None


def test_what_the_system_refuses_is_one_line_but_a_reader_that_has_ended_is_no_error(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: OSError) -> Callable[[Context], None]:
        def body(c: Context) -> None:
            raise error

        return body

    for error, said in (
        (
            OSError(28, "No space left on device"),
            "the output: No space left on device; fix that and repeat the command",
        ),
        (OSError(13, "Permission denied", "/x"), "/x: Permission denied; fix that and repeat the command"),
    ):
        with pytest.raises(Exit) as ended:
            tasks.task()(fails(error)).body(Context(Config()))
        assert (ended.value.code, ended.value.message) == (1, said)
    with pytest.raises(BrokenPipeError):
        tasks.task()(fails(BrokenPipeError())).body(Context(Config()))
    monkeypatch.setattr(sys, "argv", ["invoke", "--debug", "status"])
    with pytest.raises(PermissionError):
        tasks.task()(fails(PermissionError(13, "Permission denied"))).body(Context(Config()))


def test_check_says_what_every_command_would_say(tasks: ModuleType) -> None:
    c = Context(Config(overrides={"project": {"name": ["a"]}}))
    with pytest.raises(Exit, match=r"project\.name is"):
        tasks.check.body(c)
