"""gunicorn's configuration, the same in containers and on plain hosts: `gunicorn -c python:portico_site.gunicorn_conf`.

PORTICO_WSGI is the project's application, `module:variable`; without it, Django makes one from the settings. Where
there is PORTICO_ASGI, that is served instead, by uvicorn's worker. BIND is an address or `unix:PATH`; WEB_CONCURRENCY
processes with WEB_THREADS threads each share it.
"""

import os
import signal
import threading

from portico_site import metrics, overlay

os.environ["PORTICO_ROLE"] = "web"  # the database's limits depend on it
overlay.read_secrets(os.environ)  # a project's wsgi.py may read variables itself, before its settings
wsgi_app = os.environ.get("PORTICO_WSGI") or "django.core.wsgi:get_wsgi_application()"
bind = os.environ.get("BIND", "0.0.0.0:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
#: A request that waits for a database or another service blocks one thread, not a whole process.
worker_class = "gthread"
if asgi := os.environ.get("PORTICO_ASGI"):
    # uvicorn's worker closes websockets with 1012 (service restart) when it is told to stop.
    wsgi_app, worker_class = asgi, "uvicorn_worker.UvicornWorker"
threads = int(os.environ.get("WEB_THREADS", "8"))

#: Load the site once, before the socket exists: a site that cannot boot accepts no request, and processes share memory.
preload_app = True
timeout = 60  # seconds without a heartbeat from a process
graceful_timeout = int(os.environ.get("GRACEFUL_SECONDS", "30"))  # for current requests after TERM
keepalive = 2
#: Replace a process after so many requests, so that no leak grows for ever; the jitter spreads the replacements.
max_requests = 20_000
max_requests_jitter = 5_000

#: The heartbeat is a file; on a disk it could block.
worker_tmp_dir = "/dev/shm"
#: It would need a socket under $HOME, which does not exist here.
control_socket_disable = True
#: nginx writes the access log.
accesslog = None

#: Seconds after TERM in which requests are still accepted, for senders that learn of the stop from a DNS server.
drain_seconds = float(os.environ.get("DRAIN_SECONDS", "0"))


#: The slot of each process on the board of metrics, by the process as gunicorn knows it. Only the master uses it.
slots: dict[int, int | None] = {}


def pre_fork(server: object, worker: object) -> None:
    if metrics.board:
        slots[id(worker)] = metrics.board.take()


def child_exit(server: object, worker: object) -> None:
    if metrics.board:
        metrics.board.give_back(slots.pop(id(worker), None))


def post_fork(server: object, worker: object) -> None:
    # Not the setting `umask`: that is the mode of the socket, too, to which nginx and a deploy connect.
    os.umask(overlay.UMASK)
    if metrics.board:
        metrics.board.use(slots.get(id(worker)))
    if os.environ.get("PORTICO_OBSERVE"):
        from portico_site import observe

        observe.begin()
    if not asgi:
        from portico_site import watch

        watch.start(threads)


def when_ready(server: object) -> None:
    if drain_seconds:
        stop = signal.getsignal(signal.SIGTERM)

        def drain(number: int, frame: object) -> None:
            signal.signal(signal.SIGTERM, stop)
            threading.Timer(drain_seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()

        signal.signal(signal.SIGTERM, drain)
