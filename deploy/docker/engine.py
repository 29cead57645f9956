"""The container engine of this machine: whether it can do what is asked of it."""

from __future__ import annotations

import os
import shutil

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project.config import Project

#: The oldest engine whose health checks can be asked more often while a container starts.
OLDEST_ENGINE = 25
#: Seconds for an engine to say whether anything runs: it may be a socket where nobody answers.
ANSWER_SECONDS = 20
#: What helps a user whom the engine's socket is not for.
NO_RIGHT = "add this user to the group docker, or use sudo"


# --- The engine ---


def can_run(project: Project) -> bool:
    """Whether containers of a project can be here: there is docker, and the `.env` that they are named by."""
    return shutil.which("docker") is not None and (project.root / ".env").exists()


def require_engine(free_gigabytes: int) -> None:
    """Raise `Failure` when there is no engine, one that is too old, no Compose v2, or no room: with what fixes it."""
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
    """Whether docker complains that no engine runs on this machine: its socket is missing, or nobody listens there.

    A missing right, or an engine elsewhere that does not answer, tells nothing of what runs.
    """
    dead = ("is the docker daemon running", "if the daemon is running", "connection refused")
    text = said.lower()
    return "unix://" in text and "permission denied" not in text and any(each in text for each in dead)


def remedy(said: str) -> str:
    """What helps when an engine does not answer, by docker's complaint."""
    if "permission denied" in said.lower():
        return NO_RIGHT
    return "start it, with `sudo systemctl start docker` on Debian"


def require_room(folder: str, gigabytes: int) -> None:
    """Raise `Failure` when the engine's disk, where it is one of this machine, has less than that left."""
    if os.path.isdir(folder):
        free = shutil.disk_usage(folder).free / 1e9
        if free < gigabytes:
            raise Failure(
                f"{folder} has {free:.1f} GB left, but an image and its build want {gigabytes}"
                " (project.free_gigabytes): `docker system prune` removes what nothing uses"
            )
