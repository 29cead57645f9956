"""Looks for what the commands need, and knows the command that mends each thing that is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass

from deploy import shell, venvs
from deploy.errors import Failure
from deploy.shell import Run
from deploy.venvs import Store

#: Seconds for a container engine to answer.
ENGINE_SECONDS = "5"


@dataclass(frozen=True)
class Check:
    """One prerequisite: what it is for, what was found, and what mends it. ``required`` ones fail the examination."""

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
        "engine": "docker.io",
        "compose": "docker-compose",
    },
)
MACOS = System(
    "brew install",
    {"venv": "python", "headers": "python", "ssh": "openssh", "engine": "--cask docker", "compose": "docker-compose"},
)


def this_system() -> System:
    """The package manager of this machine, as far as we know any."""
    return MACOS if platform.system() == "Darwin" else DEBIAN


def program(name: str, *version: str) -> str:
    """The first line of what a program says of its version; empty when it is missing or fails."""
    if shutil.which(name) is None:
        return ""
    result = shell.run(Run([name, *version]), capture=True, check=False)
    return "" if result.code else (result.stdout.strip().splitlines() or ["found"])[0].split(" (")[0]


def at_most(seconds: str) -> list[str]:
    """Words before a command that end it after so many seconds, where the system has them."""
    return ["timeout", seconds] if shutil.which("timeout") else []


def engine() -> str:
    """The version of a container engine that answers; empty without one."""
    return ask_engine()[0]


def ask_engine() -> tuple[str, str]:
    """The version of a container engine that answers, else why there is no answer. Never hangs on a dead socket."""
    if shutil.which("docker") is None:
        return "", "there is no docker command here"
    command = Run([*at_most(ENGINE_SECONDS), "docker", "version", "--format", "{{.Server.Version}}"])
    result = shell.run(command, capture=True, check=False)
    if result.code == 0:
        return result.stdout.strip(), ""
    return "", shell.last_line(result.stderr) or f"`docker version`: no answer within {ENGINE_SECONDS} s"


def stopped(said: str) -> bool:
    """Whether docker's complaint means that no engine runs on this machine: its socket is missing, or nobody listens.

    Anything else, such as a missing right or an engine elsewhere that does not answer, tells nothing of what runs.
    """
    dead = ("is the docker daemon running", "if the daemon is running", "connection refused")
    text = said.lower()
    return "unix://" in text and "permission denied" not in text and any(each in text for each in dead)


def engine_remedy(said: str) -> str:
    """What helps when an engine does not answer, by docker's complaint."""
    if "permission denied" in said.lower():
        return "`sudo usermod -aG docker $USER` gives the right to ask it, from the next login on"
    return "start it, with `sudo systemctl start docker` on Debian"


def why_native() -> str:
    """Why `invoke dev` runs natively on this machine; empty where it can use containers."""
    if shutil.which("docker") is None:
        return "there is no docker command here"
    version, why = ask_engine()
    if not version:
        return f"no container engine answers ({why})"
    return "" if compose() else "this docker has no Compose v2"


def compose() -> str:
    """What Compose v2 says of its version; empty without it."""
    return program("docker", "compose", "version")


def compiler() -> str:
    """What the compiled PostgreSQL driver needs: a compiler, Python's headers and libpq's."""
    import sysconfig

    headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
    parts = [shutil.which("cc") or shutil.which("gcc"), shutil.which("pg_config"), headers]
    return "found" if all(parts) else ""


def examine(store: Store, system: System) -> list[Check]:
    """Every prerequisite, found or not."""
    uv = venvs.find_uv(store)
    pip = "found" if importlib.util.find_spec("ensurepip") else ""
    ssh = "found" if shutil.which("ssh") else ""
    containers = "containers"
    version, why = ask_engine()
    there = shutil.which("docker") is not None
    return [
        Check("Python", "everything", sys.version.split()[0], system.install("python"), required=True),
        Check("venv", "`venv` without uv", pip, system.install("venv"), required=uv is None),
        Check("uv", "`venv`, `lock`", program(uv, "--version") if uv else "", "invoke venv --rebuild"),
        Check("git", "releases", program("git", "--version"), system.install("git")),
        Check("C compiler, libpq", "`venv --env prod`", compiler(), system.install("gcc", "headers", "libpq")),
        Check("container engine", containers, version, engine_remedy(why) if there else system.install("engine")),
        Check("Compose v2", containers, compose(), system.install("compose")),
        Check("ssh", "plain hosts", ssh, system.install("ssh")),
    ]


def show(store: Store) -> None:
    """Print the examination. Raises `Failure` when something is missing that nothing works without."""
    from rich.console import Console
    from rich.table import Table

    checks = examine(store, this_system())
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "needed for", "found", "if missing"):
        table.add_column(heading)
    for check in checks:
        table.add_row(check.name, check.purpose, check.found or "no", "" if check.found else check.remedy)
    Console().print(table)
    missing = [check.name for check in checks if check.required and not check.found]
    if missing:
        raise Failure(f"{', '.join(missing)} missing; the last column has the command")
