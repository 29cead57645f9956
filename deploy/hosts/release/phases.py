"""The phases of a deploy: each one script over one channel of every host at once."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TypeVar

from deploy.core import running
from deploy.core.errors import Failure
from deploy.core.running import printable, quote
from deploy.hosts.environment.file import chosen
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.layout import Layout
from deploy.hosts.release import archive, state
from deploy.hosts.release.fleet import Fleet
from deploy.hosts.release.release import Release, environment_file
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh.channel import Lock, Result, run_script, script, take_lock
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project import limits
from deploy.project.config import Project

T = TypeVar("T")

#: Seconds that a host has to unpack a release and to build its layers.
SHIP_SECONDS = 1800


@dataclass(frozen=True)
class Target:
    """What is deployed, and where to."""

    project: Project
    environment: Environment
    hosts: tuple[Host, ...]

    @property
    def layout(self) -> Layout:
        return Layout(self.project.name)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]

    @property
    def beat(self) -> str:
        """The host of beat; empty when it is not among these."""
        return next((host.name for host in self.hosts if "beat" in host.roles), "")

    @property
    def workers(self) -> list[str]:
        """The names of the hosts that have workers."""
        return [host.name for host in self.hosts if "worker" in host.roles]

    @property
    def batches(self) -> list[list[str]]:
        """The names of the hosts in the order in which requests move; `Environment.batches`."""
        chosen = ([host.name for host in batch if host in self.hosts] for batch in self.environment.batches())
        return [batch for batch in chosen if batch]


def choose(project: Project, environment: Environment, only: str = "") -> Target:
    """The hosts that run the site, or those of them in a comma-separated list. Raises `Failure` for another name."""
    what = f"{environment.source} that runs the site"
    return Target(project, environment, chosen(only, environment.site_hosts, what))


@dataclass(frozen=True)
class Operation:
    """The hosts of a site while something is done to them."""

    target: Target
    connections: Connections
    view: View

    def everywhere(self, do: Callable[[Connection], T], hosts: Sequence[Host] | None = None) -> dict[str, T]:
        """What a function returns for each host, all at once. Raises `Failure` with a line for each that failed."""
        return require_all(self.connections.on_all(self.target.hosts if hosts is None else hosts, do))


def require_all(found: Mapping[str, T | Failure]) -> dict[str, T]:
    """What was found of each host. Raises `Failure` with a line for each that failed."""
    if failed := failures(found):
        raise failed
    return {name: each for name, each in found.items() if not isinstance(each, Failure)}


# --- What the scripts read. Pure. ---


def _lines(*values: str) -> str:
    assert not any("\n" in value for value in values)
    return "".join(f"{value}\n" for value in values)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _hook(words: Sequence[str]) -> str:
    return _encoded(shlex.join(words)) if words else ""


def ship_header(target: Target, release: Release, variables: Mapping[str, str]) -> str:
    """What `scripts/ship.sh` reads before the code."""
    environment = target.environment
    return _lines(
        *(target.project.name, release.id, target.project.site, str(environment.keep)),
        *(_encoded(environment_file(variables)), _encoded(release.json), _hook(environment.hooks.hosts_before)),
    )


def activate_header(target: Target, release: str, entry: Mapping[str, str], *, leave: bool = False) -> str:
    """What `scripts/activate.sh` reads before it begins; to ``leave`` a release is to roll back from it."""
    environment = target.environment
    return _lines(
        *(target.project.name, release, environment.domain, "https" if environment.tls else "http"),
        *(" ".join(target.project.probes), json.dumps(dict(entry))[1:-1], "leave" if leave else ""),
        _hook(environment.hooks.hosts_after),
    )


# --- The phases ---


@contextmanager
def locked(operation: Operation, what: str, by: str) -> Iterator[Callable[[], None]]:
    """Hold the lock on every host, the first one's first: of two who come at once, one gets it.

    Yields what raises `Failure` when a lock was lost. Raises `Failure` naming who holds it.
    """
    said = f"{what} by {by} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    path = str(operation.target.layout.lock)
    held: list[Lock] = []

    def take(connection: Connection) -> None:
        held.append(take_lock(connection, path, said))

    def check() -> None:
        for lock in held:
            lock.check()

    operation.connections.opened()
    try:
        for some in (operation.target.hosts[:1], operation.target.hosts[1:]):
            operation.everywhere(take, some)
        yield check
    finally:
        # Closed, not asked to end: the host frees it as soon as the channel is gone.
        for lock in held:
            lock.channel.close()


def ask_each(operation: Operation, hosts: Sequence[Host]) -> dict[str, HostState | Failure]:
    """What each of some hosts has, or why it does not say."""
    name = _lines(operation.target.project.name)

    def ask(connection: Connection) -> HostState:
        result = run_script(connection, script("look.sh"), name.encode(), seconds=60)
        if result.code:
            raise Failure(f"{connection.name}: {result.last_line}")
        return state.parse(connection.name, result.text)

    return operation.connections.on_all(hosts, ask)


def look(operation: Operation) -> dict[str, HostState]:
    """What the hosts have. Raises `Failure` naming those that do not say."""
    return require_all(ask_each(operation, operation.target.hosts))


def ship(operation: Operation, headers: Mapping[str, str], code: tuple[IO[bytes], int]) -> None:
    """Make the release on every host: each gets its header, then the code. Raises `Failure` naming those that fail."""

    def send(connection: Connection) -> None:
        operation.view.show(connection.name, "receiving")
        stream = (part for parts in ([headers[connection.name].encode()], archive.pieces(*code)) for part in parts)
        result = run_script(connection, script("ship.sh"), stream, seconds=SHIP_SECONDS)
        if result.code:
            operation.view.show(connection.name, "failed")
            *said, why = result.stderr.decode(errors="replace").splitlines() or [f"exit code {result.code}"]
            quote(connection.name, "\n".join(said))
            raise Failure(f"{connection.name}: {printable(why)}")
        operation.view.show(connection.name, "received")

    operation.everywhere(send)


def migrate(operation: Operation, release: str) -> None:
    """Migrate the database, once; a backup before, where that is asked for. Raises `Failure`."""
    target = operation.target
    first = next(host for host in target.hosts if host.name == target.batches[0][0])
    connection = operation.connections.to(first)

    def ask(to: Connection, word: str) -> Result:
        text = _lines(target.project.name, release, word).encode()
        return run_script(to, script("migrate.sh"), text, seconds=limits.MIGRATE)

    if target.environment.backup_before_migrate:
        pending = ask(connection, "pending")
        if pending.code:
            raise Failure(f"{first.name}: cannot list the pending migrations: {pending.last_line}")
        if pending.text.strip() == "none":
            return
        [database] = target.environment.with_role("database")
        made = ask(operation.connections.to(database), "backup")
        if made.code:
            raise Failure(f"{database.name}: no backup was made, so nothing is migrated: {made.last_line}")
        operation.view.notify(f"{database.name}: backup {printable(made.text)}")
    operation.view.show(first.name, "migrating")
    done = ask(connection, "migrate")
    if done.code:
        operation.view.show(first.name, "failed")
        quote(first.name, done.text)
        why = running.explain(done.text, done.text) or done.last_line or f"exit code {done.code}"
        raise Failure(f"{first.name}: migrations: {printable(why)}")
    operation.view.show(first.name, "migrated")


def activate(
    operation: Operation,
    release: str,
    entry: Mapping[str, str],
    check: Callable[[], None],
    *,
    back: Collection[str] = (),
) -> None:
    """Put a release that all hosts have into service, batch by batch. Raises `Failure`, all hosts put back.

    New workers are ready before the first request reaches the new code, which may ask for tasks that only they know.
    Where all workers' hosts are among those that go ``back`` to an earlier release (`state.going_back`), the workers
    that run know its tasks, and no request waits for others.
    """
    target = operation.target
    workers_last = set(target.workers) <= set(back)
    with Fleet(operation.view, target.environment.drain) as fleet:
        for host in target.hosts:
            header = activate_header(target, release, entry, leave=host.name in back)
            fleet.join(operation.connections.to(host), header)
        fleet.started()
        if not workers_last:
            fleet.workers(target.workers)
        for number, batch in enumerate(target.batches):
            time.sleep(target.environment.wait if number else 0)
            check()
            if number:
                fleet.hold()
            fleet.flip(batch)
        if target.beat:
            fleet.move_beat(target.beat)
        if workers_last:
            fleet.workers(target.workers)
        fleet.commit()
