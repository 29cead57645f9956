"""What the place decides, laid over a project's own settings: about a dozen settings; the project decides all others.

Pure functions of the settings and the environment. `ROWS` is the whole list, which README.md beside this package and
`invoke check` show.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import django
from django.core.exceptions import ImproperlyConfigured

#: Setting, and what is laid over it. A setting whose variable is missing stays as the project has it.
ROWS = {
    "DATABASES": "default: from DATABASE_URL; its other keys are kept, time limits added where it has none",
    "SECRET_KEY": "production: SECRET_KEY; development: a fixed one where the project has none",
    "SECRET_KEY_FALLBACKS": "production, for a while after the key was rotated: first the one before",
    "ALLOWED_HOSTS": "production: ALLOWED_HOSTS; development: this machine's names are added",
    "STATIC_ROOT": "STATIC_ROOT",
    "STATIC_URL": "production: /static/, where it is a path",
    "STORAGES": "production: a manifest for static files, where they have none",
    "MEDIA_ROOT": "MEDIA_ROOT",
    "MEDIA_URL": "MEDIA_URL, where it is a path; nginx serves uploads there",
    "FILE_UPLOAD_PERMISSIONS": "with MEDIA_ROOT: readable for the group, which nginx is in",
    "FILE_UPLOAD_DIRECTORY_PERMISSIONS": "with MEDIA_ROOT: the same, where they have any",
    "FILE_UPLOAD_TEMP_DIR": "with MEDIA_ROOT: there, where there is none; a large upload is then moved, not copied",
    "PROTECTED_ROOT": "PROTECTED_ROOT",
    "PROTECTED_URL": "PROTECTED_URL",
    "EMAIL_BACKEND": "development: mail is printed, where they name neither a back end nor a server; none is sent by a"
    " place that holds mail",
    "MAILERS": "a place that holds mail: none of them sends any",
    "EMAIL_HOST": "production: EMAIL_HOST, where they have none",
    "EMAIL_PORT": "production: EMAIL_PORT, where they have none",
    "EMAIL_HOST_USER": "production: EMAIL_HOST_USER, where they have none",
    "EMAIL_HOST_PASSWORD": "production: EMAIL_HOST_PASSWORD, where they have none",
    "EMAIL_USE_TLS": "production: EMAIL_USE_TLS, where they have none",
    "EMAIL_USE_SSL": "production: EMAIL_USE_SSL, where they have none",
    "EMAIL_TIMEOUT": "production: 20 seconds, where they have none: without it, a send waits for ever",
    "DEFAULT_FROM_EMAIL": "production: DEFAULT_FROM_EMAIL, where they have none",
    "SECURE_PROXY_SSL_HEADER": "behind our proxy: the header that it sets",
    "MIDDLEWARE": "first: /healthz and /readyz; development: then uploads and, without DEBUG, static files",
    "INSTALLED_APPS": "with Celery: one app, which configures the broker",
}
#: Variables that may come as NAME_FILE from any path. Others are read from a file in `SECRETS` only: a project may have
#: variables of its own that end in _FILE.
FILES = ("SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL")
SECRETS = Path("/run/secrets")

#: Engines by the scheme of a URL, and the family that shares its options.
ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "mysql": "django.db.backends.mysql",
    "sqlite": "django.db.backends.sqlite3",
    "spatialite": "django.contrib.gis.db.backends.spatialite",
}
FAMILIES = {"postgis": "postgresql", "postgres": "postgresql", "spatialite": "sqlite", "sqlite3": "sqlite"}
#: Seconds to connect, where the project has set none: libpq itself waits for ever. In a web process, others wait too.
CONNECT_SECONDS, WEB_CONNECT_SECONDS = 10, 5
#: For PostgreSQL: a server whose machine is gone is noticed after 30 s without an acknowledgement (milliseconds), or
#: after three unanswered questions on an idle connection (seconds).
ALIVE = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: PostgreSQL's own limits, by the role of a process (PORTICO_ROLE); a release and a command have none. A request waits
#: less than nginx does. What a task does is ended by the task's time limit; this is for one that has none.
POSTGRESQL_LIMITS = {
    "web": {"statement_timeout": "15s", "lock_timeout": "3s", "idle_in_transaction_session_timeout": "30s"},
    "worker": {"statement_timeout": "1h", "lock_timeout": "60s", "idle_in_transaction_session_timeout": "1h"},
}
#: The port of PgBouncer, which refuses a client that sends such limits at its start.
POOLER_PORT = "6432"
#: Seconds that SQLite waits for another writer.
SQLITE_SECONDS = 20
#: For web and worker processes: nginx is in the group of what they write, others read nothing. Builds keep their own:
#: static files are for everybody.
UMASK = 0o027
#: Seconds for each step of sending a mail. Django has no limit of its own.
EMAIL_SECONDS = 20
#: Settings of mail that a project may have from its environment without naming them in its settings.
EMAIL = ("EMAIL_HOST", "EMAIL_PORT", "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", "EMAIL_USE_TLS", "EMAIL_USE_SSL")
PRINTED = "django.core.mail.backends.console.EmailBackend"
#: The back end of a place that holds mail: it has data of real people, and must not write to them.
HELD = "django.core.mail.backends.dummy.EmailBackend"
FALSE = ("", "0", "false", "no", "off")
#: The first is for names below localhost too, under which browsers keep the cookies of two sites apart.
LOCAL_NAMES = (".localhost", "localhost", "127.0.0.1", "[::1]")
DEVELOPMENT_KEY = "insecure-development-key"

MANIFEST = "portico_site.storage.ManifestStorage"
#: Backends that keep static files on disk without a hash in their names.
WITHOUT_MANIFEST = (
    "django.contrib.staticfiles.storage.StaticFilesStorage",
    "whitenoise.storage.CompressedStaticFilesStorage",
)
STATIC = "portico_site.static.StaticMiddleware"
UPLOADS = "portico_site.static.UploadsMiddleware"
HEALTH = "portico_site.health.HealthMiddleware"
APP = "portico_site.apps.KitConfig"

Settings = Mapping[str, Any]


def read_secrets(environ: MutableMapping[str, str]) -> None:
    """Set NAME to the content of the file that NAME_FILE names, where NAME is not set: settings then read one or both.

    One line break at the end of a file is left out.
    """
    for key, path in list(environ.items()):
        name = key.removesuffix("_FILE")
        if name != key and name not in environ and (name in FILES or Path(path).parent == SECRETS):
            try:
                value = Path(path).read_text()
            except OSError as error:
                raise ImproperlyConfigured(f"{key}: {path}: {error.strerror}") from None
            if value := value.removesuffix("\n"):
                environ[name] = value


def laid_over(own: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the place decides. Raises `ImproperlyConfigured` for a DATABASE_URL that is none."""
    development = environ.get("PORTICO_MODE") == "development"
    found: dict[str, Any] = {}
    if url := environ.get("DATABASE_URL"):
        own_databases = own.get("DATABASES") or {}
        found["DATABASES"] = {
            **own_databases,
            "default": database(url, own_databases.get("default") or {}, environ.get("PORTICO_ROLE", "")),
        }
    found.update(_development(own) if development else _production(own, environ))
    for name in ("STATIC_ROOT", "MEDIA_ROOT", "PROTECTED_ROOT", "PROTECTED_URL"):
        if value := environ.get(name):
            found[name] = value
    found.update(_uploads(own, environ))
    middleware = own.get("MIDDLEWARE")
    apps = own.get("INSTALLED_APPS") or ()
    if development and not own.get("DEBUG") and "django.contrib.staticfiles" in apps and own.get("STATIC_URL"):
        middleware = _with(middleware, STATIC, first=True)
    if development and own.get("MEDIA_ROOT") and own.get("MEDIA_URL"):
        middleware = _with(middleware, UPLOADS, first=True)
    found["MIDDLEWARE"] = _with(middleware, HEALTH, first=True)
    if environ.get("PORTICO_CELERY"):
        found["INSTALLED_APPS"] = _with(own.get("INSTALLED_APPS"), APP)
    return found


