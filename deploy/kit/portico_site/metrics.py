"""The kit's few metrics at `/metrics`, for those inside: requests, queues, the release. In Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/

gunicorn has several processes, and whichever is asked must answer for all. They share a board: memory that the master
maps before it forks. Each process counts in a slot of its own, so none waits for another. The master gives the slot of
one that has ended to the next, which counts on: nothing is lost, and no file is left.
"""

import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

#: Set where `metrics` in invoke.yaml is.
VARIABLE = "PORTICO_METRICS"
PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
#: The upper limits of the histogram, in seconds: those of Prometheus' own clients.
LIMITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Cells of a slot: a number for each class, for each limit, for what is above, and the sum in microseconds.
CELLS = len(CLASSES) + len(LIMITS) + 2
#: More processes than gunicorn ever has at once; one that gets no slot counts nothing.
SLOTS = 128
#: Seconds between two questions to the broker, however often somebody asks for the metrics.
QUEUES_SECONDS = 10
#: The name under which `health` asks for the lengths of queues.
QUEUES = "queues"


class Board:
    """Counters that processes share, which are forked from this one later."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._cells = memoryview(mmap.mmap(-1, slots * CELLS * 8)).cast("Q")
        self._free = list(range(slots))
        self._lock = threading.Lock()
        self._first: int | None = 0

    def take(self) -> int | None:
        """A slot for a new process; the master asks, before it forks. None if all are taken."""
        return self._free.pop(0) if self._free else None

    def give_back(self, slot: int | None) -> None:
        """The process has ended. Its counts stay."""
        if slot is not None:
            self._free.append(slot)

    def use(self, slot: int | None) -> None:
        """From now on, this process counts there."""
        self._lock = threading.Lock()  # the one of the process before the fork may be held by a thread that is not here
        self._first = None if slot is None else slot * CELLS

    def count(self, status: int, seconds: float) -> None:
        """Count a request that was answered with this status after so many seconds."""
        first, cells = self._first, self._cells
        if first is None:
            return
        kind = min(max(status // 100, 1), len(CLASSES)) - 1
        bucket = first + len(CLASSES) + bisect_left(LIMITS, seconds)
        with self._lock:
            cells[first + kind] += 1
            cells[bucket] += 1
            cells[first + CELLS - 1] += int(seconds * 1_000_000)

    def totals(self) -> list[int]:
        """The sum of all slots, cell by cell."""
        cells = self._cells.tolist()
        return [sum(cells[each::CELLS]) for each in range(CELLS)]


#: What this process counts on; None without metrics.
board: Board | None = Board() if os.environ.get(VARIABLE, "0") not in ("", "0") else None


# --- The text ---


def sample(name: str, value: float, **labels: str) -> str:
    """A line. In the value of a label, a backslash, a quote and a line break are escaped."""
    escaped = {key: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, text in labels.items()}
    said = ",".join(f'{key}="{text}"' for key, text in escaped.items())
    return f"{name}{{{said}}} {value:.15g}" if said else f"{name} {value:.15g}"


def family(name: str, kind: str, about: str, samples: Iterable[str]) -> list[str]:
    """The lines of a metric; none without samples."""
    found = list(samples)
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *found] if found else []


def requests(totals: list[int]) -> Iterator[str]:
    """The lines about requests, from the totals of a board."""
    name = "portico_http_requests_total"
    counted = (sample(name, number, status=kind) for kind, number in zip(CLASSES, totals, strict=False))
    yield from family(name, "counter", "Requests that were answered, by the class of the status.", counted)
    name, numbers = "portico_http_request_duration_seconds", totals[len(CLASSES) : -1]
    lines, below = [], 0
    for limit, number in zip((*map(str, LIMITS), "+Inf"), numbers, strict=True):
        below += number
        lines.append(sample(f"{name}_bucket", below, le=limit))
    lines += [sample(f"{name}_sum", totals[-1] / 1_000_000), sample(f"{name}_count", below)]
    yield from family(name, "histogram", "Seconds from the first middleware to the answer.", lines)


def queues(found: Mapping[str, Any] | None) -> Iterator[str]:
    """The lines about tasks; ``found`` is what `measure` found, None while the broker does not answer."""
    up = sample("portico_broker_up", 0 if found is None else 1)
    yield from family("portico_broker_up", "gauge", "Whether the broker told the lengths of its queues.", [up])
    if found is None:
        return
    name = "portico_queue_messages"
    lengths = (sample(name, number, queue=queue) for queue, (number, _) in found["queues"].items())
    yield from family(name, "gauge", "Tasks that wait in a queue.", lengths)
    name = "portico_queue_consumers"
    takers = (sample(name, number, queue=queue) for queue, (_, number) in found["queues"].items() if number is not None)
    yield from family(name, "gauge", "Workers that take from a queue.", takers)
    name = "portico_dead_letters"
    yield from family(name, "gauge", "Tasks that were given up.", [sample(name, found["dead"])])
    name = "portico_beat_last_run_timestamp_seconds"
    lines = [sample(name, found["beat"])] if found["beat"] else []
    yield from family(name, "gauge", "When beat last sent a task; django-celery-beat writes it every 3 min.", lines)


def text() -> str:
    """All metrics of this place's web processes. The broker is asked at most every `QUEUES_SECONDS`."""
    lines = list(requests(board.totals())) if board else []
    name = "portico_release_info"
    release = sample(name, 1, release=os.environ.get("PORTICO_RELEASE", ""))
    lines += family(name, "gauge", "The release that answers, as a label.", [release])
    if os.environ.get("PORTICO_CELERY"):
        lines += queues(_asked())
    return "".join(f"{line}\n" for line in lines)


