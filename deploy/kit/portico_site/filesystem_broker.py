"""A broker without a server that keeps a message until it is acknowledged.

kombu's filesystem transport deletes a message as soon as a worker has read it, so that a killed worker loses it.
Here a worker *claims* a message by renaming it into a folder of its own, and deletes it on acknowledgement. Each such
folder has a lock that the kernel releases however its process ends. A process that finds a released lock returns the
messages in that folder to their queues.

    queues/    TIME_ID.QUEUE.msg           waiting
    claimed/   OWNER/TIME_ID.QUEUE.msg     being processed by a live process
               OWNER.lock                  held by that process
    control/   EXCHANGE.exchange           bindings, as kombu keeps them
    broken/    TIME_ID.QUEUE.msg           what was no whole message, as after a power cut: the latest `KEPT_BROKEN`

A publisher is answered when its message and the folder's entry for it are on the disk. A file that is no message is
set aside, with a line that names it, and work goes on.

For one machine and one user: development and demonstrations. Production uses RabbitMQ.
"""

import fcntl
import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty
from typing import Any, cast
from urllib.parse import quote

from celery.signals import worker_shutting_down
from kombu.exceptions import ChannelError, DecodeError
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.json import dumps, loads

#: Seconds between two searches for messages of dead processes.
RECOVERY_SECONDS = 1.0
#: Seconds for which a process leaves a message that it has requeued to the other processes.
LEFT_SECONDS = 1.0
#: The folder, beside that of the queues, of files that are not whole.
BROKEN = "broken"
#: Files that are kept in it.
KEPT_BROKEN = 100
#: Seconds after which an unfinished file is one that a killed process left.
ABANDONED_SECONDS = 600.0
#: Bytes of a queue's or exchange's name in a file name, of which a file system takes 255.
NAME_LENGTH = 150
#: kombu's mark of a message that need not outlive the broker, as of `inspect ping`.
TRANSIENT = 1

logger = logging.getLogger(__name__)

Payload = dict[str, Any]

#: Set when this worker must stop. Celery checks that only between two waits for messages, of two seconds each.
stopping = threading.Event()


@worker_shutting_down.connect
def stop_waiting(**_: object) -> None:
    stopping.set()


def in_file_name(name: str) -> str:
    """The name of a queue or exchange as part of a file name: any text will do, and ordinary ones stay as they are."""
    quoted = quote(name, safe=" !#$&'()+,:;=@[]{}~^`")
    if len(quoted) <= NAME_LENGTH:
        return quoted
    return f"{quoted[:NAME_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file that is there whole or not at all; ``durable``: also after a power cut. Raises `OSError`."""
    unfinished = path.with_name(f".{path.name}")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, folder: Path, why: object) -> None:
    """Move a file that cannot be read to ``folder``, and say so in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    except OSError as error:  # as on a full disk
        path.unlink(missing_ok=True)
        logger.error("%s is not whole (%s); it was removed, as %s: %s", path.name, why, folder, error.strerror)
        return
    logger.error("%s is not whole (%s); it was set aside in %s", path.name, why, folder)
    for old in sorted(folder.iterdir())[:-KEPT_BROKEN]:
        old.unlink(missing_ok=True)


def read_message(path: Path) -> Payload:
    """The message in a file. Raises `ValueError` if it is none, and `OSError`."""
    text = path.read_text()
    if not text:
        raise ValueError("it is empty")
    payload = loads(text)
    if not isinstance(payload, dict) or not isinstance(payload.get("properties"), dict):
        raise ValueError("it is no message")
    if "body" not in payload or not isinstance(payload["properties"].get("delivery_tag"), str):
        raise ValueError("it is no message")
    return cast(Payload, payload)


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
        """Claim a waiting message; None if another process was quicker, or if it is no message."""
        if self.pid != os.getpid():  # a fork has the parent's lock, but must not share its folder
            self.paths = {}
            self._become_owner()
        claimed = self.own / waiting.name
        try:
            waiting.rename(claimed)
        except FileNotFoundError:
            return None
        try:
            payload = read_message(claimed)
        except (OSError, ValueError, TypeError, LookupError, DecodeError) as error:
            set_aside(claimed, self.queues.parent / BROKEN, " ".join(str(error).split())[:100])
            return None
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
        for path in self.queues.glob(".*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

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
        """Add a message; no reader sees it before it is complete. Returns when it is on the disk.

        Raises `ChannelError` if it cannot be written, as to a full disk; then nothing of it is there.
        """
        path = self.queues / f"{time.time_ns():020d}_{uuid.uuid4().hex}.{in_file_name(queue)}.msg"
        durable = message.get("properties", {}).get("delivery_mode") != TRANSIENT
        try:
            write_whole(path, dumps(message), durable=durable)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ChannelError(f"{self.queues}: the message was not written: {error.strerror or error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> Payload:
        if stopping.is_set():
            raise TimeoutError
        self.claims.recover()
        for name in sorted(os.listdir(self.queues)):
            if name.startswith(".") or name.partition(".")[2] != f"{in_file_name(queue)}.msg":
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

    def _exchange_file(self, exchange: str) -> Path:
        """The file with the bindings of an exchange, whatever its name."""
        return self.control_folder / f"{in_file_name(exchange)}.exchange"

    def _queue_bind(  # type: ignore[override]
        self, exchange: str, routing_key: str, pattern: str, queue: str
    ) -> None:
        """Add a binding; the file is whole at each moment, which kombu's own is not."""
        with self._bindings():
            wanted = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
            table = self._table(exchange)
            if wanted not in table:
                try:
                    write_whole(self._exchange_file(exchange), dumps([wanted, *table]))
                except OSError as error:
                    raise ChannelError(f"{self.control_folder}: {error.strerror or error}") from error

    def get_table(self, exchange: str) -> Any:
        with self._bindings():
            return self._table(exchange)

    @contextmanager
    def _bindings(self) -> Iterator[None]:
        """Hold the lock of the bindings. Raises `ChannelError` if it cannot be written."""
        try:
            self.control_folder.mkdir(parents=True, exist_ok=True)
            lock = (self.control_folder / ".lock").open("w")
        except OSError as error:
            raise ChannelError(f"{self.control_folder}: {error.strerror or error}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _table(self, exchange: str) -> list[Any]:
        """The bindings of an exchange. A file that is not whole is set aside: each process binds its queues again."""
        file = self._exchange_file(exchange)
        try:
            return [filesystem.exchange_queue_t(*each) for each in loads(file.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, DecodeError) as error:
            set_aside(file, self.queues.parent / BROKEN, " ".join(str(error).split())[:100])
            return []

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.claims.close()


class Transport(filesystem.Transport):
    """Selected by `filesystem://` once this module is imported."""

    Channel = Channel


# kombu's own transport deletes a message when it is read; ours deletes it when it is acknowledged.
TRANSPORT_ALIASES["filesystem"] = "portico_site.filesystem_broker:Transport"
