"""Machines for a swarm: three engines in containers, reached over SSH as servers are, and a private registry.

The swarm itself is not begun here: that is what the product does.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.core.shell import Run, Write, WriteSecret, run
from tests import support
from tests.rig.engine import docker, inside, network, together
from tests.rig.ports import free_port

NODE_IMAGE = "portico-rig/node"
REGISTRY_IMAGE = "registry:3"
#: The volume of the mirrors: packing the official images takes half a minute of processor time, and they stay the same.
MIRROR = "portico-rig-mirror"
#: Where an engine looks for the CA of a registry.
CERTIFICATES = Path("/etc/docker/certs.d")
CGROUPS = Path("/sys/fs/cgroup")
#: What an engine needs beyond the capabilities of any container.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
#: Seconds within which a node's engine, or a registry, answers on a slow machine.
READY_SECONDS = 60


def library_images() -> list[str]:
    """The servers' images, as named in the compose files."""
    named = re.compile(r"^\s*image:\s*([a-z]\S*:\S+)", re.MULTILINE)
    files = sorted((support.ROOT / "deploy" / "compose").glob("*.yaml"))
    return sorted({image for file in files for image in named.findall(file.read_text())})


def python_image() -> str:
    """The base of the site's image."""
    found = re.search(r"^ARG PYTHON_IMAGE=(.+)$", (support.ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


class Authority:
    """A CA that signs certificates for IP addresses."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portico test CA")])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        signed = self._certificate(self._name, self._key).add_extension(usage, critical=True)
        self._write(self.path, signed)

    def sign(self, address: str, folder: Path) -> None:
        """Write ``tls.crt`` and ``tls.key`` for an IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        self._write(folder / "tls.crt", self._certificate(name, key).add_extension(names, critical=False))
        form = serialization.PrivateFormat.PKCS8
        text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        WriteSecret(folder / "tls.key", text).perform()

    def _certificate(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(issuer_name=self._name, subject_name=name, public_key=key.public_key())
        valid = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
            now + datetime.timedelta(days=2)
        )
        return valid.serial_number(x509.random_serial_number())

    def _write(self, path: Path, builder: x509.CertificateBuilder) -> None:
        signed = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@dataclass
class Registry:
    """A registry with TLS; without a user it is open, as the engines' mirror of the official names."""

    name: str
    ip: str
    network: str
    authority: Authority
    #: It has a subfolder of its own name there for its files.
    parent: Path
    user: str = ""
    password: str = ""
    #: A volume for what is pushed, which is kept for the next registry; without, it goes with the container.
    volume: str = ""

    @property
    def address(self) -> str:
        return f"{self.ip}:5000"

    @property
    def ca(self) -> Path:
        return self.authority.path

    def start(self) -> None:
        """Start it, and make this machine's engine trust it; returns when it listens."""
        folder = self.parent / self.name
        folder.mkdir()
        self.authority.sign(self.ip, folder)
        settings = {"HTTP_TLS_CERTIFICATE": "/tls/tls.crt", "HTTP_TLS_KEY": "/tls/tls.key"}
        if self.user:
            line = f"{self.user}:{bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(5)).decode()}\n"
            WriteSecret(folder / "htpasswd", line).perform()
            settings |= {"AUTH": "htpasswd", "AUTH_HTPASSWD_REALM": "test", "AUTH_HTPASSWD_PATH": "/tls/htpasswd"}
            settings |= {"STORAGE_DELETE_ENABLED": "true"}
        trusted = CERTIFICATES / self.address
        trusted.mkdir(parents=True, exist_ok=True)  # a killed run may have left one
        shutil.copy(self.ca, trusted / "ca.crt")
        variables = [word for key, value in settings.items() for word in ("-e", f"REGISTRY_{key}={value}")]
        where = ["--name", self.name, "--network", self.network, "--ip", self.ip]
        kept = ["-v", f"{self.volume}:/var/lib/registry"] if self.volume else []
        docker("run", "-d", *where, *variables, *kept, "-v", f"{folder}:/tls:ro", REGISTRY_IMAGE)
        support.wait_until(self.listens, READY_SECONDS, f"the registry {self.name} listens")

    def listens(self) -> bool:
        """Whether it accepts connections."""
        try:
            with socket.create_connection((self.ip, 5000), timeout=5):
                return True
        except OSError:
            return False

    def push_library(self, image: str) -> None:
        """Copy an official image from this machine's engine, under the same name."""
        name = f"{self.address}/{image if '/' in image else f'library/{image}'}"
        docker("tag", image, name)
        docker("push", "-q", name)
        docker("rmi", name)

    def down(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        shutil.rmtree(CERTIFICATES / self.address, ignore_errors=True)
        with contextlib.suppress(OSError):
            CERTIFICATES.rmdir()


@dataclass
class Node:
    """An engine in a container, whose port 80 and SSH are published on this machine."""

    name: str
    container: str
    ip: str
    network: str
    folder: Path
    mirror: str
    http_port: int = field(default_factory=free_port)
    ssh_port: int = field(default_factory=free_port)

    def start(self) -> None:
        """Start it for the first time; it keeps its ports and its address from then on."""
        mounts = [
            f"type=bind,source={CGROUPS},target={CGROUPS}",
            f"type=bind,source={self.folder / 'certs.d'},target={CERTIFICATES},readonly",
            f"type=bind,source={self.folder / 'key.pub'},target=/root/.ssh/authorized_keys,readonly",
            f"type=volume,source={self.container},target=/var/lib/docker",
        ]
        docker(
            *["run", "-d", "--init", "--name", self.container, "--hostname", self.name],
            *["--network", self.network, "--ip", self.ip, "--tmpfs", "/run"],
            *["-p", f"127.0.0.1:{self.http_port}:80", "-p", f"127.0.0.1:{self.ssh_port}:22"],
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            *["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns=host"],
            *(f"--mount={mount}" for mount in mounts),
            *[NODE_IMAGE, "--cgroup-parent", f"/{self.container}", "--registry-mirror", f"https://{self.mirror}"],
        )

    def docker(self, *words: str, check: bool = True) -> str:
        """The output of a docker command of the node's engine."""
        return run(Run([*inside(self.container), "docker", *words]), capture=True, check=check).stdout

    def disconnect(self) -> None:
        """End the client's shared connection, if there is one: the next command really connects."""
        command = ["ssh", "-F", str(self.folder / "config"), "-O", "exit", self.name]
        run(Run(command, seconds=10), capture=True, check=False)

    def kill(self) -> None:
        """Kill it at once, as a power failure does."""
        self.disconnect()
        docker("kill", "-s", "KILL", self.container)

    def restart(self) -> None:
        """Start it after a kill, with its data; returns when its engine answers."""
        docker("start", self.container)
        self.wait_ready()

    def wait_ready(self) -> None:
        try:
            answers = partial(self.docker, "version", "--format={{.Server.Version}}", check=False)
            support.wait_until(lambda: bool(answers().strip()), READY_SECONDS, f"the engine of {self.name}")
        except AssertionError as error:
            logs = run(Run(["docker", "logs", "-n", "20", self.container]), capture=True, check=False)
            raise AssertionError(f"{error}\n{logs.stderr}") from None

    def host_key(self) -> str:
        words = docker("exec", self.container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        return " ".join(words[:2])

    def down(self) -> None:
        docker("rm", "-f", "-v", self.container, check=False)
        docker("volume", "rm", "-f", self.container, check=False)
        # Its processes have ended, but their control groups are on this machine, and nobody else removes them.
        for top in [*CGROUPS.glob(self.container), *CGROUPS.glob(f"*/{self.container}")]:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


class Cluster:
    """Three nodes, a private registry, a mirror, and a client's folder with access to all of them."""

    registry: Registry
    mirror: Registry

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = ("node1", "node2", "node3"),
        *,
        with_builder: bool = False,
        shared_ssh: bool = False,
    ) -> None:
        self.folder = folder
        self.names = names
        #: Whether a node must build the site, and have its own registry.
        self.with_builder = with_builder
        #: Whether all commands to a node share one connection. A login takes 0.4 s, and a deploy has dozens.
        self.shared_ssh = shared_ssh
        #: The network's name, and the prefix of all other names.
        self.id = f"rig-{secrets.token_hex(3)}"
        #: The folder of the shared connections' sockets, whose paths may have 108 bytes at most.
        self._sockets = Path(tempfile.gettempdir()) / self.id
        self.nodes: list[Node] = []
        self._parts: list[Registry | Node] = []

    def start(self) -> None:
        """Start all of it, ready for `docker -H ssh://node1`. On failure, removes what it has started."""
        try:
            self._start()
        except BaseException:
            self.down()
            raise

    def environment(self) -> dict[str, str]:
        """The client's environment variables: the rig's ssh first on PATH, and the registry's login."""
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "DOCKER_CONFIG": str(self.folder / "docker")}

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def down(self) -> None:
        """Remove the containers, volumes, network, and trusted certificates."""
        together(*(node.disconnect for node in self.nodes if self._sockets.exists()))
        shutil.rmtree(self._sockets, ignore_errors=True)
        together(*(part.down for part in self._parts))
        docker("network", "rm", self.id, check=False)

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        hosts = network(self.id)
        authority = Authority(self.folder)
        common = (self.id, authority, self.folder)
        self.mirror = Registry(f"{self.id}-mirror", next(hosts), *common, volume=MIRROR)
        self.registry = Registry(f"{self.id}-registry", next(hosts), *common, "deployer", secrets.token_urlsafe(12))
        self._client()
        rest = (self.id, self.folder, self.mirror.address)
        self.nodes = [Node(name, f"{self.id}-{name}", next(hosts), *rest) for name in self.names]
        self._parts = [self.mirror, self.registry, *self.nodes]
        together(self.mirror.start, self.registry.start)
        images = [*library_images(), *([python_image(), REGISTRY_IMAGE] if self.with_builder else [])]
        pushes = (partial(self.mirror.push_library, image) for image in images)
        together(*pushes, *(node.start for node in self.nodes))
        together(*(node.wait_ready for node in self.nodes))
        self._ssh()

    def _client(self) -> None:
        """Create the client's key and login, and give the nodes their part."""
        for registry in (self.mirror, self.registry):
            (self.folder / "certs.d" / registry.address).mkdir(parents=True)
            shutil.copy(registry.ca, self.folder / "certs.d" / registry.address)
        run(Run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.id, "-f", str(self.folder / "key")]))
        login = base64.b64encode(f"{self.registry.user}:{self.registry.password}".encode()).decode()
        (self.folder / "docker").mkdir()
        text = json.dumps({"auths": {self.registry.address: {"auth": login}}})
        WriteSecret(self.folder / "docker" / "config.json", text).perform()

    def _shared(self) -> dict[str, object]:
        """ssh's settings for one connection that all commands share, and that ends soon after a node died."""
        self._sockets.mkdir(mode=0o700)
        return {
            "ControlMaster": "auto",
            "ControlPath": self._sockets / "%n",
            "ControlPersist": 30,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
        }

    def _ssh(self) -> None:
        """Write ssh's configuration and known_hosts for the nodes, and the program that uses them."""
        known = "".join(f"{node.name} {node.host_key()}\n" for node in self.nodes)
        Write(self.folder / "known_hosts", known).perform()
        hosts = "".join(
            f"Host {node.name}\n  Port {node.ssh_port}\n  HostKeyAlias {node.name}\n" for node in self.nodes
        )
        every = {
            "HostName": "127.0.0.1",
            "User": "root",
            "IdentityFile": self.folder / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            **(self._shared() if self.shared_ssh else {}),
        }
        text = f"{hosts}Host *\n" + "".join(f"  {key} {value}\n" for key, value in every.items())
        Write(self.folder / "config", text).perform()
        shim = self.folder / "bin" / "ssh"
        shim.parent.mkdir()
        words = shlex.join([shutil.which("ssh") or "ssh", "-F", str(self.folder / "config")])
        Write(shim, f'#!/bin/sh\nexec {words} "$@"\n').perform()
        shim.chmod(0o755)