# --- The broker ---

_found: dict[str, Any] = {}


def _asked() -> Mapping[str, Any] | None:
    import time

    from portico_site import health

    states = health.Asked.latest((QUEUES,)).states(time.monotonic() + health.ANSWER_SECONDS)
    return dict(_found) if states[QUEUES] == "ok" else None


def measure() -> None:
    """Ask the broker for the lengths of the queues that the application knows, and how many workers take from each.

    It only asks: a queue that nobody has declared has no line. Raises what the broker's client raises.
    """
    from portico_site import dead_letters, publishing
    from portico_site.celery import app

    connection = app.connection_for_write()
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=int(publishing.ANSWER_SECONDS))
        counted = {name: each for name in names(app) if (each := length(connection, name))}
        _found.update(queues=counted, dead=dead_letters.number(app, connection), beat=last_run())
    except BaseException:
        publishing.abandon(connection)
        raise
    connection.release()


def names(app: Any) -> list[str]:
    """The queues that the application knows: the default one, those in `task_queues`, those that routes name."""
    routes = app.conf.task_routes
    routed = [
        each.get("queue") for each in (routes.values() if isinstance(routes, dict) else ()) if hasattr(each, "get")
    ]
    texts = [each for each in routed if isinstance(each, str)]
    return sorted({app.conf.task_default_queue, *app.amqp.queues, *texts})


def length(connection: Any, name: str) -> tuple[int, int | None] | None:
    """How many messages wait in a queue, and how many take from it (AMQP alone knows that); None if there is none."""
    from kombu import Queue

    channel = connection.channel()
    try:
        found: Any = Queue(name)(channel).queue_declare(passive=True)
    except connection.channel_errors:
        return None
    finally:
        with suppress(Exception):
            channel.close()
    takers = int(found.consumer_count) if connection.transport.driver_type == "amqp" else None
    return int(found.message_count), takers


def last_run() -> float | None:
    """When beat last sent a task, in seconds since 1970, where the database knows it (django-celery-beat)."""
    from django.apps import apps
    from django.db.models import Max

    if not apps.is_installed("django_celery_beat"):
        return None
    at = apps.get_model("django_celery_beat", "PeriodicTask").objects.aggregate(at=Max("last_run_at"))["at"]
    return float(at.timestamp()) if at else None
