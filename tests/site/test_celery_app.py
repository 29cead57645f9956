"""Worker and beat report that they are running, to whoever started them."""

import secrets
import socket
from pathlib import Path

import pytest
from celery.signals import beat_init, heartbeat_sent, worker_ready
from celery.utils.dispatch import Signal
from mysite import celery_app


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
