"""What the place decides is laid over a project's settings; everything else stays as the project has it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from portico_site import overlay, redis

from deploy.core.shell import Run, run
from tests import demonstration, support

POSTGRESQL = "django.db.backends.postgresql"
URL = "postgres://site:p%40ss%2F%24@db.example.org:5433/shop"
PLACE = {
    "PORTICO_MODE": "production",
    "DATABASE_URL": URL,
    "SECRET_KEY": "place",
    "ALLOWED_HOSTS": "shop.example, .x.org",
}
DEV = {"PORTICO_MODE": "development"}
DJANGO_MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
#: What a process without a role has: a release may take as long as it needs, but no server that is gone is waited for.
ENDLESS = {"connect_timeout": 10, **overlay.ALIVE}


def over(own: dict[str, Any], **environ: str) -> dict[str, Any]:
    return overlay.laid_over(own, {**PLACE, **environ})


# --- The database ---


def test_the_server_comes_from_the_place_and_the_rest_from_the_project() -> None:
    own = {"ENGINE": POSTGRESQL, "HOST": "postgres", "NAME": "old", "ATOMIC_REQUESTS": True, "CONN_MAX_AGE": 5}
    default = over({"DATABASES": {"default": {**own, "TEST": {"NAME": "t"}}}})["DATABASES"]["default"]
    assert default == {
        "ENGINE": POSTGRESQL,
        "HOST": "db.example.org",
        "PORT": "5433",
        "NAME": "shop",
        "USER": "site",
        "PASSWORD": "p@ss/$",
        "ATOMIC_REQUESTS": True,
        "CONN_MAX_AGE": 5,
        "TEST": {"NAME": "t"},
        "OPTIONS": ENDLESS,
    }


def test_other_databases_stay() -> None:
    replica = {"ENGINE": POSTGRESQL, "HOST": "replica"}
    made = over({"DATABASES": {"default": {"ENGINE": POSTGRESQL}, "replica": replica}})["DATABASES"]
    assert made["replica"] is replica


@pytest.mark.parametrize(
    ("engine", "options", "kept"),
    [
        (
            POSTGRESQL,
            {"sslmode": "verify-full", "connect_timeout": 3},
            {**ENDLESS, "sslmode": "verify-full", "connect_timeout": 3},
        ),
        (POSTGRESQL, {"tcp_user_timeout": 5}, {**ENDLESS, "tcp_user_timeout": 5}),
        ("django.contrib.gis.db.backends.postgis", {"pool": True}, {**ENDLESS, "pool": True}),
        ("django_prometheus.db.backends.postgresql", {}, ENDLESS),
        (POSTGRESQL, {"service": "mine", "passfile": ".pgpass"}, ENDLESS),
    ],
)
def test_an_engine_for_the_same_server_keeps_its_options(
    engine: str, options: dict[str, Any], kept: dict[str, Any]
) -> None:
    default = over({"DATABASES": {"default": {"ENGINE": engine, "OPTIONS": options}}})["DATABASES"]["default"]
    assert (default["ENGINE"], default["OPTIONS"]) == (engine, kept)


@pytest.mark.parametrize(("role", "seconds", "statement"), [("web", 5, "15s"), ("worker", 10, "1h")])
def test_web_and_workers_have_limits_for_what_they_ask_of_postgresql(role: str, seconds: int, statement: str) -> None:
    options = over({}, PORTICO_ROLE=role)["DATABASES"]["default"]["OPTIONS"]
    assert options["connect_timeout"] == seconds
    words = options["options"]
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert f"-c {name}=" in words
    assert f"-c statement_timeout={statement}" in words
    assert options["tcp_user_timeout"] == 30_000


def test_limits_of_the_projects_own_and_of_a_pooler_stay() -> None:
    own = {"default": {"ENGINE": POSTGRESQL, "OPTIONS": {"options": "-c statement_timeout=0"}}}
    options = over({"DATABASES": own}, PORTICO_ROLE="web")["DATABASES"]["default"]["OPTIONS"]
    assert options["options"] == "-c statement_timeout=0"
    for url in ("postgres://u:p@db:6432/shop", "postgres://u:p@/shop?port=6432"):
        assert "options" not in over({}, PORTICO_ROLE="web", DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]
    assert "options" not in over({}, PORTICO_ROLE="web", DATABASE_URL="sqlite:///x")["DATABASES"]["default"]["OPTIONS"]


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("/v/bin/celery --quiet -A portico_site.celery:app worker -n x", "worker"),
        ("celery -A portico_site.celery:app beat", "worker"),
        ("celery -A portico_site.celery:app inspect ping", ""),
        ("manage.py migrate worker", ""),
    ],
)
def test_the_role_of_a_process_is_its_command(line: str, role: str) -> None:
    assert overlay.role_of(line.split()) == role


def test_options_of_another_server_are_left_out() -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"init_command": "PRAGMA x"}, "ATOMIC_REQUESTS": True}
    default = over({"DATABASES": {"default": sqlite}})["DATABASES"]["default"]
    assert default["ENGINE"] == POSTGRESQL
    assert default["OPTIONS"] == ENDLESS
    assert default["ATOMIC_REQUESTS"] is True


@pytest.mark.parametrize("own", [{}, {"DATABASES": {}}, {"DATABASES": None}, {"DATABASES": {"default": {}}}])
def test_a_project_without_a_database_gets_one(own: dict[str, Any]) -> None:
    assert over(own)["DATABASES"]["default"]["NAME"] == "shop"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:////srv/a%20b/db.sqlite3", "/srv/a b/db.sqlite3"),
        ("sqlite:///db.sqlite3", "db.sqlite3"),
        ("sqlite://:memory:", ":memory:"),
    ],
)
def test_sqlite_waits_for_other_writers(url: str, name: str) -> None:
    default = over({}, DATABASE_URL=url)["DATABASES"]["default"]
    assert default["NAME"] == name
    assert default["OPTIONS"]["timeout"] == 20
    assert ("transaction_mode" in default["OPTIONS"]) == (django.VERSION >= (5, 1))


def test_options_and_a_socket_in_the_url_are_read() -> None:
    default = over({}, DATABASE_URL="postgres://u@%2Fvar%2Frun%2Fpostgresql/shop?sslmode=require")["DATABASES"][
        "default"
    ]
    assert default["HOST"] == "/var/run/postgresql"
    assert default["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize("url", ["oracle://u:hunter2@h/x", "postgres://u:hunter2@h:port/x", "hunter2"])
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as caught:
        over({}, DATABASE_URL=url)
    assert "hunter2" not in str(caught.value)


def test_without_a_url_the_projects_database_stays() -> None:
    assert "DATABASES" not in overlay.laid_over({"DATABASES": {"default": {"NAME": "x"}}}, DEV)


# --- What production and development decide ---


def test_production_decides_the_key_the_names_and_the_proxys_header() -> None:
    made = over({"SECRET_KEY": "own", "ALLOWED_HOSTS": ["*"], "DEBUG": False}, BEHIND_PROXY="1")
    assert made["SECRET_KEY"] == "place"
    assert made["ALLOWED_HOSTS"] == ["shop.example", ".x.org"]
    assert made["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert "DEBUG" not in made


@pytest.mark.parametrize("value", ["", "0"])
def test_without_a_proxy_its_header_is_not_believed(value: str) -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in over({}, BEHIND_PROXY=value)


@pytest.mark.parametrize(
    ("own", "hosts"),
    [
        (["shop.example"], ["shop.example", ".localhost", "localhost", "127.0.0.1", "[::1]"]),
        ((), [".localhost", "localhost", "127.0.0.1", "[::1]"]),
        (["localhost", "127.0.0.1"], ["localhost", "127.0.0.1", ".localhost", "[::1]"]),
    ],
)
def test_development_answers_to_this_machines_names(own: Any, hosts: list[str]) -> None:
    assert overlay.laid_over({"ALLOWED_HOSTS": own, "SECRET_KEY": "own"}, DEV)["ALLOWED_HOSTS"] == hosts


def test_development_keeps_the_projects_key_and_has_one_where_it_has_none() -> None:
    assert "SECRET_KEY" not in overlay.laid_over({"SECRET_KEY": "own"}, DEV)
    assert overlay.laid_over({"ALLOWED_HOSTS": ["*"], "EMAIL_PORT": 1025}, DEV) == {
        "SECRET_KEY": overlay.DEVELOPMENT_KEY,
        "MIDDLEWARE": [overlay.HEALTH],
    }


def test_a_key_where_there_is_none_is_as_long_as_projects_ask_for() -> None:
    assert len(overlay.DEVELOPMENT_KEY) >= 50


# --- Redis ---

REDIS = {"REDIS_URL": "redis://:word@redis:6379/0", "CACHE_URL": "redis://:word@redis:6379/1"}


def test_a_cache_or_layer_in_another_redis_is_in_that_of_the_place() -> None:
    django_redis: dict[str, Any] = {"BACKEND": "django_redis.cache.RedisCache", "OPTIONS": {"IGNORE_EXCEPTIONS": True}}
    caches: dict[str, Any] = {
        "sessions": {**django_redis, "LOCATION": ["redis://localhost:6379/2"]},
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://cache/1"},
        "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    layers = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [("localhost", 6379)]}}
    }
    found = over({"CACHES": caches, "CHANNEL_LAYERS": layers}, **REDIS)
    assert found["CACHES"] == {
        "sessions": {**django_redis, "LOCATION": "redis://:word@redis:6379/3"},
        "default": {**caches["default"], "LOCATION": REDIS["CACHE_URL"]},
        "local": caches["local"],
    }
    assert found["CHANNEL_LAYERS"]["default"]["CONFIG"] == {
        "hosts": [{"socket_timeout": redis.SOCKET_SECONDS, "address": REDIS["REDIS_URL"]}]
    }
    assert redis.result_backend("redis://localhost:6379/1", REDIS) == REDIS["REDIS_URL"]


def test_what_has_the_address_of_the_place_stays_and_so_does_all_without_one() -> None:
    cache = {"BACKEND": redis.CACHES[1], "LOCATION": "redis://:word@redis:6379/7"}
    hosts = [{"address": REDIS["REDIS_URL"], "socket_timeout": 9}]
    own: dict[str, Any] = {
        "CACHES": {"default": cache},
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}}},
    }
    assert not set(over(own, **REDIS)) & set(own)
    cache["LOCATION"] = "redis://elsewhere/1"
    assert not set(over(own)) & set(own)
    assert not set(over(own, REDIS_URL="redis://elsewhere/1")) & set(own), "a variable of the project's own"
    assert not redis.result_backend("django-db", REDIS)
    assert not redis.result_backend(REDIS["REDIS_URL"], REDIS)
    assert not redis.result_backend("redis://elsewhere", {})


# --- Static files in development ---


@pytest.mark.parametrize("backend", ["whitenoise.storage.CompressedManifestStaticFilesStorage", DJANGO_MANIFEST])
def test_in_development_no_page_asks_for_a_manifest(backend: str) -> None:
    plain = {"BACKEND": overlay.WITHOUT_MANIFEST[0]}
    own = {"default": {"BACKEND": "x"}, "staticfiles": {"BACKEND": backend}}
    assert overlay.laid_over({"STORAGES": own}, DEV)["STORAGES"] == {**own, "staticfiles": plain}
    assert overlay.laid_over({"STATICFILES_STORAGE": backend}, DEV)["STATICFILES_STORAGE"] == plain["BACKEND"]
    assert "STORAGES" not in overlay.laid_over({"STORAGES": {"staticfiles": {"BACKEND": "shop.Manifest"}}}, DEV)


# --- Logging ---


def test_a_log_file_that_cannot_be_written_is_the_processs_own_log(tmp_path: Path) -> None:
    file = {"class": "logging.handlers.RotatingFileHandler", "level": "INFO", "formatter": "long", "backupCount": 3}
    handlers = {"file": {**file, "filename": tmp_path / "away" / "x.log"}, "screen": {"class": "logging.StreamHandler"}}
    own: dict[str, Any] = {"version": 1, "handlers": handlers, "root": {"handlers": ["file"]}}
    stream = {"class": "logging.StreamHandler", "level": "INFO", "formatter": "long"}
    assert over({"LOGGING": own})["LOGGING"] == {**own, "handlers": {**handlers, "file": stream}}
    assert "filename" in own["handlers"]["file"], "the project's own value stays as it is"
    assert "LOGGING" not in overlay.laid_over({"LOGGING": own}, DEV)
    (tmp_path / "away").mkdir()
    assert "LOGGING" not in over({"LOGGING": own}), "it can be written"
    assert "LOGGING" not in over({"LOGGING": {"version": 1}})


# --- Classes of settings ---

CONFIGURED = """
import os

