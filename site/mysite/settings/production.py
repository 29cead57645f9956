"""A server. What must not be guessed has no default: a missing value stops the start and is named."""

from django.core.exceptions import ImproperlyConfigured

from mysite.settings.settings import *  # noqa: F403
from mysite.settings.settings import env

DEBUG = False


def required(name: str) -> str:
    """The value of a setting that has no default; stops the start where there is none."""
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is missing: set {name} or {name}_FILE")
    return value


SECRET_KEY = env.str("SECRET_KEY", default="")
if len(SECRET_KEY) < 50 or SECRET_KEY.startswith(("insecure-", "django-insecure-")):
    raise ImproperlyConfigured(
        "SECRET_KEY is missing, short or a default: set SECRET_KEY or SECRET_KEY_FILE to 50 random characters"
        " (or DJANGO_SETTINGS_MODULE=mysite.settings.development on a developer's machine)"
    )

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is empty: set it to the site's host names, by comma")

DATABASES = {"default": env.db_url_config(required("DATABASE_URL"))}
CELERY_BROKER_URL = required("CELERY_BROKER_URL")

# --- HTTPS ---

SECURE_SSL_REDIRECT = env.bool("HTTPS_ONLY", default=True)
SESSION_COOKIE_SECURE = SECURE_SSL_REDIRECT
CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if SECURE_SSL_REDIRECT else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_SSL_REDIRECT
SECURE_HSTS_PRELOAD = SECURE_SSL_REDIRECT

# --- Static files ---

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
