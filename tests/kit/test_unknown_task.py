"""A task that a worker does not know is not lost while workers of two releases run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from kombu.utils.imports import symbol_by_name
from portico_site import consumer, dead_letters, filesystem_broker  # noqa: F401 - the transport
from portico_site.celery import app as celery_app
from portico_site.consumer import Consumer

from tests.rig.workers import DEADLY, Broker, done, in_log, worker
from tests.support import wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    folders = {"data_folder_in": "queues", "data_folder_out": "queues", "processed_folder": "claimed"}
    paths = {name: str(tmp_path / folder) for name, folder in {**folders, "control_folder": "control"}.items()}
    options = {**paths, "polling_interval": 0.05}
    queue = f"queue-{tmp_path.name}"  # kombu keeps bindings for the whole process
    url = "filesystem://"
    return Broker(url, {"broker_transport_options": options, "task_default_queue": queue})


def test_a_task_that_only_a_later_worker_knows_is_run_by_that(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, "both") as log:
        broker.send("added")
        wait_until(lambda: in_log(log, "Task added is not known to this release"), 30, "the old worker has it")
        with worker(broker, "new", tmp_path, "both", "added"):
            wait_until(lambda: done(tmp_path, "added") == ["new"], 30, "the new worker runs it")
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["old"], 30, "the old worker goes on")
        assert log.read_text().count("is not known") == 1
    assert not list(tmp_path.glob("*/**/*.msg"))


def test_a_task_that_nobody_knows_is_refused_after_a_while(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, "both", hold=0.2, patience=5) as log:
        broker.send("removed")
        wait_until(lambda: in_log(log, "Received unregistered task of type 'removed'"), 90, "it is refused")
        assert in_log(log, "Task removed is not known to this release")
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["old"], 30, "the worker goes on")
    assert given_up(broker) == [("removed", "no worker knows it")]
    assert len(list(tmp_path.glob("*/**/*.msg"))) == 1, "that one"


def test_a_worker_that_ends_leaves_what_it_does_not_know(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, hold=60) as log:
        broker.send("added")
        wait_until(lambda: in_log(log, "Task added is not known to this release"), 30, "the old worker has it")
    with worker(broker, "new", tmp_path, "added"):
        wait_until(lambda: done(tmp_path, "added") == ["new"], 30, "the new worker runs it")


def test_the_sites_workers_read_their_messages_so() -> None:
    assert symbol_by_name(celery_app.conf.worker_consumer) is Consumer


def test_a_task_that_ends_its_process_each_time_fails_and_its_message_is_kept(broker: Broker, tmp_path: Path) -> None:
    results = {"result_backend": f"file://{tmp_path / 'results'}", "task_ignore_result": False}
    (tmp_path / "results").mkdir()
    broker = Broker(broker.url, {**broker.settings, **results})
    with worker(broker, "one", tmp_path, DEADLY, "both") as log:
        key = broker.send(DEADLY)
        wait_until(lambda: in_log(log, "is given up"), 60, "it is given up")
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["one"], 30, "the worker goes on")
        assert done(tmp_path, DEADLY) == ["one"] * dead_letters.MOST_LOST
    with broker.app() as app:
        assert app.AsyncResult(key).state == "FAILURE"
        assert "it has ended its process 3 times" in str(app.AsyncResult(key).result)
        with dead_letters.connect(app) as connection:
            assert dead_letters.number(app, connection) == 1
            [message] = dead_letters.each(app, connection)
            dead_letters.again(connection.channel(), message)
            assert dead_letters.number(app, connection) == 0
    (tmp_path / "healed").touch()
    with worker(broker, "two", tmp_path, DEADLY, "both"):
        wait_until(lambda: done(tmp_path, DEADLY)[3:] == ["two"], 30, "sent again, it is done")


def given_up(broker: Broker) -> list[tuple[str, str]]:
    """The names of the tasks in the dead-letter queue, and why they are there. They stay there."""
    with broker.app() as app, dead_letters.connect(app) as connection:
        return [
            (message.headers["task"], message.headers[dead_letters.REASON])
            for message in dead_letters.each(app, connection)
        ]


def test_a_worker_counts_for_some_tasks_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MOST_COUNTED", 2)
    lost = dead_letters.Lost()
    assert [lost.count(key) for key in ("a", "b", "a", "c", "b")] == [1, 1, 2, 1, 1]
    lost.forget("b")
    assert lost.count("b") == 1


def test_somebody_who_makes_up_names_of_tasks_does_not_make_a_worker_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "MOST_KINDS", 2)
    made = object.__new__(Consumer)
    made._seen = {}
    message = SimpleNamespace(headers={})
    assert [made._is_known_nowhere(name, message) for name in ("a", "b", "c", "a")] == [False, False, True, False]  # type: ignore[arg-type]
    assert len(made._seen) == 2
