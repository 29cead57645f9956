"""`/stack/`: what runs now, without waiting for a server that hangs, and without a secret."""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta
from http import HTTPStatus
from uuid import uuid4

import pytest
from celery import Celery
from django.conf import settings
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from stack import servers

OK = {"state": "ok", "milliseconds": 3}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that answer, without any."""
    at = timezone.now() - timedelta(minutes=3)
    monkeypatch.setattr(servers, "database", servers.Server(lambda: {"beat": at, "waiting": 2, "running": 1}))
    queues = [{"name": "celery", "waiting": 4, "workers": 1}, {"name": "mail", "waiting": 0, "workers": None}]
    monkeypatch.setattr(servers, "broker", servers.Server(lambda: {"queues": queues}))


@pytest.mark.parametrize("path", ["/stack/", "/stack/now"])
def test_it_shows_who_answered_the_release_queues_workers_and_beat(
    client: Client, asked: None, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Without a query of its own: the fixture `db` is not there."""
    monkeypatch.setattr(settings, "RELEASE", "20260101-120000-abcdef1")
    response = client.get(path)
    said = re.sub(r"<[^>]+>", " ", response.content.decode())
    for each in ("20260101-120000-abcdef1", "4 waiting, 1 worker", "2 waiting, 1 being written", "3\xa0minutes ago"):
        assert each in said
    assert "no-store" in response["Cache-Control"]
    assert "Set-Cookie" not in response
    assert client.post(path).status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_it_is_refreshed_with_scripts_and_without(client: Client, asked: None) -> None:
    page = client.get("/stack/").content.decode()
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    assert 'data-url="/stack/now"' in page
    assert "<html" not in client.get("/stack/now").content.decode()


def test_a_server_that_fails_is_named_and_nothing_else_of_its_error_is_shown(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> servers.Answer:
        raise OperationalError("password=hunter2")

    for name in ("database", "broker"):
        monkeypatch.setattr(servers, name, servers.Server(fail))
    page = client.get("/stack/").content.decode()
    assert page.count('data-state="OperationalError"') == 2
    assert "hunter2" not in page


def test_a_server_that_hangs_keeps_one_thread_and_no_request(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    over, calls = threading.Event(), list[int]()

    def hang() -> servers.Answer:
        calls.append(1)
        over.wait(30)
        return {}

    monkeypatch.setattr(servers, "ANSWER_SECONDS", 0.1)
    for name in ("database", "broker"):
        monkeypatch.setattr(servers, name, servers.Server(hang))
    begun = time.monotonic()
    for _ in range(3):
        assert 'data-state="no answer' in client.get("/stack/now").content.decode()
    assert time.monotonic() - begun < 10
    assert len(calls) == 2
    over.set()


def test_many_who_look_cost_no_more_than_one(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[int]()

    def ask() -> servers.Answer:
        calls.append(1)
        return {}

    monkeypatch.setattr(servers, "KEPT_SECONDS", 60)
    for name in ("database", "broker"):
        monkeypatch.setattr(servers, name, servers.Server(ask))
    for _ in range(20):
        client.get("/stack/now")
    assert len(calls) == 2


def test_an_answer_is_asked_again_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "KEPT_SECONDS", -1)
    numbers = iter(range(10))
    server = servers.Server(lambda: {"number": next(numbers)})
    assert [server.latest()["number"] for _ in range(3)] == [0, 1, 2]


def test_the_database_says_when_beat_was_last_there(db: None) -> None:
    at = timezone.now()
    every = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(name="Another", task="x", interval=every, last_run_at=at)
    assert servers.ask_database() == {"beat": at, "waiting": 0, "running": 0}


def test_the_broker_says_how_many_tasks_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.task_default_queue = name = uuid4().hex  # all brokers in memory are one
    monkeypatch.setattr(servers, "current_app", app)
    assert servers.ask_broker() == {"queues": []}, "nobody has declared a queue, and looking does not"
    app.send_task("x")
    assert servers.ask_broker() == {"queues": [{"name": name, "waiting": 1, "workers": None}]}
