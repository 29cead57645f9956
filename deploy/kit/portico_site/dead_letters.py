"""Tasks that end their process each time they run: after some tries they fail, and their messages are kept.

A process that a task kills (out of memory, a crash in C code) leaves no result. The message goes back to its queue,
and whichever worker takes it loses a process too, without an end. Here such a task ends as FAILURE, and its message
goes to the dead-letter queue. `/readyz` and `invoke status` tell how many it has; `manage.py dead_letters` shows them,
sends them again or removes them.

The queue is one of its own, so no queue that exists has to change: RabbitMQ refuses one that is declared differently.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import NotFound, PreconditionFailed
from celery import Celery
from kombu import Connection, Producer, Queue
from kombu.message import Message

from portico_site import publishing

#: How often a task may end its process in one worker; the last time, it is not given back.
MOST_LOST = 3
#: Deliveries after which no worker runs a task any more, whatever became of the others. Quorum queues count them, and
#: RabbitMQ from 4.0 on throws a message away at 20; the one of Debian 12 never does.
MOST_DELIVERIES = 18
#: How many tasks a worker counts for at once; it forgets the oldest.
MOST_COUNTED = 1000
#: The dead-letter queue keeps so many messages, for so long (milliseconds): nothing grows without a limit.
MOST_KEPT, KEPT_MILLISECONDS = 10_000, 30 * 24 * 60 * 60 * 1000
#: Headers of a message that is kept: why, and where it came from.
REASON, EXCHANGE, ROUTING_KEY = "portico-reason", "portico-exchange", "portico-routing-key"
#: Properties that a message keeps on its way.
PROPERTIES = ("correlation_id", "reply_to", "priority", "type", "app_id")


def deliveries(message: Message) -> int:
    """How often a quorum queue has delivered a message before; 0 where nobody counts."""
    try:
        return int((message.headers or {}).get("x-delivery-count", 0))
    except (TypeError, ValueError):
        return 0


class Lost:
    """How often each task has ended its process in this worker. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: OrderedDict[str, int] = OrderedDict()

    def count(self, task_id: str) -> int:
        """Count one more; returns how often it was by now."""
        with self._lock:
            times = self._times.pop(task_id, 0) + 1
            self._times[task_id] = times
            while len(self._times) > MOST_COUNTED:
                self._times.popitem(last=False)
            return times

    def forget(self, task_id: str) -> None:
        """The task has ended."""
        with self._lock:
            self._times.pop(task_id, None)


def name_of(app: Celery) -> str:
    """The name of the dead-letter queue."""
    return f"{app.conf.task_default_queue}.dead"


def connect(app: Celery) -> Connection:
    """A connection for sending, with limits for each answer, in workers too: their event loop must not wait."""
    scheme = urlsplit(str(app.conf.broker_write_url or "")).scheme
    own = dict(app.conf.broker_transport_options or {})
    more: Any = {"transport_options": publishing.options(own, scheme), "connect_timeout": publishing.ANSWER_SECONDS}
    return app.connection_for_write(**more)


def keep(app: Celery, message: Message, reason: str) -> bool:
    """Put a message into the dead-letter queue; the caller then acknowledges it. False if the broker takes nothing."""
    connection = connect(app)
    try:
        channel: Any = declared(app, connection)
        headers = {key: value for key, value in (message.headers or {}).items() if key != "compression"}
        info = message.delivery_info or {}
        where = {EXCHANGE: info.get("exchange") or "", ROUTING_KEY: info.get("routing_key") or ""}
        send(channel, message, name_of(app), headers={**headers, **where, REASON: reason})
        connection.release()
    except Exception:  # whatever it is: the message is given back, and not lost
        publishing.abandon(connection)
        return False
    return True


def declared(app: Celery, connection: Connection) -> Any:
    """A channel on which the dead-letter queue is declared. One that was declared differently stays as it is."""
    arguments = {"x-queue-type": "quorum", "x-max-length": MOST_KEPT, "x-message-ttl": KEPT_MILLISECONDS}
    is_amqp = connection.transport.driver_type == "amqp"
    channel = connection.channel()
    queue = Queue(name_of(app), durable=True, queue_arguments=arguments if is_amqp else None)
    try:
        queue(channel).queue_declare()
    except PreconditionFailed:
        return connection.channel()
    return channel


def send(channel: Any, message: Message, routing_key: str, *, exchange: str = "", headers: dict[str, Any]) -> None:
    """Send a message on, as it is, and wait until it is safe."""
    said: dict[str, Any] = message.properties or {}
    kept: dict[str, Any] = {name: said[name] for name in PROPERTIES if said.get(name) is not None}
    Producer(channel, auto_declare=False).publish(
        message.body,
        exchange=exchange,
        routing_key=routing_key,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=headers,
        delivery_mode=2,
        **kept,
    )


def number(app: Celery, connection: Connection) -> int:
    """How many messages the dead-letter queue has. Needs no right in RabbitMQ; the queue need not exist."""
    channel: Any = connection.channel()
    try:
        found: Any = Queue(name_of(app))(channel).queue_declare(passive=True)
        return int(found.message_count)
    except NotFound:
        return 0
    except connection.channel_errors:
        return 0
    finally:
        with suppress(Exception):
            channel.close()


def each(app: Celery, connection: Connection) -> Iterator[Message]:
    """The messages that the queue has now; those that the caller does not acknowledge stay in it."""
    channel = connection.channel()
    queue = Queue(name_of(app))(channel)
    for _ in range(number(app, connection)):
        message = queue.get(no_ack=False)
        if message is None:
            return
        yield message


def again(channel: Any, message: Message) -> None:
    """Send a message back to where it came from, and take it out of the dead-letter queue."""
    headers = dict(message.headers or {})
    exchange, routing_key = str(headers.pop(EXCHANGE, "")), str(headers.pop(ROUTING_KEY, ""))
    for name in (REASON, "x-delivery-count", "x-death"):
        headers.pop(name, None)
    send(channel, message, routing_key, exchange=exchange, headers=headers)
    message.ack()
