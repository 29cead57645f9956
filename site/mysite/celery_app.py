"""The Celery application, configured by the `CELERY_…` settings."""

import os
import socket
from pathlib import Path

from celery import Celery
from celery.signals import beat_init, heartbeat_sent, worker_ready
from kombu.transport import TRANSPORT_ALIASES

# What is started by itself (worker, beat, gunicorn) must be told when it is development.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings.production")

# kombu's own transport forgets a message when it is read; ours when it is acknowledged.
TRANSPORT_ALIASES["filesystem"] = "mysite.filesystem_broker:Transport"

app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
@heartbeat_sent.connect
@beat_init.connect
def announce_ready(**_: object) -> None:
    """Make the file named by READY_FILE, for whoever waits for this worker or beat to be at work.

    A worker that is connected to its broker touches it every two seconds.
    """
    if ready_file := os.environ.get("READY_FILE"):
        Path(ready_file).touch()


@worker_ready.connect
@beat_init.connect
def tell_systemd(**_: object) -> None:
    """Tell a unit of type `notify` that it has started, if we are one.

    NOTIFY_SOCKET is the path of systemd's socket, or an abstract name after an @.
    """
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.sendall(b"READY=1")
