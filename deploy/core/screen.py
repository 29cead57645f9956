"""Output for people: tables on standard output, progress on standard error, which is live on a terminal."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.core.report import Grid
from deploy.core.running import tell

#: Columns if the output is not a terminal, so that nothing is cut off.
WIDE = 240


def table(headings: Iterable[str], *, numbers: Collection[str] = (), wrapped: Collection[str] = ()) -> Table:
    """An empty table in our style; cells in ``wrapped`` columns may take several lines."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        shown.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=heading not in wrapped)
    return shown


def console() -> Console:
    """Standard output, as wide as the terminal, or `WIDE` without one."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


def show_data(data: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


def show(*grids: Grid) -> None:
    """Print tables, separated by empty lines."""
    shown = console()
    for number, grid in enumerate(grids):
        if number:
            shown.print()
        made = table(grid.headings, numbers=grid.numbers)
        for row in grid.rows:
            made.add_row(*map(Text, row))
        shown.print(made)


class Screen:
    """A context that shows progress."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            with suppress(OSError):
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            with suppress(OSError):
                self._live.stop()

    @property
    def live(self) -> bool:
        """Whether `update` redraws a table, that is, whether this is a terminal."""
        return self._live is not None

    def update(self, table: Table) -> None:
        """Redraw the table. Without a terminal, do nothing."""
        if self._live:
            with suppress(OSError):
                self._live.update(table, refresh=True)

    def status(self, text: str) -> None:
        """Show a line that the next one replaces. Without a terminal, do nothing."""
        if self._live:
            with suppress(OSError):
                self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def line(self, text: str) -> None:
        """Print a line that stays, above the table if there is one."""
        if self._live:
            with suppress(OSError):  # the terminal may be closed, as in `running.tell`
                self._console.print(text, markup=False, highlight=False)
        else:
            tell(text)
