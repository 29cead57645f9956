"""A task that a worker does not know is not lost while workers of two releases run."""

from pathlib import Path

import pytest
from kombu.utils.imports import symbol_by_name
from portico_site.celery import app as celery_app
from portico_site.consumer import Consumer

from tests.rig.workers import Broker, done, in_log, worker
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
    assert not list(tmp_path.glob("*/**/*.msg"))


def test_a_worker_that_ends_leaves_what_it_does_not_know(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, hold=60) as log:
        broker.send("added")
        wait_until(lambda: in_log(log, "Task added is not known to this release"), 30, "the old worker has it")
    with worker(broker, "new", tmp_path, "added"):
        wait_until(lambda: done(tmp_path, "added") == ["new"], 30, "the new worker runs it")


def test_the_sites_workers_read_their_messages_so() -> None:
    assert symbol_by_name(celery_app.conf.worker_consumer) is Consumer
