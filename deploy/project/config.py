"""The typed configuration: the values of `ns.configure` in tasks.py, checked once.

Invoke merges the defaults in tasks.py, `invoke.yaml` beside it and `INVOKE_PROJECT_…` variables. This module turns the
result into a `Project`, or raises a one-line `Failure` that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.core.errors import Failure

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_MODULE = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Project:
    """The Django project, and where its parts are."""

    root: Path
    #: The project's short name, in lower case.
    name: str
    #: The folder of manage.py, relative to the root.
    site: str
    #: The package of settings, urls and the Celery application.
    package: str
    #: The port of the development site on 127.0.0.1.
    port: int
    #: The management command that fills an empty development database; empty for none.
    samples: str
    #: The folder that the native runtime writes to (database, queues, media), relative to the root.
    run: str
    #: The paths that a new release must answer without an error before it gets requests.
    probes: tuple[str, ...]
    #: Gigabytes that must be free on the container engine's disk before a build.
    free_gigabytes: int

    @property
    def site_folder(self) -> Path:
        return self.root / self.site

    @property
    def manage(self) -> Path:
        return self.site_folder / "manage.py"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements"

    @property
    def run_folder(self) -> Path:
        return self.root / self.run


def whole_number(value: object, key: str, low: int, high: int) -> int:
    """A whole number within bounds. Raises `Failure` naming ``key``; Invoke itself would show a traceback."""
    text = str(value)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Failure(f"{key} is {text!r}, but must be a number from {low} to {high}")
    return int(text)


def port_number(value: object, key: str) -> int:
    """A TCP port on which an ordinary user may listen. Raises `Failure` naming ``key``."""
    return whole_number(value, key, 1024, 65535)


def _text(values: Mapping[str, object], key: str, pattern: re.Pattern[str], meaning: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Failure(f"project.{key} is {value!r}, but must be {meaning}; set it in tasks.py or invoke.yaml")
    return value


def load(root: Path, values: Mapping[str, object]) -> Project:
    """The project from the merged `project` section. Raises `Failure` naming an invalid key."""
    project = Project(
        root=root,
        name=_text(values, "name", _NAME, "a short name in lower case"),
        site=_text(values, "site", re.compile(r"[^/].*"), "a folder relative to tasks.py"),
        package=_text(values, "package", _MODULE, "the name of a Python package"),
        port=port_number(values.get("port"), "project.port"),
        samples=_text(values, "samples", re.compile(r"[a-z0-9_]*"), "a management command, or empty"),
        run=_text(values, "run", re.compile(".+"), "a folder"),
        probes=tuple(_text(values, "probes", re.compile(r"/\S*( /\S*)*"), "space-separated paths").split()),
        free_gigabytes=whole_number(values.get("free_gigabytes"), "project.free_gigabytes", 0, 10**6),
    )
    if not project.manage.is_file():
        raise Failure(f"project.site is {project.site!r}, but there is no {project.site}/manage.py")
    return project


HOST = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
