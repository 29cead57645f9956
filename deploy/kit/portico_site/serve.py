"""The development server of an asynchronous site: `python -m portico_site.serve HOST:PORT`.

Where the project has daphne, that is its `runserver`. Else uvicorn serves PORTICO_ASGI, and static files as `runserver`
does. It does not reload: what starts it does.
"""

import os
import sys
from importlib import import_module
from typing import Any

import django
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from portico_site import overlay

#: Seconds after which requests and websockets that are still open keep the server from ending no longer.
STOP_SECONDS = 5


def application(name: str) -> Any:
    """The application that `module:variable` names. Raises `ImproperlyConfigured` for a name that has none."""
    module, _, variable = name.partition(":")
    found = getattr(import_module(module), variable or "application", None)
    if found is None:
        raise ImproperlyConfigured(f"{name} is not there; set project.asgi in invoke.yaml")
    return found


def main(address: str) -> None:
    overlay.read_secrets(os.environ)
    django.setup()
    if "daphne" in settings.INSTALLED_APPS:
        execute_from_command_line(["manage.py", "runserver", "--noreload", address])
        return
    app = application(os.environ["PORTICO_ASGI"])
    if settings.DEBUG and "django.contrib.staticfiles" in settings.INSTALLED_APPS:
        app = ASGIStaticFilesHandler(app)
    host, _, port = address.rpartition(":")
    uvicorn: Any = import_module("uvicorn")  # of the project's own environment
    uvicorn.run(app, host=host, port=int(port), timeout_graceful_shutdown=STOP_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
