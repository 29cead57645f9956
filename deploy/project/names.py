"""The names by which a Django project's parts are found."""

from __future__ import annotations

from dataclasses import dataclass

#: The project's own wheels, of packages that no index has: committed, so every machine and image has them.
WHEELS = "requirements/wheels"
#: What a new `.env` is made from: Portico's example, or its place where a project has an example of its own.
EXAMPLE, OWN_EXAMPLE = ".env.example", "deploy/local/env.example"


@dataclass(frozen=True)
class Names:
    """Where the parts of the Django project are; each empty where nothing says so."""

    #: The folder of manage.py, relative to the root.
    site: str = ""
    #: The settings modules of development and production.
    dev: str = ""
    prod: str = ""
    #: The WSGI, ASGI and Celery applications, `module:variable`. A project without Celery says `none`.
    wsgi: str = ""
    asgi: str = ""
    celery: str = ""
    #: Folders within that of manage.py from which modules are imported too, with spaces between.
    path: str = ""

    @property
    def imports(self) -> str:
        """The folders in `path` as PORTICO_PATH has them: with colons between."""
        return ":".join(self.path.split())
