"""Liveness and readiness of the site, for load balancers, deploys and people."""

import os
import threading
import time
from asyncio import iscoroutinefunction
from collections.abc import Awaitable, Callable
from typing import ClassVar

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.utils.cache import add_never_cache_headers

from portico_site import metrics

#: Seconds for all servers to answer; the health check of a container waits for 4.
ANSWER_SECONDS = 3
#: Seconds for which an answer is given again: many who ask cost no more than one. And those after which a server is
#: asked again, although the question before has not ended.
KEPT_SECONDS, LOST_SECONDS = 1, 30
METHODS = ("GET", "HEAD")
#: The beginning of the names of threads that ask a server.
THREAD = "ready: "
#: When each thread began the request that it answers, by its number: for `watch`.
busy: dict[int, float] = {}
#: Set by `watch` while the database says nothing.
frozen = threading.Event()
#: What `/readyz` tells besides states, and the name under which it tells how many tasks were given up.
remarks: dict[str, str] = {}
DEAD_LETTERS = "dead letters"
#: Seconds after which a client that got a 503 may try again.
RETRY_SECONDS = 10


class HealthMiddleware:
    """Answers what `ANSWERS` has before all other middlewares: no redirect, and no check of the host's name."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if request.path_info in ANSWERS:
            return sync_to_async(answer)(request) if self.is_async else answer(request)
        if self.is_async:
            return self._counted(request) if metrics.board else self.get_response(request)
        thread = threading.get_ident()
        begun = busy[thread] = time.monotonic()
        try:
            response = self.get_response(request)
        finally:
            busy.pop(thread, None)
        if metrics.board:
            metrics.board.count(response.status_code, time.monotonic() - begun)  # type: ignore[union-attr]
        return response

    async def _counted(self, request: HttpRequest) -> HttpResponseBase:
        begun = time.monotonic()
        response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
        if metrics.board:
            metrics.board.count(response.status_code, time.monotonic() - begun)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """A 503 in place of an error, while the database says nothing."""
        if not (frozen.is_set() and isinstance(exception, Error)):
            return None
        text = "The database does not answer at present. Try again in some seconds.\n"
        response = HttpResponse(text, content_type="text/plain", status=503, headers={"Retry-After": RETRY_SECONDS})
        add_never_cache_headers(response)
        return response


def answer(request: HttpRequest) -> HttpResponse:
    """The answer for one of the paths, which nobody may cache."""
    if request.method not in METHODS:
        return HttpResponseNotAllowed(METHODS)
    response = ANSWERS[request.path_info]()
    add_never_cache_headers(response)
    return response


def healthz() -> HttpResponse:
    """Liveness of the process. It does not check the servers: a restart would not fix their failure."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz() -> JsonResponse:
    """Readiness: the state of everything that a request needs, by name; 503 unless all are `ok`.

    Beside these, how many tasks were given up, if there are any: somebody has to look at them, but nobody need wait.
    """
    states: dict[str, str] = {}
    end = time.monotonic() + ANSWER_SECONDS
    for asked in [Asked.latest(names) for names in SERVERS]:
        states.update(asked.states(end))
    return JsonResponse({**states, **remarks}, status=200 if set(states.values()) == {"ok"} else 503)


def told() -> HttpResponse:
    """The metrics, where invoke.yaml asks for them."""
    return HttpResponse(metrics.text(), content_type=metrics.CONTENT_TYPE)


class Asked:
    """One question to one server, in a thread of its own: a server that hangs keeps this thread, and no request.

    Nobody asks again while it runs, and its answer is kept for `KEPT_SECONDS`.
    """

    _lock = threading.Lock()
    _latest: ClassVar[dict[tuple[int, tuple[str, ...]], "Asked"]] = {}

    def __init__(self, names: tuple[str, ...]) -> None:
        self._found = dict.fromkeys(names, f"failed: no answer within {ANSWER_SECONDS} s")
        self._begun_at = time.monotonic()
        self._ended_at = 0.0
        self._again_at = self._begun_at + LOST_SECONDS
        self._over = threading.Event()
        threading.Thread(target=self._ask, name=f"{THREAD}{names[0]}", daemon=True).start()

    @classmethod
    def latest(cls, names: tuple[str, ...]) -> "Asked":
        """The question that runs or was just answered in this process, else a new one."""
        key = (os.getpid(), names)  # a thread of the process before a fork does not run here
        with cls._lock:
            found = cls._latest.get(key)
            if found is None or time.monotonic() > found._again_at:
                found = cls._latest[key] = Asked(names)
            return found

    @classmethod
    def forget(cls) -> None:
        """Ask again, whatever is known."""
        with cls._lock:
            cls._latest.clear()

    def states(self, end: float) -> dict[str, str]:
        """The state by name; what is unknown at ``end`` (of `time.monotonic`) has failed."""
        self._over.wait(max(end - time.monotonic(), 0))
        return dict(self._found)

    def is_over(self) -> bool:
        """Whether it is answered."""
        return self._over.is_set()

    def seconds(self) -> float:
        """How long the answer took; without one, how long nobody has answered."""
        return (self._ended_at if self.is_over() else time.monotonic()) - self._begun_at

    def _ask(self) -> None:
        try:
            for name in list(self._found):
                self._found[name] = _state(CHECKS[name])
        finally:
            connections.close_all()  # those of this thread
            self._ended_at = time.monotonic()
            self._again_at = self._ended_at + max(KEPT_SECONDS, *(LONGER.get(name, 0) for name in self._found))
            self._over.set()


def _state(check: Callable[[], str | None]) -> str:
    try:
        return check() or "ok"
    except Exception as error:  # any error means 503; its text may contain a password, its type cannot
        return f"failed: {type(error).__name__}"


def check_database() -> None:
    """The database answers a query."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")


def check_migrations() -> str | None:
    """Every migration of this release is applied."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"pending: {len(pending)}" if pending else None


def check_broker() -> str | None:
    """The broker takes a message."""
    from portico_site import dead_letters, publishing
    from portico_site.celery import app

    connection = app.connection_for_write()
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=int(publishing.ANSWER_SECONDS))
        problem = publishing.probe(connection)
        given_up = 0 if problem else dead_letters.number(app, connection)
    except BaseException:
        publishing.abandon(connection)
        raise
    if problem:
        publishing.abandon(connection)
    elif given_up:
        remarks[DEAD_LETTERS] = str(given_up)
    else:
        remarks.pop(DEAD_LETTERS, None)
    connection.release()
    return problem


ANSWERS: dict[str, Callable[[], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    **({metrics.PATH: told} if metrics.board else {}),
}
CHECKS: dict[str, Callable[[], str | None]] = {
    "database": check_database,
    "migrations": check_migrations,
    **({"broker": check_broker} if os.environ.get("PORTICO_CELERY") else {}),
    **({metrics.QUEUES: metrics.measure} if os.environ.get("PORTICO_CELERY") and metrics.board else {}),
}
#: Seconds for which some answers are kept for longer.
LONGER = {metrics.QUEUES: metrics.QUEUES_SECONDS}
#: What is asked together: what one server answers. Two servers are asked at once.
DATABASE = ("database", "migrations")
SERVERS = [DATABASE, *((name,) for name in CHECKS if name == "broker")]
