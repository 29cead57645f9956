"""Whose site is on a host: the marks that remote-setup leaves there, and who is refused.

Every script that is sent to a host first looks for the mark of who asks (`scripts/frame.sh`). On a host that has marks
of others alone, nothing is run but remote-setup, which may add a site.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from deploy.core import git
from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment
from deploy.hosts.layout import MARKS, site_name

#: The version of what setup lays down on a host. Raise it when an older checkout could no longer work with a host.
#: From version 2 on, a host may have several sites.
SETUP = 2
#: The exit code of `scripts/frame.sh` on another's host, and the word before the mark that it then prints.
OTHERS_CODE, OTHERS_WORD = 78, "portico-owner"
#: What is said if the mark itself does not tell why.
OTHERS = "refuses: there are marks of others on this host"
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
    def name(self) -> str:
        """What the site is called on hosts that do not have it yet."""
        return site_name(self.project, self.environment)

    @property
    def line(self) -> str:
        """The line for `scripts/frame.sh`."""
        return f"{self.project} {self.environment} {','.join(self.commits) or UNKNOWN} {SETUP} {self.name}"

    def mark(self, found: Mark | None = None) -> Mark:
        """The mark to leave on a host. A commit that only the host knows stays."""
        known = found.commit if found else UNKNOWN
        commit = known if known in self.commits or not self.commits else self.commits[-1]
        return Mark(self.project, self.environment, commit, SETUP)

    def refusal(self, found: Collection[Mark]) -> str:
        """Why a host with these marks is not ours; empty if one of them is."""
        mine = [mark for mark in found if self._is_mine(mark)]
        if mine:
            return self._differs(mine[0])
        said = f"this host is {_all(mark.whose for mark in found)}; yours is {self.whose}, which is not set up here"
        add = f"to add it: `invoke remote-setup --env {self.environment}`"
        if self.project in [mark.project for mark in found]:
            return f"{said}: check --env and the host's address; {add}"
        return f"{said}: check name in invoke.yaml and the host's address; {add}"

    def _is_mine(self, mark: Mark) -> bool:
        return (mark.project, mark.environment) == (self.project, self.environment)

    def _differs(self, found: Mark) -> str:
        if found.setup > SETUP:
            return f"a newer Portico has set this host up ({found.setup}; yours is {SETUP}): upgrade this checkout"
        if self.commits and found.commit not in (UNKNOWN, *self.commits):
            theirs, ours = found.commit[:12], self.commits[-1][:12]
            return (
                f"this host is {found.whose} of another repository (its first commit is {theirs}, yours {ours}): check "
                f"the folder that you are in; {self.hand_over}"
            )
        return ""

    @property
    def whose(self) -> str:
        return f"{self.environment} of {self.project}"

    @property
    def hand_over(self) -> str:
        return f"to hand it over: `invoke remote-setup --env {self.environment} --take-over owner`"

    def place(self, sites: Sites, *, handed: bool = False) -> Place:
        """What a host with these sites calls ours, and what else it has.

        ``handed``: a site of this project, of another environment or repository, becomes ours. Raises `Failure` if the
        host cannot have the site.
        """
        if sites.malformed not in ("", self.name):
            raise Failure(f"{MARKS / sites.malformed} is malformed: remove it, and run `remote-setup` for that site")
        marks = sites.marks
        name = next((each for each, mark in marks.items() if self._is_mine(mark)), "")
        if handed and not name:
            name = self._handed(marks)
        if name and (said := self._differs(marks[name])) and not (handed and marks[name].setup <= SETUP):
            raise Failure(said)
        name = name or next((each for each in (self.name, self.project) if each in sites.earlier), "")
        if not name and self.name in marks:
            raise Failure(f"this host calls {marks[self.name].whose} {self.name}, as it would call yours: rename one")
        others = {each: mark for each, mark in marks.items() if each != name}
        old = [mark.whose for mark in others.values() if mark.setup < SETUP]
        old += [each for each in sites.earlier if each != name]
        if old:
            raise Failure(
                f"this host is {_all(old)}, as an earlier version has set it up; yours is {self.whose}: check name in "
                "invoke.yaml and the host's address, or run `remote-setup` for that site first: it makes room"
            )
        return Place(name or self.name, marks.get(name), others)

    def _handed(self, marks: Mapping[str, Mark]) -> str:
        found = [name for name, mark in marks.items() if mark.project == self.project]
        if len(found) > 1:
            raise Failure(
                f"--take-over owner: this host is {_all(marks[name].whose for name in found)}: which is unclear"
            )
        return found[0] if found else ""


@dataclass(frozen=True)
class Sites:
    """The sites of a host, as `scripts/sites.sh` prints them."""

    #: By the name that the host has for the site.
    marks: Mapping[str, Mark] = field(default_factory=dict)
    #: Those of a version without marks.
    earlier: tuple[str, ...] = ()
    #: The first name whose mark cannot be read.
    malformed: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        marks, earlier, malformed = dict[str, Mark](), list[str](), ""
        for line in text.splitlines():
            what, _, rest = line.partition(" ")
            name, _, said = rest.partition(" ")
            if what == "earlier":
                earlier.append(name)
            elif what == "mark":
                try:
                    marks[name] = Mark.parse(said)
                except ValueError:
                    malformed = malformed or name
        return cls(marks, tuple(earlier), malformed)


@dataclass(frozen=True)
class Place:
    """A site on a host."""

    name: str
    #: Its mark; None if there is none yet.
    mark: Mark | None = None
    #: The marks of the host's other sites, by name.
    others: Mapping[str, Mark] = field(default_factory=dict)


def _all(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def owner(root: Path, project: str, environment: Environment) -> Owner:
    """Who asks, for an environment of the project in a folder."""
    return Owner(project, environment.name, git.roots(root))


def others(name: str, asking: Owner | None, stderr: str) -> Failure | None:
    """The failure for a script's errors if the host has sites, but not that of who asks."""
    lines = [line.partition(" ") for line in stderr.splitlines()]
    marks = [mark for word, _, mark in lines if word == OTHERS_WORD]
    if not marks:
        return None
    try:
        said = asking.refusal([Mark.parse(mark) for mark in marks]) if asking else ""
    except ValueError:
        said = f"a mark on this host is malformed (in {MARKS}): `invoke remote-setup` of that site writes it again"
    return Failure(f"{name}: {said or OTHERS}")
