"""The answers of the health checks."""

from http import HTTPStatus

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.test import Client
from portico_site import celery as kit
from portico_site import health


def test_alive_asks_no_server(client: Client) -> None:
    # No `db` fixture: a query would fail this test.
    assert client.get("/healthz").content == b"ok\n"


def test_ready_names_each_part(client: Client, db: None) -> None:
    response = client.get("/readyz")
    assert response.status_code == HTTPStatus.OK
    assert response.json() == {"database": "ok", "migrations": "ok", "broker": "ok"}


@pytest.mark.parametrize("part", ["database", "migrations", "broker"])
def test_a_part_that_fails_is_named_and_gives_503(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail() -> None:
        raise OperationalError("password=hunter2")

    monkeypatch.setitem(health.CHECKS, part, fail)
    response = client.get("/readyz")
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.json()[part] == "failed: OperationalError"
    assert "hunter2" not in response.content.decode()


def test_a_migration_that_is_missing_gives_503(client: Client, db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'polls' AND name = '0002_schedule'")
    response = client.get("/readyz")
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.json()["migrations"] == "pending: 1"


def test_a_broker_that_does_not_answer_gives_503(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "app", Celery(broker="amqp://guest@127.0.0.1:9//", set_as_current=False))
    assert client.get("/readyz").json()["broker"].startswith("failed: ")
