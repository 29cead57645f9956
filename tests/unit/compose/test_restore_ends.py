"""A restore that fails: until the switch the site starts again as it was, after it what was there is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import pytest

from deploy.compose import journal, ledger, rollout
from deploy.compose.data import database, make, restic, restore
from deploy.compose.data.make import Data
from deploy.compose.data.manifest import Contents, Manifest
from deploy.compose.data.restore import Plan
from deploy.compose.ledger import Release
from deploy.core import pipe, shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run
from deploy.docker.backup_env import Settings
from deploy.project.backups import Backup, Keep
from tests.unit.stacks import replica, stack

RELEASE = Release(7, 7, "sha256:1", "a", "me", "now")
MANIFEST = Manifest(
    "shop", "7", "a", "sha256:1", "f", 9, ("protected",), Contents("17.1", ("site",), {"public.vote": 2})
)
BACKUP = Backup(
    "1234abcd", datetime(2026, 11, 27, tzinfo=UTC), "shop", "7", "a", "timer", "postgresql-17", ("/backup/set",)
)
PLAN = Plan(BACKUP, MANIFEST, RELEASE, RELEASE)
SITE = [replica("beat", "celery_beat"), replica("worker", "celery_worker"), replica("web", "app")]


class World:
    """What a restore does to it, in order; and how it fails, by a part of a command."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failing = ""
        self.rows = "rows public.vote 2\n"
        self.databases = "postgres\nsite\n"
        self.broken_starts = 0

    def note(self, line: str) -> None:
        self.log.append(line)
        if self.failing and self.failing in line:
            self.failing = ""
            raise Failure("it failed")

    def run(self, command: Run, *, capture: bool = False, check: bool = True) -> Result:
        line = command.input.replace("\n", " ").strip() or " ".join(command.argv)
        self.note(line)
        if "count(*)" in line:
            return Result(0, self.rows)
        return Result(0, self.databases) if "datistemplate" in line else Result(0)

    def restic(self, _: object, __: object, *words: str, given: str = "", service: str = "backup") -> str:
        self.note(f"restic {words[0]}")
        return ""

    def pipe(self, *_: object) -> tuple[Result, Result]:
        self.note("pg_restore")
        return Result(0), Result(0)

    def serve(self, *_: object) -> None:
        self.note("serve")
        if self.broken_starts:
            self.broken_starts -= 1
            raise Failure("the release does not start")

    def has(self, *parts: str) -> list[bool]:
        return [any(part in line for line in self.log) for part in parts]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()

    @contextmanager
    def recorded(*_: object) -> Iterator[list[str]]:
        yield []

    def answer(value: object) -> Callable[..., object]:
        return lambda *_, **__: value

    monkeypatch.setattr(shell, "run", found.run)
    monkeypatch.setattr(restic, "run", found.restic)
    monkeypatch.setattr(pipe, "run", found.pipe)
    monkeypatch.setattr(restore, "serve", found.serve)
    monkeypatch.setattr(restore, "stop", lambda some: found.note(f"stop {some[0].name}"))
    for name, value in {"await_healthy": None, "inspect": SITE, "replicas": SITE, "require_whole": None}.items():
        monkeypatch.setattr(restore, name, answer(value))
    monkeypatch.setattr(journal, "site_replicas", answer(SITE))
    monkeypatch.setattr(journal, "recover", answer(None))
    monkeypatch.setattr(rollout, "only_one", answer(nullcontext()))
    monkeypatch.setattr(rollout, "wanted", answer({"app": 1}))
    monkeypatch.setattr(make, "only_one", answer(nullcontext()))
    monkeypatch.setattr(make, "cleared", answer(nullcontext()))
    monkeypatch.setattr(ledger, "recorded", recorded)
    monkeypatch.setattr(ledger, "serving", lambda one: one)
    return found


def restored(world: World) -> None:
    data = Data(stack(), Settings("/srv/backups", Keep(), {}), world.log.append)
    restore._restore(data, PLAN)


SWITCH = f"ALTER DATABASE site RENAME TO site_before_1234abcd; ALTER DATABASE {database.FRESH} RENAME TO site;"
BACK = f"ALTER DATABASE site RENAME TO {database.FRESH}; ALTER DATABASE site_before_1234abcd RENAME TO site;"


@pytest.mark.parametrize("failing", ["stop web", "CREATE DATABASE", "pg_restore", "restic stage", "RENAME"])
def test_a_failure_before_the_switch_starts_the_site_as_it_was(world: World, failing: str) -> None:
    world.failing = failing
    with pytest.raises(Failure, match="it failed"):
        restored(world)
    assert world.log[-1] == "docker start beat worker web"
    assert not world.has("restic swap", "serve", BACK)[0]
    if failing != "stop web":
        assert world.has(f"DROP DATABASE IF EXISTS {database.FRESH}") == [True]
        assert world.has("unstage") == [True]


def test_a_database_that_differs_from_the_manifest_is_not_switched_to(world: World) -> None:
    world.rows = "rows public.vote 1\n"
    with pytest.raises(Failure, match=r"differs from the backup: public\.vote: 1 instead of 2"):
        restored(world)
    assert world.has("RENAME", "restic swap") == [False, False]
    assert world.log[-1] == "docker start beat worker web"


def test_a_release_that_does_not_start_on_the_backup_gives_way_to_what_was_there(world: World) -> None:
    world.broken_starts = 1
    with pytest.raises(Failure, match="the release does not start"):
        restored(world)
    after = [line for line in world.log if "serve" in line or "RENAME" in line or "swap" in line]
    assert SWITCH in after[0]
    assert after[1:3] == ["restic swap", "serve"]
    assert BACK in after[3]
    assert after[4:] == ["restic unswap", "serve"]


def test_what_cannot_be_put_back_is_said_with_where_it_is(world: World) -> None:
    world.broken_starts = 2
    with pytest.raises(
        Failure, match=r"does not start; and what was there could not be put back: .*site_before_1234abcd"
    ):
        restored(world)


def test_a_destroyed_database_has_nothing_to_put_back(world: World) -> None:
    world.databases, world.broken_starts = "postgres\n", 1
    with pytest.raises(Failure, match="the release does not start"):
        restored(world)
    assert world.has("site_before_", "unswap") == [False, False]


def test_beat_stops_first_and_web_last(world: World) -> None:
    restored(world)
    stops = [line for line in world.log if line.startswith("stop") and "," not in line]
    assert stops == ["stop beat", "stop worker", "stop web"]
