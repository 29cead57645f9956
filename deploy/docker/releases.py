"""Releases that are remembered, on a swarm or by a checkout: how they are shown, and which a rollback means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from deploy.core import git
from deploy.core.errors import Failure
from deploy.core.report import Grid


class Numbered(Protocol):
    """A release: its number, and that of the release it repeats (its own, unless it was a rollback)."""

    @property
    def number(self) -> int: ...

    @property
    def of(self) -> int: ...


class Recorded(Numbered, Protocol):
    """A release, with what people are told of it: its revision, who deployed it, and when (ISO 8601)."""

    @property
    def revision(self) -> str: ...

    @property
    def by(self) -> str: ...

    @property
    def at(self) -> str: ...


R = TypeVar("R", bound=Numbered)


def title(release: Recorded) -> str:
    """How people are told of a release."""
    return f"release {release.of} ({git.short(release.revision)}, {release.at[:16]}, by {release.by})"


def grid(known: Sequence[Recorded]) -> Grid:
    """A row for each release, the newest first; ``known`` are the oldest first, and the last of them serves."""
    rows = []
    for each in reversed(known):
        notes = ["serves"] if each is known[-1] else []
        notes += [f"release {each.of} again"] if each.of != each.number else []
        rows.append((str(each.number), git.short(each.revision), each.at[:16], each.by, ", ".join(notes)))
    return Grid(("release", "revision", "at", "by", ""), rows)


def next_number(known: Sequence[R]) -> int:
    """The number of the release that comes next; ``known`` are the oldest first."""
    return known[-1].number + 1 if known else 1


def target(known: Sequence[R], to: str = "", running: int = 0) -> R:
    """The release to go back to: the one named by its number, else the one before the last.

    Before is what was deployed before, and not what a rollback has put back since. ``running`` is the number that
    serves: where it is not known, its deploy never came to its end, and the last one is gone back to. ``known`` are the
    oldest first. Raises `Failure` when there is none.
    """
    numbers = ", ".join(str(each.number) for each in known)
    if to:
        found = next((each for each in known if str(each.number) == to), None)
        if found is None:
            raise Failure(f"--to {to}: there is no such release; there are: {numbers or 'none'}")
        return found
    if known and running > known[-1].number:
        return known[-1]
    before = [each for each in known if each.of < known[-1].of and each.of == each.number]
    if not before:
        raise Failure("there is no release before this one: `invoke releases` lists what there is")
    return before[-1]
