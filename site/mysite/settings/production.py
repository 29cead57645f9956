"""Settings for a server. A value that must not be guessed has no default: if it is missing, the start fails."""

from django.core.exceptions import ImproperlyConfigured

from mysite.settings.settings import *  # noqa: F403
from mysite.settings.settings import DATABASES, LOGGING, env

DEBUG = False


def required(name: str) -> str:
    """The value of a setting without a default. Raises `ImproperlyConfigured` if it is missing."""
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is missing: set {name} or {name}_FILE")
    return value


SECRET_KEY = env.str("SECRET_KEY", default="")
if len(SECRET_KEY) < 50 or SECRET_KEY.startswith(("insecure-", "django-insecure-")):
    raise ImproperlyConfigured(
        "SECRET_KEY is missing, too short or a default: set SECRET_KEY or SECRET_KEY_FILE to 50 random characters"
        " (or DJANGO_SETTINGS_MODULE=mysite.settings.development on a developer's machine)"
    )

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is empty: set it to the site's host names, comma-separated")

# --- Servers ---

required("DATABASE_URL")
if "sqlite3" not in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)  # seconds
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
elif not env.bool("ALLOW_SQLITE", default=False):
    raise ImproperlyConfigured(
        "DATABASE_URL names SQLite, which works on one machine only: name PostgreSQL, or set ALLOW_SQLITE=1"
    )

required("CELERY_BROKER_URL")

# --- HTTPS, with one switch ---

HTTPS_ONLY = env.bool("HTTPS_ONLY", default=True)
SECURE_SSL_REDIRECT = HTTPS_ONLY
SESSION_COOKIE_SECURE = HTTPS_ONLY
CSRF_COOKIE_SECURE = HTTPS_ONLY
if HTTPS_ONLY:
    # A browser takes these from this host alone, over HTTPS, for all paths: no other host below the domain plants one.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
#: Seconds for which browsers use HTTPS only: an hour, for this host, can be taken back. Longer, all hosts below the
#: domain, and browsers' built-in list (which nobody leaves within months) are asked for by name.
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=60 * 60) if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS_ONLY and env.bool("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = HTTPS_ONLY and env.bool("HSTS_PRELOAD", default=False)
#: `check --deploy` would advise both of the latter to everybody.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# --- Static files, with a hash in each name, so that browsers may cache them for ever ---

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# --- Log ---

LOGGING["handlers"]["stderr"]["formatter"] = env.str("LOG_FORMAT", default="json")
