"""What the servers say, asked so that no request waits for long, and many who look cost no more than one."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import current_app
from django.db import connections
from django.db.models import Count, Max
from django_celery_beat.models import PeriodicTask
from kombu import Queue
from polls.models import Export

#: Seconds for which an answer is shown again; for which a request waits for one; after which a question is given up.
KEPT_SECONDS, ANSWER_SECONDS, LOST_SECONDS = 2.0, 2.0, 30.0
NO_ANSWER = {"state": f"no answer within {ANSWER_SECONDS:g} s"}

Answer = dict[str, Any]


class Server:
    """A server, and its last answer. One thread asks at a time."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._question: Question | None = None

    def latest(self) -> Answer:
        """What it says: at most `KEPT_SECONDS` old, after at most `ANSWER_SECONDS`."""
        with self._lock:
            if self._question is None or self._question.is_over():
                self._question = Question(self._ask)
            question = self._question
        question.ended.wait(ANSWER_SECONDS)
        return question.answer


class Question:
    """One question, in a thread of its own: a server that hangs keeps this thread, and no request."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.answer: Answer = NO_ANSWER
        self.ended = threading.Event()
        self._process = os.getpid()  # a server forks after it has loaded the site; threads are not copied
        self._over_at = time.monotonic() + LOST_SECONDS
        self._begun_at = time.monotonic()
        threading.Thread(target=self._run, args=(ask,), name="stack", daemon=True).start()

    def is_over(self) -> bool:
        """Whether it is time for another one."""
        return self._process != os.getpid() or time.monotonic() > self._over_at

    def _run(self, ask: Callable[[], Answer]) -> None:
        try:
            found = ask()
            self.answer = {"state": "ok", "milliseconds": round(1000 * (time.monotonic() - self._begun_at)), **found}
        except Exception as error:  # its text may contain a password, its type cannot
            self.answer = {"state": type(error).__name__}
        finally:
            connections.close_all()  # those of this thread
            self._over_at = time.monotonic() + KEPT_SECONDS
            self.ended.set()


def ask_database() -> Answer:
    """When beat last sent a task, as it writes down each time, and how many exports are in each state."""
    beat = PeriodicTask.objects.aggregate(at=Max("last_run_at"))["at"]
    states = dict(Export.objects.filter(state__in=Export.OPEN).values_list("state").annotate(Count("pk")).order_by())
    return {"beat": beat, "waiting": states.get("waiting", 0), "running": states.get("running", 0)}


def ask_broker() -> Answer:
    """How many tasks wait in each queue, and how many workers take from it. It only asks, and declares nothing."""
    if current_app.conf.task_always_eager:
        return {"queues": []}
    connection = current_app.connection_for_write(connect_timeout=ANSWER_SECONDS)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=int(ANSWER_SECONDS))
        names = sorted({current_app.conf.task_default_queue, *current_app.amqp.queues})
        found = [_queue(connection, name) for name in names]
    finally:
        with suppress(Exception):
            connection.release()
    return {"queues": [each for each in found if each]}


def _queue(connection: Any, name: str) -> Answer | None:
    """A queue; None if nobody has declared it yet. Only AMQP counts the workers."""
    channel = connection.channel()
    try:
        found: Any = Queue(name)(channel).queue_declare(passive=True)
    except connection.channel_errors:
        return None
    finally:
        with suppress(Exception):
            channel.close()
    workers = found.consumer_count if connection.transport.driver_type == "amqp" else None
    return {"name": name, "waiting": found.message_count, "workers": workers}


database, broker = Server(ask_database), Server(ask_broker)
