"""A deploy as it goes on: a live table with a row for each host on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

_COLOURS = {"failed": "red", "put back": "red", "done": "green", "serves": "green"}


class View:
    """Shows where each host is. Several threads may tell it."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._console = Console(stderr=True)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._at = dict.fromkeys(hosts, ("", 0.0))
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> View:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def show(self, host: str, what: str) -> None:
        """A host has come so far."""
        with self._lock:
            self._at[host] = (what, self.seconds)
            if self._live:
                self._live.update(self._table(), refresh=True)
            else:
                self._line(f"{host}: {what} ({self.seconds:.1f} s)")

    def say(self, line: str) -> None:
        """A line about the whole."""
        with self._lock:
            if self._live:
                self._console.print(line, markup=False, highlight=False)
            else:
                self._line(line)

    @staticmethod
    def _line(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def _table(self) -> Table:
        shown = Table(box=None, header_style="bold", pad_edge=False)
        for heading in ("host", "", "seconds"):
            shown.add_column(heading, justify="right" if heading == "seconds" else "left")
        for host, (what, at) in self._at.items():
            shown.add_row(host, f"[{_COLOURS.get(what, 'yellow')}]{what}[/]", f"{at:.1f}" if what else "")
        return shown
