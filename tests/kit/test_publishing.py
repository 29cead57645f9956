"""A broker that is there but takes nothing keeps nobody waiting."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from portico_site import publishing


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing, as one that was stopped (SIGSTOP)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def application(port: int) -> Celery:
    app = Celery("shop", broker=f"amqp://u:p@127.0.0.1:{port}//", set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    return app


def test_a_broker_that_says_nothing_ends_a_sending_and_others_do_not_wait_at_all(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(publishing, "SLOW_SECONDS", 0.1)
    app = application(silent)
    publishing.limit(app)
    connected: list[str] = []
    with pytest.raises(OperationalError):
        app.send_task("ship")
    monkeypatch.setattr("amqp.Connection.connect", lambda _: connected.append("again"))
    for _ in range(5):
        with pytest.raises(OperationalError, match="takes no messages at present"):
            app.send_task("ship")
    assert not connected


def test_a_server_that_refuses_connections_is_asked_each_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    app = application(port)
    publishing.limit(app)
    for _ in range(3):
        with pytest.raises(OperationalError, match="refused"):
            app.send_task("ship")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: publishing.Breaker, clock: Clock, seconds: float, error: Exception) -> None:
    """One try that takes so long and fails."""

    def attempt() -> None:
        with breaker.guard():
            clock.now += seconds
            raise error

    with pytest.raises(type(error)):
        attempt()


def test_after_a_slow_end_one_try_every_some_seconds_and_after_a_good_one_all() -> None:
    clock = Clock()
    breaker = publishing.Breaker(clock)
    fail(breaker, clock, 2, TimeoutError())
    with pytest.raises(OperationalError), breaker.guard():
        pass
    clock.now += publishing.OPEN_SECONDS
    with breaker.guard(), pytest.raises(OperationalError), breaker.guard():
        pass  # the second of two at once
    with breaker.guard():
        pass


def test_an_alarm_opens_the_breaker_however_fast_it_is_known() -> None:
    clock = Clock()
    breaker = publishing.Breaker(clock)
    fail(breaker, clock, 0, publishing.Blocked("low on disk"))
    with pytest.raises(OperationalError), breaker.guard():
        pass


def test_limits_of_the_projects_own_stay() -> None:
    assert publishing.options({"read_timeout": 9}, "amqp")["read_timeout"] == 9
    assert publishing.options({"a": 1}, "filesystem") == {"a": 1}
    app = application(1)
    app.conf.task_publish_retry_policy = {"max_retries": 7}
    publishing.limit(app)
    assert app.conf.task_publish_retry_policy == {"max_retries": 7}


def test_a_worker_waits_for_the_broker() -> None:
    app = application(1)
    before: Any = app.connection_for_write().transport_options
    publishing.limit(app).off = True
    assert app.connection_for_write().transport_options == before


def test_connections_for_reading_have_no_limits() -> None:
    app = application(1)
    publishing.limit(app)
    reading: Any = app.connection_for_read().transport_options
    writing: Any = app.connection_for_write().transport_options
    assert "read_timeout" not in reading
    assert writing["read_timeout"] == publishing.ANSWER_SECONDS
