"""Liveness and readiness of the site, for load balancers, deploys and people."""

from collections.abc import Callable

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mysite.celery_app import app

#: Seconds that the broker may take to answer.
BROKER_SECONDS = 2


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Liveness of the process. It does not check the servers: a restart would not fix their failure."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
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
    with app.connection_for_write(connect_timeout=BROKER_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_SECONDS)
        connection.default_channel  # noqa: B018 - asking for it opens it


CHECKS: dict[str, Callable[[], str | None]] = {
    "database": check_database,
    "migrations": check_migrations,
    "broker": check_broker,
}
