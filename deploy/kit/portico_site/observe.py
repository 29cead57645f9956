"""The place for what observes a site: the module that `observe` in invoke.yaml names, such as one that starts Sentry.

It is imported once in each process that works: each of gunicorn's, after its fork, each of Celery's pool, and beat. So
its threads and connections are those of that process: a thread that was started before a fork does not run after it.
"""

import os
from importlib import import_module
from typing import Any

#: The module, in production.
VARIABLE = "PORTICO_OBSERVE"
#: What is in the names of Celery's pools without processes of their own.
WITHOUT_PROCESSES = ("thread", "gevent", "eventlet")


def begin(**_: object) -> None:
    """Import the module, if one is named. Raises what it raises."""
    if name := os.environ.get(VARIABLE):
        import_module(name)


def begin_without_processes(sender: Any = None, **_: object) -> None:
    """The same in a worker whose tasks run in its own process."""
    if any(name in str(getattr(sender, "pool_cls", "")) for name in WITHOUT_PROCESSES):
        begin()
