"""The typed configuration, checked once.

Invoke merges the defaults of `file.py`, `invoke.yaml` beside it and `INVOKE_PROJECT_…` variables. This module turns the
result into a `Project`, or raises a one-line `Failure` that names the key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from deploy import OLDEST
from deploy.core.errors import Failure
from deploy.project import assets, services, workers
from deploy.project.assets import Assets
from deploy.project.names import Names
from deploy.project.services import Redis
from deploy.project.workers import Kind

NAME = re.compile(r"[a-z][a-z0-9_-]*")
_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_OBJECT = re.compile(rf"{_MODULE}:[A-Za-z_]\w*")

#: Folders with spaces between; none of them absolute, or above.
_FOLDERS = re.compile(r"(?!.*\.\.)[\w.-][\w./-]*( [\w.-][\w./-]*)*")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
#: https://www.debian.org/doc/debian-policy/ch-controlfields.html#source
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")

#: Variables that every runtime gives the site: a project reads them without declaring them.
GIVEN = frozenset(
    {
        *("DJANGO_SETTINGS_MODULE", "SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CELERY_BROKER_URL"),
        *("STATIC_ROOT", "PROTECTED_ROOT", "PROTECTED_URL", "HOME", "PATH"),
    }
)
#: All keys of the section, and what they are.
KEYS = {
    "name": "the project's short name",
    "site": "the folder of manage.py",
    "path": "folders within that one from which modules are imported too",
    "port": "the port of the development site",
    "samples": "the management command that fills a new development database",
    "run": "what the native runtime writes",
    "probes": "what a new release must answer",
    "free_gigabytes": "what the engine's disk must have left",
    "settings": "the settings modules: dev and prod",
    "wsgi": "the WSGI application, module:variable",
    "asgi": "the ASGI application, module:variable",
    "celery": "the Celery application, module:variable, or none",
    "python": "the lowest Python that the locks are for",
    "env": "variables of the project's own, each plain or secret",
    "packages": "system packages, in the image and on hosts",
    "test": "the command that runs the project's tests",
    "media": "whether uploads are kept and served: true, false, or shared for one folder on all machines",
    "metrics": "whether those inside get /metrics, in Prometheus' format",
    "observe": "the module that each process imports in production, such as one that starts Sentry",
    "upload_megabytes": "the largest request body that nginx takes",
    "services": "servers beside the database and the broker",
    "workers": "kinds of workers and their queues",
    "assets": "the command that builds the front end",
    "egress": "whether workers reach what is outside",
    "least_rights": "whether web and workers only change rows of the database, and do not own its tables",
    "check": "on, or off: whether what `invoke check` finds stops dev, build, prod and deploys",
}
#: Keys of earlier versions, and what replaces them.
FORMER = {
    "package": "remove it: settings, WSGI and Celery are detected, and `settings`, `wsgi` and `celery` name others"
}


Media: TypeAlias = Literal["", "local", "shared"]
#: The largest request body, in megabytes, unless `upload_megabytes` says otherwise; and the most that it may say.
UPLOAD_MEGABYTES, MOST_MEGABYTES = 10, 4096


@dataclass(frozen=True)
class Project:
    """The Django project, and where its parts are."""

    root: Path
    #: The project's short name, in lower case.
    name: str
    #: What `invoke.yaml` says of its parts; the rest is detected.
    declared: Names
    #: The port of the development site on 127.0.0.1.
    port: int
    #: The management command that fills a new development database; empty for none.
    samples: str
    #: The folder that the native runtime writes to (database, queues, media), relative to the root.
    run: str
    #: The paths that a new release must answer without an error before it gets requests.
    probes: tuple[str, ...]
    #: Gigabytes that must be free on the container engine's disk before a build.
    free_gigabytes: int
    #: Variables of the project's own, each `plain` or `secret`.
    env: Mapping[str, str] = field(default_factory=dict)
    #: The lowest Python that the locks of the site are for.
    python: tuple[int, int] = OLDEST
    #: The command that runs the project's tests; empty for what is detected.
    test: str = ""
    #: Whether the site's processes reach what is outside of the stack.
    egress: bool = True
    #: Whether web and workers only change rows. A project that creates tables as it runs needs more (django-tenants).
    least_rights: bool = True
    #: The kinds of workers that `invoke.yaml` declares, the default one first.
    workers: tuple[Kind, ...] = workers.ONE
    #: Redis, if the project declares it.
    redis: Redis | None = None
    #: Debian packages that the site needs, in the image and on hosts.
    packages: tuple[str, ...] = ()
    #: Who keeps uploads: nobody, the machine that writes them, or one folder that all machines share.
    media: Media = ""
    #: The largest request body that nginx takes, in megabytes.
    upload_megabytes: int = UPLOAD_MEGABYTES
    #: Whether the kit answers /metrics to those inside.
    metrics: bool = False
    #: The module that each process of production imports; empty for none.
    observe: str = ""
    #: How its front end is built, if it has one.
    assets: Assets | None = None
    #: Which environment of this machine's containers is meant: NAME of `.env.NAME`; empty for `.env`.
    environment: str = ""

    @cached_property
    def names(self) -> Names:
        """Where its parts are; `celery` is empty for a project without it.

        Raises `Failure` for what is neither declared nor found.
        """
        said = self.declared
        if all((said.site, said.dev, said.prod, said.wsgi, said.celery)) and not self._is_elsewhere(said):
            found = said
        else:
            from deploy.project import detect

            found = detect.names(self.root, self.declared)
        return replace(found, celery="" if found.celery == "none" else found.celery)

    def _is_elsewhere(self, said: Names) -> bool:
        """Whether the settings are not below manage.py's folder: then only detection knows where they are imported."""
        folder = self.root / said.site
        stem = folder.joinpath(*said.dev.partition(":")[0].split("."))
        is_there = stem.with_suffix(".py").exists() or stem.is_dir()
        return not (said.path or is_there) and (folder / "manage.py").exists()

    @cached_property
    def media_url(self) -> str:
        """The path below which nginx serves uploads; empty if it serves none.

        Raises `Failure` for a MEDIA_URL that cannot be served.
        """
        if not self.media:
            return ""
        from deploy.project import media

        return media.address(self.root, self.declared)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of workers, the default one first; none for a project without Celery."""
        return self.workers if self.names.celery else ()

    @property
    def site(self) -> str:
        """The folder of manage.py, relative to the root."""
        return self.names.site

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

    @property
    def env_path(self) -> Path:
        """The file with what the containers of this environment need."""
        return self.root / f".env{self.environment and '.'}{self.environment}"

    @property
    def secrets(self) -> Path:
        """The folder of what is made from that file; only its owner can enter it."""
        folder = self.root / ".secrets"
        return folder / "environments" / self.environment if self.environment else folder

    @property
    def option(self) -> str:
        """What a command of `invoke` needs besides, in a remedy: empty, or the option that names the environment."""
        return f" --env {self.environment}" if self.environment else ""


def environment_name(name: str) -> str:
    """A name of an environment of this machine; empty for the one of `.env`. Raises `Failure` for any other text."""
    if name and (not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name == "example"):
        raise Failure(f"--env is {name!r}, but must be lower-case letters, digits and -: the NAME of a file .env.NAME")
    return name


def whole_number(value: object, key: str, low: int, high: int) -> int:
    """A whole number within bounds. Raises `Failure` naming ``key``; Invoke itself would show a traceback."""
    text = str(value)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise Failure(f"{key} is {text!r}, but must be a number from {low} to {high}")
    return int(text)


def port_number(value: object, key: str) -> int:
    """A TCP port on which an ordinary user may listen. Raises `Failure` naming ``key``."""
    return whole_number(value, key, 1024, 65535)


def _text(
    values: Mapping[str, object], key: str, pattern: re.Pattern[str], meaning: str, *, within: str = "project"
) -> str:
    """A value that matches, or an empty text where there is none. Raises `Failure` naming the key."""
    value = values.get(key)
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Failure(f"{within}.{key} is {value!r}, but must be {meaning}; set it in invoke.yaml")
    return value


def _inner(values: Mapping[str, object], key: str) -> dict[str, object]:
    """A section within a section: Invoke's own mappings are no dictionaries."""
    value = values.get(key)
    if value in (None, ""):
        return {}
    try:
        return dict(value)  # type: ignore[call-overload, no-any-return] # Invoke's mappings are none to a type checker
    except (TypeError, ValueError):
        raise Failure(f"project.{key} is {value!r}, but must have keys of its own; set it in invoke.yaml") from None


