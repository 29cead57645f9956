"""Limits for whoever sends tasks: no request waits for a broker that is there but takes nothing.

RabbitMQ whose disk or memory alarm is on accepts connections, but takes nothing that is published. A broker that hangs
answers nothing at all. Celery would wait for ever in both cases. Here each answer has `ANSWER_SECONDS`, and the end is
Celery's own `OperationalError`. After a slow end, a circuit breaker refuses at once for `OPEN_SECONDS`: one slow broker
does not make a queue of slow requests.

A worker has no such limits: its tasks have limits of their own, and it does better to wait than to fail.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import ChannelError, IrrecoverableConnectionError
from celery import Celery
from celery.app.amqp import AMQP
from celery.app.defaults import DEFAULTS
from kombu import Connection
from kombu.exceptions import OperationalError

#: Seconds to connect, and for each answer of the broker.
ANSWER_SECONDS = 2.0
#: Seconds for which nothing is sent after a broker that was too slow; then one sender tries.
OPEN_SECONDS = 5.0
#: A try that failed sooner has kept nobody waiting: a server that refuses connections needs no breaker.
SLOW_SECONDS = 0.5
#: One more try, as the broker may have restarted since the last message. Celery's own is three.
RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
#: The name of no queue: the broker drops what is sent there, once it has taken it.
NOWHERE = "portico.ready"


class Blocked(IrrecoverableConnectionError):
    """The broker is up but takes no messages: one of its alarms is on. Another try at once would meet the same."""


def refuse(reason: str) -> None:
    """End a sending at once when RabbitMQ says `connection.blocked`."""
    raise Blocked(reason)


class Breaker:
    """A circuit breaker: after a sending that was too slow, others are refused at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open = False
        self._again_at = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """One try. While the breaker is open, raises `OperationalError`, but for one try every `OPEN_SECONDS`."""
        with self._lock:
            begun = self._clock()
            if self._open and begun < self._again_at:
                raise OperationalError("the broker takes no messages at present; the next try is in some seconds")
            self._again_at = begun + OPEN_SECONDS
        try:
            yield
        except Exception as error:
            if isinstance(error, Blocked) or self._clock() - begun > SLOW_SECONDS:
                self._open, self._again_at = True, self._clock() + OPEN_SECONDS
            raise
        self._open = False


def options(own: dict[str, Any], scheme: str) -> dict[str, Any]:
    """The transport options of a connection for sending; limits of the project's own come first."""
    if scheme in ("amqp", "amqps"):
        return {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS, "on_blocked": refuse, **own}
    if scheme in ("redis", "rediss"):
        return {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS, **own}
    return own


class Limits:
    """What `limit` has given to an application."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._breaker = Breaker()
        self._connect = app.connection_for_write
        #: Whether this process is a worker.
        self.off = False

    def connection_for_write(self, url: str | None = None, *args: Any, **more: Any) -> Connection:
        """As Celery's, with limits for each answer."""
        if self.off:
            return self._connect(url, *args, **more)
        scheme = urlsplit(str(url or self._app.conf.broker_write_url or "")).scheme
        own = {**(self._app.conf.broker_transport_options or {}), **(more.pop("transport_options", None) or {})}
        more.setdefault("connect_timeout", ANSWER_SECONDS)
        return self._connect(url, *args, transport_options=options(own, scheme), **more)

    def guard(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """Celery's function that sends a task, behind the breaker.

        What is left of a connection that did not answer is thrown away.
        """

        def send_task_message(producer: Any, name: str, message: Any, **more: Any) -> Any:
            if self.off:
                return send(producer, name, message, **more)
            try:
                with self._breaker.guard():
                    return send(producer, name, message, **{"confirm_timeout": ANSWER_SECONDS, **more})
            except Blocked as error:
                abandon(producer.connection)
                raise OperationalError(f"the broker takes no messages: {error.reply_text}") from error
            except OSError:
                abandon(producer.connection)
                raise

        return send_task_message


def limit(app: Celery) -> Limits:
    """Give what an application sends its limits; those that the project has set itself stay.

    Nothing of the application is made here that it makes later: a project may still change its queues.
    """
    if app.conf.task_publish_retry_policy == DEFAULTS["task_publish_retry_policy"]:
        app.conf.task_publish_retry_policy = RETRY
    limits = Limits(app)
    given: Any = app  # of this application alone
    given.connection_for_write = limits.connection_for_write
    given.portico_limits = limits
    if made := vars(app).get("amqp"):
        made.__class__ = GuardedAMQP
    given.amqp_cls = GuardedAMQP
    return limits


class GuardedAMQP(AMQP):
    """Celery's own, but for `Limits.guard`."""

    def _create_task_sender(self) -> Callable[..., Any]:
        celery: Any = super()  # the types of Celery do not know this method
        app: Any = self.app
        limits: Limits = app.portico_limits
        return limits.guard(celery._create_task_sender())


def abandon(connection: Connection) -> None:
    """Close a connection without a word to the server: a polite end would wait for its answer."""
    with suppress(Exception):
        connection.collect()


def probe(connection: Connection) -> str | None:
    """Whether the broker takes messages: one is sent that it drops. Returns what is wrong, or None.

    A refusal is an answer, too: a user of the broker may have no right to send there.
    """
    try:
        channel: Any = connection.default_channel
        if connection.transport.driver_type == "amqp":
            message = channel.prepare_message("", content_type="text/plain", content_encoding="utf-8")
            channel.basic_publish_confirm(message, exchange="", routing_key=NOWHERE, confirm_timeout=ANSWER_SECONDS)
    except Blocked:
        return "blocked: it takes no messages"
    except ChannelError:
        return None
    return None
