"""A new password for a server on the environment's hosts, while a second one is valid; `scripts/rotate.sh` makes both.

It needs the administrator's key: the deploy user may not read the passwords of servers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pydantic import SecretStr

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment
from deploy.hosts.layout import Layout
from deploy.hosts.release import phases
from deploy.hosts.release.phases import Operation
from deploy.hosts.setup import converge
from deploy.hosts.setup.desired import service_lines
from deploy.hosts.setup.diff import Access, Server
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import script
from deploy.hosts.ssh.connect import Connection, Connections

#: Restart what serves, host by host; what is given is called if that fails.
Restart = Callable[[Callable[[], None] | None], None]
_SECONDS = 150
_SCRIPTS = ("postgresql.sh", "rabbitmq.sh", "redis.sh", "rotate.sh")


class NotPutBack(Failure):
    """What failed could not be put back: some processes may have the new secret, and others the old one."""


# --- Pure ---


def described(environment: Environment, servers: Sequence[str], hosts: str, again: str) -> list[str]:
    """A line for each step."""
    there = {server: environment.with_role(cast(Server, server))[0].name for server in servers}
    second = [
        f"1. {host}: a second {'password' if server == 'redis' else 'account'} for the {server}"
        for server, host in there.items()
    ]
    new = [
        f"3. {host}: {'only that' if server == 'redis' else 'the account itself has a new'} password of the {server}"
        for server, host in there.items()
    ]
    names = f"{hosts}: services.env names it; {again}"
    return [
        *second,
        f"2. {names}",
        *new,
        *(
            [f"4. {names}", f"5. {', '.join(dict.fromkeys(there.values()))}: the second account is removed"]
            if set(servers) != {"redis"}
            else []
        ),
    ]


def parse(text: str) -> dict[str, Access]:
    """The accesses that `rotate.sh` prints, `first` and `second`. Raises `Failure` for anything else."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] in ("first", "second"):
            account, place = (word.removeprefix("-") if word == "-" else word for word in words[1:3])
            found[words[0]] = Access(SecretStr(words[3]), "", account, place)
    if set(found) != {"first", "second"}:
        raise Failure("rotate.sh has not said the accounts: run the command again")
    return found


def request(step: str, server: str, names: str, lines: Sequence[str] = ()) -> bytes:
    """The input of `rotate.sh`. It contains secrets."""
    return "".join(f"{line}\n" for line in (step, server, names, *lines)).encode()


# --- Doing it ---


def rotate(operation: Operation, servers: Sequence[str], restart: Restart) -> None:
    """Rotate the passwords of servers: everything that serves restarts twice (for Redis alone, once).

    If the first restart fails, the passwords are as they were. Afterwards both are valid until the command has been
    repeated. Raises `Failure`.
    """
    environment = operation.target.environment
    known = pinning.load(environment.root, environment.name)
    with Connections(known, admin=True, owner=operation.target.owner) as admin:
        steps = _Steps(operation, admin, [cast(Server, server) for server in servers])
        before = steps.at_servers("begin")
        first = {server: each["first"] for server, each in before.items()}
        try:
            steps.write({server: each["second"] for server, each in before.items()})
        except BaseException:
            steps.write(first)
            if not steps.resumed:
                steps.end()
            raise
        operation.view.notify(f"{' and '.join(servers)}: a second password is valid beside the first")
        try:
            restart(lambda: steps.write(first))
        except BaseException as error:
            # After an interrupted rotation, others may still use the second one.
            if not isinstance(error, NotPutBack) and not steps.resumed:
                steps.end()
            raise
        try:
            after = steps.at_servers("change")
            operation.view.notify(f"{' and '.join(servers)}: the account has a new password")
            if set(servers) != {"redis"}:
                steps.write({server: each["first"] for server, each in after.items()})
                restart(None)
            steps.end()
        except Failure as failure:
            again = f"`invoke remote-rotate --env {environment.name} --secret {','.join(servers)}`"
            raise Failure(f"{failure.message}; all processes have a password that is valid: repeat {again}") from None


class _Steps:
    """The steps of `rotate.sh`, on the servers' hosts and on those of the site."""

    def __init__(self, operation: Operation, admin: Connections, servers: Sequence[Server]) -> None:
        self._operation, self._admin = operation, admin
        #: Whether an interrupted rotation has made the second passwords.
        self.resumed = False
        target = operation.target
        self._there = {server: target.environment.with_role(server)[0] for server in servers}
        self._site = converge.load(target.environment, target.project)
        hosts = list({host.name: host for host in (*target.hosts, *self._there.values())}.values())
        said = phases.require_all(phases.ask_each(operation, hosts))
        self._names = {name: has.site for name, has in said.items()}
        if without := [name for name, site in self._names.items() if not site]:
            raise Failure(f"{', '.join(without)}: is not set up: run `invoke remote-setup`")

    def _run(self, to: Connection, step: str, server: Server, lines: Sequence[str] = ()) -> str:
        target = self._operation.target
        layout = Layout.of(target.project.name, target.environment.name, self._names[to.name])
        text = "".join(map(script, _SCRIPTS))
        return converge.as_root(to, text, request(step, server, layout.names, lines), _SECONDS).text

    def at_servers(self, step: str) -> dict[Server, Mapping[str, Access]]:
        """Run a step on each server's host, and return the accesses that it prints."""
        return {server: parse(self._run(self._admin.to(host), step, server)) for server, host in self._there.items()}

    def end(self) -> None:
        """Only the password in the server's file is valid."""
        for server, host in self._there.items():
            self._run(self._admin.to(host), "end", server)

    def write(self, accesses: Mapping[Server, Access]) -> None:
        """Name the accesses to the site's processes on all hosts, for their next start. Raises `Failure`."""

        def write(to: Connection) -> None:
            here = self._site.on(self._names[to.name])
            for server, access in accesses.items():
                lines = service_lines(here, to.host, self._there[server], server, access)
                self._run(to, "write", server, lines)

        phases.require_all(self._admin.on_all(self._operation.target.hosts, write))
