"""Visitors who hold a websocket open, and connect again whenever it is closed, as the script of a page does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from tests import support
from tests.rig.websocket import WebSocket

#: Seconds without a word after which a websocket counts as hanging: uvicorn pings each every 20 seconds.
SILENT_SECONDS = 60
#: The code with which a server that restarts closes a websocket.
RESTART = 1012


@dataclass
class Visitor:
    """One of them. A websocket begins with a line that names the process that serves it."""

    port: int
    #: The codes with which its websockets were closed, and the processes that served them.
    codes: list[int] = field(default_factory=list)
    served_by: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    _open: WebSocket | None = None
    _gone: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._connect()
        threading.Thread(target=self._stay, daemon=True).start()

    def _connect(self) -> None:
        fresh = WebSocket.connect(self.port, seconds=SILENT_SECONDS)
        greeting = fresh.receive()
        if not isinstance(greeting, str):
            raise ConnectionError(f"closed before it was served: {greeting}")
        self._open = fresh
        self.served_by.append(greeting)

    def _stay(self) -> None:
        # What it meets is for those who look at it: an error of this thread would be that of a later test.
        with suppress(OSError, AssertionError):
            while self._open and not self._gone.is_set():
                said = self._open.receive()
                if self._gone.is_set():
                    return
                if isinstance(said, str):
                    self.heard.append(said)
                else:
                    self.codes.append(said)
                    support.wait_until(self._connects, SILENT_SECONDS, "a websocket is open again")

    def _connects(self) -> bool:
        if self._gone.is_set():
            return True
        try:
            self._connect()
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Close the page: the site may end now."""
        self._gone.set()
        if self._open:
            with suppress(OSError):
                self._open.connection.shutdown(socket.SHUT_RDWR)

    def says(self, text: str) -> bool:
        """Say it, and return whether it has come back."""
        if text not in self.heard and self._open:
            with suppress(OSError):  # closed at this moment; it connects again
                self._open.send(text)
        return text in self.heard


def hold(port: int, number: int) -> list[Visitor]:
    """So many visitors, each with an open websocket."""
    return [Visitor(port) for _ in range(number)]


def met_the_new_release(visitors: list[Visitor]) -> None:
    """Each was closed with a reason, is served by a process that is new, and hears what it says; then all leave."""
    before = {visitor.served_by[0] for visitor in visitors}
    for number, visitor in enumerate(visitors):
        support.wait_until(
            lambda visitor=visitor, number=number: (  # type: ignore[misc]
                visitor.served_by[-1] not in before and visitor.says(f"again {number}")
            ),
            SILENT_SECONDS,
            f"visitor {number} has the new release",
        )
        assert set(visitor.codes) == {RESTART}, visitor.codes
    for visitor in visitors:
        visitor.leave()
