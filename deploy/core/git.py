"""The git revision of the work tree."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
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
    """The revision of a work tree. Without git it is `unknown`, and only the time is set.

    Raises `Failure` if Git refuses the repository of another user.
    """
    time = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    if shutil.which("git") is None:
        return Revision("unknown", time)
    git = ["git", "-C", str(root)]
    # Settings of the user's must not change what is read: signatures would be shown, new files not.
    last = [*git, "-c", "log.showSignature=false", "log", "-1", "--format=%H %cI"]
    commit = shell.run(Run(last), capture=True, check=False)
    if commit.code:
        require_ours(root, commit.stderr)
        return Revision("unknown", time)
    name, committed = commit.stdout.split()
    changed = shell.run(
        Run([*git, "status", "--porcelain", "--untracked-files=normal"]), capture=True, check=False
    ).stdout
    # The time of the commit, so that the same code gives the same image.
    return Revision(f"{name}-changed", time) if changed else Revision(name, committed)


def require_ours(root: Path, stderr: str) -> None:
    """Raise `Failure` if Git has refused a repository because another user owns it."""
    if "safe.directory" in stderr:
        allow = shlex.join(["git", "config", "--global", "--add", "safe.directory", str(root)])
        raise Failure(f"{root}: another user owns this repository, and Git refuses it: `{allow}`, or work as that user")


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
