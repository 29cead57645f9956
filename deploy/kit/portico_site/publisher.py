"""What a process does that may only send tasks: it asks for a queue, and declares none.

In the stack's own RabbitMQ, web and beat have no right to declare, to delete or to take. The release has declared the
queues before, and a worker those that it takes from. A queue that nobody has declared is an error of the sender: the
message would be lost without a word.
"""

import os
import sys
from typing import Any

from celery import Celery
from celery.app import amqp
from kombu import Queue

from portico_site.publishing import GuardedAMQP

#: The variable with what a process does with the broker: `publish`, `declare` (a release), or `all`.
VARIABLE = "PORTICO_BROKER"
#: Names of queues that kinds of workers take from, comma-separated.
QUEUES = "PORTICO_QUEUES"
#: Seconds in which the broker must answer a release.
SECONDS = 60


class Known(Queue):
    """A queue that somebody else declares."""

    def declare(self, nowait: bool = False, channel: Any = None) -> str:
        self.queue_declare(passive=True, channel=channel)
        return str(self.name)


class Queues(amqp.Queues):
    """The application's queues, each as one that somebody else declares."""

    def __setitem__(self, name: str, queue: Queue) -> None:
        if type(queue) is Queue:
            queue.__class__ = Known
        super().__setitem__(name, queue)


class Publisher(GuardedAMQP):
    """Celery's way to the broker, for a process that only sends."""

    queues_cls = Queues


def configure(app: Celery) -> None:
    """Make an application a publisher, if this process is one. After `publishing.limit`, whose limits it keeps."""
    if os.environ.get(VARIABLE) != "publish":
        return
    given: Any = app
    given.amqp_cls = Publisher
    if made := vars(app).get("amqp"):
        made.__class__ = Publisher
        for queue in vars(made).get("queues", {}).values():
            if type(queue) is Queue:
                queue.__class__ = Known


def declare(app: Celery) -> None:
    """Declare the application's queues, and those that kinds of workers take from. Exits with a message on failure."""
    names = [name for name in os.environ.get(QUEUES, "").split(",") if name]
    queues = {**app.amqp.queues, **{name: app.amqp.queues[name] for name in names}}
    try:
        with app.connection_for_write(connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=SECONDS, interval_start=1, interval_max=2, timeout=SECONDS)
            for queue in queues.values():
                queue(connection.default_channel).declare()
    except Exception as error:  # its text may contain a password, its type cannot
        sys.exit(
            f"broker: the queues cannot be declared: {type(error).__name__}; `invoke logs --service rabbitmq` says why"
        )
