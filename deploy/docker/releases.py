"""Recorded releases, of a swarm or a checkout: how they are shown, and which one a rollback restores. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from deploy.core import git
from deploy.core.errors import Failure
from deploy.core.report import Grid


class Numbered(Protocol):
    """A release: its number, and the number of the release it repeats (its own, unless it was a rollback)."""

    @property
    def number(self) -> int: ...

    @property
    def of(self) -> int: ...


class Recorded(Numbered, Protocol):
    """A release with the details that are shown: its revision, who deployed it, and when (ISO 8601)."""

    @property
    def revision(self) -> str: ...

    @property
    def by(self) -> str: ...

    @property
    def at(self) -> str: ...


R = TypeVar("R", bound=Numbered)


def title(release: Recorded) -> str:
    """A release in words."""
    return f"release {release.of} ({git.short(release.revision)}, {release.at[:16]}, by {release.by})"


def grid(known: Sequence[Recorded]) -> Grid:
    """A table of the releases, newest first. ``known`` is sorted oldest first; its last release serves."""
    rows = []
    for each in reversed(known):
        notes = ["serves"] if each is known[-1] else []
        notes += [f"release {each.of} again"] if each.of != each.number else []
        rows.append((str(each.number), git.short(each.revision), each.at[:16], each.by, ", ".join(notes)))
    return Grid(("release", "revision", "at", "by", ""), rows)


def next_number(known: Sequence[R]) -> int:
    """The number of the next release. ``known`` is sorted oldest first."""
    return known[-1].number + 1 if known else 1


def target(known: Sequence[R], to: str = "", running: int = 0) -> R:
    """The release that a rollback restores: the one with the number ``to``, else the one before the last.

    "Before" refers to the order of deploys; releases that only repeat an earlier one by a rollback are skipped.
    ``running`` is the number that serves. If it is newer than all ``known`` ones, its deploy never finished, and the
    last known release is restored. ``known`` is sorted oldest first. Raises `Failure` if there is no such release.
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
        raise Failure("there is no earlier release to return to; `invoke releases` lists the releases")
    return before[-1]