def require_known(values: Iterable[str]) -> None:
    """Raise `Failure` for a key that there is not: a misspelled one would leave a default in force."""
    for key in values:
        if key in FORMER:
            raise Failure(f"project.{key} is no key any more; {FORMER[key]}")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(KEYS)}"
            raise Failure(f"project.{key} in invoke.yaml is not a key; {hint}")


def _declared(values: Mapping[str, object]) -> Names:
    modules = _inner(values, "settings")
    for key in modules:
        if key not in ("dev", "prod"):
            raise Failure(f"project.settings.{key} is not a key; the keys are: dev, prod; set it in invoke.yaml")
    module = re.compile(rf"{_MODULE}(?::[A-Za-z_]\w*)?")
    application = "an application, as module:variable"
    celery = values.get("celery")
    return Names(
        site=_text(values, "site", re.compile(r"[^/].*"), "a folder relative to tasks.py"),
        path=_text(values, "path", _FOLDERS, "folders relative to that of manage.py, with spaces between"),
        dev=_text(modules, "dev", module, "a Python module", within="project.settings"),
        prod=_text(modules, "prod", module, "a Python module", within="project.settings"),
        wsgi=_text(values, "wsgi", _OBJECT, application),
        asgi=_text(values, "asgi", _OBJECT, application),
        celery="none" if celery == "none" else _text(values, "celery", _OBJECT, f"{application}, or none"),
    )


