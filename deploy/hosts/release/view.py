"""The progress of a deploy: a live table with a row for each host on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from rich.table import Table

from deploy.core.screen import Screen, table

_COLOURS = {"failed": "red", "put back": "red", "done": "green", "serves": "green"}


class View(Screen):
    """Shows the progress of each host. Safe for several threads."""

    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._at = dict.fromkeys(hosts, ("", 0.0))

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def show(self, host: str, what: str) -> None:
        """Show the progress of a host."""
        with self._lock:
            self._at[host] = (what, self.seconds)
            if self.live:
                self.update(self._table())
            else:
                self.line(f"{host}: {what} ({self.seconds:.1f} s)")

    def notify(self, line: str) -> None:
        """Show a line about the whole deploy."""
        with self._lock:
            self.line(line)

    def _table(self) -> Table:
        shown = table(("host", "", "seconds"), numbers=["seconds"])
        for host, (what, at) in self._at.items():
            shown.add_row(host, f"[{_COLOURS.get(what, 'yellow')}]{what}[/]", f"{at:.1f}" if what else "")
        return shown
