"""The broker of production: its health check, and a task that a worker does not know."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import support
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.rig.workers import Broker, done, in_log, worker
from tests.support import wait_until

SERVICE = yaml.safe_load((support.ROOT / "deploy" / "compose" / "base.yaml").read_text())["services"]["rabbitmq"]


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """The container of a broker that has started."""
    name, port, password = f"rig-{secrets.token_hex(3)}", free_port(), secrets.token_hex(8)
    login = ["-e", "RABBITMQ_DEFAULT_USER=test", "-e", f"RABBITMQ_DEFAULT_PASS={password}"]
    url = f"amqp://test:{password}@127.0.0.1:{port}//"
    docker("run", "-d", "--name", name, *login, "-l", f"url={url}", "-p", f"127.0.0.1:{port}:5672", SERVICE["image"])
    try:
        wait_until(lambda: "Server startup complete" in docker("logs", name), 60, "RabbitMQ has started")
        yield name
    finally:
        docker("rm", "-f", "-v", name)


@pytest.fixture
def rabbitmq(container: str) -> str:
    """The URL of a broker."""
    return docker("inspect", "-f", "{{.Config.Labels.url}}", container).strip()


def healthy(container: str) -> bool:
    """Whether the health check passes within some seconds; without an answer, it would go on for longer."""
    _, *words = SERVICE["healthcheck"]["test"]
    command = ["docker", "exec", container, "timeout", "3", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def test_a_broker_that_hangs_or_has_stopped_is_unhealthy_and_the_check_leaves_no_line_in_its_log(
    container: str,
) -> None:
    before = docker("logs", container)
    assert healthy(container)
    assert "connection" not in docker("logs", container)[len(before) :]
    listed = docker("top", container, "-eo", "pid,comm").splitlines()
    [beam] = [int(line.split()[0]) for line in listed if "beam" in line]
    os.kill(beam, signal.SIGSTOP)
    try:
        assert not healthy(container)
    finally:
        os.kill(beam, signal.SIGCONT)
    wait_until(lambda: healthy(container), 10, "it answers again")
    docker("exec", container, "rabbitmqctl", "-q", "stop_app")
    assert not healthy(container)
    docker("exec", container, "rabbitmqctl", "-q", "start_app")
    assert healthy(container)


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
