"""A broker without a server that keeps a message until it is acknowledged.

kombu's filesystem transport deletes a message as soon as a worker has read it, so that a killed worker loses it.
Here a worker *claims* a message by renaming it into a folder of its own, and deletes it on acknowledgement. Each such
folder has a lock that the kernel releases however its process ends. A process that finds a released lock returns the
messages in that folder to their queues.

    queues/    TIME_ID.QUEUE.msg           waiting
    claimed/   OWNER/TIME_ID.QUEUE.msg     being processed by a live process
               OWNER.lock                  held by that process
    control/   EXCHANGE.exchange           bindings, as kombu keeps them

For one machine and one user: development and demonstrations. Production uses RabbitMQ.
"""

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, cast

from celery.signals import worker_shutting_down
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.json import dumps, loads

#: Seconds between two searches for messages of dead processes.
RECOVERY_SECONDS = 1.0
#: Seconds for which a process leaves a message that it has requeued to the other processes.
LEFT_SECONDS = 1.0

Payload = dict[str, Any]

#: Set when this worker must stop. Celery checks that only between two waits for messages, of two seconds each.
stopping = threading.Event()


@worker_shutting_down.connect
def stop_waiting(**_: object) -> None:
    stopping.set()


class Claims:
    """The messages that this process has taken and not acknowledged, and those of dead processes."""

    def __init__(self, folder: Path, queues: Path) -> None:
        self.folder = folder
        self.queues = queues
        self.paths: dict[str, Path] = {}
        self.looked = 0.0
        #: When this process gave a message back, by the name of its file.
        self.given_back: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._become_owner()

    def _become_owner(self) -> None:
        self.pid = os.getpid()
        self.own = self.folder / f"{self.pid}-{uuid.uuid4().hex}"
        lock = self.own.with_suffix(".lock")
        # Another process may remove the lock file before we hold it; then this one is no longer the one on disk.
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if lock.exists() and os.stat(lock).st_ino == os.fstat(descriptor).st_ino:
                break
            os.close(descriptor)
        self.descriptor = descriptor
        self.own.mkdir()

    def take(self, waiting: Path) -> Payload | None:
        """Claim a waiting message; None if another process was quicker."""
        if self.pid != os.getpid():  # a fork has the parent's lock, but must not share its folder
            self.paths = {}
            self._become_owner()
        claimed = self.own / waiting.name
        try:
            waiting.rename(claimed)
        except FileNotFoundError:
            return None
        payload = cast(Payload, loads(claimed.read_text()))
        self.paths[payload["properties"]["delivery_tag"]] = claimed
        return payload

    def acknowledge(self, tag: str) -> None:
        """Delete an acknowledged message."""
        path = self.paths.pop(tag, None)
        if path:
            path.unlink(missing_ok=True)

    def give_back(self, tag: str) -> None:
        """Return a message to its queue, at its old position."""
        path = self.paths.pop(tag, None)
        if path:
            self.given_back = {name: at for name, at in self.given_back.items() if self.leaves_to_others(name)}
            self.given_back[path.name] = time.monotonic()
            path.rename(self.queues / path.name)

    def leaves_to_others(self, name: str) -> bool:
        """Whether this process has just returned the message: otherwise it would be the first to take it again."""
        at = self.given_back.get(name)
        return at is not None and time.monotonic() - at < LEFT_SECONDS

    def recover(self) -> None:
        """Return the claimed messages of dead processes to their queues; at most once in `RECOVERY_SECONDS`."""
        if time.monotonic() - self.looked < RECOVERY_SECONDS:
            return
        self.looked = time.monotonic()
        for lock in self.folder.glob("*.lock"):
            if lock.stem != self.own.name:
                with held_if_free(lock) as free:
                    if free:
                        self._empty(lock.with_suffix(""))
                        lock.unlink(missing_ok=True)

    def _empty(self, owner: Path) -> None:
        for path in sorted(owner.glob("*.msg")):
            path.rename(self.queues / path.name)
        if owner.is_dir():
            owner.rmdir()

    def close(self) -> None:
        """Return all messages to their queues, and remove this process's folder and lock."""
        if self.pid == os.getpid():
            self._empty(self.own)
            self.own.with_suffix(".lock").unlink(missing_ok=True)
        os.close(self.descriptor)


@contextmanager
def held_if_free(lock: Path) -> Iterator[bool]:
    """Hold a lock file within the context, if no live process holds it."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


class QoS(virtual.QoS):
    """Acknowledgement that is written to the disk."""

    channel: "Channel"

    def ack(self, delivery_tag: str) -> None:
        super().ack(delivery_tag)
        self.channel.claims.acknowledge(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        super().reject(delivery_tag, requeue=requeue)
        self.channel.claims.acknowledge(delivery_tag)


class Channel(filesystem.Channel):
    """kombu's filesystem channel with whole messages, claims and acknowledgement."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queues = Path(self.data_folder_out)
        self.queues.mkdir(parents=True, exist_ok=True)
        self.claims = Claims(Path(self.processed_folder), self.queues)
        self.unacknowledged_queues: set[str] = set()

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        if no_ack:
            self.unacknowledged_queues.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.claims.acknowledge(str(message.delivery_tag))
        return message

    def _put(self, queue: str, message: Payload, **kwargs: Any) -> None:  # type: ignore[override]
        """Add a message; no reader sees it before it is complete."""
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        unfinished = self.queues / f".{name}"
        unfinished.write_text(dumps(message))
        unfinished.rename(self.queues / name)

    def _get(self, queue: str, timeout: float | None = None) -> Payload:
        if stopping.is_set():
            raise TimeoutError
        self.claims.recover()
        for name in sorted(os.listdir(self.queues)):
            if name.startswith(".") or name.partition(".")[2] != f"{queue}.msg":
                continue
            if self.claims.leaves_to_others(name):
                continue
            payload = self.claims.take(self.queues / name)
            if payload is not None:
                if queue in self.unacknowledged_queues:
                    self.claims.acknowledge(payload["properties"]["delivery_tag"])
                return payload
        raise Empty

    def _restore(self, message: Any) -> None:
        self.claims.give_back(message.delivery_tag)

    def _queue_bind(self, *args: Any) -> None:
        """kombu creates the file and fills it in two steps; the lock keeps readers from seeing it empty."""
        self.control_folder.mkdir(parents=True, exist_ok=True)
        with (self.control_folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super()._queue_bind(*args)

    def get_table(self, exchange: str) -> Any:
        self.control_folder.mkdir(parents=True, exist_ok=True)
        with (self.control_folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return super().get_table(exchange)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.claims.close()


class Transport(filesystem.Transport):
    """Selected by `filesystem://` once this module is imported."""

    Channel = Channel


# kombu's own transport deletes a message when it is read; ours deletes it when it is acknowledged.
TRANSPORT_ALIASES["filesystem"] = "portico_site.filesystem_broker:Transport"
