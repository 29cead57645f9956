"""The Celery application, configured by the `CELERY_…` settings."""

import os
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
