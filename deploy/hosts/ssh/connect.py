"""The one place that speaks SSH: connections to the hosts of an environment, their keys checked first.

A key that the environment's file (`trust`) does not have is refused before anything of ours is sent, on the hosts on
the way too. Who a user is, is Fabric's business: the agent, `~/.ssh/config` and the keys in `~/.ssh`; nobody is ever
asked for a passphrase. Where a host is and whom we are there, the environment's file says, not `~/.ssh/config`.
Fabric and paramiko cost 150 ms to import: they are, when something connects.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from deploy.errors import Failure
from deploy.hosts.environment.file import Host
from deploy.hosts.environment.values import Jump
from deploy.hosts.ssh import known_hosts
from deploy.hosts.ssh.known_hosts import HostKey, KnownHosts

if TYPE_CHECKING:
    import fabric
    import paramiko

T = TypeVar("T")

#: Seconds for a host to answer: TCP, then SSH, then the authentication.
ANSWER_SECONDS = 15
#: Seconds between signs of life, so that a firewall does not forget a connection that waits.
KEEPALIVE_SECONDS = 15
#: Hosts that are worked on at a time.
AT_A_TIME = 10
#: What a host is told to run, whatever it is to do: it takes the frame of a script (`channel`) from its first line.
SHELL = """exec /bin/sh -c 'IFS= read -r frame && eval "$(printf %s "$frame" | base64 -d)"'"""


class _Pinned:
    """paramiko's policy for keys it has no file for, which are all: refuses what is not pinned, before any login."""

    def __init__(self, known: KnownHosts, name: str) -> None:
        self.known = known
        self.name = name
        #: That what follows is about who we are.
        self.accepted = False

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        """Return if the key is pinned. Raises `Failure` otherwise."""
        pinned, found = self.known.keys(self.name), _host_key(key)
        verdict = known_hosts.compare(pinned, found)
        if verdict == "changed":
            raise Failure(
                f"its host key is {found.kind} {found.fingerprint}, not the one in {self.known.source}: find out why "
                "before anything else; nothing was sent"
            )
        if verdict != "same":
            raise Failure(f"its host key is not known yet: run `invoke remote-trust --env {self.known.environment}`")
        self.accepted = True


def _host_key(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.get_base64())


def _preferring(transport: paramiko.Transport, pinned: Sequence[HostKey]) -> paramiko.Transport:
    """The transport, asking for a kind of key that is pinned, else for the best: a host shows one of those it has."""
    wanted = {key.kind for key in pinned}
    options = transport.get_security_options()

    def rank(algorithm: str) -> tuple[bool, int]:
        kind = "ssh-rsa" if algorithm.startswith("rsa-sha2") else algorithm
        return kind not in wanted, known_hosts.KINDS.index(kind) if kind in known_hosts.KINDS else len(
            known_hosts.KINDS
        )

    options.key_types = tuple(sorted(options.key_types, key=rank))
    return transport