def _uploads(own: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Where the place keeps uploads: at the address that nginx knows, readable for nginx's group."""
    root = environ.get("MEDIA_ROOT")
    if not root:
        return
    if not urlsplit(str(own.get("MEDIA_URL") or "")).netloc:
        yield "MEDIA_URL", environ.get("MEDIA_URL") or own.get("MEDIA_URL") or "/media/"
    # Without a mode of its own, a file that came in pieces keeps that of a temporary one: for its owner alone.
    files = own.get("FILE_UPLOAD_PERMISSIONS", 0o644)
    yield "FILE_UPLOAD_PERMISSIONS", (0o640 if files is None else files | 0o040)
    if folders := own.get("FILE_UPLOAD_DIRECTORY_PERMISSIONS"):
        yield "FILE_UPLOAD_DIRECTORY_PERMISSIONS", folders | 0o050
    if not own.get("FILE_UPLOAD_TEMP_DIR"):
        yield "FILE_UPLOAD_TEMP_DIR", root


def _with(own: Any, entry: str, *, first: bool = False) -> Any:
    """A list or tuple with one entry more; it stays what it is."""
    entries = tuple(own or ())
    made = entries if entry in entries else (entry, *entries) if first else (*entries, entry)
    return made if isinstance(own, tuple) else list(made)


def _development(own: Settings) -> Iterator[tuple[str, Any]]:
    hosts = list(own.get("ALLOWED_HOSTS") or ())
    if "*" not in hosts:
        yield "ALLOWED_HOSTS", [*hosts, *(name for name in LOCAL_NAMES if name not in hosts)]
    if not own.get("SECRET_KEY"):
        yield "SECRET_KEY", DEVELOPMENT_KEY
    if own.get("EMAIL_HOST", "localhost") in ("", *LOCAL_NAMES) and not {
        "EMAIL_BACKEND",
        "EMAIL_PORT",
        "MAILERS",
    } & set(own):
        yield "EMAIL_BACKEND", PRINTED


def _production(own: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    if key := environ.get("SECRET_KEY"):
        yield "SECRET_KEY", key
    if key := environ.get("PORTICO_SECRET_KEY_FALLBACK"):
        yield "SECRET_KEY_FALLBACKS", [key, *(own.get("SECRET_KEY_FALLBACKS") or ())]
    if names := [name.strip() for name in environ.get("ALLOWED_HOSTS", "").split(",") if name.strip()]:
        yield "ALLOWED_HOSTS", names
    if environ.get("BEHIND_PROXY", "") not in ("", "0"):
        # Our own proxy sets this header and overwrites a client's. Without a proxy, a client could claim HTTPS.
        yield "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")
    if not urlsplit(str(own.get("STATIC_URL") or "")).netloc:
        yield "STATIC_URL", "/static/"
    yield from _storages(own)
    if "MAILERS" not in own:
        yield from _mail(own, environ)
    if "mail" in environ.get("PORTICO_HOLD", "").split(","):
        yield from _held(own)


def _held(own: Settings) -> Iterator[tuple[str, Any]]:
    """Settings with which no mail is sent, whatever the project's own say."""
    if "MAILERS" in own:  # Django 6.1
        yield "MAILERS", {name: {"BACKEND": HELD} for name in own["MAILERS"]}
    else:
        yield "EMAIL_BACKEND", HELD


def _mail(own: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name in (*EMAIL, "DEFAULT_FROM_EMAIL"):
        value = environ.get(name)
        if name in own or not value:
            continue
        if name == "EMAIL_PORT" and not value.isdecimal():
            raise ImproperlyConfigured("EMAIL_PORT: must be a number")
        is_switch = name.startswith("EMAIL_USE_")
        yield name, value.lower() not in FALSE if is_switch else int(value) if name == "EMAIL_PORT" else value
    if own.get("EMAIL_TIMEOUT") is None:
        yield "EMAIL_TIMEOUT", EMAIL_SECONDS


def _storages(own: Settings) -> Iterator[tuple[str, Any]]:
    """A manifest in place of a backend without one; a backend of another kind (S3, one of the project's) stays."""
    if "STORAGES" not in own and (old := own.get("STATICFILES_STORAGE")):  # before Django 5.1
        if old in WITHOUT_MANIFEST:
            yield "STATICFILES_STORAGE", MANIFEST
        return
    storages = own.get("STORAGES") or {}
    backend = (storages.get("staticfiles") or {}).get("BACKEND", WITHOUT_MANIFEST[0])
    if backend in WITHOUT_MANIFEST:
        default = {"BACKEND": own.get("DEFAULT_FILE_STORAGE", "django.core.files.storage.FileSystemStorage")}
        yield "STORAGES", {"default": default, **storages, "staticfiles": {"BACKEND": MANIFEST}}


# --- The database ---


def family(engine: str) -> str:
    """Which server an engine is for: `postgresql`, `mysql`, `sqlite`, or the last word of another engine's name."""
    last = engine.rpartition(".")[2]
    word = next((each for each in ("postgresql", "postgis", "mysql", "spatialite", "sqlite3") if each in engine), last)
    return FAMILIES.get(word, word)


def database(url: str, own: Mapping[str, Any], role: str = "") -> dict[str, Any]:
    """The database that a URL names, with the project's other keys; ``role``: of the process, which has limits.

    The project's engine is kept if it is for the same server (PostGIS, one with metrics), and then its options too.
    Raises `ImproperlyConfigured` for a URL with an unknown scheme; the URL is not shown, as it may hold a password.
    """
    parts = urlsplit(url)
    scheme = parts.scheme
    if scheme not in ENGINES:
        raise ImproperlyConfigured(f"DATABASE_URL: {scheme or 'no'} scheme; known are: {', '.join(ENGINES)}")
    same = family(own.get("ENGINE") or "") == family(ENGINES[scheme])
    engine = own["ENGINE"] if same else ENGINES[scheme]
    kept = dict(own.get("OPTIONS") or {}) if same else {}
    for name in ("service", "passfile"):  # they would name another server
        kept.pop(name, None)
    asked = dict(parse_qsl(parts.query))
    pooled = POOLER_PORT in (parts.netloc.rpartition(":")[2], asked.get("port"))
    options: dict[str, Any] = {**_limits(family(engine), role, pooled=pooled), **kept, **asked}
    if family(engine) == "sqlite":
        named = {"NAME": _sqlite(url), "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    else:
        try:
            port = str(parts.port or "")
        except ValueError:
            raise ImproperlyConfigured("DATABASE_URL: its port is not a number") from None
        named = {
            "NAME": unquote(parts.path.removeprefix("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),  # a folder of sockets is quoted: %2Fvar%2Frun
            "PORT": port,
        }
    return {**own, "ENGINE": engine, **named, "OPTIONS": options}


def _sqlite(url: str) -> str:
    """The file of `sqlite:///relative` or `sqlite:////absolute`; `:memory:` for neither."""
    name = unquote(url.partition("://")[2].partition("?")[0].removeprefix("/"))
    return name or ":memory:"


def role_of(argv: Sequence[str]) -> str:
    """The role of a process that Celery's command line starts: `worker` for workers and beat, else none."""
    return "worker" if argv[0].endswith("celery") and {"worker", "beat"} & set(argv) else ""


def _limits(kind: str, role: str, *, pooled: bool) -> dict[str, Any]:
    if kind == "postgresql":
        seconds = WEB_CONNECT_SECONDS if role == "web" else CONNECT_SECONDS
        words = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL_LIMITS.get(role, {}).items())
        return {"connect_timeout": seconds, **ALIVE, **({"options": words} if words and not pooled else {})}
    if kind == "mysql":
        return {"connect_timeout": CONNECT_SECONDS}
    if kind != "sqlite":
        return {}
    if django.VERSION < (5, 1):
        return {"timeout": SQLITE_SECONDS}
    # Web requests and workers write at the same time. With WAL, readers continue meanwhile. An immediate transaction
    # takes the write lock at its start, where SQLite waits for it; half-way it would fail at once.
    return {
        "timeout": SQLITE_SECONDS,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }


# --- The project's own modules ---


def related(name: str, modules: Mapping[str, ModuleType | None]) -> Iterator[ModuleType]:
    """The loaded modules beside a settings module, and its package: those that it may take its values from."""
    package = name.rpartition(".")[0]
    for each, module in list(modules.items()):
        beside = each == package or each.rpartition(".")[0] == package
        if package and module is not None and each != name and beside:
            yield module


def write_back(own: Settings, over: MutableMapping[str, Any], modules: Iterable[ModuleType]) -> None:
    """Make code that imports the project's settings modules themselves see what is laid over.

    A dictionary or list stays the same object with a new content, so names and settings that refer to it follow.
    """
    places = list(modules)
    for name, value in over.items():
        before = own.get(name)
        if name == "DATABASES" and isinstance(before, dict):
            default = before.setdefault("default", {})
            default.clear()
            default.update(value["default"])
            over[name] = before
            continue
        if isinstance(before, list) and isinstance(value, list):
            before[:] = value
            over[name] = before
            continue
        for module in places:
            if name in vars(module) and vars(module)[name] is before:
                setattr(module, name, value)
