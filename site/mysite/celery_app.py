"""The Celery application, configured by the `CELERY_…` settings."""

import os
import signal
import socket
import threading
from pathlib import Path

from celery import Celery
from celery.signals import beat_init, heartbeat_sent, worker_ready, worker_shutting_down
from kombu.transport import TRANSPORT_ALIASES

# Processes that start directly (worker, beat, gunicorn) default to production; development sets the variable.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings.production")

# kombu's own transport deletes a message when it is read; ours deletes it when it is acknowledged.
TRANSPORT_ALIASES["filesystem"] = "mysite.filesystem_broker:Transport"

app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
@heartbeat_sent.connect
@beat_init.connect
def announce_ready(**_: object) -> None:
    """Touch the file named by READY_FILE, which tells others that this worker or beat is running.

    A worker that is connected to its broker touches it every two seconds.
    """
    if ready_file := os.environ.get("READY_FILE"):
        Path(ready_file).touch()


@worker_shutting_down.connect
def limit_shutdown(how: str, **_: object) -> None:
    """Give running tasks WORKER_STOP_SECONDS when a worker is told to stop; without it they have no limit.

    A worker that gets TERM takes no more tasks and ends with the last running one. QUIT then returns the tasks that
    still run to their queue. (Celery's own soft shutdown sleeps for all of its time, even when nothing runs any more.)
    """
    seconds = float(os.environ.get("WORKER_STOP_SECONDS", "0"))
    if how == "Warm" and seconds:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGQUIT))
        timer.daemon = True
        timer.start()


@worker_ready.connect
@beat_init.connect
def tell_systemd(**_: object) -> None:
    """Report the start to systemd, if this process is a unit of type `notify`.

    NOTIFY_SOCKET is the path of systemd's socket, or an abstract name after an @.
    """
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.sendall(b"READY=1")
