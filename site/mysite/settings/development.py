"""Settings for a developer's machine: everything embedded, nothing to configure, not secure."""

from importlib.util import find_spec

from mysite.settings.settings import *  # noqa: F403
from mysite.settings.settings import CELERY_BROKER_URL, INSTALLED_APPS

DEBUG = True
SECRET_KEY = "insecure-development-key"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
#: Commands for developers, if the environment has the package: the tests' environment does not.
INSTALLED_APPS = [*INSTALLED_APPS, *(["django_extensions"] if find_spec("django_extensions") else [])]

#: Without a broker (`python manage.py runserver` alone), a task runs within the request that sends it.
CELERY_TASK_ALWAYS_EAGER = not CELERY_BROKER_URL