def _env(values: Mapping[str, object]) -> dict[str, str]:
    found = {}
    for name, kind in _inner(values, "env").items():
        if not _VARIABLE.fullmatch(str(name)):
            raise Failure(f"project.env.{name} is not the name of a variable: capital letters, digits and _")
        if name in GIVEN or name.startswith("PORTICO_"):
            raise Failure(f"project.env.{name}: every runtime sets this variable; remove the line from invoke.yaml")
        if kind not in ("plain", "secret"):
            raise Failure(f"project.env.{name} is {kind!r}, but must be plain or secret; set it in invoke.yaml")
        found[name] = str(kind)
    return found


def _redis(values: Mapping[str, object]) -> Redis | None:
    found = services.parse(values.get("services"))
    if found and "REDIS_URL" in _inner(values, "env"):
        raise Failure("project.env.REDIS_URL: project.services.redis sets this variable; remove the line from env")
    return found


def _python(values: Mapping[str, object]) -> tuple[int, int]:
    said = values.get("python")
    if said in (None, ""):
        return OLDEST
    found = re.fullmatch(r"(3)\.(\d+)", said) if isinstance(said, str) else None
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        lowest = ".".join(map(str, OLDEST))
        raise Failure(
            f'project.python is {said!r}, but must be a version in quotes, "{lowest}" or newer; set it in invoke.yaml'
        )
    return int(found[1]), int(found[2])


def _truth(values: Mapping[str, object], key: str, default: bool) -> bool:
    value = values.get(key)
    if value in (None, ""):
        return default
    if not isinstance(value, bool):
        raise Failure(f"project.{key} is {value!r}, but must be true or false; set it in invoke.yaml")
    return value


def _packages(values: Mapping[str, object]) -> tuple[str, ...]:
    value = values.get("packages")
    if value in (None, ""):
        return ()
    names = value.split() if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    for name in names:
        if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
            raise Failure(f"project.packages: {name!r} is not the name of a Debian package; set it in invoke.yaml")
    return tuple(dict.fromkeys(names))


def _media(values: Mapping[str, object]) -> Media:
    value = values.get("media")
    if value in (None, "", False):
        return ""
    if value is True:
        return "local"
    if value == "shared":
        return "shared"
    raise Failure(f"project.media is {value!r}, but must be true, false or shared; set it in invoke.yaml")


def load(root: Path, values: Mapping[str, object]) -> Project:
    """The project from the merged `project` section. Raises `Failure` naming an invalid key."""
    require_known(values)
    name = _text(values, "name", NAME, "a short name in lower case")
    if not name:
        raise Failure("project.name is missing: it names containers, volumes and all on hosts; set it in invoke.yaml")
    if values.get("check") not in (None, "", "on", "off"):  # in quotes: YAML reads a plain on or off as a truth value
        raise Failure(f'project.check is {values["check"]!r}, but must be "on" or "off"; set it in invoke.yaml')
    declared = _declared(values)
    if declared.site and not (root / declared.site / "manage.py").is_file():
        raise Failure(f"project.site is {declared.site!r}, but there is no {declared.site}/manage.py")
    return Project(
        root=root,
        name=name,
        declared=declared,
        port=port_number(values.get("port"), "project.port"),
        samples=_text(values, "samples", re.compile(r"(?:\w[\w-]*)?"), "a management command, or empty"),
        run=_text(values, "run", re.compile(".+"), "a folder") or ".run",
        probes=tuple(_text(values, "probes", re.compile(r"/\S*( /\S*)*"), "space-separated paths").split())
        or ("/readyz",),
        free_gigabytes=whole_number(values.get("free_gigabytes"), "project.free_gigabytes", 0, 10**6),
        env=_env(values),
        python=_python(values),
        test=_text(values, "test", re.compile(r"\S.*"), "a command"),
        egress=_truth(values, "egress", default=True),
        least_rights=_truth(values, "least_rights", default=True),
        workers=workers.parse(_inner(values, "workers")),
        redis=_redis(values),
        packages=_packages(values),
        media=_media(values),
        upload_megabytes=whole_number(
            values.get("upload_megabytes") or UPLOAD_MEGABYTES, "project.upload_megabytes", 1, MOST_MEGABYTES
        ),
        metrics=_truth(values, "metrics", default=False),
        observe=_text(values, "observe", re.compile(_MODULE), "a Python module"),
        assets=assets.parse(_inner(values, "assets")),
    )


HOST = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
