"""Commands of the project's own before and after a deploy, on the machine that deploys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run

#: The variables that a command gets: where the release goes, and which one it is.
PLACE, RELEASE = "PORTICO_ENVIRONMENT", "PORTICO_RELEASE"


def steps(words: Sequence[str], root: Path, place: str, release: str) -> list[Run]:
    """A hook as a step of a deploy; none without one."""
    return [Run(words, {PLACE: place, RELEASE: release}, cwd=root)] if words else []


def run(words: Sequence[str], root: Path, place: str, release: str, *, key: str, after: bool) -> None:
    """Run a hook, if there is one. Raises `Failure` that names its ``key``, and says what was deployed."""
    try:
        shell.perform(steps(words, root, place, release))
    except Failure as failure:
        so = f"{release} serves" if after else "nothing was deployed"
        raise Failure(f"{key}: {failure.message}; {so}", code=failure.code) from None
