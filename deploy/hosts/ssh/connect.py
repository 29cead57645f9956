"""The one place that speaks SSH: connections to the hosts of an environment, their keys checked first.

A key that the environment's file (`trust`) does not have is refused before anything of ours is sent, on the hosts on
the way too. Who a user is, is Fabric's business: the agent, `~/.ssh/config` and the keys in `~/.ssh`; nobody is ever
asked for a passphrase. Where a host is and whom we are there, the environment's file says, not `~/.ssh/config`.
Fabric and paramiko cost 150 ms to import: they are, when something connects.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Host
from deploy.hosts.environment.values import Jump
from deploy.hosts.ssh import background, known_hosts
from deploy.hosts.ssh.hop import ANSWER_SECONDS, Hop, one_line, quiet_config
from deploy.hosts.ssh.known_hosts import KnownHosts

if TYPE_CHECKING:
    import fabric
    import paramiko


T = TypeVar("T")

#: Hosts that are connected to, and worked on, at a time.
AT_A_TIME = 20
#: Seconds that what is under way on hosts has to end when we are told to stop, and its connections have been cut.
STOP_SECONDS = 2
#: What a host is told to run, whatever it is to do: it takes the frame of a script (`channel`) from its first line.
SHELL = """exec /bin/sh -c 'IFS= read -r frame && eval "$(printf %s "$frame" | base64 -d)"'"""


@dataclass
class Connection:
    """A connection to a host, which is opened by what first needs it."""

    host: Host
    #: Its end; those before it are jump hosts.
    end: Hop
    #: Shells that are to wait there from the beginning: each saves the phase that takes it two round trips.
    ahead: int = 0
    _waiting: deque[Future[paramiko.Channel]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.host.name

    def open(self) -> Self:
        """Connect, if that is not done. Raises `Failure` in one line that names host and remedy."""
        with self._lock:
            self.end.open()
            if self.ahead:
                self._waiting.extend(background.start([self._new_shell] * self.ahead, self.ahead))
                self.ahead = 0
        return self

    def shell(self) -> paramiko.Channel:
        """A channel in which a shell waits for a script. Raises `Failure` when the connection is lost."""
        self.open()
        while self._waiting:
            with suppress(Failure):  # as from a host that allows fewer at a time; then a new one, or the reason
                if not (channel := self._waiting.popleft().result()).closed:
                    return channel
        return self._new_shell()

    def _new_shell(self) -> paramiko.Channel:
        import paramiko

        try:
            channel = self.end.fabric.transport.open_session(timeout=ANSWER_SECONDS)
            channel.exec_command(SHELL)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Failure(f"{self.name}: no channel can be opened ({one_line(error)}); repeat the command") from None
        return channel

    def close(self) -> None:
        """Cut it: what runs on the host over it is ended there."""
        self.end.fabric.client.close()


class Connections:
    """The connections of one command: one for each host, jump hosts shared. Leaving the context cuts them all.

    ``ahead`` is the number of shells that wait on each host as soon as it is connected to.
    """

    def __init__(self, known: KnownHosts, *, admin: bool = False, ahead: int = 0) -> None:
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it says there what it raises, too
        self.known = known
        self.admin = admin
        self.ahead = ahead
        self._lock = threading.Lock()
        self._open: dict[str, Connection] = {}
        self._jumps: dict[tuple[tuple[Jump, ...], Path | None], Hop] = {}
        self._others: list[Hop] = []
        self._opening: Future[dict[str, Failure | None]] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections, those of the hosts first. None is made from now on."""
        with self._lock:
            self._closed = True
            hops = [*(each.end for each in self._open.values()), *reversed(self._jumps.values()), *self._others]
        for hop in hops:
            hop.fabric.client.close()

    def to(self, host: Host) -> Connection:
        """The connection to a host, made again when it was lost; opened when something is done over it.

        Raises `Failure` once they have been closed.
        """
        with self._lock:
            if self._closed:
                raise Failure(f"{host.name}: the command was stopped")
            known = self._open.get(host.name)
            if known is None or known.end.failed:
                user = host.admin if self.admin else host.user
                end = self._hop(host.name, Jump(user, host.address, host.port), host.jump, host.identity)
                if not self.admin:
                    end.hint = (
                        f"; `invoke remote-setup --env {self.known.environment}` makes that user where there is none"
                    )
                self._open[host.name] = Connection(host, end, self.ahead)
            return self._open[host.name]

    def way(self, host: Host) -> list[Hop]:
        """The hops to a host, the first of them first and itself last."""
        hop: Hop | None = self.to(host).end
        found: list[Hop] = []
        while hop:
            found.insert(0, hop)
            hop = hop.before
        return found

    def _hop(self, label: str, to: Jump, jumps: Sequence[Jump], identity: Path | None) -> Hop:
        import fabric

        known_hosts.entry_name(to.host, to.port)
        before = self._jump(tuple(jumps), identity) if jumps else None
        keys = {"key_filename": str(identity), "look_for_keys": False} if identity else {}
        seconds = dict.fromkeys(("banner_timeout", "auth_timeout", "channel_timeout"), ANSWER_SECONDS)
        made = fabric.Connection(
            to.host,
            user=to.user,
            port=to.port,
            config=quiet_config(),
            gateway=before.fabric if before else None,
            forward_agent=False,
            connect_timeout=ANSWER_SECONDS,
            connect_kwargs={**keys, **seconds},
        )
        return Hop(label, self.known, made, before or self._configured(made))

    def _jump(self, jumps: tuple[Jump, ...], identity: Path | None) -> Hop:
        if (jumps, identity) not in self._jumps:
            last = jumps[-1]
            label = f"jump host {last.user}@{last.host}:{last.port}"
            self._jumps[jumps, identity] = self._hop(label, last, jumps[:-1], identity)
        return self._jumps[jumps, identity]

    def _configured(self, end: fabric.Connection) -> Hop | None:
        """A jump host that `~/.ssh/config` puts before one that the environment's file reaches directly."""
        import fabric

        if not isinstance(end.gateway, fabric.Connection):
            return None
        before = end.gateway
        before.connect_timeout = ANSWER_SECONDS
        label = f"jump host {before.user}@{before.original_host}:{before.port} of ~/.ssh/config"
        hop = Hop(label, self.known, before, self._configured(before))
        self._others.append(hop)
        return hop

    def begin(self, hosts: Iterable[Host]) -> Self:
        """Connect to hosts while something else is done; `opened` waits for the last of them."""
        connect_all = partial(self.on_all, tuple(hosts), lambda _: None)
        [self._opening] = background.start([connect_all], 1)
        return self

    def opened(self) -> None:
        """Return when all that `begin` was given are connected to. Raises `Failure` naming those that cannot be."""
        if self._opening and (failed := failures(self._opening.result())):
            raise failed

    def on_all(
        self, hosts: Iterable[Host], function: Callable[[Connection], T], limit: int = AT_A_TIME
    ) -> dict[str, T | Failure]:
        """What a function returns for each host, or the `Failure` it raised; so many hosts at a time.

        One that fails does not stop the others. When we are told to stop, all connections are cut. What is no
        `Failure` is raised once all have ended.
        """

        def one(host: Host) -> T | Failure:
            try:
                return function(self._opened(host))
            except Failure as failure:
                return failure

        chosen = tuple(hosts)
        futures = background.start([partial(one, host) for host in chosen], limit)
        try:
            wait(futures)
        except BaseException:
            under_way = [future for future in futures if not future.cancel()]
            self.close()
            wait(under_way, STOP_SECONDS)
            raise
        return {host.name: future.result() for host, future in zip(chosen, futures, strict=True)}

    def _opened(self, host: Host) -> Connection:
        connection = self.to(host).open()
        if self._closed:  # while it was being opened
            connection.close()
            raise Failure(f"{host.name}: the command was stopped")
        return connection


def connect(host: Host, known: KnownHosts) -> Connection:
    """An open connection to a host, for its user. Raises `Failure` in one line that names host and remedy."""
    return Connections(known).to(host).open()


def failures(results: Mapping[str, object]) -> Failure | None:
    """All that failed of what `Connections.on_all` returned, as one; None for nothing."""
    said = [result.message for result in results.values() if isinstance(result, Failure)]
    return Failure("\n".join(said)) if said else None
