"""A project and a store of layers, for tests that only decide."""

from __future__ import annotations

from pathlib import Path

from deploy.project.config import Project
from deploy.project.names import Names

NAMES = Names(
    "site",
    "mysite.settings.development",
    "mysite.settings.production",
    "mysite.wsgi:application",
    "",
    "mysite.celery_app:app",
)
PROJECT = Project(Path("/p q"), "portico", NAMES, 8000, "load_samples", ".run", ("/readyz",), 3)
