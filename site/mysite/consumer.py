"""A worker's reader of messages that gives back a task that it does not know; Celery's own throws it away.

While a release replaces another, a task that is new may be sent before the last worker of the earlier release is gone.
The worker keeps the unknown task for a while, takes no other meanwhile, and gives it back for a worker that knows it.
A task that nobody knows does not stay for ever: it is then Celery's to refuse, with an error in the log and as result.

Set by `CELERY_WORKER_CONSUMER`.
"""

import os
import time
from typing import Any

from celery.utils.log import get_logger
from celery.worker import consumer
from kombu.message import Message

#: Seconds between taking a task that is not known and giving it back.
HOLD_SECONDS = 10.0
#: Seconds for which a kind of task goes back, from when it is first seen: those in which workers replace each other.
#: One that has not been seen for as long is new again. A deploy whose batches wait for each other says more.
PATIENCE_SECONDS = float(os.environ.get("UNKNOWN_TASK_SECONDS", "180"))
#: Deliveries after which a task does not go back: RabbitMQ drops it at 20, and tells nobody.
MOST_DELIVERIES = 18

logger = get_logger(__name__)


class Consumer(consumer.Consumer):
    """Celery's, but for tasks that are not known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: When a kind of task that is not known was seen first and last, by its name.
        self._seen: dict[str, tuple[float, float]] = {}

    def on_unknown_task(self, body: object, message: Message, exc: Exception) -> None:
        name = str(exc.args[0])
        if self._is_known_nowhere(name, message):
            super().on_unknown_task(body, message, exc)
            return
        errors = self.connection_errors  # type: ignore[attr-defined] # of the transport, set by Celery's own
        give_back = (message.reject_log_error, logger, errors, True)
        # Without an event loop a timer is a thread: a message is given back by whoever reads messages.
        self.timer.call_after(HOLD_SECONDS, self.call_soon, give_back)

    def _is_known_nowhere(self, name: str, message: Message) -> bool:
        """Whether a kind of task has come again for so long that no worker seems to know it."""
        now = time.monotonic()
        first, last = self._seen.get(name, (now, now))
        if name not in self._seen or now - last > PATIENCE_SECONDS:
            first = now
            logger.warning("Task %s is not known to this release; it goes back for a worker that knows it", name)
        self._seen[name] = (first, now)
        deliveries = int((message.headers or {}).get("x-delivery-count", 0))
        return now - first > PATIENCE_SECONDS or deliveries >= MOST_DELIVERIES
