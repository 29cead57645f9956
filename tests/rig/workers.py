"""Celery workers for tests: each in its own process, reading messages as the site's workers do."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

#: The name of a task that ends its process.
DEADLY = "deadly"
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Broker:
    """Where messages go, and how."""

    url: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def app(self) -> Celery:
        app = Celery("test", broker=self.url, set_as_current=False)
        usual = {
            "worker_consumer": "portico_site.consumer:Consumer",
            "worker_prefetch_multiplier": 1,
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "task_ignore_result": True,
            "broker_connection_retry_on_startup": True,
        }
        app.conf.update({**usual, **self.settings})
        return app

    def send(self, name: str) -> str:
        """Send a task; returns its id."""
        with self.app() as app:
            return str(app.send_task(name).id)


def work(broker: Broker, name: str, folder: Path, knows: tuple[str, ...], hold: float, patience: float) -> None:
    """Run a worker that knows some tasks. Each task adds the worker's name to the file with the task's name.

    A task whose name is `DEADLY` then ends its process, if there is no file `healed`.
    """
    from portico_site import consumer, filesystem_broker  # noqa: F401 - the transport, whose signal ends a wait

    consumer.HOLD_SECONDS, consumer.PATIENCE_SECONDS = hold, patience
    app = broker.app()

    def know(task: str) -> None:
        @app.task(name=task)
        def run() -> None:
            with (folder / task).open("a") as file:
                file.write(f"{name}\n")
            if task == DEADLY and not (folder / "healed").exists():
                os._exit(9)

    for task in knows:
        know(task)
    app.Worker(
        hostname=f"{name}@test",
        concurrency=1,
        loglevel="INFO",
        logfile=str(folder / f"{name}.log"),
        without_mingle=True,
    ).start()


@contextmanager
def worker(
    broker: Broker, name: str, folder: Path, *knows: str, hold: float = 1.0, patience: float = 60.0
) -> Iterator[Path]:
    """Run a worker with one task process inside this context; yields its log. Seconds as in `portico_site.consumer`."""
    process = SPAWN.Process(target=work, args=(broker, name, folder, knows, hold, patience))
    process.start()
    try:
        yield folder / f"{name}.log"
    finally:
        process.terminate()
        process.join(20)
        process.kill()
        process.join()


def in_log(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text()


def done(folder: Path, task: str) -> list[str]:
    """The workers that have run a task, one entry for each run."""
    return (folder / task).read_text().split() if (folder / task).exists() else []
