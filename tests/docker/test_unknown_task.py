"""A task that a worker does not know, on the broker of production."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.rig.workers import Broker, done, in_log, worker
from tests.support import wait_until


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[str]:
    """The URL of a broker."""
    base = (support.ROOT / "deploy" / "compose" / "base.yaml").read_text()
    found = re.search(r"image: (rabbitmq:\S+)", base)
    assert found
    name, port, password = f"rig-{secrets.token_hex(3)}", free_port(), secrets.token_hex(8)
    login = ["-e", "RABBITMQ_DEFAULT_USER=test", "-e", f"RABBITMQ_DEFAULT_PASS={password}"]
    docker("run", "-d", "--name", name, *login, "-p", f"127.0.0.1:{port}:5672", found[1])
    try:
        wait_until(lambda: "Server startup complete" in docker("logs", name), 60, "RabbitMQ has started")
        yield f"amqp://test:{password}@127.0.0.1:{port}//"
    finally:
        docker("rm", "-f", "-v", name)


@pytest.fixture
def broker(rabbitmq: str) -> Broker:
    """Queues with the site's settings."""
    queue = {"task_default_queue_type": "quorum", "task_default_queue": secrets.token_hex(4)}
    options = {"task_default_exchange_type": "topic", "broker_transport_options": {"confirm_publish": True}}
    return Broker(rabbitmq, {**queue, **options})


def test_tasks_that_only_a_later_worker_knows_are_run_by_that(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, "both") as log:
        for _ in range(5):
            broker.send("added")
        wait_until(lambda: in_log(log, "Task added is not known to this release"), 30, "the old worker has one")
        with worker(broker, "new", tmp_path, "added"):
            wait_until(lambda: done(tmp_path, "added") == ["new"] * 5, 30, "the new worker runs them")
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["old"], 30, "the old worker goes on")
        assert log.read_text().count("is not known") == 1


def test_a_task_that_nobody_knows_is_refused_before_the_broker_drops_it(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "old", tmp_path, "both", hold=0.1) as log:
        broker.send("removed")
        wait_until(lambda: in_log(log, "Received unregistered task of type 'removed'"), 90, "it is refused")
        assert "'x-delivery-count': 18" in log.read_text()
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["old"], 30, "the worker goes on")
