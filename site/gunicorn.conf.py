"""gunicorn's configuration, which it finds by its name: the same in containers and on plain hosts.

BIND is an address or `unix:PATH`; WEB_CONCURRENCY processes with WEB_THREADS threads each share it.
"""

import os
import signal
import threading

wsgi_app = "mysite.wsgi"
bind = os.environ.get("BIND", "0.0.0.0:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
#: Requests that wait for a database or another service leave the others alone: one waits in a thread, not a process.
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "8"))

#: The site is loaded once, before the socket exists: what cannot boot never accepts a request, and memory is shared.
preload_app = True
timeout = 60  # seconds without a sign of life from a process
graceful_timeout = int(os.environ.get("GRACEFUL_SECONDS", "30"))  # for requests under way when TERM comes
keepalive = 2
#: A process is replaced after so many requests, not all at once, so that no leak grows for ever.
max_requests = 20_000
max_requests_jitter = 5_000

#: The sign of life is a file; on a disk it could block.
worker_tmp_dir = "/dev/shm"
#: It would be a socket under $HOME, which there is none of.
control_socket_disable = True
#: nginx writes the access log.
accesslog = None

#: Seconds after TERM for which requests are still accepted: where those who send them learn of it from a name server.
drain_seconds = float(os.environ.get("DRAIN_SECONDS", "0"))


def when_ready(server: object) -> None:
    if drain_seconds:
        stop = signal.getsignal(signal.SIGTERM)

        def drain(number: int, frame: object) -> None:
            signal.signal(signal.SIGTERM, stop)
            threading.Timer(drain_seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()

        signal.signal(signal.SIGTERM, drain)
