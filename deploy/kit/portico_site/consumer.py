"""A worker's consumer that requeues a task that it does not know; Celery's own consumer discards it.

While one release replaces another, a new kind of task may be sent before the last old worker has ended. The worker
keeps the unknown task for 10 s, takes no other task meanwhile, and requeues it for a worker that knows it.
A task that no worker knows is not requeued for ever: Celery then rejects it, with an error in the log and as result.

Set by `celery.configure`, unless the project has a consumer of its own.
"""

import os
import time
from typing import Any

from celery.utils.log import get_logger
from celery.worker import consumer
from kombu.message import Message

#: Seconds between taking an unknown task and requeueing it.
HOLD_SECONDS = 10.0
#: Seconds from the first unknown task of a kind in which this kind is requeued: the time in which a deploy replaces the
#: workers. A kind that was not seen for as long counts as new. A deploy whose batches wait for each other sets more.
PATIENCE_SECONDS = float(os.environ.get("UNKNOWN_TASK_SECONDS", "180"))
#: Deliveries after which a task is not requeued: RabbitMQ drops it silently at 20.
MOST_DELIVERIES = 18

logger = get_logger(__name__)


class Consumer(consumer.Consumer):
    """Celery's consumer, except for unknown tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: When each unknown kind of task was seen first and last, by its name.
        self._seen: dict[str, tuple[float, float]] = {}

    def on_unknown_task(self, body: object, message: Message, exc: Exception) -> None:
        name = str(exc.args[0])
        if self._is_known_nowhere(name, message):
            super().on_unknown_task(body, message, exc)
            return
        errors = self.connection_errors  # type: ignore[attr-defined] # of the transport, set by Celery's own
        give_back = (message.reject_log_error, logger, errors, True)
        # Without an event loop a timer is a thread, but only the thread that reads messages may requeue one.
        self.timer.call_after(HOLD_SECONDS, self.call_soon, give_back)

    def _is_known_nowhere(self, name: str, message: Message) -> bool:
        """Whether a kind of task was requeued for so long that no worker seems to know it."""
        now = time.monotonic()
        first, last = self._seen.get(name, (now, now))
        if name not in self._seen or now - last > PATIENCE_SECONDS:
            first = now
            logger.warning("Task %s is not known to this release; requeued for a worker that knows it", name)
        self._seen[name] = (first, now)
        deliveries = int((message.headers or {}).get("x-delivery-count", 0))
        return now - first > PATIENCE_SECONDS or deliveries >= MOST_DELIVERIES
