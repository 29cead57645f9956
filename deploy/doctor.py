"""Checks the prerequisites of the tasks, and names the command that installs each missing one."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from deploy.core import shell
from deploy.core.report import Grid, Report
from deploy.core.shell import Run
from deploy.venvs import store as layer_store
from deploy.venvs.store import Store

#: Seconds within which a container engine must answer.
ENGINE_SECONDS = "5"
#: Folders that may contain sshd but are not on an ordinary user's PATH.
SYSTEM_PROGRAMS = "/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Check:
    """One prerequisite: its purpose, what was found, the remedy. A missing ``required`` one makes the report fail."""

    name: str
    purpose: str
    found: str
    remedy: str
    required: bool = False


@dataclass(frozen=True)
class System:
    """How this machine installs packages."""

    installer: str
    names: dict[str, str]

    def install(self, *tools: str) -> str:
        """The command that installs tools by their common names."""
        return f"{self.installer} {' '.join(self.names.get(tool, tool) for tool in tools)}"


DEBIAN = System(
    "sudo apt install",
    {
        "python": "python3",
        "venv": "python3-venv",
        "headers": "python3-dev",
        "libpq": "libpq-dev",
        "ssh": "openssh-client",
        "sshd": "openssh-server",
        "engine": "docker.io",
        "compose": "docker-compose",
    },
)
MACOS = System(
    "brew install",
    {
        "venv": "python",
        "headers": "python",
        "ssh": "openssh",
        "sshd": "openssh",
        "engine": "--cask docker",
        "compose": "docker-compose",
    },
)


def this_system() -> System:
    """The package manager of this machine; every system but macOS is treated as Debian."""
    return MACOS if platform.system() == "Darwin" else DEBIAN


def program(name: str, *version: str) -> str:
    """The first line of a program's version output; empty if the program is missing or fails."""
    if shutil.which(name) is None:
        return ""
    result = shell.run(Run([name, *version]), capture=True, check=False)
    return "" if result.code else (result.stdout.strip().splitlines() or ["found"])[0].split(" (")[0]


def at_most(seconds: str) -> list[str]:
    """A command prefix that stops a command after a number of seconds; empty if the system has no `timeout`."""
    return ["timeout", seconds] if shutil.which("timeout") else []


def engine() -> str:
    """The version of the container engine; empty if none answers within `ENGINE_SECONDS`."""
    if shutil.which("docker") is None:
        return ""
    command = Run([*at_most(ENGINE_SECONDS), "docker", "version", "--format", "{{.Server.Version}}"])
    result = shell.run(command, capture=True, check=False)
    return result.stdout.strip() if result.code == 0 else ""


def why_native() -> str:
    """Why `invoke dev` runs natively on this machine; empty if it can use containers."""
    if shutil.which("docker") is None:
        return "there is no docker command on this machine"
    if not engine():
        return "no container engine answers (`docker version` fails)"
    return "" if compose() else "this docker has no Compose v2"


def compose() -> str:
    """The version of Compose v2; empty if it is missing."""
    return program("docker", "compose", "version")


def compiler() -> str:
    """`found` if this machine can compile the PostgreSQL driver: a compiler, Python's headers and libpq's."""
    import sysconfig

    headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
    parts = [shutil.which("cc") or shutil.which("gcc"), shutil.which("pg_config"), headers]
    return "found" if all(parts) else ""


def examine(store: Store, system: System) -> list[Check]:
    """All prerequisites, found or missing."""
    uv = layer_store.find_uv(store)
    pip = "found" if importlib.util.find_spec("ensurepip") else ""
    ssh = "found" if shutil.which("ssh") else ""
    sshd = "found" if shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PROGRAMS}") else ""
    containers = "containers"
    return [
        Check("Python", "everything", sys.version.split()[0], system.install("python"), required=True),
        Check("venv", "`venv` without uv", pip, system.install("venv"), required=uv is None),
        Check("uv", "`venv`, `lock`", program(uv, "--version") if uv else "", "invoke venv --rebuild"),
        Check("git", "releases", program("git", "--version"), system.install("git")),
        Check("C compiler, libpq", "`venv --env prod`", compiler(), system.install("gcc", "headers", "libpq")),
        Check("container engine", containers, engine(), system.install("engine")),
        Check("Compose v2", containers, compose(), system.install("compose")),
        Check("ssh", "plain hosts", ssh, system.install("ssh")),
        Check("sshd", "`test --suite hosts`", sshd, system.install("sshd")),
    ]


def report(store: Store) -> Report:
    """A table of the prerequisites; it fails if a required one is missing."""
    checks = examine(store, this_system())
    rows = [(check.name, check.purpose, check.found or "no", "" if check.found else check.remedy) for check in checks]
    missing = [check.name for check in checks if check.required and not check.found]
    wrong = [f"missing: {', '.join(missing)}; the last column has the command that installs it"] if missing else []
    return Report([Grid(("", "needed for", "found", "if missing"), rows)], wrong=wrong)
