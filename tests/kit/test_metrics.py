"""`/metrics`: Prometheus' format, counters that processes share, and a broker that is asked seldom and with a limit."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus
from uuid import uuid4

import pytest
from celery import Celery
from django.http import HttpRequest, HttpResponse
from django.test import Client
from portico_site import celery as kit
from portico_site import health, metrics

#: A line of the format: a name, perhaps labels, a number.
LINE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    r'(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*)\})? (?P<value>-?[0-9.]+(?:e[+-][0-9]+)?|\+Inf|NaN)'
)


def parse(text: str) -> dict[str, float]:
    """The samples, as a scraper reads them; fails for what is no line of the format, or belongs to no metric before."""
    assert text.endswith("\n")
    found, kinds, current = {}, dict[str, str](), ""
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, current, rest = line.split(" ", 3)
            assert what in ("HELP", "TYPE")
            if what == "TYPE":
                assert current not in kinds, "a metric comes once, as a group"
                kinds[current] = rest
            continue
        match = LINE.fullmatch(line)
        assert match, line
        base = re.sub("_(bucket|sum|count)$", "", match["name"]) if kinds[current] == "histogram" else match["name"]
        assert base == current
        key = f"{match['name']}{{{match['labels']}}}" if match["labels"] else match["name"]
        assert key not in found
        found[key] = float(match["value"])
    return found


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[metrics.Board]:
    made = metrics.Board(4)
    monkeypatch.setattr(metrics, "board", made)
    monkeypatch.setitem(health.ANSWERS, metrics.PATH, health.told)
    monkeypatch.setitem(health.CHECKS, metrics.QUEUES, metrics.measure)
    health.Asked.forget()
    yield made
    health.Asked.forget()


def test_without_the_word_of_invoke_yaml_there_is_none(client: Client, db: None) -> None:
    assert metrics.board is None
    assert client.get("/metrics").status_code == HTTPStatus.NOT_FOUND


def test_requests_are_counted_by_class_and_duration_and_those_for_health_are_not(
    board: metrics.Board, client: Client, db: None
) -> None:
    for path in ("/", "/", "/nowhere", "/healthz", "/readyz", "/metrics"):
        client.get(path)
    answer = client.get("/metrics")
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    found = parse(answer.content.decode())
    assert found['portico_http_requests_total{status="2xx"}'] == 2
    assert found['portico_http_requests_total{status="4xx"}'] == 1
    assert found["portico_http_request_duration_seconds_count"] == 3
    assert found['portico_http_request_duration_seconds_bucket{le="+Inf"}'] == 3
    assert 0 < found["portico_http_request_duration_seconds_sum"] < 30
    assert client.post("/metrics").status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_a_histogram_is_cumulative_and_a_limit_belongs_to_what_is_below_it(board: metrics.Board) -> None:
    for seconds in (0.001, 0.005, 0.0051, 3, 1000):
        board.count(200, seconds)
    found = parse(metrics.text())
    name = "portico_http_request_duration_seconds_bucket"
    counts = [found[f'{name}{{le="{limit}"}}'] for limit in (0.005, 0.01, 2.5, 5.0, 10.0, "+Inf")]
    assert counts == [2, 3, 3, 4, 4, 5]
    assert found["portico_http_request_duration_seconds_sum"] == pytest.approx(1003.0111)


def test_a_status_out_of_range_is_counted_in_the_nearest_class(board: metrics.Board) -> None:
    for status in (99, 600, 999):
        board.count(status, 0.1)
    found = parse(metrics.text())
    assert found['portico_http_requests_total{status="1xx"}'] == 1
    assert found['portico_http_requests_total{status="5xx"}'] == 2


def test_threads_and_processes_count_on_one_board_and_what_ended_ones_counted_stays(board: metrics.Board) -> None:
    def many() -> None:
        for _ in range(500):
            board.count(200, 0.001)

    def child() -> None:
        slot = board.take()
        pid = os.fork()
        if pid == 0:
            board.use(slot)
            threads = [threading.Thread(target=many) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(0)
        os.waitpid(pid, 0)
        board.give_back(slot)

    for _ in range(6):  # more than there are slots
        child()
    assert parse(metrics.text())['portico_http_requests_total{status="2xx"}'] == 6 * 2000


def test_a_process_without_a_slot_serves_and_counts_nothing(board: metrics.Board) -> None:
    assert [board.take() for _ in range(5)] == [0, 1, 2, 3, None]
    board.use(None)
    board.count(200, 0.1)
    assert sum(board.totals()) == 0


def test_the_lengths_of_queues_are_told_and_the_broker_is_asked_once_for_many(
    board: metrics.Board, client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTICO_RELEASE", 'a"b\\c\nd')
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.task_default_queue = name = uuid4().hex  # all brokers in memory are one
    monkeypatch.setattr(kit, "app", app)
    asked: list[int] = []

    def measure() -> None:
        asked.append(1)
        metrics.measure()

    monkeypatch.setitem(health.CHECKS, metrics.QUEUES, measure)
    with app.connection_for_write() as connection:
        app.send_task("x", connection=connection)
        app.send_task("x", connection=connection)
    for _ in range(5):
        found = parse(client.get("/metrics").content.decode())
    assert found["portico_broker_up"] == 1
    assert found[f'portico_queue_messages{{queue="{name}"}}'] == 2
    assert found["portico_dead_letters"] == 0
    assert found['portico_release_info{release="a\\"b\\\\c\\nd"}'] == 1
    assert len(asked) == 1


def test_a_broker_that_hangs_leaves_the_other_metrics_and_is_waited_for_with_a_limit(
    board: metrics.Board, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.1)
    monkeypatch.setitem(health.CHECKS, metrics.QUEUES, lambda: over.wait(30) and None)
    board.count(200, 0.1)
    found = parse(client.get("/metrics").content.decode())
    over.set()
    assert found["portico_broker_up"] == 0
    assert found["portico_http_request_duration_seconds_count"] == 1
    assert not [name for name in found if name.startswith("portico_queue")]


def test_queues_of_routes_are_known_too() -> None:
    app = Celery(broker="memory://", set_as_current=False)
    app.conf.task_routes = {"a.*": {"queue": "mail"}, "b.*": {"exchange": "x"}}
    assert metrics.names(app) == ["celery", "mail"]


def test_an_asynchronous_site_counts_too(board: metrics.Board) -> None:
    import asyncio

    async def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse(status=204)

    answer = health.HealthMiddleware(view)(HttpRequest())
    assert asyncio.run(answer).status_code == HTTPStatus.NO_CONTENT  # type: ignore[arg-type]
    assert board.totals()[1] == 1
