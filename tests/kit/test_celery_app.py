"""Worker and beat report that they are running, to whoever started them."""

import os
import secrets
import signal as signals
import socket
import sys
import time
from pathlib import Path

import pytest
from celery.signals import beat_init, heartbeat_sent, worker_ready
from celery.utils.dispatch import Signal
from portico_site.celery import app as celery_app


@pytest.mark.parametrize("abstract", [False, True])
@pytest.mark.parametrize("signal", [worker_ready, beat_init])
def test_a_start_is_announced_to_systemd(
    signal: Signal, abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = secrets.token_hex(8) if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        signal.send(sender=celery_app)
        heartbeat_sent.send(sender=celery_app)  # later heartbeats are not a start
        assert systemd.recv(100) == b"READY=1"
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_without_systemd_nothing_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("READY_FILE", str(tmp_path / "ready"))
    worker_ready.send(sender=celery_app)
    assert (tmp_path / "ready").exists()


@pytest.mark.parametrize(
    ("how", "seconds", "sent"), [("Warm", "0.05", True), ("Warm", "0", False), ("Cold", "0.05", False)]
)
def test_running_tasks_have_so_many_seconds_when_a_worker_is_told_to_stop(
    how: str, seconds: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *words: told.append(words))
    monkeypatch.setenv("WORKER_STOP_SECONDS", seconds)
    # Not by its signal: others hear that, too, and believe that this process ends.
    sys.modules["portico_site.celery"].limit_shutdown(how=how)
    assert not told
    time.sleep(0.3)
    assert told == ([(os.getpid(), signals.SIGQUIT)] if sent else [])


def test_redis_gives_no_task_away_that_may_still_run() -> None:
    options = sys.modules["portico_site.celery"].redis_options
    assert options({}, 60)["visibility_timeout"] == 3600, "Celery's own, which is longer"
    assert options({"visibility_timeout": 30}, 660 + 60)["visibility_timeout"] == 660 + 60 + 300
    assert options({"visibility_timeout": 86400}, 60)["visibility_timeout"] == 86400, "a longer one is the project's"
    assert options({"socket_keepalive": False}, 0)["socket_keepalive"] is False
