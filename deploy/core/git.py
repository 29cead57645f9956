"""The git revision of the work tree."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import shell
from deploy.core.shell import Run

#: Seconds to list the first commits: Git walks the whole history.
ROOTS_SECONDS = 60.0


@dataclass(frozen=True)
class Revision:
    """A commit, marked if the work tree has uncommitted changes, and its time."""

    name: str
    created: str

    @property
    def tag(self) -> str:
        return short(self.name)


def short(revision: str) -> str:
    """A revision with a shortened commit id. The mark for uncommitted changes is kept."""
    commit, changed, _ = revision.partition("-changed")
    return commit[:12] + changed


def revision(root: Path, now: datetime | None = None) -> Revision:
    """The revision of a work tree. Without git it is `unknown`, and only the time is set."""
    time = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    if shutil.which("git") is None:
        return Revision("unknown", time)
    git = ["git", "-C", str(root)]
    commit = shell.run(Run([*git, "log", "-1", "--format=%H %cI"]), capture=True, check=False)
    if commit.code:
        return Revision("unknown", time)
    name, committed = commit.stdout.split()
    changed = shell.run(Run([*git, "status", "--porcelain"]), capture=True, check=False).stdout
    # The time of the commit, so that the same code gives the same image.
    return Revision(f"{name}-changed", time) if changed else Revision(name, committed)


def roots(root: Path) -> tuple[str, ...]:
    """The first commits of a repository, which all of its clones share, the oldest last; none if they are not known.

    A shallow clone, such as one of continuous integration, ends at a commit that is not the first.
    """
    git = ["git", "-C", str(root)]
    if shutil.which("git") is None:
        return ()
    shallow = shell.run(Run([*git, "rev-parse", "--is-shallow-repository"]), capture=True, check=False)
    if shallow.stdout.strip() != "false":
        return ()
    listed = Run([*git, "rev-list", "--max-parents=0", "HEAD"], seconds=ROOTS_SECONDS)
    found = shell.run(listed, capture=True, check=False)
    return tuple(found.stdout.split()) if found.code == 0 else ()
