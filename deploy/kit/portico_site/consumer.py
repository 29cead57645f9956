"""A worker's consumer that requeues a task that it does not know; Celery's own consumer discards it.

While one release replaces another, a new kind of task may be sent before the last old worker has ended. The worker
keeps the unknown task for 10 s, takes no other task meanwhile, and requeues it for a worker that knows it.
A task that no worker knows is not requeued for ever: it then fails, with an error in the log and as result. So does one
that ends its process each time. The messages of both go to the dead-letter queue (`dead_letters`).

Set by `celery.configure`, unless the project has a consumer of its own.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.signals import task_failure
from celery.utils.log import get_logger
from celery.worker import consumer, request
from kombu.message import Message

from portico_site import dead_letters

#: Seconds between taking an unknown task and requeueing it.
HOLD_SECONDS = 10.0
#: Seconds from the first unknown task of a kind in which this kind is requeued: the time in which a deploy replaces the
#: workers. A kind that was not seen for as long counts as new. A deploy whose batches wait for each other sets more.
PATIENCE_SECONDS = float(os.environ.get("UNKNOWN_TASK_SECONDS", "180"))
#: How many unknown kinds a worker keeps in mind; with more, somebody makes them up, and they are refused at once.
MOST_KINDS = 100
#: The class of Celery's own requests, by its name.
OWN_REQUEST = "celery.worker.request:Request"

logger = get_logger(__name__)
lost = dead_letters.Lost()


class Request(request.Request):
    """Celery's request, except that a task does not end one process after the other for ever."""

    _was_lost = False

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        exc = exc_info.exception
        # A child that ends itself may say so before it ends (billiard 4.3); Celery makes the same of it.
        self._was_lost = isinstance(getattr(exc, "exc", exc), (WorkerLostError, SystemExit))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def reject(self, requeue: bool = False) -> None:
        if self._was_lost and requeue and not self.acknowledged:
            times = lost.count(self.id)
            if times >= dead_letters.MOST_LOST and self._give_up(f"it has ended its process {times} times"):
                return
        super().reject(requeue=requeue)

    def _give_up(self, why: str) -> bool:
        """Keep the message, and record the failure. False if the broker does not take it."""
        if not give_up(self, why):
            return False
        lost.forget(self.id)
        self.acknowledge()
        return True


def give_up(asked: Any, why: str) -> bool:
    """Keep the message of a request, and record its task as failed; the caller acknowledges. False: nothing is done."""
    task, context = asked.task, asked._context
    if not dead_letters.keep(task.app, asked._message, why):
        return False
    logger.error("Task %s[%s] is given up: %s; its message is kept", task.name, asked.id, why)
    error = WorkerLostError(why)
    try:
        raise error
    except WorkerLostError:
        info = ExceptionInfo()
    task.backend.mark_as_failure(asked.id, error, request=context, store_result=not context.ignore_result)
    task_failure.send(
        sender=task,
        task_id=asked.id,
        exception=error,
        args=asked.args,
        kwargs=asked.kwargs,
        traceback=info.traceback,
        einfo=info,
    )
    return True


class Consumer(consumer.Consumer):
    """Celery's consumer, except for unknown tasks and for those that end their process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: When each unknown kind of task was seen first and last, by its name.
        self._seen: dict[str, tuple[float, float]] = {}

    def on_unknown_task(self, body: object, message: Message, exc: Exception) -> None:
        name = str(exc.args[0])
        if self._is_known_nowhere(name, message):
            dead_letters.keep(self.app, message, "no worker knows it")
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
            if name not in self._seen and len(self._seen) >= MOST_KINDS:
                return True
            first = now
            logger.warning("Task %s is not known to this release; requeued for a worker that knows it", name)
        self._seen[name] = (first, now)
        return now - first > PATIENCE_SECONDS or dead_letters.deliveries(message) >= dead_letters.MOST_DELIVERIES

    def update_strategies(self) -> None:
        """Give each task our request, unless it has one of its own, and look how often its message was delivered."""
        tasks: dict[str, Any] = self.app.tasks
        for task in tasks.values():
            if task.Request == OWN_REQUEST:
                task.Request = Request
        super().update_strategies()
        strategies: dict[str, Callable[..., Any]] = self.strategies  # type: ignore[attr-defined]
        for name, strategy in list(strategies.items()):
            strategies[name] = self._counted(tasks[name], strategy)

    def _counted(self, task: Any, strategy: Callable[..., Any]) -> Callable[..., Any]:
        """A task whose message comes back again and again, for instance as its worker dies with it, is not run."""

        def receive(message: Message, *more: Any) -> Any:
            times = dead_letters.deliveries(message)
            if times < dead_letters.MOST_DELIVERIES or "task" not in (message.headers or {}):
                return strategy(message, *more)
            asked = request.Request(message, app=self.app, task=task, hostname=self.hostname, decoded=False)
            if give_up(asked, f"it was delivered {times} times"):
                message.ack_log_error(logger, self.connection_errors)  # type: ignore[attr-defined]
            else:
                message.reject_log_error(logger, self.connection_errors, True)  # type: ignore[attr-defined]
            return None

        return receive
