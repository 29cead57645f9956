"""Whose host a host is: the mark that remote-setup leaves there, and why another's host is refused.

Every script that is sent to a host begins with a comparison of this mark (`scripts/frame.sh`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.core import git
from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment
from deploy.hosts.layout import OWNER

#: The version of what setup lays down on a host. Raise it when an older checkout could no longer work with a host.
SETUP = 1
#: The exit code of `scripts/frame.sh` on another's host, and the word before the mark that it then prints.
OTHERS_CODE, OTHERS_WORD = 78, "portico-owner"
#: What is said if the mark itself does not tell why.
OTHERS = "refuses: another project's mark is on this host"
#: What stands for a commit that is not known: without Git's folder, or in a shallow clone.
UNKNOWN = "-"
_HEAD = (
    "# Written by remote-setup: whose host this is (project, environment, first commit, version). See deploy/hosts.\n"
)
_MARK = re.compile(r"([a-z][a-z0-9_-]*) ([A-Za-z0-9][\w.-]*) (-|[0-9a-f]{7,64}) (\d{1,6})")


@dataclass(frozen=True)
class Mark:
    """What a host's mark says."""

    project: str
    environment: str
    #: The first commit of the repository, or `UNKNOWN`.
    commit: str
    setup: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The mark in a text: its line that is no comment. Raises `ValueError`."""
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        found = _MARK.fullmatch("\n".join(lines).strip())
        if not found:
            raise ValueError(text)
        return cls(found[1], found[2], found[3], int(found[4]))

    def __str__(self) -> str:
        return f"{self.project} {self.environment} {self.commit} {self.setup}"

    @property
    def whose(self) -> str:
        return f"{self.environment} of {self.project}"

    @property
    def text(self) -> str:
        """The file on the host."""
        return f"{_HEAD}{self}\n"


@dataclass(frozen=True)
class Owner:
    """Who asks: an environment of a project, and the first commits of its repository (none if unknown)."""

    project: str
    environment: str
    commits: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line for `scripts/frame.sh`."""
        return f"{self.project} {self.environment} {','.join(self.commits) or UNKNOWN} {SETUP}"

    def mark(self, found: Mark | None = None) -> Mark:
        """The mark to leave on a host. A commit that only the host knows stays."""
        known = found.commit if found else UNKNOWN
        commit = known if known in self.commits or not self.commits else self.commits[-1]
        return Mark(self.project, self.environment, commit, SETUP)

    def refusal(self, found: Mark) -> str:
        """Why a host with this mark is not ours; empty if it is."""
        said = f"this host is {found.whose}; yours is {self.whose}"
        if found.project != self.project:
            return f"{said}: check name in invoke.yaml and the host's address, or use another host"
        if found.environment != self.environment:
            return f"{said}: use another host; {self.hand_over}"
        if self.commits and found.commit not in (UNKNOWN, *self.commits):
            theirs, ours = found.commit[:12], self.commits[-1][:12]
            return (
                f"this host is {found.whose} of another repository (its first commit is {theirs}, yours {ours}): check "
                f"the folder that you are in; {self.hand_over}"
            )
        if found.setup > SETUP:
            return f"a newer Portico has set this host up ({found.setup}; yours is {SETUP}): upgrade this checkout"
        return ""

    def may_take_over(self, found: Mark) -> bool:
        """Whether a host with this mark can be handed over: within the project, whose names are on it."""
        return found.project == self.project and found.setup <= SETUP

    @property
    def whose(self) -> str:
        return f"{self.environment} of {self.project}"

    @property
    def hand_over(self) -> str:
        return f"to hand it over: `invoke remote-setup --env {self.environment} --take-over owner`"


def owner(root: Path, project: str, environment: Environment) -> Owner:
    """Who asks, for an environment of the project in a folder."""
    return Owner(project, environment.name, git.roots(root))


def others(name: str, asking: Owner | None, stderr: str) -> Failure | None:
    """The failure for a script's errors if its host is another's."""
    for line in stderr.splitlines():
        word, _, mark = line.partition(" ")
        if word == OTHERS_WORD:
            try:
                said = asking.refusal(Mark.parse(mark)) if asking else ""
            except ValueError:
                said = f"{OWNER} on this host is malformed; `invoke remote-setup` writes it again"
            return Failure(f"{name}: {said or OTHERS}")
    return None
