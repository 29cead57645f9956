"""Watches a web process from a thread of its own, and frees it from what hangs.

**A database that is there but says nothing** (stopped, or on a disk that hangs) keeps each thread that asks it, for
ever: PostgreSQL's own limits are kept by the server, and its machine still acknowledges. When a request takes long, the
watch asks the database itself. Without an answer it cuts the process's connections to it: requests that wait end with
an error, and later ones get a 503 at once, until the database answers.

**A process all of whose threads hang** serves nobody. It ends, and gunicorn starts another.
"""

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from django.db import DEFAULT_DB_ALIAS, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from portico_site import health

#: Seconds between two looks; of a request, after which the database is asked; and for its answer.
LOOK_SECONDS, SUSPECT_SECONDS, UNANSWERED_SECONDS = 1.0, 4.0, 4.0
#: Seconds after which a request hangs. nginx gives up after 60.
HUNG_SECONDS = float(os.environ.get("WEB_HUNG_SECONDS", "120"))

logger = logging.getLogger(__name__)


def is_frozen(state: str, seconds: float) -> bool:
    """Whether a database is frozen that answered with this state, or has not yet, after so many seconds.

    One that refuses at once is not: whoever asks it does not wait.
    """
    return state != "ok" and seconds >= UNANSWERED_SECONDS


def is_hung(ages: list[float], threads: int) -> bool:
    """Whether no thread of a process serves any more, by the ages of its requests in seconds."""
    return sum(age > HUNG_SECONDS for age in ages) >= threads


class Watch:
    """The watch of one process, which has so many threads for requests."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._connections: WeakSet[BaseDatabaseWrapper] = WeakSet()
        self._connect = BaseDatabaseWrapper.connect

    def start(self) -> None:
        """Begin to watch this process."""
        connection_created.connect(self._remember, weak=False)
        connect, watch = self._connect, self

        def connect_unless_frozen(wrapper: BaseDatabaseWrapper) -> None:
            asking = threading.current_thread().name.startswith(health.THREAD)
            if health.frozen.is_set() and wrapper.alias == DEFAULT_DB_ALIAS and not asking:
                raise OperationalError("the database does not answer")
            connect(wrapper)

        BaseDatabaseWrapper.connect = connect_unless_frozen  # type: ignore[method-assign,assignment]
        threading.Thread(target=watch._run, name="watch", daemon=True).start()

    def _remember(self, connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection.alias == DEFAULT_DB_ALIAS:
            self._connections.add(connection)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                self._look(time.monotonic())
            except Exception:
                logger.exception("the watch goes on")

    def _look(self, now: float) -> None:
        ages = [now - begun for begun in list(health.busy.values())]
        if is_hung(ages, self._threads):
            logger.critical("every thread has been busy for %d s: this process is replaced", HUNG_SECONDS)
            os._exit(1)
        if not health.frozen.is_set() and not any(age > SUSPECT_SECONDS for age in ages):
            return
        asked = health.Asked.latest(health.DATABASE)
        if is_frozen(asked.states(0)["database"], asked.seconds()):
            if not health.frozen.is_set():
                logger.error("the database does not answer: its connections are cut, requests get 503")
                health.frozen.set()
                self._cut()
        elif asked.is_over() and health.frozen.is_set():
            logger.warning("the database answers again")
            health.frozen.clear()

    def _cut(self) -> None:
        """End every connection to the database: who waits for an answer gets an error."""
        for connection in list(self._connections):
            with suppress(Exception):  # closed meanwhile, or none that has a socket
                copy = socket.socket(fileno=os.dup(connection.connection.fileno()))
                copy.shutdown(socket.SHUT_RDWR)
                copy.close()


def start(threads: int) -> None:
    """Watch this process, which has so many threads for requests."""
    Watch(threads).start()
