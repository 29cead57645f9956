"""`remote-rotate`: a new secret everywhere, without losing a request, a task or a session; the old one then ends.

A secret of the environment file is in each release; the passwords of the servers on the hosts are beside the releases
(`rotate_server`). Both reach the processes by a restart, host by host.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.core import shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import WriteSecret
from deploy.hosts.environment.model import Environment
from deploy.hosts.environment.secrets import read_secret
from deploy.hosts.rekey import FALLBACK, KEY, digest
from deploy.hosts.release import kept, restart, rotate_server
from deploy.hosts.release.kept import Digests
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.restart import Step, UnderWay
from deploy.hosts.release.rotate_server import NotPutBack
from deploy.hosts.release.state import HostState
from deploy.hosts.setup.site import SERVERS
from deploy.hosts.ssh import background
from deploy.hosts.ssh.channel import script
from deploy.project.sources import Source
from deploy.project.values import MAKE_KEY, SERVICE_VARIABLES


@dataclass(frozen=True)
class Secret:
    """A secret of the environment file that is to be rotated."""

    #: The site's variable, and the key of the file.
    name: str
    key: str
    source: Source


# --- What to do. Pure. ---


def wanted(environment: Environment, secret: str) -> Secret | None:
    """The secret of the file with this name; None for the password of one or more servers on the hosts.

    Raises `Failure` for anything else, and for several secrets of which one is in the file.
    """
    if len(several := servers(secret)) > 1:
        for each in several:
            if wanted(environment, each):
                raise Failure(f"--secret {secret}: {each} must be rotated by itself: it comes from another source")
        return None
    if secret in SERVERS:
        if environment.with_role(secret):
            return None
        source = getattr(environment.services, secret)
        if source is None:
            raise Failure(f"--secret {secret}: no host of {environment.source} has the role {secret}")
        if not isinstance(source, Source):
            raise Failure(f"{environment.source}: services.{secret}: is a URL without a secret; name a source for it")
        return Secret(SERVICE_VARIABLES[secret], f"services.{secret}", source)
    if secret in environment.secrets:
        return Secret(secret, f"secrets.{secret}", environment.secrets[secret])
    known = [server for server in SERVERS if environment.with_role(server) or getattr(environment.services, server)]
    raise Failure(f"--secret {secret}: is not one; there are: {', '.join((*environment.secrets, *known))}")


def servers(secret: str) -> list[str]:
    """The names in a comma-separated list."""
    return list(dict.fromkeys(each.strip() for each in secret.split(",") if each.strip()))


def generates(
    environment: Environment, this: Secret, expected: str, found: Mapping[str, Digests], current: Mapping[str, str]
) -> bool:
    """Whether a new value must be made: the hosts have that of the source, and the source can be written here.

    ``expected`` is the digest of the source's value. Raises `Failure` if the hosts have it and it cannot be written.
    """
    if not all(kept.has(found[name], release, this.name, expected) for name, release in current.items()):
        return False  # it is new, or a rotation was interrupted
    if this.name == KEY and this.source.kind == "file":
        return True
    where = {"env": "export another value", "file": "write another value there", "command": "store another value there"}
    how = f" ({MAKE_KEY})" if this.name == KEY else ""
    raise Failure(
        f"{environment.source}: {this.key}: {this.source}: the hosts have this value already:"
        f" {where[this.source.kind]}{how}, then run this again"
    )


def has_second(found: Mapping[str, Digests], current: Mapping[str, str]) -> list[str]:
    """The hosts on which the serving release accepts a second key."""
    return [name for name, release in current.items() if FALLBACK in found[name].get(release, {})]


def remarks(states: Sequence[HostState], environment: str) -> list[str]:
    """What status says of secrets of which two are valid, a line for each."""
    found = dict.fromkeys(secret for has in states for secret in has.rotating)
    command = f"`invoke remote-rotate --env {environment} --secret"
    return [
        f"the {KEY} of before is still accepted: {command} {KEY} --finish` ends that"
        if secret == KEY
        else f"a rotation of the {secret} has not ended: {command} {secret}` goes on with it"
        for secret in found
    ]


def rows(due: Sequence[Step]) -> tuple[list[Step], list[Step]]:
    """The hosts with web, of which one at a time may restart, and those without."""
    web = [step for step in due if "web" in step[1]]
    return web, [step for step in due if step not in web]


def described(environment: Environment, secret: str, due: Sequence[Step], *, finish: bool) -> list[str]:
    """A line for each step."""
    hosts = ", ".join(host.name for host, _ in due)
    units = "; ".join(f"{host.name}: {', '.join(kinds)}" for host, kinds in due)
    again = f"restart, one web host after the other, and one of the others after the other: {units}"
    this = wanted(environment, secret)
    if this is None:
        return rotate_server.described(environment, servers(secret), hosts, again)
    if finish:
        return [f"1. {hosts}: all kept releases accept only the present {KEY}", f"2. {again}"]
    if this.name != KEY:
        return [f"1. {hosts}: all kept releases get the {this.name} of {this.source}", f"2. {again}"]
    return [
        f"1. {this.source}: must have the new key; a file gets one if it has the old one",
        f"2. {hosts}: all kept releases accept the new key too",
        f"3. {again}",
        f"4. {hosts}: the new key signs in all kept releases, the old one is accepted",
        f"5. {again}",
        "later: the same with --finish: only the new key is accepted",
    ]


# --- Doing it ---


def rotate(target: Target, secret: str, notify: Notify, *, finish: bool) -> Action:
    """Rotate a secret, or with ``finish`` end the SECRET_KEY of before. Raises `Failure`."""
    this = wanted(target.environment, secret)
    if finish and secret != KEY:
        raise Failure(f"--finish: is for --secret {KEY} only; the others end with the rotation itself")

    def show() -> None:
        states = restart.looked(target)
        print("\n".join(described(target.environment, secret, restart.steps(target.hosts, states, ""), finish=finish)))
        for name in ("rekey.sh", "restart.sh") if this else ("rotate.sh", "restart.sh"):
            print(f"\n# --- {name}\n{script(name)}", end="")

    def do() -> None:
        with _begun(target, f"rotation of {secret}") as rotation:
            if this is None:
                rotate_server.rotate(rotation.operation, servers(secret), rotation.restart)
                names = " and ".join(servers(secret))
                notify(f"{names}: each has a new password, and refuses the old one ({rotation.seconds:.1f} s)")
            elif finish:
                _finish(rotation, notify)
            else:
                _replace(rotation, this, notify)

    return Action(show, do)


@dataclass(frozen=True)
class Rotation:
    """A rotation under way: the hosts are locked."""

    now: UnderWay
    due: Sequence[Step]

    @property
    def operation(self) -> Operation:
        return self.now.operation

    @property
    def current(self) -> dict[str, str]:
        """The release that serves, by host."""
        return {host.name: self.now.states[host.name].current for host, _ in self.due}

    @property
    def seconds(self) -> float:
        return self.now.seconds

    def restart(self, back: Callable[[], None] | None) -> None:
        """Restart everything that serves. On failure, ``back`` is called and what has begun restarts again.

        Web hosts restart one after the other, and beside them, the hosts without web. Raises `Failure` of the unit that
        does not come back, and `NotPutBack`.
        """
        begun: list[Step] = []
        try:
            self._restart_all(begun)
        except BaseException as error:
            if back is None:
                raise
            try:
                back()
                for host, kinds in begun:
                    self.now.restart(host, kinds)
            except Failure as failure:
                why = error.message if isinstance(error, Failure) else "it was stopped"
                raise NotPutBack(f"{why}; and cannot be put back: {failure.message}") from None
            self.operation.view.notify("the hosts have the secrets that they had")
            raise

    def _restart_all(self, begun: list[Step]) -> None:
        """Restart both rows of hosts; ``begun`` gets each step before it is done."""
        over = threading.Event()

        def walk(row: Sequence[Step]) -> None:
            for host, kinds in row:
                if over.is_set():
                    return
                try:
                    self.now.check()
                    begun.append((host, kinds))
                    self.now.restart(host, kinds)
                except BaseException:
                    over.set()
                    raise

        web, others = rows(self.due)
        [beside] = background.start([partial(walk, others)], 1)
        try:
            walk(web)
            wait([beside])
        except BaseException:
            over.set()
            wait([beside])  # for the step that is under way
            raise
        beside.result()


@contextmanager
def _begun(target: Target, what: str) -> Iterator[Rotation]:
    with restart.under_way(target, what) as now:
        due = restart.steps(target.hosts, now.states, "")
        if without := [host.name for host in target.hosts if host not in [each for each, _ in due]]:
            raise Failure(f"no release serves on {', '.join(without)} yet: `invoke remote-deploy` to all hosts first")
        yield Rotation(now, due)


def _change(rotation: Rotation, verb: str, name: str, value: str = "") -> None:
    """Change a variable in all releases, and restart what serves; all of it, or nothing. Raises `Failure`."""
    operation = rotation.operation
    try:
        kept.change(operation, verb, name, value)
    except BaseException:
        kept.back(operation)
        raise
    rotation.restart(lambda: kept.back(operation))
    kept.done(operation)


def _replace(rotation: Rotation, this: Secret, notify: Notify) -> None:
    operation = rotation.operation
    environment = operation.target.environment
    value = read_secret(environment, this.key, this.name, this.source, environ=os.environ).get_secret_value()
    salt = kept.new_salt()
    found = kept.look(operation, [this.name], salt)
    for name, release in rotation.current.items():
        if this.name not in found[name].get(release, {}):
            raise Failure(f"{name}: {release} has no {this.name} yet: deploy first")
    if generates(environment, this, digest(salt, value), found, rotation.current):
        value = secrets.token_urlsafe(50)
        shell.perform([WriteSecret(environment.root / Path(this.source.words[0]).expanduser(), f"{value}\n")])
        operation.view.notify(f"{this.source} has a new {this.name}: keep it as you kept the old one")
    if this.name != KEY:
        _change(rotation, "replace", this.name, value)
        notify(f"all processes and kept releases have the new {this.name} ({rotation.seconds:.1f} s)")
        return
    _change(rotation, "accept", KEY, value)
    operation.view.notify("all processes accept the new key; now it signs")
    _change(rotation, "switch", KEY, value)
    later = f"`invoke remote-rotate --env {environment.name} --secret {KEY} --finish`"
    notify(
        f"the new {KEY} signs everywhere ({rotation.seconds:.1f} s). What the old one has signed, as sessions, is still"
        f" accepted: {later} ends that; at once if the old key has leaked, else when sessions have expired"
    )


def _finish(rotation: Rotation, notify: Notify) -> None:
    salt = kept.new_salt()
    found = kept.look(rotation.operation, [FALLBACK], salt)
    if not has_second(found, rotation.current):
        raise Failure(f"--finish: no host accepts a second {KEY}: nothing was done")
    _change(rotation, "finish", KEY)
    notify(f"only the present {KEY} is accepted ({rotation.seconds:.1f} s)")
