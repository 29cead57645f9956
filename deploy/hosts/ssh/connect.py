"""The only module that opens SSH connections: to the hosts of an environment, after checking their keys.

A host key that is not pinned in the environment's file of keys is refused before anything is sent; the same holds for
jump hosts. Fabric finds the user's keys: from the agent, `~/.ssh/config` and `~/.ssh`; it never asks for a passphrase.
The address and the user of a host come from the environment's file, not from `~/.ssh/config`.
Fabric and paramiko take 150 ms to import, so they are imported only when something connects.
"""

from __future__ import annotations

import logging
import threading
import time
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
from deploy.hosts.environment.owner import Owner
from deploy.hosts.environment.values import Jump
from deploy.hosts.ssh import background, known_hosts, openssh
from deploy.hosts.ssh.hop import ANSWER_SECONDS, Hop, one_line, quiet_config
from deploy.hosts.ssh.known_hosts import KnownHosts

if TYPE_CHECKING:
    import fabric
    import paramiko


T = TypeVar("T")

#: The number of hosts to connect to, and to work on, at a time.
AT_A_TIME = 20
#: Seconds for running operations to end after we were told to stop and have cut their connections.
STOP_SECONDS = 2
#: Connections to one host, for one that allows few sessions in each. A deploy needs two sessions at a time.
MOST_CONNECTIONS = 4
_FEW_SESSIONS = "sshd there allows too few sessions in a connection: set MaxSessions to 10, its default, or more"
#: The command that every channel runs: it reads the frame of a script (`channel`) from its first line of input.
SHELL = """exec /bin/sh -c 'IFS= read -r frame && eval "$(printf %s "$frame" | base64 -d)"'"""