@dataclass
class Hop:
    """A host on the way, or at its end."""

    label: str
    known: KnownHosts
    fabric: fabric.Connection
    #: The one before it, which it is reached through.
    before: Hop | None = None
    #: What it could not be opened for. A jump host that is down is tried once, not for each host behind it.
    failed: Failure | None = None
    #: What else may be the reason when it lets nobody in.
    hint: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """How the file of keys names it: what we call it, whatever `~/.ssh/config` makes of that."""
        return known_hosts.entry_name(self.fabric.original_host, self.fabric.port)

    def open(self) -> None:
        """Connect, if that is not done. Raises `Failure` in one line."""
        with self._lock:
            if self.fabric.is_connected:
                return
            if self.failed:
                raise self.failed
            self._open()

    def _open(self) -> None:
        import paramiko

        self.open_way()
        client, pinned = self.fabric.client, self.known.keys(self.name)
        policy = _Pinned(self.known, self.name)
        client.set_missing_host_key_policy(policy)

        def transport(sock: object, **options: object) -> paramiko.Transport:
            if isinstance(sock, socket.socket):  # else each small message waits for an acknowledgement, 40 ms
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _preferring(paramiko.Transport(sock, **options), pinned)

        self.fabric.connect_kwargs["transport_factory"] = transport
        try:
            self.fabric.open()
        except (Failure, OSError, EOFError, paramiko.SSHException) as error:
            why = error.message if isinstance(error, Failure) else self._why(error, policy.accepted)
            self.failed = Failure(f"{self.label}: {why}")
            client.close()
            raise self.failed from None
        except BaseException:
            client.close()
            raise
        self.fabric.transport.set_keepalive(KEEPALIVE_SECONDS)

    def open_way(self) -> None:
        """Open what it is reached through. Raises `Failure`."""
        if self.before:
            try:
                self.before.open()
            except Failure as failure:
                raise Failure(f"{self.label}: {failure.message}") from None

    def key(self) -> HostKey:
        """The key that it shows; nobody logs in. Of the kind that is pinned, if one is. Raises `Failure`."""
        import paramiko

        self.open_way()
        transport = None
        try:
            if self.fabric.gateway:
                sock = self.fabric.open_gateway()
            else:
                sock = socket.create_connection((self.fabric.host, self.fabric.port), ANSWER_SECONDS)
            transport = _preferring(paramiko.Transport(sock), self.known.keys(self.name))
            transport.start_client(timeout=ANSWER_SECONDS)
            return _host_key(transport.get_remote_server_key())
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Failure(f"{self.label}: {self._why(error)}") from None
        finally:
            if transport:
                transport.close()

    def _why(self, error: Exception, accepted: bool = False) -> str:
        """A line for what paramiko raised, with what mends it."""
        import paramiko

        at = f"{self.fabric.host}:{self.fabric.port}"
        if isinstance(error, paramiko.ChannelException):
            return f"{self.before.label if self.before else 'its proxy'} does not reach {at} ({error.text})"
        if isinstance(error, socket.gaierror):
            return f"{self.fabric.host} is no name that is known here; mend its address"
        if isinstance(error, TimeoutError):
            return f"nothing answers at {at} within {ANSWER_SECONDS} s: is it up, and does a firewall let you in?"
        if isinstance(error, OSError):
            return f"no SSH at {at} ({_reason(error)}): is it up, and its address and port right?"
        if accepted and isinstance(error, paramiko.SSHException):
            return self._why_no_login(error)
        return f"what answers at {at} does not speak SSH as we do ({_one_line(error)})"

    def _why_no_login(self, error: Exception) -> str:
        import paramiko

        for path in self.fabric.connect_kwargs.get("key_filename") or []:
            if _has_passphrase(Path(path).expanduser()):
                return f"{path} has a passphrase and the agent has no key that is taken: run `ssh-add {path}`"
        if isinstance(error, paramiko.PasswordRequiredException):
            return "your key has a passphrase, and the agent does not have it: run `ssh-add`"
        if "too many" in str(error).lower():
            return "it was offered too many keys: name the right one with identity"
        return (
            f"it takes none of your keys for {self.fabric.user}: `ssh-add -l` shows those of the agent, "
            f"identity can name one{self.hint}"
        )


def _reason(error: OSError) -> str:
    import paramiko

    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    return error.strerror or _one_line(error)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _has_passphrase(path: Path) -> bool:
    import paramiko

    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType):
        return False
    return False


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
                pool = ThreadPoolExecutor(self.ahead)
                self._waiting.extend(pool.submit(self._new_shell) for _ in range(self.ahead))
                pool.shutdown(wait=False)
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
            raise Failure(f"{self.name}: no channel can be opened ({_one_line(error)}); repeat the command") from None
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections, those of the hosts first."""
        for hop in [*(each.end for each in self._open.values()), *reversed(self._jumps.values()), *self._others]:
            hop.fabric.client.close()

    def to(self, host: Host) -> Connection:
        """The connection to a host, made again when it was lost; opened when something is done over it."""
        with self._lock:
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
            config=_config(),
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
        pool = ThreadPoolExecutor(1)
        self._opening = pool.submit(self.on_all, tuple(hosts), lambda _: None)
        pool.shutdown(wait=False)
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
                return function(self.to(host).open())
            except Failure as failure:
                return failure

        with ThreadPoolExecutor(limit) as pool:
            futures = {host.name: pool.submit(one, host) for host in hosts}
            try:
                wait(futures.values())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise
        return {name: future.result() for name, future in futures.items()}


def connect(host: Host, known: KnownHosts) -> Connection:
    """An open connection to a host, for its user. Raises `Failure` in one line that names host and remedy."""
    return Connections(known).to(host).open()


def _config() -> fabric.Config:
    """Fabric's, with `~/.ssh/config` but without `fabric.yaml` files, which could switch anything."""
    import fabric
    import paramiko

    config = fabric.Config(lazy=True)
    try:
        config.load_ssh_config()
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise Failure(f"~/.ssh/config: {_one_line(error)}; mend it") from None
    return config


def failures(results: Mapping[str, object]) -> Failure | None:
    """All that failed of what `Connections.on_all` returned, as one; None for nothing."""
    said = [result.message for result in results.values() if isinstance(result, Failure)]
    return Failure("\n".join(said)) if said else None
