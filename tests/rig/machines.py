"""Plain hosts for the tests: Debian with systemd and sshd in containers, and a project that is deployed to them.

Nothing is set up here beyond what a new server has: that is what the product does.
"""

import json
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deploy.core.shell import Result, Run, run
from tests import support
from tests.rig.engine import docker, inside, network, together
from tests.rig.ports import free_port

IMAGE = "portico-rig/host"
#: What systemd needs beyond the capabilities of any container; the last for units that hide other processes.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
#: Containers have what a host has: /run in memory; programs may be run from /tmp.
MEMORY = ("/run", "/run/lock", "/tmp:exec,mode=1777")
#: Seconds within which a machine has booted on a slow engine.
READY_SECONDS = 60
ENVIRONMENT = "test"
#: Prints each command line of this machine that is ever seen, once, until a file is there. It looks fifty times a
#: second and costs little: one process, of the one language that Debian has at its barest.
WATCH = r"""
use strict; use warnings; use IO::Handle; STDOUT->autoflush(1);
my ($enough, %seen) = @ARGV;
until (-e $enough) {
    for my $path (glob "/proc/[0-9]*/cmdline") {
        open(my $file, "<", $path) or next;
        local $/; my $line = <$file>;
        next if !defined $line || $line eq "" || $seen{$line}++;
        $line =~ tr/\0\n/  /;
        print "$line\n";
    }
    select undef, undef, undef, 0.02;
}
"""


def watching(enough: str) -> str:
    """The shell command that watches the process list until the file exists."""
    return shlex.join(["perl", "-e", WATCH, enough])


