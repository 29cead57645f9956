"""The answers of the health checks."""

import threading
from http import HTTPStatus

import pytest
from celery import Celery
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from portico_site import celery as kit
from portico_site import health


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    health.Asked.forget()


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


def test_a_migration_that_is_missing_gives_503(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *_: [("polls.0002_schedule", False)])
    response = client.get("/readyz")
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.json()["migrations"] == "pending: 1"


@pytest.mark.parametrize("part", ["database", "broker"])
def test_a_part_that_hangs_is_named_in_time_and_keeps_one_thread(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """However many ask; and when it answers again, so does the site."""
    answers, calls = threading.Event(), []

    def hang() -> None:
        calls.append(part)
        answers.wait(30)

    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(health, "KEPT_SECONDS", -1)
    monkeypatch.setitem(health.CHECKS, part, hang)
    for _ in range(3):
        response = client.get("/readyz")
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert response.json()[part].startswith("failed: no answer within")
    assert calls == [part]
    assert client.get("/healthz").status_code == HTTPStatus.OK
    answers.set()
    monkeypatch.setattr(health, "ANSWER_SECONDS", 10)
    monkeypatch.setitem(health.CHECKS, part, lambda: None)
    client.get("/readyz")  # may still be the answer to the question that hung
    assert client.get("/readyz").json() == {"database": "ok", "migrations": "ok", "broker": "ok"}


def test_many_who_ask_at_once_cost_no_more_than_one(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(health, "KEPT_SECONDS", 60)
    monkeypatch.setitem(health.CHECKS, "broker", lambda: calls.append(1))
    assert {client.get("/readyz").status_code for _ in range(20)} == {HTTPStatus.OK}
    assert len(calls) == 1


def test_a_broker_that_does_not_answer_gives_503(client: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "app", Celery(broker="amqp://guest@127.0.0.1:9//", set_as_current=False))
    assert client.get("/readyz").json()["broker"].startswith("failed: ")
