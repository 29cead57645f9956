"""What `invoke check` finds: for each finding the smallest project that has it, and its remedy, applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from portico_site.overlay import WITHOUT_MANIFEST

from deploy.core.errors import Failure
from deploy.project import check
from deploy.project.findings import Edit, Finding, apply
from deploy.project.rules.known import HOSTS, RUNTIMES
from tests.rig.startproject import MANAGE
from tests.support import ROOT
from tests.unit import shapes
from tests.unit.shapes import CELERY, LOCKS, ONE_FILE, SPLIT, TUTORIAL, Files, write

DEFAULTS: Mapping[str, object] = {"name": "shop", "samples": "", "probes": "/readyz /"}
SETTINGS = "web/shop/settings.py"
BASE = "config/settings/base.py"
PRODUCTION = "config/settings/production.py"


def found(root: Path, runtime: str = "", environ: Mapping[str, str] | None = None) -> list[Finding]:
    path = root / "invoke.yaml"
    said = (yaml.safe_load(path.read_text()) or {}).get("project", {}) if path.exists() else {}
    return check.findings(check.known(root, {**DEFAULTS, **said}, runtime, environ or {}))


def lock(root: Path) -> None:
    """Write the names that each .in file asks for into its lock, as `invoke lock` does with versions and hashes."""
    folder = root / "requirements"
    texts = {path.stem: path.read_text() for path in folder.glob("*.in")}
    for name, text in texts.items():
        lines = [*texts["base"].splitlines(), *text.splitlines()]
        wanted = [line.split(">")[0] for line in lines if line and line[0] != "-"]
        (folder / f"{name}.txt").write_text("\n".join(f"{each}==1" for each in wanted))


def more(path: str, text: str, shape: Files = SPLIT) -> Files:
    """A file of a shape with lines at its end."""
    return {path: shape[path] + text}


def other(path: str, before: str, after: str, shape: Files = SPLIT) -> Files:
    """A file of a shape with a text replaced."""
    assert before in shape[path]
    return {path: shape[path].replace(before, after)}


#: The package that speaks to Redis is locked.
SPEAKS: dict[str, str] = {
    f"requirements/{name}": LOCKS[f"requirements/{name}"] + line
    for name, line in (("base.in", "redis\n"), ("dev.txt", "redis==7.1.0\n"), ("prod.txt", "redis==7.1.0\n"))
}


def with_redis(files: Files) -> Files:
    return {**SPEAKS, **files}


@dataclass(frozen=True)
class Case:
    """A project that has one thing wrong."""

    shape: Files
    files: Files
    #: How the line begins.
    line: str
    runtime: str = ""
    #: The environment after the remedy, where that is a command.
    environ: Mapping[str, str] = field(default_factory=dict)
    #: What is written after the remedy, where it has no text of its own.
    then: Files = field(default_factory=dict)


CASES = {
    # --- The place ---
    "an unknown key": Case(
        ONE_FILE,
        {"invoke.yaml": "project:\n  name: shop\n  probs: /healthz\n"},
        "invoke.yaml:3: project.probs is not a key (did you mean probes); invoke.yaml:3, instead: `probes: /healthz`",
    ),
    "a key that is like none": Case(
        ONE_FILE,
        {"invoke.yaml": "project:\n  name: shop\n  zzz: {a: 1}\n"},
        "invoke.yaml:3: project.zzz is not a key (there are: name, site,",
    ),
    "a Python that YAML reads as a number": Case(
        ONE_FILE,
        {"invoke.yaml": "project:\n  name: shop\n  python: 3.12\n"},
        "invoke.yaml:3: project.python is a number to YAML: 3.10 would be 3.1;"
        ' invoke.yaml, under project: `python: "3.12"`',
    ),
    "a site that is elsewhere": Case(
        ONE_FILE,
        {"invoke.yaml": "project:\n  site: site\n"},
        "invoke.yaml:2: project.site is 'site', but manage.py is in 'web'; invoke.yaml, under project: `site: web`",
    ),
    "two sites": Case(
        ONE_FILE,
        {"zoo/manage.py": MANAGE.format(settings="zoo.settings")},
        "web/manage.py:1: several folders have a manage.py: web, zoo; invoke.yaml, under project: `site: web`",
    ),
    "settings that are not there": Case(
        SPLIT,
        {"manage.py": MANAGE.format(settings="config.settings.mine")},
        "manage.py:5: the settings module config.settings.mine is not there;"
        " invoke.yaml, under project.settings: `dev: config.settings.local`",
        "native",
    ),
    "settings that nothing names": Case(
        ONE_FILE,
        {"web/manage.py": "import django\n", "web/shop/wsgi.py": "", "web/shop/more_settings.py": ONE_FILE[SETTINGS]},
        "web/manage.py:1: no settings module is found for prod;"
        " invoke.yaml, under project.settings: `prod: shop.more_settings`",
        "prod",
    ),
    "an import that is not there": Case(
        SPLIT,
        more(BASE, "from config.other import *\n"),
        "config/settings/base.py:21: imports config.other, which is not there; add config/other.py",
        then={"config/other.py": ""},
    ),
    "a newer Python": Case(
        shapes.NEWER,
        {"invoke.yaml": "project:\n  name: shop\n"},
        "pyproject.toml:3: pyproject.toml needs Python 3.12, and the locks are for 3.11 and newer;"
        ' invoke.yaml, under project: `python: "3.12"`, and run `invoke lock`',
    ),
    "a newer Python that is only used": Case(
        ONE_FILE,
        {".python-version": "3.13\n"},
        ".python-version:1: advice: .python-version names Python 3.13, and the locks are for 3.11",
    ),
    "versions of long ago": Case(
        ONE_FILE,
        {
            "requirements/base.in": "Django==2.2.20\n",
            "requirements/base.txt": "django==2.2.20\n",
            "requirements/prod.in": "-r base.in\ngunicorn\npsycopg2\n",
            "requirements/prod.txt": "django==2.2.20\ngunicorn==25.0\npsycopg2==2.9.11\n",
        },
        "requirements/base.in:1: django 2.2.20 does not run on Python 3.11; 4.2 is the first that does;"
        " requirements/base.in:1, instead: `django>=4.2`, and run `invoke lock --upgrade`",
        then={"requirements/base.txt": "django==5.2.8\n"},
    ),
    "no server": Case(
        ONE_FILE,
        {"requirements/prod.in": "-r base.in\npsycopg2\n", "requirements/prod.txt": "django==5\npsycopg2==2\n"},
        "requirements/prod.in:1: nothing in requirements/prod.txt serves the site;"
        " requirements/prod.in: `gunicorn`, and run `invoke lock`",
    ),
    "no driver": Case(
        ONE_FILE,
        {"requirements/prod.in": "-r base.in\ngunicorn\n", "requirements/prod.txt": "django==5\ngunicorn==2\n"},
        "requirements/prod.in:1: nothing in requirements/prod.txt speaks to PostgreSQL",
    ),
    "no reloader": Case(
        ONE_FILE,
        {"requirements/dev.in": "-r base.in\npsycopg\n", "requirements/dev.txt": "django==5\npsycopg==3\n"},
        "requirements/dev.in:1: nothing in requirements/dev.txt reloads the code in containers",
    ),
    "a server that is not locked yet": Case(
        ONE_FILE,
        {"requirements/prod.txt": "django==5\npsycopg2==2\n"},
        "requirements/prod.in:3: gunicorn is not in requirements/prod.txt yet; run `invoke lock`",
    ),
    "no Celery in the lock": Case(
        SPLIT,
        {**LOCKS, "requirements/base.in": "django\n", "requirements/prod.txt": "gunicorn==1\npsycopg2==2\n"},
        "requirements/base.in:1: nothing in requirements/prod.txt runs config.celery_app:app;"
        " requirements/base.in: `celery`, and run `invoke lock`",
    ),
    "ASGI without a server": Case(
        SPLIT,
        {
            **other(BASE, '"django.contrib.auth"]', '"channels"]'),
            "config/asgi.py": "application = get_asgi_application()\n",
            "requirements/base.in": LOCKS["requirements/base.in"] + "uvicorn\nwebsockets\n",
            "requirements/dev.txt": LOCKS["requirements/dev.txt"] + "uvicorn==0.40.0\n",
            "requirements/prod.txt": LOCKS["requirements/prod.txt"] + "uvicorn==0.40.0\nwebsockets==15.0\n",
        },
        "requirements/prod.in:1: nothing in requirements/prod.txt serves what is asynchronous;"
        " requirements/prod.in: `uvicorn-worker`, and run `invoke lock`",
    ),
    "ASGI that is said, without websockets": Case(
        SPLIT,
        {
            "config/asgi.py": "application = get_asgi_application()\n",
            "invoke.yaml": SPLIT["invoke.yaml"] + "  asgi: config.asgi:application\n",
            "requirements/base.in": LOCKS["requirements/base.in"] + "uvicorn-worker\n",
            "requirements/dev.txt": LOCKS["requirements/dev.txt"] + "uvicorn==0.40.0\n",
            "requirements/prod.txt": LOCKS["requirements/prod.txt"] + "uvicorn-worker==0.4.0\n",
        },
        "requirements/prod.in:1: nothing in requirements/prod.txt speaks to websockets;"
        " requirements/prod.in: `websockets`, and run `invoke lock`",
        "prod",
    ),
    "a migration that only PostgreSQL runs": Case(
        SPLIT,
        {"shop/migrations/0001_x.py": "import x\nfrom django.contrib.postgres.operations import TrigramExtension\n"},
        "shop/migrations/0001_x.py:2: needs PostgreSQL, and a native start has SQLite unless"
        " DATABASE_URL names a server; run `DATABASE_URL=postgres://USER:PASSWORD@127.0.0.1:5432/NAME invoke dev",
        "native",
        environ={"DATABASE_URL": "postgres://me@127.0.0.1/shop"},
    ),
    "assets that are not built": Case(
        ONE_FILE,
        {
            **more(SETTINGS, "STATICFILES_DIRS = [BASE_DIR / '..' / 'public']\n", ONE_FILE),
            "assets/package.json": '{"scripts": {"build": "esbuild"}}',
            "public/.keep": "",
        },
        "web/shop/settings.py:16: public has no files: assets/package.json must be built first;"
        " invoke.yaml, under project:"
        ' `assets: {image: "node:22", run: "cd assets && npm ci && npm run build", output: public}`',
    ),
    # --- Settings ---
    "a variable that is not declared": Case(
        SPLIT,
        {"invoke.yaml": "project:\n  env:\n    DJANGO_ADMIN_URL: plain\n"},
        "config/settings/production.py:4: DJANGO_SECRET_KEY has no default, and is not declared;"
        " invoke.yaml, under project.env: `DJANGO_SECRET_KEY: secret`",
    ),
    "a variable without a value": Case(
        SPLIT,
        {".env": "DJANGO_SECRET_KEY=x\nDJANGO_ADMIN_URL=\n"},
        "config/settings/production.py:5: DJANGO_ADMIN_URL has no default and no value; .env: `DJANGO_ADMIN_URL=VALUE`",
        "prod",
    ),
    "debugging in settings of production": Case(
        SPLIT,
        more(PRODUCTION, "DEBUG = True\n"),
        "config/settings/production.py:11: DEBUG is on in config.settings.production;"
        " config/settings/production.py:11, instead: `DEBUG = False`",
    ),
    "debugging that production inherits": Case(
        SPLIT,
        other(BASE, 'DEBUG = env.bool("DJANGO_DEBUG", False)', "DEBUG = True"),
        "config/settings/base.py:9: DEBUG is on in config.settings.production;"
        " config/settings/production.py: `DEBUG = False`",
    ),
    "debugging in the only settings": Case(
        ONE_FILE,
        other(SETTINGS, 'os.environ.get("DEBUG") == "1"', "True", ONE_FILE),
        "web/shop/settings.py:6: DEBUG is on, and shop.settings serves production too;"
        ' web/shop/settings.py:6, instead: `DEBUG = os.environ.get("DEBUG", "") == "1"`',
    ),
    "debugging unless a variable says otherwise": Case(
        ONE_FILE,
        other(SETTINGS, 'os.environ.get("DEBUG") == "1"', 'os.environ.get("DEBUG", "True") == "True"', ONE_FILE),
        "web/shop/settings.py:6: DEBUG is on in production unless DEBUG says otherwise;"
        " invoke.yaml, under project.env: `DEBUG: plain`, and .env: `DEBUG=False`",
    ),
    "debugging by a number": Case(
        ONE_FILE,
        other(SETTINGS, 'os.environ.get("DEBUG") == "1"', 'bool(int(os.environ.get("DEBUG", 1)))', ONE_FILE),
        "web/shop/settings.py:6: DEBUG is on in production unless DEBUG says otherwise;"
        " invoke.yaml, under project.env: `DEBUG: plain`, and .env: `DEBUG=0`",
    ),
    "a server that no runtime has": Case(
        ONE_FILE,
        other(SETTINGS, "django.db.backends.sqlite3", "django.db.backends.mysql", ONE_FILE),
        "web/shop/settings.py:10: advice: the settings name MySQL; Portico runs the site on PostgreSQL instead, where"
        " SQL of MySQL's own fails (data moves by `dumpdata` and `loaddata`);"
        ' web/shop/settings.py:10, instead: `"ENGINE": "django.db.backends.postgresql"`',
    ),
    "the driver of a server that no runtime has": Case(
        ONE_FILE,
        {
            **other(SETTINGS, "django.db.backends.sqlite3", "django.db.backends.mysql", ONE_FILE),
            "requirements/base.in": "django>=5.2,<5.3\nmysqlclient\n",
        },
        "web/shop/settings.py:10: advice: the settings name MySQL; Portico runs the site on PostgreSQL instead, where"
        " SQL of MySQL's own fails (data moves by `dumpdata` and `loaddata`);"
        ' web/shop/settings.py:10, instead: `"ENGINE": "django.db.backends.postgresql"`,'
        " and remove requirements/base.in:2, and run `invoke lock`",
    ),
    "settings that a variable chooses": Case(
        ONE_FILE,
        {
            SETTINGS: 'import os\n\nKIND = os.environ.get("SHOP_ENV", "development")\nif KIND == "production":\n'
            "    from shop.kinds.production import *\nelse:\n    from shop.kinds.development import *\n",
            "web/shop/kinds/development.py": "from shop.kinds.base import *\nSECRET_KEY = 'x'\n",
            "web/shop/kinds/base.py": ONE_FILE[SETTINGS],
            "web/shop/kinds/production.py": "from shop.kinds.base import *\n",
            "invoke.yaml": "project:\n  settings: {prod: shop.settings}\n",
        },
        "web/shop/settings.py:3: the settings of development serve production, too, unless SHOP_ENV says otherwise;"
        " invoke.yaml, under project.env: `SHOP_ENV: plain`, and .env: `SHOP_ENV=production`",
    ),
    "settings that a variable includes": Case(
        ONE_FILE,
        {
            SETTINGS: "from os import environ\n\nfrom split_settings.tools import include, optional\n\n"
            'environ.setdefault("SHOP_ENV", "local")\nKIND = environ["SHOP_ENV"]\n'
            'include("parts/common.py", f"parts/{KIND}.py", optional("parts/mine.py"))\n',
            "web/shop/parts/common.py": ONE_FILE[SETTINGS],
            "web/shop/parts/local.py": "INSTALLED_APPS += ['more']\n",
            "web/shop/parts/live.py": "",
            "invoke.yaml": "project:\n  settings: {prod: shop.settings}\n",
        },
        "web/shop/settings.py:6: the settings of local serve production, too, unless SHOP_ENV says otherwise;"
        " invoke.yaml, under project.env: `SHOP_ENV: plain`, and .env: `SHOP_ENV=live`",
    ),
    "a variable of pydantic's settings": Case(
        ONE_FILE,
        {
            **more(SETTINGS, "from shop.own import own\n", ONE_FILE),
            "web/shop/own.py": "from pydantic_settings import BaseSettings\n\n\nclass Own(BaseSettings):\n"
            "    api_token: str\n\n\nown = Own()\n",
            ".env": "API_TOKEN=x\n",
        },
        "web/shop/own.py:8: API_TOKEN has no default, and is not declared;"
        " invoke.yaml, under project.env: `API_TOKEN: secret`",
    ),
    "static files of a storage without a hash that the kit does not replace": Case(
        SPLIT,
        other(
            PRODUCTION,
            "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
            "whitenoise.django.GzipStaticFilesStorage",
        ),
        "config/settings/production.py:7: advice: static files have no hash in their names, and browsers keep old ones",
    ),
    "uploads that nothing keeps": Case(
        SPLIT,
        {
            **more(BASE, "MEDIA_ROOT = APPS_DIR / 'media'\n"),
            "shop/models.py": "class Picture(models.Model):\n    file = models.ImageField()\n",
        },
        "config/settings/base.py:21: MEDIA_ROOT is on disk, and shop/models.py:2 uploads; nothing keeps or serves them;"
        " invoke.yaml, under project: `media: true`",
    ),
    "mail of production that is printed": Case(
        SPLIT,
        more(BASE, 'EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"\n'),
        "config/settings/base.py:21: advice: mail of production is sent to nobody: this back end prints or keeps it;"
        ' config/settings/production.py: `EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"`,'
        " and invoke.yaml, under project.env: `EMAIL_HOST: plain`, and .env: `EMAIL_HOST=mail.example.org`",
    ),
    "mail of production to a server that is not there": Case(
        SPLIT,
        {"shop/mail.py": "from django.core.mail import send_mail\n\nsend_mail('a', 'b', None, ['c'])\n"},
        "shop/mail.py:3: advice: mail of production goes to localhost, where no server takes it;"
        " invoke.yaml, under project.env: `EMAIL_HOST: plain`, and .env: `EMAIL_HOST=mail.example.org`",
    ),
    "mail of production to localhost by name": Case(
        SPLIT,
        more(BASE, 'EMAIL_HOST = "localhost"\n'),
        "config/settings/base.py:21: advice: mail of production goes to localhost, where no server takes it;"
        ' config/settings/base.py:21, instead: `EMAIL_HOST = env("EMAIL_HOST", default="localhost")`, and invoke.yaml',
    ),
    "a host of the default database": Case(
        SPLIT,
        other(BASE, 'env.db("DATABASE_URL")}', '{\n    "HOST": "postgres",\n}}'),
        "config/settings/base.py:11: advice: the host 'postgres' of the database 'default' is written into the"
        " settings; DATABASE_URL replaces it where Portico runs the site;"
        ' config/settings/base.py:11, instead: `"HOST": env("DATABASE_HOST", default="postgres")`',
    ),
    "a host of another database": Case(
        ONE_FILE,
        {
            **more(SETTINGS, 'DATABASES["old"] = {"HOST": "db1", "NAME": "x"}\n', ONE_FILE),
            ".env": "OLD_DATABASE_HOST=db1\n",
        },
        "web/shop/settings.py:16: the host 'db1' of the database 'old' is written into the settings;"
        ' web/shop/settings.py:16, instead: `"HOST": os.environ["OLD_DATABASE_HOST"]`'
        ", and invoke.yaml, under project.env: `OLD_DATABASE_HOST: plain`",
    ),
    "a cache in Redis": Case(
        SPLIT,
        with_redis(
            more(
                PRODUCTION,
                'CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://r"}}\n',
            )
        ),
        "config/settings/production.py:11: the cache 'default' is in Redis, and there is none;"
        " invoke.yaml, under project: `services: {redis: {}}`",
    ),
    "channels in Redis": Case(
        SPLIT,
        with_redis(
            more(
                PRODUCTION,
                'CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer",'
                ' "CONFIG": {"hosts": [env("REDIS_URL", default="redis://r")]}}}\n',
            )
        ),
        "config/settings/production.py:11: the channel layer 'default' is in Redis, and there is none",
    ),
    "results in Redis": Case(
        SPLIT,
        with_redis(more(BASE, 'CELERY_RESULT_BACKEND = env("RESULTS", default="redis://r")\n')),
        "config/settings/base.py:21: Celery's result backend is in Redis, and there is none",
        "swarm",
    ),
    "Redis without a package that speaks to it": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  services: {redis: {}}\n"},
        "requirements/base.in:1: advice: nothing in requirements/prod.txt speaks to Redis;"
        " requirements/base.in: `redis`, and run `invoke lock`",
    ),
    "a broker in Redis without a package that speaks to it": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  services: {redis: {broker: true}}\n"},
        "requirements/base.in:1: nothing in requirements/prod.txt speaks to Redis; requirements/base.in: `redis`,"
        " and run `invoke lock`",
    ),
    "a front page that is not found": Case(
        SPLIT,
        {"config/urls.py": 'urlpatterns = [path("shop/", views.index), path("admin/", admin.site.urls)]\n'},
        "config/urls.py:1: no address is the front page's, so the probe of `/` gets 404 and no release comes into"
        ' service; invoke.yaml, under project: `probes: "/readyz"`',
    ),
    "a module that observes and is not there": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  observe: config.sentri\n"},
        "invoke.yaml:6: project.observe is 'config.sentri', and the project has no such module; invoke.yaml,",
        runtime="prod",
    ),
    "samples that no app has": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  samples: load_them\n"},
        "invoke.yaml:6: advice: project.samples is 'load_them', and no app of the project has this management command;"
        ' invoke.yaml, under project: `samples: ""`',
    ),
    # --- Celery ---
    "two applications": Case(
        SPLIT,
        {"shop/old_celery.py": CELERY.format(settings="config.settings.local")},
        "config/celery_app.py:6: there are 2 Celery applications: config.celery_app:app, shop.old_celery:app;"
        " invoke.yaml, under project: `celery: config.celery_app:app`",
    ),
    "an application that is said and not there": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  celery: shop.celery:app\n"},
        "invoke.yaml:6: there is no Celery application shop.celery:app; invoke.yaml, under project: `celery: none`",
    ),
    "tasks and no application": Case(
        ONE_FILE,
        {"web/shop/tasks.py": "from celery import shared_task\n\n@shared_task\ndef work(): ...\n"},
        "web/shop/tasks.py:3: uses Celery, and no application is found: `app = Celery(…)` at the top of a module;"
        " invoke.yaml, under project: `celery: none`",
    ),
    "tasks that are acknowledged early": Case(
        TUTORIAL,
        other("mysite/settings/settings.py", "CELERY_TASK_ACKS_LATE = True\n", "", TUTORIAL),
        "polls/tasks.py:4: advice: tasks are acknowledged when taken, so a worker that dies loses them (make them"
        " safe to run twice); mysite/settings/settings.py: `CELERY_TASK_ACKS_LATE = True`",
    ),
    "tasks that are acknowledged early by the application": Case(
        SPLIT,
        {
            **more("config/celery_app.py", "app.conf.task_acks_late = False\n"),
            "shop/tasks.py": "@shared_task\ndef work(): ...\n",
        },
        "config/celery_app.py:9: advice: tasks are acknowledged when taken, so a worker that dies loses them (make them"
        " safe to run twice); config/celery_app.py:9, instead: `app.conf.task_acks_late = True`",
    ),
    "a queue of a task that no worker takes from": Case(
        TUTORIAL,
        {"polls/tasks.py": '@shared_task(queue="mail")\ndef send(): ...\n'},
        "polls/tasks.py:1: no worker takes from the queue 'mail': its tasks wait for ever; invoke.yaml, under"
        " project.workers: `mail: {queues: [mail]}`",
    ),
    "a queue, where a task is sent, that no worker takes from": Case(
        TUTORIAL,
        {"polls/services.py": 'def post(task):\n    task.apply_async(countdown=5, queue="mail")\n'},
        "polls/services.py:2: no worker takes from the queue 'mail': its tasks wait for ever; invoke.yaml, under"
        " project.workers: `mail: {queues: [mail]}`",
    ),
    "a queue in beat's schedule that no worker takes from": Case(
        SPLIT,
        more(
            BASE,
            'CELERY_BEAT_SCHEDULER = "x"\n'
            'CELERY_BEAT_SCHEDULE = {"a": {"task": "t", "schedule": 5, "options": {"queue": "mail"}}}\n',
        ),
        "config/settings/base.py:22: no worker takes from the queue 'mail': its tasks wait for ever; invoke.yaml, under"
        " project.workers: `mail: {queues: [mail]}`",
    ),
    "a queue of the settings that the default workers do not take from, as there are kinds": Case(
        SPLIT,
        {
            **more(BASE, 'CELERY_TASK_QUEUES = ["high"]\nCELERY_TASK_ROUTES = {"a": {"queue": "high"}}\n'),
            "invoke.yaml": SPLIT["invoke.yaml"] + "  workers:\n    mail: {queues: [mail]}\n",
        },
        "config/settings/base.py:22: no worker takes from the queue 'high': its tasks wait for ever",
    ),
    "a default queue that no worker takes from": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  workers:\n    default: {queues: [other]}\n"},
        "invoke.yaml:7: no worker takes from the default queue 'celery': its tasks wait for ever; invoke.yaml:7,"
        " instead: `default: {}`",
    ),
    "a pool of workers whose package is not locked": Case(
        SPLIT,
        {"invoke.yaml": SPLIT["invoke.yaml"] + "  workers:\n    default: {celery: --pool=gevent}\n"},
        "requirements/base.in:1: nothing in requirements/prod.txt is the pool of workers default;"
        " requirements/base.in: `gevent`, and run `invoke lock`",
    ),
    "a queue of a route that no worker takes from": Case(
        SPLIT,
        {
            **more(
                BASE,
                'CELERY_TASK_ROUTES = {\n    "shop.tasks.*": {"queue": "mail"},\n    "b": {"queue": "celery"},\n}\n',
            ),
            "invoke.yaml": SPLIT["invoke.yaml"] + "  workers:\n    default: {}\n",
        },
        "config/settings/base.py:22: no worker takes from the queue 'mail': its tasks wait for ever;"
        " invoke.yaml, under project.workers: `mail: {queues: [mail]}`",
    ),
    "tasks within the request": Case(
        SPLIT,
        more(BASE, "CELERY_TASK_ALWAYS_EAGER = True\n"),
        "config/settings/base.py:21: config.settings.production runs tasks within the request: workers get none;"
        " config/settings/base.py:21, instead: `CELERY_TASK_ALWAYS_EAGER = False`",
        "prod",
    ),
    "tasks within the request, in development": Case(
        SPLIT,
        more("config/settings/local.py", "CELERY_TASK_ALWAYS_EAGER = True\n"),
        "config/settings/local.py:8: advice: config.settings.local runs tasks within the request: workers get none",
    ),
    "a scheduler that beat does not use": Case(
        TUTORIAL,
        other(
            "mysite/settings/settings.py",
            'CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"\n',
            "",
            TUTORIAL,
        ),
        "mysite/celery_app.py:6: advice: django_celery_beat is installed, and beat does not use it;"
        ' mysite/settings/settings.py: `CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"`',
    ),
    "beat's default scheduler": Case(
        SPLIT,
        more("config/celery_app.py", "app.conf.beat_schedule = {}\n"),
        "config/celery_app.py:9: advice: beat keeps its schedule in a file beside the code; a database would outlive"
        " releases; config/settings/base.py:"
        ' `CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"`,'
        ' and config/settings/base.py: `INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_beat"]`,'
        " and requirements/base.in: `django-celery-beat`, and run `invoke lock`",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_is_wrong_is_found_and_the_remedy_mends_it(tmp_path: Path, case: Case) -> None:
    write(tmp_path, case.shape, case.files)
    (finding,) = found(tmp_path, case.runtime)
    assert str(finding).startswith(case.line)
    apply(finding.remedy, tmp_path)
    if finding.command == "invoke lock":
        lock(tmp_path)
    write(tmp_path, case.then)
    assert [str(each) for each in found(tmp_path, case.runtime, case.environ)] == []


@pytest.mark.parametrize("runtime", ["", *RUNTIMES])
@pytest.mark.parametrize("shape", shapes.SHAPES.values(), ids=list(shapes.SHAPES))
def test_nothing_is_found_in_a_project_that_lacks_nothing(tmp_path: Path, shape: Files, runtime: str) -> None:
    write(tmp_path, shape)
    assert [str(each) for each in found(tmp_path, runtime)] == []


@pytest.mark.parametrize("runtime", ["", *RUNTIMES])
def test_nothing_is_found_in_the_demonstration(runtime: str) -> None:
    merged = {"site": "site", "package": "mysite", "samples": "load_sample_polls", "probes": "/readyz /"}
    assert [str(each) for each in check.findings(check.known(ROOT, merged, runtime, {}))] == []


# --- What is not wrong ---


@pytest.mark.parametrize(
    "files",
    [
        {"config/urls.py": 'urlpatterns = [path("", include("shop.urls"))]\n', "shop/urls.py": URLS}
        for URLS in ('urlpatterns = [path("", views.index)]\n', "urlpatterns = router.urls\n")
    ]
    + [
        {"config/urls.py": text}
        for text in (
            'urlpatterns = [re_path(r"^$", views.index)]\n',
            'urlpatterns = [path("a/", x)] + i18n_patterns(path("", y))\n',
            'urlpatterns = [path("", include(wagtail_urls))]\n',
            'urlpatterns = [path("a/", x)]\nurlpatterns += [path("", y)]\n',
        )
    ],
)
def test_a_front_page_that_may_be_there_is_not_reported(tmp_path: Path, files: Files) -> None:
    assert found(write(tmp_path, SPLIT, files)) == []


@pytest.mark.parametrize(
    "storages",
    [
        "",  # the kit lays a manifest over these
        *(f'STATICFILES_STORAGE = "{backend}"\n' for backend in WITHOUT_MANIFEST),
        *(f'STORAGES = {{"staticfiles": {{"BACKEND": "{backend}"}}}}\n' for backend in WITHOUT_MANIFEST),
        'STATICFILES_STORAGE = "whitenoise.storage.CompressedManifestStaticFilesStorage"\n',
        'STORAGES = {"staticfiles": {"BACKEND": "storages.backends.s3.S3Storage"}}\n',
        'STORAGES["staticfiles"] = {"BACKEND": "shop.storage.ManifestStorage"}\n',
        "STORAGES = make_storages()\n",
    ],
)
def test_a_storage_that_has_hashes_or_is_elsewhere_is_not_reported(tmp_path: Path, storages: str) -> None:
    production = f"from .base import *\n\n{shapes.STORAGES if storages.startswith('STORAGES[') else ''}{storages}"
    assert found(write(tmp_path, SPLIT, {PRODUCTION: production, "invoke.yaml": ""})) == []


@pytest.mark.parametrize(
    "text",
    [
        'EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"\n',
        'EMAIL_HOST = "mail.example.org"\n',
        'EMAIL_BACKEND = env("EMAIL_BACKEND", default="django.core.mail.backends.console.EmailBackend")\n',
        "EMAIL_HOST = find_host()\n",
        'vars().update(env.email_url("EMAIL_URL", default="smtp://mail.example.org"))\nEMAIL_HOST = some["x"]\n',
    ],
)
def test_mail_that_goes_somewhere_is_not_reported(tmp_path: Path, text: str) -> None:
    sends = {"shop/mail.py": "send_mail('a', 'b', None, ['c'])\n"}
    assert [
        str(each) for each in found(write(tmp_path, SPLIT, {**more(BASE, text), **sends})) if "mail" in each.what
    ] == []


def test_uploads_that_go_elsewhere_are_not_reported(tmp_path: Path) -> None:
    files = {
        **more(BASE, "MEDIA_ROOT = APPS_DIR / 'media'\n"),
        "shop/models.py": "file = models.FileField()\n",
        **other(PRODUCTION, "django.core.files.storage.FileSystemStorage", "storages.backends.s3.S3Storage"),
    }
    assert found(write(tmp_path, SPLIT, files)) == []


def test_a_cache_in_redis_under_a_condition_or_a_declared_variable_is_not_reported(tmp_path: Path) -> None:
    cache = 'CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": env("CACHE")}}\n'
    files = more(PRODUCTION, f'if env("CACHE", default=""):\n    {cache}')
    assert found(write(tmp_path / "a", SPLIT, files)) == []
    said = SPLIT["invoke.yaml"] + "    CACHE: secret\n"
    values = SPLIT[".env"] + "CACHE=redis://elsewhere\n"
    assert found(write(tmp_path / "b", SPLIT, more(PRODUCTION, cache), {"invoke.yaml": said, ".env": values})) == []


def test_a_database_on_this_machine_is_not_reported(tmp_path: Path) -> None:
    databases = other(
        BASE, 'env.db("DATABASE_URL")}', '{"HOST": env("DB", default="postgres")}, "b": {"HOST": "localhost"}}'
    )
    assert found(write(tmp_path, SPLIT, databases)) == []


def test_tasks_that_are_each_acknowledged_late_are_not_reported(tmp_path: Path) -> None:
    files = {
        **other("mysite/settings/settings.py", "CELERY_TASK_ACKS_LATE = True\n", "", TUTORIAL),
        "polls/tasks.py": "@shared_task(acks_late=True)\ndef work(): ...\n",
    }
    assert found(write(tmp_path, TUTORIAL, files)) == []


@pytest.mark.parametrize(
    "lines",
    [
        'CELERY_TASK_DEFAULT_QUEUE = "mail"\n',
        'CELERY_TASK_QUEUES = [Queue("mail"), Queue("celery")]\n',
    ],
)
def test_a_queue_that_each_worker_takes_from_is_not_reported(tmp_path: Path, lines: str) -> None:
    task = {"shop/tasks.py": '@shared_task(queue="mail")\ndef send(): ...\n'}
    assert found(write(tmp_path, SPLIT, task, more(BASE, lines))) == []


def test_tasks_that_run_within_the_request_only_without_a_broker_are_not_reported(tmp_path: Path) -> None:
    line = 'CELERY_TASK_ALWAYS_EAGER = not env("CELERY_BROKER_URL", default="")\n'
    assert found(write(tmp_path, SPLIT, more(BASE, line))) == []


def test_what_production_lacks_is_an_error_where_development_lacks_it_too(tmp_path: Path) -> None:
    write(tmp_path, SPLIT, more(BASE, 'CELERY_RESULT_BACKEND = "redis://r"\n'))
    assert [each.advice for each in found(tmp_path)] == [False]
    assert [each.advice for each in found(tmp_path, "native")] == [False]


# --- For which runtime ---


def test_development_is_not_asked_for_what_production_needs(tmp_path: Path) -> None:
    write(tmp_path, SPLIT, {".env": "", "requirements/prod.txt": "", "requirements/prod.in": ""})
    assert found(tmp_path, "native") == found(tmp_path, "dev") == []
    assert len([each for each in found(tmp_path, "prod") if not each.advice]) == 5
    advice = [str(each) for each in found(tmp_path) if each.advice]
    assert len(advice) == 2, "a value that this machine lacks may be on another"


@pytest.mark.parametrize(
    ("file", "line", "given"),
    [
        ("config/settings/.env", "environ.Env.read_env(BASE_DIR)\n", True),
        ("config/.env.local", "load_dotenv(BASE_DIR / '.env.local')\n", True),
        ("config/settings/.env.example", "environ.Env.read_env(BASE_DIR)\n", False),
        ("shop/.env", "environ.Env.read_env(BASE_DIR)\n", False),
        ("config/settings/.env", "", False),
    ],
)
def test_a_file_that_settings_read_themselves_gives_values_in_development(
    tmp_path: Path, file: str, line: str, given: bool
) -> None:
    files = {**more(BASE, f'OWN = env("OWN")\n{line}'), file: "export OWN=x\n"}
    write(tmp_path, SPLIT, files, {"invoke.yaml": SPLIT["invoke.yaml"] + "    OWN: plain\n"})
    for runtime in ("native", "dev"):
        assert [str(each.at) for each in found(tmp_path, runtime)] == ([] if given else [f"{BASE}:21"])
    assert [str(each.at) for each in found(tmp_path, "prod")] == [f"{BASE}:21"], "the file is in no image"


def test_hosts_have_their_values_in_their_own_file(tmp_path: Path) -> None:
    environment = "deploy/environments/live.yaml"
    write(tmp_path, SPLIT, {environment: "settings: {DJANGO_ADMIN_URL: x}\nsecrets: {SECRET_KEY: env:S}\n", ".env": ""})
    (finding,) = found(tmp_path, "live")
    assert finding.remedy == [
        Edit("deploy/environments/live.yaml", "DJANGO_SECRET_KEY: env:DJANGO_SECRET_KEY", under=("secrets",))
    ]
    apply(finding.remedy, tmp_path)
    assert found(tmp_path, "live") == []
    assert check.known(tmp_path, DEFAULTS, "live", {}).runtimes == {HOSTS}


def test_a_runtime_that_there_is_not_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, SPLIT, {"deploy/environments/live.yaml": "", "deploy/environments/example.yaml": ""})
    with pytest.raises(Failure, match=r"--for lve: .* there are: native, dev, prod, swarm, live$"):
        found(tmp_path, "lve")


def test_an_invoke_yaml_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "invoke.yaml").write_text("project:\n  name: shop\n  site: [a\n")
    with pytest.raises(Failure, match=r"invoke\.yaml:4: "):
        check.known(tmp_path, DEFAULTS, "", {})


@pytest.mark.parametrize(("python", "advice"), [("3.11", False), ("3.99", True)])
def test_settings_that_this_python_cannot_parse_are_not_said_to_be_missing(
    tmp_path: Path, python: str, advice: bool
) -> None:
    pyproject = f"[project]\nname = 'shop'\nrequires-python = '>={python}'\n"
    said = f'project:\n  python: "{python}"\n'
    write(tmp_path, ONE_FILE, {SETTINGS: "X = 1\nnew syntax\n", "pyproject.toml": pyproject, "invoke.yaml": said})
    (finding,) = found(tmp_path, "native")
    assert str(finding.at) == f"{SETTINGS}:2"
    assert "cannot parse this; if it is right, the tools need a newer one" in finding.what
    assert finding.advice is advice


def test_a_base_that_this_python_cannot_parse_is_named(tmp_path: Path) -> None:
    write(tmp_path, SPLIT, {BASE: "new syntax\n"})
    assert [str(each.at) for each in found(tmp_path) if "cannot parse" in each.what] == [f"{BASE}:1"]


def test_a_password_beside_a_host_is_not_told(tmp_path: Path) -> None:
    line = 'DATABASES["old"] = {"HOST": "db1", "PASSWORD": "hidden"}\n'
    (finding,) = found(write(tmp_path, ONE_FILE, more(SETTINGS, line, ONE_FILE)))
    assert "hidden" not in str(finding)


def test_a_repository_without_a_django_project_is_told_so(tmp_path: Path) -> None:
    (first, *_) = found(tmp_path, "native")
    assert (
        str(first)
        == "invoke.yaml:1: there is no manage.py in this repository; run `django-admin startproject config .`"
    )


# --- How it is told ---


def test_errors_fail_and_advice_does_not(tmp_path: Path) -> None:
    production = {"mysite/settings/production.py": "from .settings import *\n", "invoke.yaml": ""}
    write(tmp_path, TUTORIAL, production, {".python-version": "3.13\n"})
    report = check.report(tmp_path, DEFAULTS, "", {})
    assert [line.split(": ")[0] for line in report.wrong] == ["mysite/settings/settings.py:1"]
    assert [line.split(": ")[:2] for line in report.remarks] == [[".python-version:1", "advice"]]


def test_what_was_detected_is_told_with_its_places(tmp_path: Path) -> None:
    (grid,) = check.report(write(tmp_path, SPLIT), DEFAULTS, "", {}).grids
    assert ("settings, production", "config.settings.production", "config/wsgi.py:5") in grid.rows
    assert ("Celery", "config.celery_app:app", "config/celery_app.py:6") in grid.rows


# --- Edits ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "project:\n  celery: none\n"),
        ("# ours\nproject:\n  name: shop\n", "# ours\nproject:\n  celery: none\n  name: shop\n"),
        (
            "project:\n  name: shop\n  celery: a\ntasks:\n  x: 1\n",
            "project:\n  name: shop\n  celery: none\ntasks:\n  x: 1\n",
        ),
        ("tasks:\n  celery: a\n", "project:\n  celery: none\ntasks:\n  celery: a\n"),
    ],
)
def test_a_key_is_written_below_its_section(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "invoke.yaml").write_text(before)
    apply([Edit("invoke.yaml", "celery: none", under=("project",))], tmp_path)
    assert (tmp_path / "invoke.yaml").read_text() == after
