"""Reports as values: `tasks.py` prints a report, and fails if it says that something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: The number of latest ledger entries that a report shows.
ENTRIES = 10


@dataclass(frozen=True)
class Grid:
    """A table: headings and rows of texts."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: The headings of the columns that contain numbers.
    numbers: Collection[str] = ()


@dataclass(frozen=True)
class Report:
    """Tables, remarks about them, and problems. Each remark and problem is one line."""

    grids: Sequence[Grid]
    remarks: Sequence[str] = ()
    wrong: Sequence[str] = ()
    #: The same for a program, as JSON can have it.
    data: object = None