@dataclass
class Machine:
    """A host that accepts root over SSH with a key; for inspection, its namespaces are entered."""

    name: str
    #: The version of Debian: 12 or 13.
    version: int
    container: str
    address: str
    network: str
    #: The administrator's public key.
    key: Path
    #: The ports of 127.0.0.1 for the container's 80 and 443.
    http_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Start it for the first time; it keeps its ports and its address from then on."""
        mounts = [
            f"type=bind,source={self.key},target=/root/.ssh/authorized_keys,readonly",
            # The network's DNS server would need rules in the machine's firewall, which is under test.
            "type=bind,source=/etc/resolv.conf,target=/etc/resolv.conf,readonly",
        ]
        docker(
            *["run", "-d", "--name", self.container, "--hostname", self.name],
            *["--network", self.network, "--ip", self.address],
            *["-p", f"127.0.0.1:{self.http_port}:80", "-p", f"127.0.0.1:{self.https_port}:443"],
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            *["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns=private"],
            *(f"--tmpfs={folder}" for folder in MEMORY),
            *(f"--mount={mount}" for mount in mounts),
            f"{IMAGE}:{self.version}",
        )

    def ssh(self, *words: str, check: bool = True) -> str:
        """The output of a command run there as root. Raises `Failure` if it fails and ``check`` is set."""
        return run(Run([*inside(self.container), *words]), capture=True, check=check).stdout

    def sh(self, script: str, *, check: bool = True) -> str:
        """The output of a script run there as root; with ``check`` it stops at its first failure and raises it."""
        command = [*inside(self.container), "sh", *(["-eu"] if check else []), "-s"]
        return run(Run(command, input=f"{script}\n"), capture=True, check=check).stdout

    def journal(self, unit: str, lines: int = 100) -> str:
        """The last lines of a unit's log."""
        return self.ssh("journalctl", "-u", unit, "-n", str(lines), "-o", "cat", "--no-pager")

    def kill(self) -> None:
        """Kill it at once, as a power failure does."""
        docker("kill", "-s", "KILL", self.container)

    def start_again(self) -> None:
        """Boot it after `kill`, with its files."""
        docker("start", self.container)
        self.wait_ready()

    def restart(self) -> None:
        """Reboot it with its files, after a power failure or an orderly shutdown; returns when it has booted."""
        docker("restart", "-t", "60", self.container)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait for the end of its boot. Ignores failed units: they may be under test."""
        state = partial(self.ssh, "systemctl", "is-system-running", check=False)
        support.wait_until(lambda: state().strip() in ("running", "degraded"), READY_SECONDS, f"{self.name} has booted")

    def host_key(self) -> str:
        """Kind and text of its host key, as in a known_hosts file."""
        return " ".join(self.ssh("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])

    def down(self) -> None:
        docker("rm", "-f", "-v", self.container, check=False)


class Rack:
    """Machines on their own network, and the administrator's key."""

    _addresses: Iterator[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: The network's name, and the prefix of the containers' names.
        self.id = f"rig-{secrets.token_hex(3)}"
        self.identity = folder / "admin"
        self.machines: dict[str, Machine] = {}

    def start(self, versions: Mapping[str, int]) -> None:
        """Machines by name, each with its version of Debian. On failure, removes what it has started."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            run(Run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "admin", "-f", str(self.identity)]))
            self._addresses = network(self.id)
            self.add(versions)
        except BaseException:
            self.down()
            raise

    def add(self, versions: Mapping[str, int]) -> list[Machine]:
        """Add machines; returns when they have booted."""
        key = self.identity.with_suffix(".pub")
        new = [
            Machine(name, version, f"{self.id}-{name}", next(self._addresses), self.id, key)
            for name, version in versions.items()
        ]
        self.machines |= {machine.name: machine for machine in new}
        together(*(machine.start for machine in new))
        together(*(machine.wait_ready for machine in new))
        return new

    def down(self) -> None:
        """Remove the machines and the network."""
        together(*(machine.down for machine in self.machines.values()))
        docker("network", "rm", self.id, check=False)


def write_environment(project: Path, hosts: Mapping[str, Mapping[str, object]], **more: object) -> None:
    """Write `deploy/environments/test.yaml`: the hosts with their keys, and more keys of the file.

    The site answers to the names under which this machine reaches it.
    """
    ours = {
        "domain": "portico.test",
        "allowed_hosts": ["localhost", "127.0.0.1"],
        "secrets": {"SECRET_KEY": "env:SITE_SECRET_KEY"},
    }
    # JSON is YAML.
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in {**ours, **more, "hosts": hosts}.items()]
    (project / "deploy" / "environments" / f"{ENVIRONMENT}.yaml").write_text("".join(lines))


@dataclass
class Fleet:
    """A copy of the project, a repository with one commit, and the machines it is deployed to."""

    project: Path
    rack: Rack
    #: The roles of each host, by name.
    roles: dict[str, tuple[str, ...]]
    #: More keys of the environment file, or other values for the default ones.
    more: dict[str, object] = field(default_factory=dict)
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def prepare(self) -> None:
        """Copy the project, describe the machines, pin their keys, and commit all of it."""
        support.copy_project(self.project)
        (self.project / ".venvs").symlink_to(support.ROOT / ".venvs")
        self.git("init", "-q")
        self.describe()

    def describe(self) -> None:
        """Describe the machines in the project, which is a repository, pin their keys, and commit all of it."""
        (self.rack.folder / "home").mkdir(exist_ok=True)
        self.configure()
        self.must("remote-trust", "--yes")
        self.commit("The site")

    def __getitem__(self, name: str) -> Machine:
        return self.rack.machines[name]

    def with_role(self, role: str) -> list[Machine]:
        return [self[name] for name, roles in self.roles.items() if role in roles]

    def configure(self, **more: object) -> None:
        """Rewrite the environment file, with these keys from now on."""
        self.more |= more
        hosts = {name: {"address": self[name].address, "roles": roles} for name, roles in self.roles.items()}
        write_environment(self.project, hosts, identity=str(self.rack.identity), **self.more)

    def invoke(self, task: str, *words: str, env: Mapping[str, str] | None = None, seconds: float = 900) -> Result:
        """Run a task for the test environment to its end."""
        more = {**self.environment(), **(env or {})}
        return support.invoke(self.project, task, "--env", ENVIRONMENT, *words, env=more, uv=True, seconds=seconds)

    def must(self, task: str, *words: str, env: Mapping[str, str] | None = None) -> Result:
        result = self.invoke(task, *words, env=env)
        assert result.code == 0, result.stdout + result.stderr
        return result

    def environment(self) -> dict[str, str]:
        """The client's environment variables: with the secret, without the tester's SSH setup, keys and agent."""
        cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
        home = str(self.rack.folder / "home")
        return {"SITE_SECRET_KEY": self.secret_key, "HOME": home, "SSH_AUTH_SOCK": "", "UV_CACHE_DIR": cache}

    def git(self, *words: str) -> str:
        """The output of git in the copy."""
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return run(Run(["git", "-C", str(self.project), *who, *words]), capture=True).stdout

    def commit(self, message: str) -> str:
        """Commit the current copy. Returns the commit."""
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace all occurrences of a text in a file of the copy."""
        file = self.project / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def current(self, machine: Machine) -> str:
        """The current release of a machine; empty for none."""
        link = machine.ssh("readlink", "/srv/portico-test/state/current", check=False).strip()
        return link.rpartition("/")[2]


@contextmanager
def bare_fleet(folder: Path, versions: Mapping[str, int], roles: Mapping[str, tuple[str, ...]]) -> Iterator[Fleet]:
    """Machines that nobody has set up, and a project that describes them; removed at the end."""
    rack = Rack(folder / "rack")
    rack.start(versions)
    try:
        fleet = Fleet(folder / "project", rack, dict(roles))
        fleet.prepare()
        yield fleet
    finally:
        rack.down()
