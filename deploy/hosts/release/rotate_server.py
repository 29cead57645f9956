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


def described(environment: Environment, server: str, hosts: str, again: str) -> list[str]:
    """A line for each step."""
    [there] = environment.with_role(cast(Server, server))
    second = "a second password" if server == "redis" else "a second account"
    first = [f"1. {there.name}: {second} for the {server}", f"2. {hosts}: services.env names it; {again}"]
    if server == "redis":
        return [*first, f"3. {there.name}: only the new password is valid"]
    return [
        *first,
        f"3. {there.name}: a new password for the account itself",
        f"4. {hosts}: services.env names it; {again}",
        f"5. {there.name}: the second account is removed",
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


def rotate(operation: Operation, server: str, restart: Restart) -> None:
    """Rotate the password of a server: everything that serves restarts twice (Redis: once).

    If the first restart fails, the password is as it was. Afterwards both are valid until the command has been
    repeated. Raises `Failure`.
    """
    environment = operation.target.environment
    known = pinning.load(environment.root, environment.name)
    with Connections(known, admin=True, owner=operation.target.owner) as admin:
        steps = _Steps(operation, admin, cast(Server, server))
        accesses = steps.at_server("begin")

        first = accesses["first"]
        try:
            steps.write(accesses["second"])
        except BaseException:
            steps.write(first)
            steps.end()
            raise
        operation.view.notify(f"{steps.there.name}: a second password of the {server} is valid beside the first")
        try:
            restart(lambda: steps.write(first))
        except BaseException as error:
            if not isinstance(error, NotPutBack):
                steps.end()
            raise
        try:
            accesses = steps.at_server("change")
            operation.view.notify(f"{steps.there.name}: the {server} has a new password")
            if server != "redis":
                steps.write(accesses["first"])
                restart(None)
            steps.end()
        except Failure as failure:
            again = f"`invoke remote-rotate --env {environment.name} --secret {server}`"
            raise Failure(f"{failure.message}; all processes have a password that is valid: repeat {again}") from None


class _Steps:
    """The steps of `rotate.sh`, on the server's host and on those of the site."""

    def __init__(self, operation: Operation, admin: Connections, server: Server) -> None:
        self._operation, self._admin, self._server = operation, admin, server
        target = operation.target
        [self.there] = target.environment.with_role(server)
        self._site = converge.load(target.environment, target.project)
        hosts = [*target.hosts, *([] if self.there in target.hosts else [self.there])]
        said = phases.require_all(phases.ask_each(operation, hosts))
        self._names = {name: has.site for name, has in said.items()}
        if without := [name for name, site in self._names.items() if not site]:
            raise Failure(f"{', '.join(without)}: is not set up: run `invoke remote-setup`")

    def _layout(self, host: str) -> Layout:
        target = self._operation.target
        return Layout.of(target.project.name, target.environment.name, self._names[host])

    def _run(self, to: Connection, step: str, lines: Sequence[str] = ()) -> str:
        text = "".join(map(script, _SCRIPTS))
        names = self._layout(to.name).names
        return converge.as_root(to, text, request(step, self._server, names, lines), _SECONDS).text

    def at_server(self, step: str) -> Mapping[str, Access]:
        """Run a step on the server's host, and return the accesses that it prints."""
        return parse(self._run(self._admin.to(self.there), step))

    def end(self) -> None:
        """Only the password in the server's file is valid."""
        self._run(self._admin.to(self.there), "end")

    def write(self, access: Access) -> None:
        """Name an access to the site's processes on all hosts, for their next start. Raises `Failure`."""

        def write(to: Connection) -> None:
            here = self._site.on(self._names[to.name])
            self._run(to, "write", service_lines(here, to.host, self.there, self._server, access))

        phases.require_all(self._admin.on_all(self._operation.target.hosts, write))
