"""A project and a store of layers, for tests that only decide."""

from __future__ import annotations

from pathlib import Path

from deploy.project.config import Project

PROJECT = Project(Path("/p q"), "portico", "site", "mysite", 8000, "load_samples", ".run", ("/readyz",), 3)
