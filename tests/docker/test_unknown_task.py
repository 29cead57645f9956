"""The broker of production: its health check, and a task that a worker does not know."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from amqp import Message
from kombu import Queue
from portico_site import dead_letters

from tests import support
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.rig.workers import DEADLY, Broker, done, in_log, worker
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


def test_a_task_that_ends_its_process_each_time_ends_in_the_dead_letter_queue(broker: Broker, tmp_path: Path) -> None:
    with worker(broker, "one", tmp_path, DEADLY, "both") as log:
        broker.send(DEADLY)
        wait_until(lambda: in_log(log, "is given up"), 60, "it is given up")
        broker.send("both")
        wait_until(lambda: done(tmp_path, "both") == ["one"], 30, "the worker goes on")
    assert done(tmp_path, DEADLY) == ["one"] * dead_letters.MOST_LOST
    with broker.app() as app, dead_letters.connect(app) as connection:
        wait_until(lambda: dead_letters.number(app, connection) == 1, 10, "it is kept")
        [message] = dead_letters.each(app, connection)
        assert message.headers["task"] == DEADLY
        message.requeue()
    (tmp_path / "healed").touch()
    with broker.app() as app, dead_letters.connect(app) as connection:
        wait_until(lambda: dead_letters.number(app, connection) == 1, 10, "it was only looked at")
        [message] = dead_letters.each(app, connection)
        dead_letters.again(connection.channel(), message)
    with worker(broker, "two", tmp_path, DEADLY, "both"):
        wait_until(lambda: done(tmp_path, DEADLY)[3:] == ["two"], 30, "sent again, it is done")


def test_a_task_that_takes_its_whole_worker_along_is_not_run_for_ever(broker: Broker, tmp_path: Path) -> None:
    """By the queue's count, which RabbitMQ keeps in all versions that have quorum queues."""
    with broker.app() as app, app.connection_for_read() as connection:
        app.amqp.queues[app.conf.task_default_queue](connection.default_channel).declare()
        broker.send(DEADLY)
        name = app.conf.task_default_queue
        for _ in range(dead_letters.MOST_DELIVERIES):
            wait_until(lambda: returned(connection.default_channel, name), 10, "it is delivered")
    with worker(broker, "one", tmp_path, DEADLY) as log:
        wait_until(lambda: in_log(log, "is given up: it was delivered 18 times"), 60, "it is given up")
    assert done(tmp_path, DEADLY) == []


def returned(channel: Any, queue: str) -> bool:
    """Take a message and give it back, as the end of a worker does."""
    message = channel.basic_get(queue, no_ack=False)
    if message is None:
        return False
    channel.basic_reject(message.delivery_tag, requeue=True)
    return True


def test_a_dead_letter_queue_that_was_declared_differently_is_used_as_it_is(broker: Broker) -> None:
    with broker.app() as app, app.connection_for_write() as connection:
        name = dead_letters.name_of(app)
        Queue(name, durable=True, channel=connection.default_channel).queue_declare()
        dead_letters.declared(app, connection).basic_publish(Message("x"), routing_key=name)
        wait_until(lambda: dead_letters.number(app, connection) == 1, 10, "it is there")