class Common:
    ROOT_URLCONF = "x"

class Prod(Common):
    DEBUG = False
"""
#: What django-configurations does: the module that DJANGO_SETTINGS_MODULE names gets what its class has.
PACKAGE = """
import importlib.util, os, sys
from importlib.machinery import PathFinder

installed = []

class Importer:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("DJANGO_SETTINGS_MODULE"):
            spec = PathFinder.find_spec(name, path)
            inner = spec.loader.exec_module
            def run(module):
                inner(module)
                made = getattr(module, os.environ["DJANGO_CONFIGURATION"])
                for each in (word for word in dir(made) if word.isupper()):
                    setattr(module, each, getattr(made, each))
            spec.loader.exec_module = run
            return spec

def install():
    if not installed:
        installed.append(sys.meta_path.insert(0, Importer()))
"""


@pytest.mark.parametrize("first", ["pass", "configurations.importer.install()"], ids=["others", "manage.py"])
def test_a_class_of_settings_is_the_projects_settings(tmp_path: Path, first: str) -> None:
    """Whether that package is there before the settings, as it is in manage.py, or not."""
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "__init__.py").touch()
    (tmp_path / "configurations" / "importer.py").write_text(PACKAGE)
    (tmp_path / "own.py").write_text(CONFIGURED)
    environ = {
        **demonstration.SITE,
        "PORTICO_SETTINGS": "own:Prod",
        "PORTICO_CELERY": "",
        "DJANGO_CONFIGURATION": "Dev",
    }
    environ["PYTHONPATH"] = f"{demonstration.KIT}:{tmp_path}"
    ask = f"import configurations.importer; {first}; from django.conf import settings as s; "
    done = subprocess.run(
        [sys.executable, "-c", f"{ask}print(s.ROOT_URLCONF, s.DEBUG, s.MIDDLEWARE[0], s.SETTINGS_MODULE)"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"x False {overlay.HEALTH} portico_site.settings\n", done.stderr


# --- Import path ---


def test_folders_of_the_project_are_on_the_import_path_of_every_process(tmp_path: Path) -> None:
    (tmp_path / "src" / "inner").mkdir(parents=True)
    (tmp_path / "src" / "inner" / "__init__.py").touch()
    environ = {**demonstration.SITE, "PORTICO_PATH": "src:other", "PYTHONPATH": str(demonstration.KIT)}
    ask = "import portico_site, inner, sys; print(sys.path[0].endswith('/src'))"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


# --- Static files ---


@pytest.mark.parametrize(
    "backend",
    ["django.contrib.staticfiles.storage.StaticFilesStorage", "whitenoise.storage.CompressedStaticFilesStorage"],
)
def test_static_files_get_a_manifest_where_they_have_none(backend: str) -> None:
    media = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "b"}}
    made = over({"STORAGES": {"default": media, "staticfiles": {"BACKEND": backend}}})["STORAGES"]
    assert made == {"default": media, "staticfiles": {"BACKEND": overlay.MANIFEST}}


def test_a_project_without_storages_gets_a_manifest() -> None:
    made = over({"DEFAULT_FILE_STORAGE": "x.Own"})["STORAGES"]
    assert made == {"default": {"BACKEND": "x.Own"}, "staticfiles": {"BACKEND": overlay.MANIFEST}}


@pytest.mark.parametrize(
    "backend",
    [
        "whitenoise.storage.CompressedManifestStaticFilesStorage",
        "storages.backends.s3.S3ManifestStaticStorage",
        "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        "config.storages.Own",
    ],
)
def test_another_storage_stays(backend: str) -> None:
    assert "STORAGES" not in over({"STORAGES": {"staticfiles": {"BACKEND": backend}}})
    assert "STORAGES" not in over({"STATICFILES_STORAGE": backend})
    assert "STATICFILES_STORAGE" not in over({"STATICFILES_STORAGE": backend})


@pytest.mark.parametrize(("own", "made"), [("/assets/", "/static/"), ("static/", "/static/"), (None, "/static/")])
def test_static_files_are_below_the_address_that_the_proxy_serves(own: str | None, made: str) -> None:
    assert over({"STATIC_URL": own})["STATIC_URL"] == made


def test_static_files_on_another_server_stay_there() -> None:
    assert "STATIC_URL" not in over({"STATIC_URL": "https://cdn.example.org/x/"})


@pytest.mark.parametrize("name", ["STATIC_ROOT", "MEDIA_ROOT", "PROTECTED_ROOT", "PROTECTED_URL"])
def test_folders_are_laid_over_only_where_the_place_has_them(name: str) -> None:
    assert over({name: "own"}, **{name: "/place"})[name] == "/place"
    assert name not in over({name: "own"}, **{name: ""})


# --- Lists ---


@pytest.mark.parametrize("own", [["a.B"], ("a.B",), [], None])
def test_health_comes_first_in_a_list_and_in_a_tuple(own: Any) -> None:
    made = over({"MIDDLEWARE": own})["MIDDLEWARE"]
    assert made == (type(own)([overlay.HEALTH, *own]) if own is not None else [overlay.HEALTH])


def test_development_without_debug_serves_static_files() -> None:
    own = {"INSTALLED_APPS": ["django.contrib.staticfiles"], "STATIC_URL": "static/", "MIDDLEWARE": ("a.B",)}
    assert overlay.laid_over(own, DEV)["MIDDLEWARE"] == (overlay.HEALTH, overlay.STATIC, "a.B")
    for other in ({**own, "DEBUG": True}, {**own, "INSTALLED_APPS": []}, {**own, "STATIC_URL": None}):
        assert overlay.STATIC not in overlay.laid_over(other, DEV)["MIDDLEWARE"]
    assert overlay.STATIC not in over(own)["MIDDLEWARE"]


def test_the_app_is_added_only_with_celery() -> None:
    assert "INSTALLED_APPS" not in over({"INSTALLED_APPS": ("a",)})
    assert over({"INSTALLED_APPS": ("a",)}, PORTICO_CELERY="x:app")["INSTALLED_APPS"] == ("a", overlay.APP)


@pytest.mark.parametrize("own", [{}, {"EMAIL_BACKEND": "anymail.backends.mailgun.EmailBackend"}])
def test_a_place_that_holds_mail_sends_none_whatever_the_project_says(own: dict[str, object]) -> None:
    assert "EMAIL_BACKEND" not in over(own, PORTICO_HOLD="beat")
    assert over(own, PORTICO_HOLD="mail,beat")["EMAIL_BACKEND"] == overlay.HELD
    several = over({"MAILERS": {"default": {"BACKEND": "x"}, "news": {"BACKEND": "y"}}}, PORTICO_HOLD="mail")
    assert several["MAILERS"] == {key: {"BACKEND": overlay.HELD} for key in ("default", "news")}


def test_the_list_in_the_page_is_complete() -> None:
    laid = over({}, PORTICO_CELERY="x:app", BEHIND_PROXY="1", **dict.fromkeys(("STATIC_ROOT", "MEDIA_ROOT"), "/x"))
    assert set(laid) <= set(overlay.ROWS)
    text = (demonstration.KIT / "README.md").read_text()
    for name, what in overlay.ROWS.items():
        assert f"| `{name}` | {what} |" in text


def test_nothing_else_is_touched() -> None:
    own: dict[str, Any] = {"LOGGING": None, "LOGGING_CONFIG": None, "DEBUG": True, "CACHES": {}, "ROOT_URLCONF": "x"}
    assert not set(over(own)) & set(own)


# --- Secrets in files ---


def test_a_secret_file_becomes_a_variable_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "SECRETS", tmp_path)
    value = "a$b$$c{d}#e \"f' "
    (tmp_path / "dsn").write_text(value)
    (tmp_path / "key").write_text("k\n")
    (tmp_path / "empty").write_text("")
    environ = {name: str(tmp_path / path) for name, path in (("SENTRY_DSN_FILE", "dsn"), ("EMPTY_FILE", "empty"))}
    environ |= {"SECRET_KEY_FILE": str(tmp_path / "key"), "LOG_FILE": "/var/log/x", "GIVEN": "1", "GIVEN_FILE": "/none"}
    overlay.read_secrets(environ)
    assert environ["SENTRY_DSN"] == value
    assert environ["SECRET_KEY"] == "k"
    assert not {"LOG", "EMPTY"} & environ.keys()
    assert environ["GIVEN"] == "1"


def test_a_secret_file_that_is_missing_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY_FILE: /none: No such file"):
        overlay.read_secrets({"SECRET_KEY_FILE": "/none"})


# --- A project's own code ---

SETTINGS = """\
import os
from config.base import *
from config.base import DATABASES
ALLOWED_HOSTS = ("own.example",)
DATABASES["reports"] = DATABASES["default"]
REPORTS = {"connection": DATABASES["default"]}
"""
BASE = """\
SECRET_KEY = "own"
DEBUG = False
MEDIA_ROOT = "/own/media"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
INSTALLED_APPS = []
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "postgres", "ATOMIC_REQUESTS": True}}
"""
CODE = """\
from django.conf import settings
from config import base, production
assert settings.DATABASES["reports"]["HOST"] == "db.example.org", settings.DATABASES
assert settings.REPORTS["connection"]["HOST"] == "db.example.org"
assert base.DATABASES["default"]["HOST"] == production.DATABASES["default"]["HOST"] == "db.example.org"
assert base.MEDIA_ROOT == production.MEDIA_ROOT == settings.MEDIA_ROOT == "/place/media"
assert base.MIDDLEWARE[0] == settings.MIDDLEWARE[0] == "portico_site.health.HealthMiddleware"
assert production.ALLOWED_HOSTS == settings.ALLOWED_HOSTS == ["shop.example"]
assert base.SECRET_KEY == settings.SECRET_KEY == "place"
"""


def test_code_that_imports_the_settings_modules_sees_the_same(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    for name, text in (("__init__", ""), ("base", BASE), ("production", SETTINGS)):
        (tmp_path / "config" / f"{name}.py").write_text(text)
    environ = {**demonstration.SITE, **PLACE, "ALLOWED_HOSTS": "shop.example", "MEDIA_ROOT": "/place/media"}
    environ |= {"PORTICO_SETTINGS": "config.production", "PORTICO_CELERY": "", "PORTICO_WSGI": ""}
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    result = run(Run([python, "-c", CODE], environ, cwd=tmp_path), capture=True, check=False)
    assert result.code == 0, result.stderr


def test_a_site_that_is_not_named_says_what_is_missing() -> None:
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    environ = {**demonstration.SITE, "PORTICO_SETTINGS": ""}
    result = run(Run([python, "-c", "import portico_site.settings"], environ), capture=True, check=False)
    assert "PORTICO_SETTINGS is missing" in result.stderr


# --- Uploads ---


def test_uploads_go_where_the_place_keeps_them_and_nginx_may_read_them() -> None:
    made = over({"MEDIA_URL": "files/"}, MEDIA_ROOT="/srv/media", MEDIA_URL="/files/")
    assert (made["MEDIA_ROOT"], made["MEDIA_URL"]) == ("/srv/media", "/files/")
    assert made["FILE_UPLOAD_TEMP_DIR"] == "/srv/media"
    assert over({}, MEDIA_ROOT="/srv/media")["MEDIA_URL"] == "/media/"
    for mode, readable in ((0o600, 0o640), (None, 0o640), (0o644, 0o644)):
        assert over({"FILE_UPLOAD_PERMISSIONS": mode}, MEDIA_ROOT="/m")["FILE_UPLOAD_PERMISSIONS"] == readable
    folders = over({"FILE_UPLOAD_DIRECTORY_PERMISSIONS": 0o700}, MEDIA_ROOT="/m")
    assert folders["FILE_UPLOAD_DIRECTORY_PERMISSIONS"] == 0o750


def test_what_the_project_says_of_uploads_stays_otherwise() -> None:
    own = {"MEDIA_URL": "https://cdn.example.org/", "FILE_UPLOAD_TEMP_DIR": "/big"}
    made = over(own, MEDIA_ROOT="/srv/media", MEDIA_URL="/")
    assert not {"MEDIA_URL", "FILE_UPLOAD_TEMP_DIR"} & set(made)
    assert not {"MEDIA_ROOT", "MEDIA_URL", "FILE_UPLOAD_PERMISSIONS"} & set(over({"MEDIA_ROOT": "/own"}))


def test_development_serves_uploads_where_the_projects_urls_do_not() -> None:
    own = {"MEDIA_ROOT": "/own", "MEDIA_URL": "/media/", "MIDDLEWARE": ["a.B"]}
    assert overlay.laid_over(own, DEV)["MIDDLEWARE"] == [overlay.HEALTH, overlay.UPLOADS, "a.B"]
    assert overlay.UPLOADS not in overlay.laid_over({"MEDIA_URL": ""}, DEV)["MIDDLEWARE"]
    assert overlay.UPLOADS not in over(own)["MIDDLEWARE"]


# --- Mail ---


def test_mail_of_development_is_printed_unless_the_project_says_where_it_goes() -> None:
    assert overlay.laid_over({}, DEV)["EMAIL_BACKEND"] == overlay.PRINTED
    assert overlay.laid_over({"EMAIL_HOST": "localhost"}, DEV)["EMAIL_BACKEND"] == overlay.PRINTED
    said: dict[str, Any] = {"EMAIL_HOST": "mail.example.org", "EMAIL_PORT": 1025, "EMAIL_BACKEND": "a.B", "MAILERS": {}}
    for name, value in said.items():
        assert "EMAIL_BACKEND" not in overlay.laid_over({name: value}, DEV)
    assert "EMAIL_BACKEND" not in over({})


def test_production_has_the_usual_names_from_its_environment_where_the_project_has_none() -> None:
    given = {"EMAIL_HOST": "mail.example.org", "EMAIL_PORT": "587", "EMAIL_USE_TLS": "true", "EMAIL_USE_SSL": "0"}
    made = over({}, **given)
    assert (made["EMAIL_HOST"], made["EMAIL_PORT"]) == ("mail.example.org", 587)
    assert (made["EMAIL_USE_TLS"], made["EMAIL_USE_SSL"]) == (True, False)
    assert made["EMAIL_TIMEOUT"] == overlay.EMAIL_SECONDS
    own = {"EMAIL_HOST": "own", "EMAIL_PORT": 25, "EMAIL_TIMEOUT": 5, "EMAIL_USE_TLS": False, "EMAIL_USE_SSL": False}
    assert not set(own) & set(over(own, **given))
    with pytest.raises(ImproperlyConfigured, match="EMAIL_PORT: must be a number"):
        over({}, EMAIL_PORT="smtp")
