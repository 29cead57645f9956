"""The phases of a deploy: each runs one script over one channel on every host at once."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import IO, TypeVar

from deploy.core import running
from deploy.core.errors import Failure
from deploy.core.running import printable, quote
from deploy.hosts.environment.file import chosen
from deploy.hosts.environment.model import Environment, Host, require_workers, workers_of
from deploy.hosts.environment.owner import Owner, owner
from deploy.hosts.layout import LOCK
from deploy.hosts.release import archive, health, state
from deploy.hosts.release.fleet import Fleet
from deploy.hosts.release.release import Release, environment_file
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh.channel import Lock, Result, run_script, script, take_lock
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project import limits
from deploy.project.config import Project

T = TypeVar("T")

#: Seconds for a host to unpack a release and build its layers.
SHIP_SECONDS = 1800


@dataclass(frozen=True)
class Target:
    """A project, and the hosts it is deployed to."""

    project: Project
    environment: Environment
    hosts: tuple[Host, ...]

    @cached_property
    def owner(self) -> Owner:
        """Who asks: hosts of anybody else refuse."""
        return owner(self.project.root, self.project.name, self.environment)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.hosts]

    @property
    def beat(self) -> str:
        """The host with beat; empty if it is not among these hosts."""
        return next((host.name for host in self.hosts if "beat" in host.roles), "")

    @property
    def workers(self) -> list[str]:
        """The names of the hosts with workers."""
        return [host.name for host in self.hosts if "worker" in host.roles]

    @property
    def alone(self) -> dict[str, str]:
        """The kinds of units of which there must never be two, each with the host that runs it."""
        beats = self.environment.with_role("beat")
        return ({"beat": beats[0].name} if beats else {}) | {
            kind.process: host.name
            for host in self.environment.hosts
            for kind in workers_of(self.environment, host, self.project.kinds)
            if kind.alone
        }

    @property
    def batches(self) -> list[list[str]]:
        """The names of the hosts in the order in which requests move; `Environment.batches`."""
        chosen = ([host.name for host in batch if host in self.hosts] for batch in self.environment.batches())
        return [batch for batch in chosen if batch]


def choose(project: Project, environment: Environment, only: str = "") -> Target:
    """The hosts that run the site, or a comma-separated list of them. Raises `Failure` for an unknown name."""
    require_workers(environment, project.kinds)
    what = f"{environment.source} that runs the site"
    return Target(project, environment, chosen(only, environment.site_hosts, what))


@dataclass(frozen=True)
class Operation:
    """The hosts of a site, their connections, and the view of an operation."""

    target: Target
    connections: Connections
    view: View

    def everywhere(self, do: Callable[[Connection], T], hosts: Sequence[Host] | None = None) -> dict[str, T]:
        """Call a function for all hosts at once. Raises `Failure` with a line for each host that failed."""
        return require_all(self.connections.on_all(self.target.hosts if hosts is None else hosts, do))


def require_all(found: Mapping[str, T | Failure]) -> dict[str, T]:
    """The results without failures. Raises `Failure` with a line for each host that failed."""
    if failed := failures(found):
        raise failed
    return {name: each for name, each in found.items() if not isinstance(each, Failure)}


# --- The scripts' input. Pure. ---


def lines(*values: str) -> str:
    """A line for each value."""
    assert not any("\n" in value for value in values)
    return "".join(f"{value}\n" for value in values)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _hook(words: Sequence[str]) -> str:
    return _encoded(shlex.join(words)) if words else ""


def ship_header(target: Target, release: Release, variables: Mapping[str, str]) -> str:
    """The header that `scripts/ship.sh` reads before the code."""
    environment = target.environment
    return lines(
        *(release.id, target.project.site, str(environment.keep)),
        *(_encoded(environment_file(variables)), _encoded(release.json), _hook(environment.hooks.hosts_before)),
    )


def activate_header(target: Target, release: str, entry: Mapping[str, str], *, leave: bool = False) -> str:
    """The header that `scripts/activate.sh` reads; ``leave`` marks the current release as rolled back."""
    environment = target.environment
    return lines(
        *(release, environment.domain, "https" if environment.tls else "http"),
        *(" ".join(target.project.probes), json.dumps(dict(entry))[1:-1], "leave" if leave else ""),
        _hook(environment.hooks.hosts_after),
    )


# --- The phases ---


@contextmanager
def locked(
    operation: Operation, what: str, by: str, entry: Mapping[str, str] | None = None
) -> Iterator[Callable[[], None]]:
    """Hold the lock on every host. The first host's lock is taken first, so that one of two concurrent clients wins.

    With an ``entry``, the ledgers have it from now on, also if this client is killed, or a host restarts.
    Yields a function that raises `Failure` if a lock was lost. Raises `Failure` naming the lock holder.
    """
    said = f"{what} by {by} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    begun = json.dumps(dict(entry))[1:-1] if entry else ""
    held: list[Lock] = []

    def take(connection: Connection) -> None:
        held.append(take_lock(connection, LOCK, said, begun))

    def check() -> None:
        for lock in held:
            lock.check()

    operation.connections.opened()
    try:
        for some in (operation.target.hosts[:1], operation.target.hosts[1:]):
            operation.everywhere(take, some)
        yield check
    finally:
        # Just close: the host releases the lock as soon as the channel closes.
        for lock in held:
            lock.channel.close()


def ask_each(operation: Operation, hosts: Sequence[Host]) -> dict[str, HostState | Failure]:
    """The state of each of these hosts, or why it cannot be read."""

    def ask(connection: Connection) -> HostState:
        result = run_script(connection, script("look.sh"), seconds=60)
        if result.code:
            raise Failure(f"{connection.name}: {result.last_line}")
        return state.parse(connection.name, result.text)

    return operation.connections.on_all(hosts, ask)


def ask_health(operation: Operation, hosts: Sequence[Host]) -> dict[str, tuple[HostState, health.Health] | Failure]:
    """The state of each of these hosts, and what a visitor and its servers get, in one script; or why not."""
    target = operation.target
    scheme = "https" if target.environment.tls else "http"
    tls = "tls" if target.environment.tls else ""
    values = (target.environment.domain, scheme, tls, " ".join(target.project.probes), _encoded(script("look.sh")))
    header = lines(*values)

    def ask(connection: Connection) -> tuple[HostState, health.Health]:
        result = run_script(connection, script("health.sh"), header.encode(), seconds=90)
        if result.code:
            raise Failure(f"{connection.name}: {result.last_line}")
        return state.parse(connection.name, result.text), health.parse(result.text)

    return operation.connections.on_all(hosts, ask)


def look(operation: Operation) -> dict[str, HostState]:
    """The state of the hosts. Raises `Failure` naming those whose state cannot be read."""
    return require_all(ask_each(operation, operation.target.hosts))


def ship(operation: Operation, headers: Mapping[str, str], code: tuple[IO[bytes], int]) -> None:
    """Create the release on every host: send its header, then the code. Raises `Failure` naming hosts that fail."""

    def send(connection: Connection) -> None:
        operation.view.show(connection.name, "receiving")
        stream = (part for parts in ([headers[connection.name].encode()], archive.pieces(*code)) for part in parts)
        result = run_script(connection, script("ship.sh"), stream, seconds=SHIP_SECONDS)
        if result.code:
            operation.view.show(connection.name, "failed")
            *said, why = result.stderr.decode(errors="replace").splitlines() or [f"exit code {result.code}"]
            quote(connection.name, "\n".join(said))
            raise Failure(f"{connection.name}: {_why(connection, printable(why))}")
        operation.view.show(connection.name, "received")

    operation.everywhere(send)


@contextmanager
def recorded(operation: Operation, entry: Mapping[str, str]) -> Iterator[None]:
    """Write a `Failure` of what comes before the activation to the ledgers; a migration may have been applied."""
    try:
        yield
    except Failure as failure:
        why = printable(failure.message.splitlines()[-1])[:300]
        text = lines(json.dumps(dict(entry))[1:-1], json.dumps(f"failed: {why}"))
        operation.connections.on_all(
            operation.target.hosts, lambda each: run_script(each, script("record.sh"), text.encode(), seconds=20)
        )
        raise


def _why(connection: Connection, said: str) -> str:
    """Why a script failed: what it said last, unless its host is restarting, which stops whatever runs there."""
    try:
        found = run_script(connection, "systemctl is-system-running || true", seconds=20)
    except Failure:
        return f"{said}; then the connection was lost: if the host restarts, run the command again when it is back"
    restarts = found.text.strip() == "stopping"
    return "the host shuts down or restarts: run the command again when it is back" if restarts else said


def migrate(operation: Operation, release: str, *, copies: bool = True) -> None:
    """Migrate the database once, after a backup if the environment asks for one and ``copies``. Raises `Failure`."""
    target = operation.target
    first = next(host for host in target.hosts if host.name == target.batches[0][0])
    connection = operation.connections.to(first)

    def ask(to: Connection, word: str) -> Result:
        text = lines(release, word).encode()
        return run_script(to, script("migrate.sh"), text, seconds=limits.MIGRATE)

    if target.environment.backup_before_migrate and copies:
        pending = ask(connection, "pending")
        if pending.code:
            why = _why(connection, pending.last_line)
            raise Failure(f"{first.name}: cannot list the pending migrations: {why}")
        if pending.text.strip() == "none":
            return
        [database] = target.environment.with_role("database")
        word = "snapshot" if target.environment.backup else "backup"
        made = ask(there := operation.connections.to(database), word)
        if made.code:
            why = _why(there, made.last_line)
            raise Failure(f"{database.name}: cannot back up the database, so nothing is migrated: {why}")
        operation.view.notify(f"{database.name}: backup {printable(made.text)}")
    operation.view.show(first.name, "migrating")
    done = ask(connection, "migrate")
    if done.code:
        operation.view.show(first.name, "failed")
        quote(first.name, done.text)
        why = running.explain(done.text, done.text) or done.last_line or f"exit code {done.code}"
        raise Failure(f"{first.name}: migrations: {_why(connection, printable(why))}")
    operation.view.show(first.name, "migrated")


def tell_serving(operation: Operation, release: str, commit: str) -> None:
    """Tell the database's host which release serves, if it does not run the site: its backups name it."""
    target = operation.target
    if not target.environment.backup:
        return
    others = [host for host in target.environment.with_role("database") if host not in target.environment.site_hosts]
    text = lines(f"{release} {commit}").encode()

    def tell(connection: Connection) -> None:
        result = run_script(connection, script("serving.sh"), text, seconds=20)
        if result.code:
            raise Failure(f"{connection.name}: backups will not name the release that serves: {result.last_line}")

    if failed := failures(operation.connections.on_all(others, tell)):
        operation.view.notify(failed.message)


def activate(
    operation: Operation,
    release: str,
    entry: Mapping[str, str],
    check: Callable[[], None],
    *,
    back: Collection[str] = (),
) -> None:
    """Activate a release that all hosts have, batch by batch. On `Failure` all hosts are restored.

    New workers are ready before the first request reaches the new code, which may send tasks that only they know. If
    all hosts with workers go ``back`` to an earlier release (`state.going_back`), the running workers know its tasks
    already, and no request waits for new ones.
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
        fleet.move_alone(target.workers)
        fleet.commit()
