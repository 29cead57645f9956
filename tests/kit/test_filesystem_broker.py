"""The embedded broker keeps every message until it is acknowledged."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection
from kombu.exceptions import ChannelError
from kombu.simple import SimpleQueue
from portico_site import filesystem_broker

SPAWN = multiprocessing.get_context("spawn")


def open_queue(connection: Connection, folder: str) -> SimpleQueue:
    """A queue named after the folder: kombu keeps bindings for the whole process, independent of the folder."""
    return connection.SimpleQueue(f"work-{Path(folder).parent.name}-{Path(folder).name}")


def connect(folder: str) -> Connection:
    options = {
        "data_folder_in": f"{folder}/queues",
        "data_folder_out": f"{folder}/queues",
        "processed_folder": f"{folder}/claimed",
        "control_folder": f"{folder}/control",
        "polling_interval": 0.02,
    }
    return Connection("filesystem://", transport_options=options)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[SimpleQueue]:
    with connect(str(tmp_path)) as connection:
        yield open_queue(connection, str(tmp_path))


def waiting(folder: Path) -> list[Path]:
    return sorted((folder / "queues").glob("[0-9]*.msg"))


def claimed(folder: Path) -> list[Path]:
    return sorted((folder / "claimed").rglob("*.msg"))


def test_a_message_stays_on_disk_until_it_is_acknowledged(queue: SimpleQueue, tmp_path: Path) -> None:
    queue.put({"n": 1})
    message = queue.get(timeout=5)
    assert (len(waiting(tmp_path)), len(claimed(tmp_path))) == (0, 1)
    message.ack()
    assert not claimed(tmp_path)


def test_messages_come_in_the_order_in_which_they_were_sent(queue: SimpleQueue) -> None:
    for n in range(20):
        queue.put(n)
    assert [queue.get(timeout=5).payload for _ in range(20)] == list(range(20))


def test_a_message_that_is_requeued_comes_again(queue: SimpleQueue, tmp_path: Path) -> None:
    queue.put("again")
    queue.get(timeout=5).requeue()
    assert not claimed(tmp_path)
    assert queue.get(timeout=5).payload == "again"


def test_a_message_that_is_rejected_is_gone(queue: SimpleQueue, tmp_path: Path) -> None:
    queue.put("never")
    queue.get(timeout=5).reject()
    assert not claimed(tmp_path)
    with pytest.raises(Empty):
        queue.get(timeout=0.2)


def test_what_was_not_acknowledged_is_given_back_on_closing(tmp_path: Path) -> None:
    with connect(str(tmp_path)) as connection:
        queue = open_queue(connection, str(tmp_path))
        queue.put("half done")
        queue.get(timeout=5)
    assert len(waiting(tmp_path)) == 1
    assert not list((tmp_path / "claimed").iterdir())


def take_and_hang(folder: str, taken: Any) -> None:
    queue = open_queue(connect(folder), folder)
    queue.get(timeout=10)
    taken.set()
    time.sleep(60)


def test_the_message_of_a_killed_process_goes_to_another(queue: SimpleQueue, tmp_path: Path) -> None:
    queue.put("precious")
    taken = SPAWN.Event()
    victim = SPAWN.Process(target=take_and_hang, args=(str(tmp_path), taken))
    victim.start()
    assert taken.wait(30)
    with pytest.raises(Empty):
        queue.get(timeout=1.5)  # its owner is alive: nobody else may take it
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    assert queue.get(timeout=5).payload == "precious"


def work(folder: str, count: int, results: Any) -> None:
    queue = open_queue(connect(folder), folder)
    while True:
        try:
            message = queue.get(timeout=2)
        except Empty:
            return
        results.put(message.payload)
        message.ack()


def test_four_processes_share_two_hundred_messages_each_once(queue: SimpleQueue, tmp_path: Path) -> None:
    results = SPAWN.Queue()
    workers = [SPAWN.Process(target=work, args=(str(tmp_path), 200, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for n in range(200):
        queue.put(n)
    got = sorted(results.get(timeout=30) for _ in range(200))
    for worker in workers:
        worker.join(30)
    assert got == list(range(200))
    assert not waiting(tmp_path)
    assert not claimed(tmp_path)


def test_a_reader_never_sees_half_a_message(queue: SimpleQueue, tmp_path: Path) -> None:
    stop = threading.Event()
    broken = []

    def look() -> None:
        while not stop.is_set():
            for path in waiting(tmp_path):
                try:
                    text = path.read_text()
                except FileNotFoundError:
                    continue
                if not text.endswith("}"):
                    broken.append(path)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(100):
        queue.put("x" * 50_000 + str(n))
    stop.set()
    thread.join()
    assert not broken


def test_a_worker_that_is_to_end_does_not_wait_for_messages(queue: SimpleQueue) -> None:
    filesystem_broker.stopping.set()
    try:
        began = time.monotonic()
        with pytest.raises((Empty, TimeoutError)):
            queue.get(timeout=30)
        assert time.monotonic() - began < 10
    finally:
        filesystem_broker.stopping.clear()


# --- what a power cut and a full disk leave ---


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"body": "e30="', b"[]", b"null", b'{"properties": {}}', b"\xff\xfe", b"\0" * 200]
)
def test_a_broken_message_is_set_aside_with_a_line_and_work_goes_on(
    queue: SimpleQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    queue.put("first")
    [path] = waiting(tmp_path)
    path.write_bytes(content)
    queue.put("second")
    assert queue.get(timeout=5).payload == "second"
    assert [each.name for each in (tmp_path / "broken").iterdir()] == [path.name]
    [record] = [each for each in caplog.records if each.name == filesystem_broker.__name__]
    assert path.name in record.getMessage()
    assert "\n" not in record.getMessage()


def test_the_folder_of_broken_messages_does_not_grow_for_ever(queue: SimpleQueue, tmp_path: Path) -> None:
    for number in range(filesystem_broker.KEPT_BROKEN + 3):
        (tmp_path / "queues" / f"{number:020d}_x.{queue.queue.name}.msg").touch()
    with pytest.raises(Empty):
        queue.get(timeout=1)
    assert len(list((tmp_path / "broken").iterdir())) == filesystem_broker.KEPT_BROKEN


def test_broken_bindings_are_made_anew(tmp_path: Path) -> None:
    with connect(str(tmp_path)) as connection:
        channel: Any = connection.channel()
        channel._queue_bind("changes", "", "", "work")
        (tmp_path / "control" / "changes.exchange").write_bytes(b"")
        assert channel.get_table("changes") == []
        channel._queue_bind("changes", "", "", "work")
        assert [each.queue for each in channel.get_table("changes")] == ["work"]


def test_a_message_is_on_the_disk_before_its_publisher_is_answered(
    queue: SimpleQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    queue.put("precious")
    [path] = waiting(tmp_path)
    assert synced == [f".{path.name}", "queues"], "the message, then the folder that names it"


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "folder"])
def test_a_full_disk_is_an_error_for_the_publisher_and_leaves_no_half_message(
    queue: SimpleQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "folder":
        monkeypatch.setattr(filesystem_broker, "sync_folder", full)
    elif step == "rename":
        monkeypatch.setattr(Path, "rename", full)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        real = Path.open
        monkeypatch.setattr(
            Path, "open", lambda path, *words, **more: full() if path.suffix == ".msg" else real(path, *words, **more)
        )
    with pytest.raises(ChannelError, match="the message was not written: No space left on device"):
        queue.put("lost")
    monkeypatch.undo()
    assert not list((tmp_path / "queues").iterdir())
    queue.put("next")
    assert queue.get(timeout=5).payload == "next"


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "folder", "after"])
def test_a_publisher_that_is_killed_at_any_step_leaves_a_whole_message_or_none(
    queue: SimpleQueue, tmp_path: Path, step: str
) -> None:
    if (child := os.fork()) == 0:

        def end(*_: Any, **__: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if step == "folder":
            filesystem_broker.sync_folder = end
        elif step == "rename":
            Path.rename = end  # type: ignore[assignment,method-assign]
        elif step == "fsync":
            os.fsync = end
        elif step == "write":
            real = Path.open

            def half(path: Path, *words: Any) -> None:
                real(path, *words).write("{")
                end()

            Path.open = half  # type: ignore[assignment,method-assign]
        queue.put("first")
        end()
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    whole = step in ("folder", "after")
    queue.put("second")
    assert [queue.get(timeout=5).payload for _ in range(1 + whole)] == [*(["first"] if whole else []), "second"]
    with pytest.raises(Empty):
        queue.get(timeout=0.2)
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    "name", ["my queue", "a/b", "../up", ".", "..", "\u00fc\u05d0", "a.b.c", "x" * 400, "%2F", "a\nb"]
)
def test_a_queue_may_have_any_name(tmp_path: Path, name: str) -> None:
    with connect(str(tmp_path / "here")) as connection:
        queue, other = connection.SimpleQueue(name), connection.SimpleQueue(f"{name}2")
        queue.put("for the first")
        other.put("for the second")
        assert other.get(timeout=5).payload == "for the second"
        message = queue.get(timeout=5)
        assert message.payload == "for the first"
        message.ack()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"queues", "claimed", "control"}


def test_an_unfinished_message_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "queues" / ".1_x.work.msg"
    left.parent.mkdir()
    left.touch()
    os.utime(left, (0, 0))
    with connect(str(tmp_path)) as connection:
        connection.channel()
        assert not left.exists()
