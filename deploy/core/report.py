"""What is told of something, as values: the front door prints them, and fails where something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: Entries of a ledger that a report shows: the last ones.
ENTRIES = 10


@dataclass(frozen=True)
class Grid:
    """A table: headings, and a row of texts for each thing."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Headings of columns of numbers.
    numbers: Collection[str] = ()


@dataclass(frozen=True)
class Report:
    """Tables, remarks beside them, and what is wrong, each in a line."""

    grids: Sequence[Grid]
    remarks: Sequence[str] = ()
    wrong: Sequence[str] = ()
