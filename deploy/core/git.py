"""What the work tree is, as git has it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import shell
from deploy.core.shell import Run


@dataclass(frozen=True)
class Revision:
    """What the work tree is: the commit, marked when there are changes beside it, and the time of it."""

    name: str
    created: str

    @property
    def tag(self) -> str:
        return short(self.name)


def short(revision: str) -> str:
    """A revision in few letters, and whether the work tree had changes beside it."""
    commit, changed, _ = revision.partition("-changed")
    return commit[:12] + changed


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
