"""Progress on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table


class Screen:
    """Where progress is shown, while its context lasts."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def live(self) -> bool:
        """Whether there is a table to be kept up to date."""
        return self._live is not None

    def update(self, table: Table) -> None:
        """Show the table as it is now; nothing where there is no terminal."""
        if self._live:
            self._live.update(table, refresh=True)

    def line(self, text: str) -> None:
        """A line that stays, above the table where there is one."""
        if self._live:
            self._console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