@dataclass
class Connection:
    """A connection to a host, opened at first use."""

    host: Host
    #: The last hop, to the host itself; those before it are jump hosts.
    end: Hop
    #: The number of shells to open ahead: each saves a phase two round trips.
    ahead: int = 0
    #: Who asks: a host with another's mark refuses each script. None asks any host.
    owner: Owner | None = None
    #: A further connection, for a host that allows fewer sessions in one than a command needs.
    another: Callable[[], Hop] | None = None
    _more: list[Hop] = field(default_factory=list)
    _waiting: deque[Future[paramiko.Channel]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def number(self) -> int:
        """How many connections to the host it has by now: more than one if sshd allows few sessions in each."""
        return 1 + len(self._more)

    def open(self) -> Self:
        """Connect, unless already connected. Raises `Failure` in one line that names host and remedy."""
        with self._lock:
            self.end.open()
            if self.ahead:
                self._waiting.extend(background.start([partial(self._shell_on, self.end)] * self.ahead, self.ahead))
                self.ahead = 0
        return self

    def shell(self) -> paramiko.Channel:
        """A channel with a shell that waits for a script. Raises `Failure` if the connection is lost."""
        self.open()
        while self._waiting:
            with suppress(Failure):  # e.g. the host allows fewer sessions; below we open a new one, or raise
                if not (channel := self._waiting.popleft().result()).closed:
                    return channel
        return self._new_shell()

    def _new_shell(self) -> paramiko.Channel:
        """A new channel: on this connection, or on a further one if sshd allows no more sessions (MaxSessions)."""
        with self._lock:
            # A host counts a session that has just ended for a moment more.
            for _ in range(20 if self._more else 1):
                for hop in (self.end, *self._more):
                    with suppress(_Full):
                        return self._shell_on(hop)
                time.sleep(0.1 if self._more else 0)
            if self.another is None or len(self._more) >= MOST_CONNECTIONS:
                raise Failure(f"{self.name}: {_FEW_SESSIONS}")
            further = self.another()
            further.open()
            self._more.append(further)
        try:
            return self._shell_on(further)
        except _Full:
            raise Failure(f"{self.name}: {_FEW_SESSIONS}") from None

    def plain(self, command: str) -> paramiko.Channel:
        """A channel with a command of its own. Raises `Failure` if the connection is lost."""
        return self._shell_on(self.open().end, command)

    def _shell_on(self, hop: Hop, command: str = SHELL) -> paramiko.Channel:
        import paramiko

        try:
            channel = hop.fabric.transport.open_session(timeout=ANSWER_SECONDS)
            channel.exec_command(command)
        except paramiko.ChannelException:
            raise _Full(f"{self.name}: {_FEW_SESSIONS}") from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Failure(f"{self.name}: cannot open a channel ({one_line(error)}); run the command again") from None
        return channel

    def close(self) -> None:
        """Cut the connection: the host stops the scripts that run over it."""
        for hop in (self.end, *self._more):
            hop.fabric.client.close()


class _Full(Failure):
    """sshd allows no more sessions in a connection."""


class Connections:
    """The connections of one command: one for each host, with shared jump hosts. Leaving the context cuts them all.

    ``ahead`` is the number of shells to open on each host as soon as it is connected; a host that is not the
    ``owner``'s refuses every script.
    """

    def __init__(self, known: KnownHosts, *, admin: bool = False, ahead: int = 0, owner: Owner | None = None) -> None:
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it also raises what it logs
        self.known = known
        self.admin = admin
        self.ahead = ahead
        self.owner = owner
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
        """Cut all connections, those of the hosts first, and refuse new ones."""
        with self._lock:
            self._closed = True
            hops = [*(each.end for each in self._open.values()), *reversed(self._jumps.values()), *self._others]
        for hop in hops:
            hop.fabric.client.close()

    def to(self, host: Host) -> Connection:
        """The connection to a host, a new one if the last one failed; it is opened at first use.

        Raises `Failure` after `close`.
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
                        f"; `invoke remote-setup --env {self.known.environment}` creates that user if it is missing,"
                        " and says what else keeps it out"
                    )
                again = partial(self._another, host, user)
                self._open[host.name] = Connection(host, end, self.ahead, self.owner, again)
            return self._open[host.name]

    def _another(self, host: Host, user: str) -> Hop:
        with self._lock:
            if self._closed:
                raise Failure(f"{host.name}: the command was stopped")
            hop = self._hop(host.name, Jump(user, host.address, host.port), host.jump, host.identity)
            self._others.append(hop)
            return hop

    def way(self, host: Host) -> list[Hop]:
        """The hops to a host in order; the last is the host itself."""
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
        meant = openssh.meaning(to)
        keys = {"key_filename": str(identity), "look_for_keys": False} if identity else {}
        if meant and meant.agent == "none":
            keys["allow_agent"] = False
        seconds = dict.fromkeys(("banner_timeout", "auth_timeout", "channel_timeout"), ANSWER_SECONDS)
        made = fabric.Connection(
            to.host,
            user=to.user,
            port=to.port,
            config=quiet_config(meant),
            gateway=before.fabric if before else None,
            forward_agent=False,
            connect_timeout=ANSWER_SECONDS,
            connect_kwargs={**keys, **seconds},
        )
        own = meant.agent if meant and meant.agent != "none" else ""
        return Hop(label, self.known, made, before or self._configured(made), agent=own)

    def _jump(self, jumps: tuple[Jump, ...], identity: Path | None) -> Hop:
        if (jumps, identity) not in self._jumps:
            last = jumps[-1]
            label = f"jump host {last.user}@{last.host}:{last.port}"
            self._jumps[jumps, identity] = self._hop(label, last, jumps[:-1], identity)
        return self._jumps[jumps, identity]

    def _configured(self, end: fabric.Connection) -> Hop | None:
        """The jump host that `~/.ssh/config` adds before a host without one in the environment's file."""
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
        """Connect to hosts in the background; `opened` waits for all of them."""
        connect_all = partial(self.on_all, tuple(hosts), lambda _: None)
        [self._opening] = background.start([connect_all], 1)
        return self

    def opened(self) -> None:
        """Wait until all hosts of `begin` are connected. Raises `Failure` naming those that cannot be."""
        if self._opening and (failed := failures(self._opening.result())):
            raise failed

    def on_all(
        self, hosts: Iterable[Host], function: Callable[[Connection], T], limit: int = AT_A_TIME
    ) -> dict[str, T | Failure]:
        """Call a function for each host, ``limit`` at a time; returns each result, or the `Failure` it raised.

        A host that fails does not stop the others. An interrupt cuts all connections. Any other exception is raised
        once all calls have ended.
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
        if self._closed:  # meanwhile, while it was being opened
            connection.close()
            raise Failure(f"{host.name}: the command was stopped")
        return connection


def connect(host: Host, known: KnownHosts) -> Connection:
    """An open connection to a host as its deploy user. Raises `Failure` in one line that names host and remedy."""
    return Connections(known).to(host).open()


def failures(results: Mapping[str, object]) -> Failure | None:
    """All failures in the results of `Connections.on_all`, as one; None if there is none."""
    said = [result.message for result in results.values() if isinstance(result, Failure)]
    return Failure("\n".join(said)) if said else None
