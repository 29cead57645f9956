"""Liveness and readiness of the site, for load balancers, deploys and people."""

import os
from asyncio import iscoroutinefunction
from collections.abc import Awaitable, Callable

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.utils.cache import add_never_cache_headers

#: Seconds that the broker may take to answer.
BROKER_SECONDS = 2
METHODS = ("GET", "HEAD")


class HealthMiddleware:
    """Answers /healthz and /readyz before all other middlewares: no redirect, and no check of the host's name."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if request.path_info not in ANSWERS:
            return self.get_response(request)
        return sync_to_async(answer)(request) if self.is_async else answer(request)


def answer(request: HttpRequest) -> HttpResponse:
    """The answer for one of the two paths, which nobody may cache."""
    if request.method not in METHODS:
        return HttpResponseNotAllowed(METHODS)
    response = ANSWERS[request.path_info]()
    add_never_cache_headers(response)
    return response


def healthz() -> HttpResponse:
    """Liveness of the process. It does not check the servers: a restart would not fix their failure."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz() -> JsonResponse:
    """Readiness: the state of everything that a request needs, by name; 503 unless all are `ok`."""
    states = {name: _state(check) for name, check in CHECKS.items()}
    return JsonResponse(states, status=200 if set(states.values()) == {"ok"} else 503)


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


def check_broker() -> None:
    """The broker opens a channel."""
    from portico_site.celery import app

    with app.connection_for_write(connect_timeout=BROKER_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
        connection.default_channel  # noqa: B018 - asking for it opens it


ANSWERS: dict[str, Callable[[], HttpResponse]] = {"/healthz": healthz, "/readyz": readyz}
CHECKS: dict[str, Callable[[], str | None]] = {
    "database": check_database,
    "migrations": check_migrations,
    **({"broker": check_broker} if os.environ.get("PORTICO_CELERY") else {}),
}
