"""Settings for a developer's machine: everything embedded, nothing to configure, not secure."""

from importlib.util import find_spec
from pathlib import Path

from mysite.settings.settings import *  # noqa: F403
from mysite.settings.settings import BASE_DIR, CELERY_BROKER_URL, INSTALLED_APPS, SQLITE_OPTIONS, env

DEBUG = True
SECRET_KEY = "insecure-development-key"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
#: Commands for developers, if the environment has the package: the tests' environment does not.
INSTALLED_APPS = [*INSTALLED_APPS, *(["django_extensions"] if find_spec("django_extensions") else [])]

#: Where the embedded database and broker keep their files.
RUN_DIR = env.path("RUN_DIR", default=str(BASE_DIR.parent / ".run"))
Path(str(RUN_DIR)).mkdir(parents=True, exist_ok=True)

if env.str("DATABASE_URL", default=""):
    DATABASES = {"default": env.db_url("DATABASE_URL")}
else:
    DATABASES = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": RUN_DIR("db.sqlite3"), "OPTIONS": SQLITE_OPTIONS}
    }

CELERY_BROKER_URL = CELERY_BROKER_URL or "filesystem://"
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": RUN_DIR("broker/queues"),
        "data_folder_out": RUN_DIR("broker/queues"),
        "processed_folder": RUN_DIR("broker/claimed"),
        "control_folder": RUN_DIR("broker/control"),
        "polling_interval": 0.05,  # seconds; a task waits half of this on average
    }
#: Seconds between two ticks of a worker's timer; an idle worker takes as long to stop.
CELERY_WORKER_TIMER_PRECISION = 0.2

PROTECTED_ROOT = env.path("PROTECTED_ROOT", default=RUN_DIR("protected"))
