"""What people see: tables on standard output, progress on standard error, live on a terminal and plain elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.core.report import Grid
from deploy.core.running import tell

#: Columns where nobody looks at a screen, so that nothing is cut off.
WIDE = 240


def table(headings: Iterable[str], *, numbers: Collection[str] = (), wrapped: Collection[str] = ()) -> Table:
    """An empty table as all of ours look; ``wrapped`` columns may take several lines."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        shown.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=heading not in wrapped)
    return shown


def console() -> Console:
    """Standard output; as wide as the terminal, or wide enough where there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


def show(*grids: Grid) -> None:
    """Print tables, an empty line between two."""
    shown = console()
    for number, grid in enumerate(grids):
        if number:
            shown.print()
        made = table(grid.headings, numbers=grid.numbers)
        for row in grid.rows:
            made.add_row(*map(Text, row))
        shown.print(made)


class Screen:
    """Where progress is shown, while its context lasts."""

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
        """Whether there is a table to be kept up to date."""
        return self._live is not None

    def update(self, table: Table) -> None:
        """Show the table as it is now; nothing where there is no terminal."""
        if self._live:
            with suppress(OSError):
                self._live.update(table, refresh=True)

    def status(self, text: str) -> None:
        """A line that the next one replaces; nothing where there is no terminal."""
        if self._live:
            with suppress(OSError):
                self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def line(self, text: str) -> None:
        """A line that stays, above the table where there is one."""
        if self._live:
            with suppress(OSError):  # a terminal that is gone, as for `running.tell`
                self._console.print(text, markup=False, highlight=False)
        else:
            tell(text)
