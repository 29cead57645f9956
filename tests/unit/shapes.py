"""Django projects as people have them, as small as can be: files by their paths. Nothing of them is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.rig.startproject import MANAGE, WSGI

Files = Mapping[str, str]

CELERY = """\
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
URLS = """\
from django.urls import path

from shop import views

urlpatterns = [path("", views.index)]
"""
STORAGES = """\
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
"""
LOCKS = {
    "requirements/base.in": "django>=5.2,<5.3\ncelery\n",
    "requirements/dev.in": "-r base.in\npsycopg2-binary\nwatchfiles\n",
    "requirements/prod.in": "-r base.in\npsycopg2\ngunicorn\n",
    "requirements/dev.txt": "django==5.2.8\ncelery==5.7.0\npsycopg2-binary==2.9.11\nwatchfiles==1.1.1\n",
    "requirements/prod.txt": "django==5.2.8\ncelery==5.7.0\npsycopg2==2.9.11\ngunicorn==25.0.0\n",
}

#: manage.py in a folder, one settings.py of `startproject` that production shares, no Celery.
ONE_FILE: Files = {
    **LOCKS,
    "web/manage.py": MANAGE.format(settings="shop.settings"),
    "web/shop/__init__.py": "",
    "web/shop/wsgi.py": WSGI.format(settings="shop.settings"),
    "web/shop/urls.py": URLS,
    "web/shop/settings.py": """\
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = os.environ.get("DEBUG") == "1"
INSTALLED_APPS = ["django.contrib.admin", "shop"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_ROOT = BASE_DIR / "collected"
"""
    + STORAGES,
    **{path: text.replace("celery\n", "").replace("celery==5.7.0\n", "") for path, text in LOCKS.items()},
}

#: The layout of cookiecutter-django: `config/`, manage.py at the root, variables of its own names by django-environ.
SPLIT: Files = {
    **LOCKS,
    "manage.py": MANAGE.format(settings="config.settings.local"),
    "config/__init__.py": "",
    "config/wsgi.py": WSGI.format(settings="config.settings.production"),
    "config/celery_app.py": CELERY.format(settings="config.settings.local"),
    "config/urls.py": URLS,
    "config/settings/__init__.py": "",
    "config/settings/base.py": """\
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve(strict=True).parent.parent.parent
APPS_DIR = BASE_DIR / "shop"
env = environ.Env(DJANGO_LEVEL=(str, "INFO"))

DEBUG = env.bool("DJANGO_DEBUG", False)
DATABASES = {"default": env.db("DATABASE_URL")}
DATABASES["default"]["ATOMIC_REQUESTS"] = True
DJANGO_APPS = ["django.contrib.admin", "django.contrib.auth"]
LOCAL_APPS = ["shop.users"]
INSTALLED_APPS = DJANGO_APPS + LOCAL_APPS
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
STATIC_ROOT = str(BASE_DIR / "staticfiles")
LEVEL = env("DJANGO_LEVEL")
CELERY_BROKER_URL = env("CELERY_BROKER_URL")
CELERY_TASK_ACKS_LATE = True
""",
    "config/settings/local.py": """\
from .base import *
from .base import INSTALLED_APPS
from .base import env

DEBUG = True
SECRET_KEY = env("DJANGO_SECRET_KEY", default="not-a-secret")
INSTALLED_APPS += ["debug_toolbar"]
""",
    "config/settings/production.py": """\
from .base import *
from .base import env

SECRET_KEY = env("DJANGO_SECRET_KEY")
ADMIN_URL = env("DJANGO_ADMIN_URL")
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["shop.example"])
"""
    + STORAGES,
    "config/settings/test.py": "from .base import *\n\nDEBUG = False\n",
    "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--ds=config.settings.test"\n',
    "invoke.yaml": "project:\n  name: shop\n  env:\n    DJANGO_SECRET_KEY: secret\n    DJANGO_ADMIN_URL: plain\n",
    ".env": "DJANGO_SECRET_KEY=x\nDJANGO_ADMIN_URL=y\n",
}

#: manage.py at the root, beside the machinery of an adopted repository.
AT_THE_ROOT: Files = {
    **{path.removeprefix("web/"): text for path, text in ONE_FILE.items()},
    "deploy/bootstrap.py": "app = Celery('ours')\n",
    "deploy/core/settings.py": "INSTALLED_APPS = ['ours']\n",
    "tasks.py": "",
}

#: The tutorial with Celery and a schedule: a package of settings whose `__init__` is development.
TUTORIAL: Files = {
    **LOCKS,
    "manage.py": MANAGE.format(settings="mysite.settings"),
    "mysite/__init__.py": "from mysite.celery_app import app as celery_app\n",
    "mysite/wsgi.py": WSGI.format(settings="mysite.settings"),
    "mysite/celery_app.py": CELERY.format(settings="mysite.settings"),
    "mysite/urls.py": URLS.replace("shop", "polls"),
    "mysite/settings/__init__.py": "from mysite.settings.settings import *\n",
    "mysite/settings/settings.py": """\
DEBUG = True
SECRET_KEY = "insecure"
INSTALLED_APPS = ("django.contrib.admin", "polls.apps.PollsConfig", "django_celery_beat")
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}}
CELERY_BROKER_URL = "pyamqp://rabbitmq:5672"
CELERY_TASK_ACKS_LATE = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
""",
    "mysite/settings/production.py": "from mysite.settings.settings import *\n\nDEBUG = False\n" + STORAGES,
    "polls/__init__.py": "",
    "polls/tasks.py": "from celery import shared_task\n\n\n@shared_task\ndef count():\n    pass\n",
    "polls/tests.py": "from django.test import TestCase\n",
}

#: Today's Django, which needs a newer Python than the tools, asked for in pyproject.toml.
NEWER: Files = {
    **ONE_FILE,
    "pyproject.toml": """\
[project]
name = "shop"
requires-python = ">=3.12"
dependencies = ["django==6.0.8"]

[dependency-groups]
dev = ["pytest"]
""",
    "requirements/base.in": "django==6.0.8\n",
    "invoke.yaml": 'project:\n  name: shop\n  python: "3.12"\n',
}

SHAPES: Mapping[str, Files] = {
    "one settings.py": ONE_FILE,
    "config with base, local, production": SPLIT,
    "manage.py at the root": AT_THE_ROOT,
    "the tutorial with Celery": TUTORIAL,
    "Django 6": NEWER,
}


def write(root: Path, *shapes: Files) -> Path:
    """Write files; those of later shapes take the place of earlier ones. Returns the root."""
    for path, text in {path: text for shape in shapes for path, text in shape.items()}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root
