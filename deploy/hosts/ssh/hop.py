"""One SSH connection to one machine with a pinned key: the host itself, or a jump host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.core.errors import Failure
from deploy.hosts.ssh import known_hosts
from deploy.hosts.ssh.known_hosts import HostKey, KnownHosts
from deploy.hosts.ssh.openssh import Meaning

if TYPE_CHECKING:
    import fabric
    import paramiko


#: Seconds for a host to answer, each for TCP, SSH and the authentication.
ANSWER_SECONDS = 15
#: Seconds between keepalives, so that a firewall does not drop an idle connection.
KEEPALIVE_SECONDS = 15
#: Seconds without an acknowledgement after which a host that lost its power counts as gone; Linux waits 15 minutes.
SILENT_SECONDS = 60


class _Pinned:
    """paramiko's policy for keys that no file of its own has, which here are all: refuse unpinned keys before login."""

    def __init__(self, known: KnownHosts, name: str) -> None:
        self.known = known
        self.name = name
        #: The key was accepted: a later error is about the login.
        self.accepted = False

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        """Accept a pinned key. Raises `Failure` for any other."""
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
    """The transport, set to prefer the pinned kinds of key, then the best: a host shows only one of its keys."""
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
    """A jump host, or the host itself."""

    label: str
    known: KnownHosts
    fabric: fabric.Connection
    #: The hop before it, through which it is reached.
    before: Hop | None = None
    #: Why it could not be opened. A jump host that is down is tried once, not once for each host behind it.
    failed: Failure | None = None
    #: Another possible remedy when the login is refused.
    hint: str = ""
    #: The socket of the agent to ask, if not the usual one (`openssh.Meaning`).
    agent: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """Its name in the file of keys: our own address for it, whatever `~/.ssh/config` maps that to."""
        return known_hosts.entry_name(self.fabric.original_host, self.fabric.port)

    def open(self) -> None:
        """Connect, unless already connected. Raises `Failure` in one line."""
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
                if option := getattr(socket, "TCP_USER_TIMEOUT", None):  # Linux has it
                    sock.setsockopt(socket.IPPROTO_TCP, option, SILENT_SECONDS * 1000)
            return _preferring(paramiko.Transport(sock, **options), pinned)

        self.fabric.connect_kwargs["transport_factory"] = transport
        if self.agent:
            _use_agent(client, self.agent)
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
        """Open the hop before it. Raises `Failure`."""
        if self.before:
            try:
                self.before.open()
            except Failure as failure:
                raise Failure(f"{self.label}: {failure.message}") from None

    def key(self) -> HostKey:
        """The host's key, without a login; of the pinned kind, if one is pinned. Raises `Failure`."""
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
        """One line that explains paramiko's error and names the remedy."""
        import paramiko

        at = f"{self.fabric.host}:{self.fabric.port}"
        if isinstance(error, paramiko.ChannelException):
            return f"{self.before.label if self.before else 'its proxy'} cannot reach {at} ({error.text})"
        if isinstance(error, socket.gaierror):
            return f"cannot resolve {self.fabric.host}; check its address"
        if isinstance(error, TimeoutError):
            return f"nothing answers at {at} within {ANSWER_SECONDS} s: is it up, and does a firewall let you in?"
        if isinstance(error, OSError):
            return f"no SSH at {at} ({_reason(error)}): is it up, and its address and port right?"
        if accepted and isinstance(error, paramiko.SSHException):
            return self._why_no_login(error)
        return f"cannot speak SSH with what answers at {at} ({one_line(error)}); check its address and port"

    def _why_no_login(self, error: Exception) -> str:
        import paramiko

        for path in self.fabric.connect_kwargs.get("key_filename") or []:
            if _has_passphrase(Path(path).expanduser()):
                return f"{path} has a passphrase, and the host accepts no key of the agent: run `ssh-add {path}`"
        if isinstance(error, paramiko.PasswordRequiredException):
            return "your key has a passphrase, and the agent does not have the key: run `ssh-add`"
        if "too many" in str(error).lower():
            return "the agent offered too many keys: name the right one with identity"
        return (
            f"rejects all of your keys for {self.fabric.user}: `ssh-add -l` lists the agent's keys; to name one, set"
            f" identity{self.hint}"
        )


def _use_agent(client: paramiko.SSHClient, path: str) -> None:
    """Let a client ask the agent at a socket; without one, paramiko asks the usual agent."""
    from paramiko import agent

    class Agent(agent.AgentSSH):  # type: ignore[misc] # paramiko has no types here
        def __init__(self) -> None:
            super().__init__()
            there = socket.socket(socket.AF_UNIX)
            there.settimeout(ANSWER_SECONDS)
            there.connect(path)
            self._connect(there)

        def close(self) -> None:
            self._close()

    with suppress(OSError, EOFError, agent.SSHException):
        client._agent = Agent()


def _reason(error: OSError) -> str:
    import paramiko

    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    return error.strerror or one_line(error)


def one_line(error: Exception) -> str:
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


def quiet_config(meaning: Meaning | None) -> fabric.Config:
    """Fabric's configuration with `~/.ssh/config`, but without `fabric.yaml` files, which could change anything."""
    import fabric
    import paramiko

    if meaning:
        return fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig.from_text(meaning.text))
    config = fabric.Config(lazy=True)
    try:
        config.load_ssh_config()
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise Failure(f"~/.ssh/config: {one_line(error)}; fix it") from None
    return config
