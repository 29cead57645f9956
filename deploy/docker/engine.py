"""Checks of the container engine of this machine."""

from __future__ import annotations

import os
import shutil

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project.config import Project

#: The oldest supported engine: older ones do not have `start_interval`, for frequent health checks during a start.
OLDEST_ENGINE = 25
#: Seconds within which an engine must say what runs: nothing may be listening on its socket.
ANSWER_SECONDS = 20
#: The remedy for a user without access to the engine's socket.
NO_RIGHT = "add this user to the group docker, or use sudo"


# --- The engine ---


def can_run(project: Project) -> bool:
    """Whether a project can have containers here: there is docker, and a `.env`, which contains their names."""
    return shutil.which("docker") is not None and project.env_path.exists()


def require_engine(free_gigabytes: int) -> None:
    """Raise `Failure`, with the remedy, for a missing or old engine, a missing Compose v2, or a full disk."""
    from deploy import doctor

    install = doctor.this_system().install
    if shutil.which("docker") is None:
        raise Failure(f"docker: not found on this machine: {install('engine', 'compose')}")
    facts = "{{.ServerVersion}} {{.DockerRootDir}}"
    asked = shell.run(
        Run([*doctor.at_most(doctor.ENGINE_SECONDS), "docker", "info", "--format", facts]), capture=True, check=False
    )
    version, _, folder = asked.stdout.strip().partition(" ")
    if asked.code or not version:
        reason = shell.last_line(asked.stderr) or f"no answer within {doctor.ENGINE_SECONDS} s"
        raise Failure(f"no container engine answers ({reason}): {remedy(reason)}")
    if int(version.partition(".")[0]) < OLDEST_ENGINE:
        raise Failure(f"the container engine is {version}, but must be {OLDEST_ENGINE} or newer: {install('engine')}")
    if not doctor.compose():
        raise Failure(f"this docker has no Compose v2 (`docker compose`): {install('compose')}")
    require_room(folder, free_gigabytes)


def is_stopped(said: str) -> bool:
    """Whether docker's error means that no engine runs on this machine: no socket, or nothing listens on it.

    A missing permission, or a remote engine that does not answer, does not mean that nothing runs.
    """
    dead = ("is the docker daemon running", "if the daemon is running", "connection refused")
    text = said.lower()
    return "unix://" in text and "permission denied" not in text and any(each in text for each in dead)


def remedy(said: str) -> str:
    """The remedy for an engine that does not answer, according to docker's error."""
    if "permission denied" in said.lower():
        return NO_RIGHT
    return "start it, with `sudo systemctl start docker` on Debian"


def require_room(folder: str, gigabytes: int) -> None:
    """Raise `Failure` if the engine's disk is on this machine and has less free space than this."""
    if os.path.isdir(folder):
        free = shutil.disk_usage(folder).free / 1e9
        if free < gigabytes:
            raise Failure(
                f"{folder} has {free:.1f} GB free, but building an image needs {gigabytes}"
                " (project.free_gigabytes): `docker system prune` removes what nothing uses"
            )
