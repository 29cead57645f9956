"""The project's Celery application, with what the place decides: `celery -A portico_site.celery:app worker`.

PORTICO_CELERY names the application as `module:variable`. How tasks are acknowledged, routed and limited stays the
project's decision.
"""

import inspect
import os
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from amqp import Connection
from celery import Celery
from celery.signals import (
    beat_init,
    celeryd_init,
    heartbeat_sent,
    worker_init,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)
from django.core.exceptions import ImproperlyConfigured

from portico_site import observe, overlay, publisher, publishing, redis

#: Seconds. After two missed heartbeats RabbitMQ gives the tasks of a worker whose machine is lost to another.
HEARTBEAT_SECONDS = 30
#: Seconds after which Redis gives a task that is not acknowledged to another worker (kombu's default), the least margin
#: above a task's time limit, and between two questions whether the connection still lives.
VISIBILITY_SECONDS, MARGIN_SECONDS, REDIS_CHECK_SECONDS = 3600, 300, 30
#: Seconds that a task may run which has no limit of its own. RabbitMQ waits six times as long (`consumer_timeout`) for
#: the acknowledgement of a task: the last of those that a worker has reserved waits for the others.
TASK_SECONDS = 4 * 60 * 60
#: Seconds between two looks of an idle worker into the filesystem broker; a task waits half of this on average.
POLLING_SECONDS = 0.05
#: Seconds between two ticks of a worker's timer; an idle worker on the filesystem broker takes as long to stop.
TIMER_SECONDS = 0.2
CONSUMER = "portico_site.consumer:Consumer"
RESULTS = "portico_site.result_backend:PatientDatabaseBackend"


def load(name: str) -> Celery:
    """The application that `module:variable` names. Raises `ImproperlyConfigured` for a name that has none."""
    module, _, variable = name.partition(":")
    app = getattr(import_module(module), variable or "app", None)
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"{name} is not a Celery application; set project.celery in invoke.yaml")
    return app


def configure(app: Celery) -> None:
    """Lay the broker and what belongs to it over the application's own configuration."""
    url = os.environ.get("CELERY_BROKER_URL", "")  # Celery itself reads it, before its own settings
    scheme = urlsplit(url).scheme
    own = dict(app.conf.broker_transport_options or {})
    if scheme == "filesystem":
        from portico_site import filesystem_broker  # noqa: F401 - registers itself

        app.conf.broker_transport_options = folders(Path(os.environ["RUN_DIR"]))
        app.conf.worker_timer_precision = TIMER_SECONDS
    elif scheme in ("amqp", "amqps"):
        # Options of another transport, such as Redis' visibility_timeout, are no arguments of a connection.
        known = inspect.signature(Connection.__init__).parameters
        kept = {name: value for name, value in own.items() if name in known}
        # Each message is confirmed once it is safe.
        app.conf.broker_transport_options = {"confirm_publish": True, **kept}
        app.conf.broker_heartbeat = HEARTBEAT_SECONDS
        if authority := os.environ.get("CELERY_BROKER_CA"):
            # The path of the broker's certificate (amqps), or of the authority that has signed it.
            app.conf.broker_use_ssl = {"ca_certs": authority}
    elif scheme in ("redis", "rediss"):
        stop = float(os.environ.get("WORKER_STOP_SECONDS", "0"))
        app.conf.broker_transport_options = redis_options(own, float(app.conf.task_time_limit or 0) + stop)
    app.conf.broker_connection_retry_on_startup = True
    if app.conf.task_time_limit is None:
        app.conf.task_time_limit = TASK_SECONDS
    if app.conf.worker_consumer == "celery.worker.consumer:Consumer":
        app.conf.worker_consumer = CONSUMER
    if url := redis.result_backend(app.conf.result_backend, os.environ):
        app.conf.update(result_backend=url)
    if str(app.conf.result_backend) in ("django-db", "django_celery_results.backends:DatabaseBackend"):
        app.conf.update(result_backend=RESULTS, result_backend_always_retry=True)


def redis_options(own: dict[str, Any], longest: float) -> dict[str, Any]:
    """The transport options of Redis; ``longest`` is the time in seconds that a task and its worker's stop may take.

    A task that takes longer than the visibility timeout is given to a second worker while the first still runs it; so
    is one with a longer countdown. A shorter timeout of the project's own is raised, a longer one kept.
    """
    least = longest + MARGIN_SECONDS
    seconds = max(float(own.get("visibility_timeout", VISIBILITY_SECONDS)), least)
    # Without these, a connection that a firewall has forgotten is waited on for ever.
    alive = {"socket_keepalive": True, "health_check_interval": REDIS_CHECK_SECONDS}
    return {**alive, **own, "visibility_timeout": seconds}


def folders(run: Path) -> dict[str, Any]:
    """The transport options of the filesystem broker."""
    return {
        "data_folder_in": str(run / "broker" / "queues"),
        "data_folder_out": str(run / "broker" / "queues"),
        "processed_folder": str(run / "broker" / "claimed"),
        "control_folder": str(run / "broker" / "control"),
        "polling_interval": POLLING_SECONDS,
    }


@celeryd_init.connect
def wait_for_the_broker(**_: object) -> None:
    """A worker has no limits for what it sends: it does better to wait than to fail."""
    limits.off = True


@celeryd_init.connect
def take_from_the_default_queue(conf: Any, **_: object) -> None:
    """Where there are kinds of workers (PORTICO_KINDS), one without queues of its own has the default queue only.

    Celery's own worker would take from all queues in `task_queues`, those of other kinds too. `-Q`, which Celery reads
    after this, names others.
    """
    if os.environ.get("PORTICO_KINDS"):
        app.amqp.queues.select([conf.task_default_queue])


@worker_init.connect
def set_umask(**_: object) -> None:
    """Write files with the same modes as web processes do."""
    os.umask(overlay.UMASK)


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


worker_process_init.connect(observe.begin)
beat_init.connect(observe.begin)
worker_init.connect(observe.begin_without_processes)
os.environ.setdefault("PORTICO_ROLE", overlay.role_of(sys.argv))  # before the settings are imported
overlay.read_secrets(os.environ)
app = load(os.environ.get("PORTICO_CELERY", ""))
configure(app)
limits = publishing.limit(app)
publisher.configure(app)
