"""Small projects that differ as real ones do: where manage.py is, what settings are called, whether there is Celery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.rig.startproject import MANAGE, WSGI

#: The front page: how many notes there are, and the address of a static file.
VIEWS = """\
from django.http import HttpResponse
from django.templatetags.static import static

from notes.models import Note


def index(request):
    Note.objects.create(text="seen")
    return HttpResponse(f"{Note.objects.count()} notes\\n{static('notes/style.css')}\\n")
"""
#: A page that keeps what a visitor uploads, and answers with its address; other URLs do not serve it.
UPLOAD = """

def upload(request):
    from django.core.files.storage import default_storage

    file = request.FILES["file"]
    return HttpResponse(default_storage.url(default_storage.save(f"{request.POST['folder']}/{file.name}", file)))
"""
MODELS = """\
from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=100)
"""
MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(max_length=100)),
            ],
        ),
    ]
"""
TESTS = """\
from django.test import TestCase


class NotesTest(TestCase):
    def test_the_front_page_counts_notes(self):
        self.assertContains(self.client.get("/"), "1 notes")
"""
APP = {
    "notes/__init__.py": "",
    "notes/models.py": MODELS,
    "notes/views.py": VIEWS,
    "notes/tests.py": TESTS,
    "notes/migrations/__init__.py": "",
    "notes/migrations/0001_initial.py": MIGRATION,
    "notes/static/notes/style.css": "body { color: black }\n",
}
#: A page that sends a task, and one that shows what the tasks have written.
TASKS_VIEWS = """\
from django.http import HttpResponse

from notes.models import Note
from notes.tasks import write


def ask(request):
    said = {name: request.GET.get(name) for name in ("queue", "text", "countdown")}
    write.apply_async([f"asked {said['text']}"], queue=said["queue"], countdown=float(said["countdown"] or 0))
    return HttpResponse("sent")


def answer(request):
    return HttpResponse("\\n".join(Note.objects.filter(text__startswith="asked").values_list("text", flat=True)))
"""
COMMON = """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent{more}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "{package}.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.staticfiles", "notes"]
STATIC_URL = "static/"
USE_TZ = True
"""
URLS = """\
from django.urls import path

from notes import views

urlpatterns = [path("", views.index)]
"""


#: Pages, and a websocket that names its process, then sends back what it gets.
ECHO = """\
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
pages = get_asgi_application()


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return await pages(scope, receive, send)
    await receive()
    await send({{"type": "websocket.accept"}})
    await send({{"type": "websocket.send", "text": f"{{os.uname().nodename}} {{os.getppid()}}"}})
    while (event := await receive())["type"] != "websocket.disconnect":
        await send({{"type": "websocket.send", "text": event.get("text", "")}})
"""


#: The same with channels: what one says, all hear, by way of Redis where there is one.
CONSUMER = """\
import os

from channels.generic.websocket import AsyncWebsocketConsumer


class Room(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()
        await self.send(f"{os.uname().nodename} {os.getppid()}")

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event):
        await self.send(event["text"])

    async def disconnect(self, code):
        await self.channel_layer.group_discard("room", self.channel_name)
"""
ASGI = """\
import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")
pages = get_asgi_application()

from notes.consumers import Room

application = ProtocolTypeRouter({"http": pages, "websocket": Room.as_asgi()})
"""


@dataclass(frozen=True)
class Example:
    """A repository: its files, the folder of manage.py, and what it has beside pages."""

    files: Mapping[str, str]
    site: str = "."
    celery: bool = False
    #: Whether it has a websocket, which sends back what it gets.
    websocket: bool = False
    #: The kinds of its workers beside the default one; each takes from the queue of its name.
    kinds: Sequence[str] = ()
    #: The lowest Python that it runs on.
    python: tuple[int, int] = (3, 11)
    #: The folder of uploads in a checkout; empty without any.
    uploads: str = ""
    #: Values of the project's own variables, for `.env`.
    values: Mapping[str, str] = field(default_factory=dict)
    #: The address of its first page.
    front: str = "/"
    #: What its user writes into `invoke.yaml` because `check` says so, as lines of the section.
    written: Sequence[str] = ()
    #: A static file that only the assets step makes.
    built: str = ""
    #: Files that are in the way, and are set aside.
    aside: Sequence[str] = ()
    #: Packages that no index has: their wheels are in the repository.
    wheels: Sequence[str] = ()


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


