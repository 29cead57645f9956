"""Settings that development and production share."""

from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF
from django_guid.integrations import CeleryIntegration

#: Reads NAME, or the file that NAME_FILE names.
env = environ.FileAwareEnv()

BASE_DIR = Path(__file__).resolve().parents[2]

# --- Applications ---

INSTALLED_APPS = [
    "polls",
    "signin",
    "stack",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_celery_results",
    "django_guid",
    "csp",
]

MIDDLEWARE = [
    "django_guid.middleware.guid_middleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "signin.devices.DeviceMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database ---

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES: dict[str, Any] = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR}/db.sqlite3")}

# --- Users ---

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
AUTHENTICATION_BACKENDS = ["signin.backends.LimitedBackend"]
#: Wrong passwords an hour for an account, and for a device on which it has signed in before.
SIGN_IN_FAILURES = env.int("SIGN_IN_FAILURES", default=20)

# --- Security ---
# Nothing from other origins and nothing inline: an injected script does not run.

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # the admin's icons
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# --- Language and time ---

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# --- Files ---

STATIC_URL = "static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=str(BASE_DIR / "static"))

#: The folder of exports, outside of every folder that is served.
PROTECTED_ROOT = env.path("PROTECTED_ROOT", default=str(BASE_DIR / "protected"))
#: That folder's internal address in the web server in front (X-Accel-Redirect); empty if the site serves the files.
PROTECTED_URL = env.str("PROTECTED_URL", default="")

# --- Log ---
# The id of a request is in its log lines, in those of the tasks that it has sent, and in the response.

DJANGO_GUID = {
    "GUID_HEADER_NAME": "X-Request-ID",
    "VALIDATE_GUID": True,  # an invalid id is replaced, not logged
    "EXPOSE_HEADER": False,
    "INTEGRATIONS": [CeleryIntegration()],
}

LOG_FORMAT = env.str("LOG_FORMAT", default="text")  # or json

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "django_guid.log_filters.CorrelationId", "correlation_id_field": "request_id"}},
    "formatters": {
        "text": {"format": "%(levelname)s %(name)s [%(request_id)s] %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(name)s %(request_id)s %(message)s",
            "timestamp": True,
            "rename_fields": {"levelname": "level", "name": "logger"},
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["request_id"]}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "django": {"level": "INFO"},  # without Django's own handlers, which would log everything twice
        "django_guid": {"level": "WARNING"},
        "django.server": {"handlers": ["stderr"], "propagate": False},
    },
}

# --- Celery ---
# A task is acknowledged when it is done, not when it is taken: if a worker dies, the task returns to its queue. So
# tasks must be safe to run twice (idempotent).

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default="")
if CELERY_BROKER_URL.startswith("amqp"):
    # RabbitMQ: quorum queues are replicated and survive the loss of a node. Delayed tasks on them need the topic
    # exchange.
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
    CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"

CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 1000
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # a worker logs as the site does
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_SOFT_TIME_LIMIT = 600  # seconds; the task can then clean up
CELERY_TASK_TIME_LIMIT = 660
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True  # the admin shows the name and arguments of a task
CELERY_RESULT_EXPIRES = 24 * 60 * 60  # seconds; beat runs the clean-up
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_TIMEZONE = TIME_ZONE

# --- What runs now ---

#: The release that serves, for the page /stack/: a revision, or the id of a deploy. Empty for a work tree.
RELEASE = env.str("PORTICO_RELEASE", default="")

# --- Exports ---

#: How many open exports one owner may have.
EXPORTS_OPEN_LIMIT = env.int("EXPORTS_OPEN_LIMIT", default=3)
#: How many open exports all owners together may have, and how many bytes of finished files.
EXPORTS_OPEN_LIMIT_ALL = env.int("EXPORTS_OPEN_LIMIT_ALL", default=200)
EXPORTS_MOST_BYTES = env.int("EXPORTS_MOST_BYTES", default=2 * 1024**3)
#: Seconds within which all visitors who ask get the same file, without votes of these seconds but with their own.
EXPORTS_SHARE_SECONDS = env.int("EXPORTS_SHARE_SECONDS", default=60)
#: Bytes that must be free on their disk before another is written: the database and the broker may be on the same one.
EXPORTS_FREE_BYTES = env.int("EXPORTS_FREE_BYTES", default=500 * 1024**2)
#: Seconds for which a finished file can be downloaded, and for which its record is then still shown.
EXPORTS_KEEP_SECONDS = env.int("EXPORTS_KEEP_SECONDS", default=24 * 60 * 60)
EXPORTS_REMEMBER_SECONDS = env.int("EXPORTS_REMEMBER_SECONDS", default=7 * 24 * 60 * 60)
#: Seconds that an export may wait before it is sent to the workers again.
EXPORTS_PATIENCE_SECONDS = env.int("EXPORTS_PATIENCE_SECONDS", default=10 * 60)
#: Seconds that an export pauses after each chunk: makes a short export long enough to watch, or to kill.
EXPORTS_PAUSE = env.float("EXPORTS_PAUSE", default=0.0)
