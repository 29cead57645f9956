"""The variables by which a site finds the kit and its own parts, the same on every runtime."""

from __future__ import annotations

import json

from deploy.project.config import Project

DEVELOPMENT, PRODUCTION = "development", "production"
#: The folder that every runtime puts on PYTHONPATH, and the settings module in it.
KIT, SETTINGS = "deploy/kit", "portico_site.settings"
#: A key where there is none yet, as long as real ones: settings and packages refuse short ones.
STAND_IN_KEY = "insecure-stand-in-of-portico-0123456789-for-development-and-tests"
#: The commands of a site's processes, without their options. The compose files and `launch.sh` say the same.
CELERY = ("-A", "portico_site.celery:app")
HEALTHCHECK = ("python", "-m", "portico_site.healthcheck")
#: What prints the answer of `/readyz` in a container of the site, and the seconds that it may take.
READY_SECONDS = 10.0
READY = (
    *("python", "-c"),
    "from portico_site.healthcheck import ask; print(ask('127.0.0.1', 8000, '/readyz')[1])",
)


def given_up(said: str, manage: str) -> list[str]:
    """A remark for `status` about tasks that were given up, from the answer of `/readyz`; none without any.

    ``manage`` is the command that runs manage.py there.
    """
    try:
        found = json.loads(said)
        number = int(found.get("dead letters", 0)) if isinstance(found, dict) else 0
    except (ValueError, TypeError):
        return []
    are = "task was" if number == 1 else "tasks were"
    return [f"{number} {are} given up: `{manage} dead_letters` shows them"] if number else []


#: The variable that gives a site its metrics.
METRICS = "PORTICO_METRICS"


def variables(project: Project, mode: str) -> dict[str, str]:
    """The variables for a mode, `DEVELOPMENT` or `PRODUCTION`."""
    names = project.names
    kinds = {"PORTICO_KINDS": ",".join(each.name for each in project.kinds)} if len(project.kinds) > 1 else {}
    path = {"PORTICO_PATH": names.imports} if names.path else {}
    return {
        "DJANGO_SETTINGS_MODULE": SETTINGS,
        "PORTICO_MODE": mode,
        "PORTICO_SETTINGS": names.dev if mode == DEVELOPMENT else names.prod,
        "PORTICO_WSGI": names.wsgi,
        "PORTICO_ASGI": names.asgi,
        "PORTICO_CELERY": names.celery,
        **kinds,
        **path,
        **seeing(project, mode),
    }


def seeing(project: Project, mode: str) -> dict[str, str]:
    """The variables by which a site is seen: its metrics, and in production the module that observes it."""
    observe = {"PORTICO_OBSERVE": project.observe} if project.observe and mode == PRODUCTION else {}
    return {**({METRICS: "1"} if project.metrics else {}), **observe}


def stand_ins(project: Project) -> dict[str, str]:
    """A value of a likely form for each variable that a build and tests have none of."""
    names = {*project.env, *(("REDIS_URL", "CACHE_URL") if project.redis else ())}
    return {name: stand_in(name) for name in sorted(names)}


def stand_in(name: str) -> str:
    """What a variable of the project's own is set to where it has no value, in builds and tests: of a likely form."""
    kind = name.rpartition("_")[2]
    if kind in ("URL", "URI", "DSN"):
        scheme = next((each for each in ("redis", "smtp", "postgres", "amqp") if each in name.lower()), "https")
        return f"{'smtp' if 'EMAIL' in name else 'redis' if 'CACHE' in name else scheme}://build@build.invalid/1"
    return "1"
