"""An SSH server for one test on 127.0.0.1: a process with a temporary configuration, keys only."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from deploy.hosts.environment.model import Host
from deploy.hosts.environment.values import Jump
from deploy.hosts.ssh.known_hosts import HostKey, KnownHosts, entry_name, parse
from tests.rig.ports import free_port
from tests.support import wait_until

ENVIRONMENT = "production"


def why_not() -> str:
    """Why no server can run here; empty if one can."""
    if not Path("/usr/sbin/sshd").exists():
        return "there is no /usr/sbin/sshd: install openssh-server"
    return "" if os.geteuid() == 0 else "sshd needs root to log anybody in"


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


def public(path: Path) -> HostKey:
    kind, text, *_ = path.with_name(f"{path.name}.pub").read_text().split()
    return HostKey(kind, text)


class Server:
    """A running sshd that accepts one key for root."""

    def __init__(self, folder: Path, client_key: Path, *more: str, kinds: tuple[str, ...] = ("ed25519",)) -> None:
        folder.mkdir()
        self.folder = folder
        self.client_key = client_key
        self.port = free_port()
        self.keys = [make_key(folder / f"host_{kind}", kind) for kind in kinds]
        self.log_path = folder / "log"
        shutil.copy(f"{client_key}.pub", folder / "authorized_keys")
        lines = [
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            *[f"HostKey {key}" for key in self.keys],
            f"AuthorizedKeysFile {folder}/authorized_keys",
            "AuthenticationMethods publickey",
            "PermitRootLogin prohibit-password",
            *["StrictModes no", "UsePAM no", "PidFile none", "LogLevel VERBOSE", "MaxStartups 100", "UseDNS no"],
            f"SetEnv HOME={folder}",  # otherwise the tester's shell reads its start-up files
            *more,
        ]
        (folder / "config").write_text("".join(f"{line}\n" for line in lines))
        Path("/run/sshd").mkdir(exist_ok=True)
        with self.log_path.open("w") as log:
            command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: "Server listening" in self.log, 20, "sshd listens")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def key(self) -> HostKey:
        return public(self.keys[0])

    @property
    def name(self) -> str:
        return entry_name("127.0.0.1", self.port)

    def host(self, name: str = "web1", /, **more: object) -> Host:
        values = {"address": "127.0.0.1", "port": self.port, "user": "root", "identity": self.client_key, **more}
        return Host.model_construct(None, **{"name": name, "roles": ("web",), **values})

    @property
    def jump(self) -> Jump:
        return Jump("root", "127.0.0.1", self.port)

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)


def trusting(*servers: Server) -> KnownHosts:
    """A file of keys with only the keys of these servers."""
    return parse("".join(f"{s.name} {s.key.kind} {s.key.text}\n" for s in servers), ENVIRONMENT)


needs_sshd = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