#: One settings.py, in a folder of its own, with SQLite beside the code; no Celery, no requirements but a plain list.
PLAIN = Example(
    site="backend",
    uploads="backend/files",
    websocket=True,
    written=[
        "asgi: journal.asgi:application",
        "assets:",
        '  image: "python:3.13-slim-trixie"',
        '  run: "mkdir -p backend/static/dist && cp front/built.js backend/static/dist/"',
        "  output: backend/static/dist",
        "  inputs: [front]",
    ],
    built="dist/built.js",
    wheels=["ours-alone"],
    files={
        "requirements.txt": "Django>=5.2,<5.3\nuvicorn-worker\nwebsockets\nours-alone==1.0\n",
        "README.md": "# Notes\n",
        ".gitignore": "*.sqlite3\n*.log\nfiles/\n/backend/static/\n",
        "front/built.js": "// built\n",
        **below(
            "backend",
            {
                **APP,
                "notes/views.py": f"import ours_alone  # noqa: F401\n{VIEWS}{UPLOAD}",
                "manage.py": MANAGE.format(settings="journal.settings"),
                "journal/__init__.py": "",
                "journal/wsgi.py": WSGI.format(settings="journal.settings"),
                "journal/asgi.py": ECHO.format(settings="journal.settings"),
                "journal/urls.py": URLS.replace("views.index)", 'views.index), path("upload/", views.upload)'),
                "journal/settings.py": COMMON.format(more=".parent", package="journal")
                + """
import os

SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-of-the-template")
DEBUG = os.environ.get("DEBUG", "") == "1"
ALLOWED_HOSTS = ["journal.example.org"]
MIDDLEWARE = ("django.middleware.common.CommonMiddleware",)
MEDIA_ROOT = BASE_DIR / "files"
MEDIA_URL = "notes/files/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATICFILES_DIRS = [BASE_DIR / "static"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": BASE_DIR / "notes.log"}},
    "root": {"handlers": ["file"]},
}
""",
            },
        ),
    },
)

