"""Images: what `build` and `push` run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project.config import Project

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Revision:
    """What the work tree is: the commit, marked when there are changes beside it, and the time of it."""

    name: str
    created: str

    @property
    def tag(self) -> str:
        return self.name[:12] + ("-changed" if self.name.endswith("-changed") else "")


def revision(root: Path, now: datetime | None = None) -> Revision:
    """The revision of a work tree; of one without Git, only the time."""
    time = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    if shutil.which("git") is None:
        return Revision("unknown", time)
    git = ["git", "-C", str(root)]
    commit = shell.run(Run([*git, "log", "-1", "--format=%H %cI"]), capture=True, check=False)
    if commit.code:
        return Revision("unknown", time)
    name, committed = commit.stdout.split()
    changed = shell.run(Run([*git, "status", "--porcelain"]), capture=True, check=False).stdout
    # A commit always has the same time, so that the same code is the same image.
    return Revision(f"{name}-changed", time) if changed else Revision(name, committed)


def tag(text: str) -> str:
    """A tag as registries take it. Raises `Failure` for another."""
    if not TAG.fullmatch(text):
        raise Failure(f"--tag is {text!r}, but must be letters, digits, _ . and -, at most 128")
    return text


def build(
    project: Project, target: str, names: Sequence[str], version: Revision | None, *, ca: str = "", platform: str = ""
) -> Run:
    """Build a target of the Dockerfile under these names, labelled with a revision where it holds one."""
    labels = {"REVISION": version.name, "CREATED": version.created} if version else {}
    arguments = {"SITE": project.site, **labels}
    return Run(
        [
            *["docker", "buildx", "build", "--load", "--target", target],
            *(word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")),
            *(["--secret", f"id=build_ca,src={ca}"] if ca else []),
            *(["--platform", platform] if platform else []),
            *(word for name in names for word in ("--tag", name)),
            ".",
        ],
        cwd=project.root,
    )


def push(name: str) -> Run:
    """Push an image to its registry."""
    return Run(["docker", "push", name])
