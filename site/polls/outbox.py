"""Hands exports over to the workers, in a thread of the web process: no request waits for the broker.

The record in the database is the outbox. An export that a process could not hand over before its end is handed over by
the periodic task `tend_exports`.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from uuid import UUID

from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger(__name__)

#: Seconds between two tries while the broker takes nothing.
RETRY_SECONDS = 1.0
#: How many exports a process keeps in mind; the others wait for `tend_exports`.
MOST = 1000


class Outbox:
    """What this process has to hand over, in order, and the thread that does so."""

    def __init__(self, send: Callable[[UUID], None]) -> None:
        self._send = send
        self._waiting: deque[tuple[UUID, Context]] = deque(maxlen=MOST)
        self._changed = threading.Condition()
        self._process = 0

    def put(self, pk: UUID) -> None:
        """Hand an export over soon. The log lines of its task have the id of this request."""
        with self._changed:
            if self._process != os.getpid():  # a server forks after it has loaded the site; threads are not copied
                self._process = os.getpid()
                self._waiting.clear()
                threading.Thread(target=self._run, name="outbox", daemon=True).start()
            self._waiting.append((pk, copy_context()))
            self._changed.notify_all()

    def is_empty(self) -> bool:
        """Whether everything is handed over."""
        return not self._waiting

    def _run(self) -> None:
        told = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                pk, context = self._waiting[0]
            try:
                context.run(self._send, pk)
            except BrokerError as error:
                if not told:
                    logger.warning("export %s waits: the broker did not accept it (%s)", pk, error)
                told = True
                threading.Event().wait(RETRY_SECONDS)
                continue
            except Exception:
                logger.exception("export %s is not handed over now", pk)
            told = False
            with self._changed:
                if self._waiting and self._waiting[0][0] == pk:  # a full queue drops the oldest
                    self._waiting.popleft()