#: manage.py at the top, config/ with base, local and production, variables of its own names, Celery; pyproject.toml.
CONFIG = Example(
    celery=True,
    websocket=True,
    kinds=("mail", "billing"),
    written=[
        "workers:",
        "  mail: {queues: [mail], celery: --pool=threads}",
        "  billing: {queues: [billing], alone: true}",
    ],
    values={"SHOP_TOKEN": "tok$en", "SHOP_MAIL_HOST": "mail.example.org"},
    files={
        **APP,
        "pyproject.toml": """\
[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["django>=5.2,<5.3", "celery>=5.5", "channels", "channels-redis", "uvicorn-worker", "websockets"]

[dependency-groups]
test = ["pytest", "pytest-django"]

[tool.pytest.ini_options]
DJANGO_SETTINGS_MODULE = "config.settings.local"
""",
        "manage.py": MANAGE.format(settings="config.settings.local"),
        "test_notes.py": "from notes.tests import NotesTest  # noqa: F401\n",
        "config/__init__.py": "from config.celery_app import app as celery_app\n\n__all__ = ['celery_app']\n",
        "config/wsgi.py": WSGI.format(settings="config.settings.production"),
        "config/asgi.py": ASGI,
        "notes/consumers.py": CONSUMER,
        "config/urls.py": URLS.replace(
            'path("", views.index)',
            'path("", views.index), path("ask/", tasks_views.ask), path("answer/", tasks_views.answer)',
        ).replace("from notes import views", "from notes import tasks_views, views"),
        "config/celery_app.py": """\
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
        "notes/tasks.py": """\
import os
import time

from celery import shared_task

from notes.models import Note


@shared_task(acks_late=True, bind=True)
def write(self, text):
    if "slowly" in text:
        time.sleep(8)
    Note.objects.create(text=f"{text} by {self.request.hostname} {os.environ['SHOP_TOKEN']}")
""",
        "notes/tasks_views.py": TASKS_VIEWS,
        "config/settings/__init__.py": "",
        "config/settings/base.py": COMMON.format(more=".parent.parent", package="config")
        + """
import os

SHOP_TOKEN = os.environ["SHOP_TOKEN"]
SHOP_MAIL_HOST = os.environ["SHOP_MAIL_HOST"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "shop",
        "HOST": os.environ.get("POSTGRES_HOST", "localhost"),
        "ATOMIC_REQUESTS": True,
    }
}
CELERY_BROKER_URL = os.environ.get("BROKER", "redis://localhost:6379/0")
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
if address := os.environ.get("REDIS_URL"):
    # Longer than the five seconds that the layer waits for a message: they are the default of redis-py 8, too.
    layer = {"hosts": [{"address": address, "socket_timeout": 30}]}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": layer}}
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
""",
        "config/settings/local.py": """\
from .base import *

DEBUG = True
SECRET_KEY = "local"
ALLOWED_HOSTS = []
""",
        "config/settings/production.py": """\
from .base import *

DEBUG = False
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = ["shop.example.org"]
SECURE_SSL_REDIRECT = False
""",
    },
)
#: Django 6, which needs a newer Python than the tools do; everything at the top, requirements in pyproject.toml.
SIX = Example(
    python=(3, 12),
    files={
        **APP,
        "pyproject.toml": '[project]\nname = "six"\nversion = "1"\ndependencies = ["django>=6.0,<6.1"]\n',
        "manage.py": MANAGE.format(settings="six.settings"),
        "six/__init__.py": "",
        "six/wsgi.py": WSGI.format(settings="six.settings"),
        "six/urls.py": URLS,
        "six/settings.py": COMMON.format(more=".parent", package="six")
        + """
import os

SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-of-the-template")
DEBUG = os.environ.get("DEBUG", "") == "1"
ALLOWED_HOSTS = ["six.example.org"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "ATOMIC_REQUESTS": True,
        "CONN_MAX_AGE": 30,
    },
    "archive": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
NAME_OF_DATABASE = str(DATABASES["default"]["NAME"])
MIDDLEWARE = ("django.middleware.common.CommonMiddleware",)
LOGGING = None
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
""",
    },
)
#: A `src` folder with one for apps, which settings put on the import path; a package of settings that imports what is
#: there of a developer's own, and reads a file of variables beside it; an `.env.example` of its own; groups that
#: include groups; the line ends of Windows.
SOURCE = Example(
    site="src",
    values={"DESK_TOKEN": "tok$en"},
    files={
        name: text.replace("\n", "\r\n")
        for name, text in {
            "pyproject.toml": """\
[project]
name = "desk"
version = "1"
requires-python = ">=3.11"
dependencies = ["django>=5.2,<5.3", "django-environ"]

[dependency-groups]
dev = [{include-group = "check"}]
check = ["pytest", "pytest-django"]

[tool.pytest.ini_options]
DJANGO_SETTINGS_MODULE = "desk.settings"
pythonpath = ["src"]
python_files = ["tests.py"]
""",
            ".gitignore": "local.py\n",
            ".env.example": "DEBUG=True\nDESK_TOKEN=changeme\n",
            **below(
                "src",
                {
                    **below("apps", APP),
                    "manage.py": MANAGE.format(settings="desk.settings"),
                    "desk/__init__.py": "",
                    "desk/wsgi.py": WSGI.format(settings="desk.settings"),
                    "desk/urls.py": URLS,
                    "desk/settings/__init__.py": """\
from .base import *

try:
    from .local import *
except ImportError:
    pass
""",
                    "desk/settings/variables.env": "DESK_TITLE=Desk\n",
                    "desk/settings/base.py": COMMON.format(more=".parent.parent", package="desk")
                    + """
import sys

import environ

sys.path.insert(0, str(BASE_DIR / "apps"))
env = environ.Env(DEBUG=(bool, False))
env.read_env(Path(__file__).with_name("variables.env"))
SECRET_KEY = env("SECRET_KEY", default="django-insecure-of-the-template")
DEBUG = env("DEBUG")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])
DESK_TOKEN = env("DESK_TOKEN")
DATABASES = {"default": env.db("DATABASE_URL", default="sqlite:///db.sqlite3")}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
""",
                },
            ),
        }.items()
    },
)

#: As the teaching example that Portico grew from: addresses of servers in the settings, a key and a folder for static
#: files too, no front page, beat's schedules in the database only by a word of a command, a Dockerfile, `.in` files
#: beside a list of exact versions.
ORIGINAL = Example(
    celery=True,
    front="/notes/",
    written=['probes: "/readyz"'],
    aside=["Dockerfile", "requirements"],
    files={
        **APP,
        "notes/tests.py": TESTS.replace('"/"', '"/notes/"'),
        "Dockerfile": "FROM python:3.7\nCOPY . /src\n",
        "docker-compose.yaml": "services:\n  app: {build: .}\n",
        "requirements.txt": "Django==5.2.8\ncelery==5.5.3\nsqlparse==0.5.3\n",
        "requirements/base.in": "Django\ncelery\ndjango-celery-beat\ndjango-celery-results\npsycopg2\n",
        "requirements/dev.in": "-r base.in\nipython\n",
        "requirements/prod.in": "-r base.in\ngunicorn\n",
        "manage.py": MANAGE.format(settings="mysite.settings"),
        "mysite/__init__.py": "from .celery_app import app as celery_app\n\n__all__ = ['celery_app']\n",
        "mysite/wsgi.py": WSGI.format(settings="mysite.settings"),
        "mysite/celery_app.py": """\
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
        "mysite/urls.py": """\
from django.contrib import admin
from django.urls import path

from notes import tasks_views, views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notes/", views.index),
    path("ask/", tasks_views.ask),
    path("answer/", tasks_views.answer),
]
""",
        "notes/tasks.py": """\
from celery import shared_task

from notes.models import Note


@shared_task(bind=True)
def write(self, text):
    return Note.objects.create(text=f"{text} by {self.request.hostname} tok$en").pk
""",
        "notes/tasks_views.py": TASKS_VIEWS,
        "mysite/settings/__init__.py": "from .settings import *\n",
        "mysite/settings/settings.py": """\
import os

from celery.schedules import crontab

BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECRET_KEY = "of-the-tutorial"
DEBUG = True
ALLOWED_HOSTS = ["localhost"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "notes",
    "django_celery_beat",
    "django_celery_results",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "mysite.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
WSGI_APPLICATION = "mysite.wsgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "PASSWORD": "postgres",
        "HOST": "postgres",
        "PORT": "5432",
    }
}
STATIC_URL = "/static/"
STATIC_ROOT = "/static"
CELERY_BROKER_URL = "pyamqp://rabbitmq:5672"
CELERY_RESULT_BACKEND = "django-db"
CELERY_BEAT_SCHEDULE = {"count": {"task": "notes.tasks.write", "schedule": crontab(minute=5), "args": ["counted"]}}
""",
        "mysite/settings/production.py": """\
import os

from .settings import *

ALLOWED_HOSTS = ["app"]
DEBUG = False
SECRET_KEY = os.environ.get("SECRET_KEY")
""",
    },
)
EXAMPLES = {"plain": PLAIN, "config": CONFIG, "six": SIX, "source": SOURCE, "original": ORIGINAL}
