"""Rules about what a project is: its folder, settings modules, Python, packages, front end, `invoke.yaml` itself."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from deploy import OLDEST
from deploy.project import local, workers
from deploy.project.config import KEYS
from deploy.project.declared import FILE, SECTION
from deploy.project.detect import is_asynchronous
from deploy.project.findings import Edit, Finding
from deploy.project.rules.known import DEV, NATIVE, Known, project
from deploy.project.source import packages
from deploy.project.source.modules import Module
from deploy.project.source.packages import inner
from deploy.project.source.tree import Location
from deploy.project.source.values import text

DRIVERS = ("psycopg2", "psycopg2-binary", "psycopg", "psycopg-binary", "psycopg-c")
#: The first versions that run on Python 3.11, the oldest here, by their release notes and classifiers; Django's is the
#: first with STORAGES, which the kit lays over.
FIRST = {
    "django": (4, 2),
    "celery": (5, 3),
    "kombu": (5, 3),
    "amqp": (5, 1),
    "billiard": (4, 1),
    "vine": (5, 0),
    "django-celery-beat": (2, 5),
    "django-celery-results": (2, 5),
    "psycopg2": (2, 9),
    "psycopg2-binary": (2, 9),
    "gunicorn": (20, 1),
}


def unknown_keys(known: Known) -> Iterator[Finding]:
    """A key that is misspelled would leave a default in force, the name of another project above all."""
    for key, line in known.declared.lines.items():
        if key and "." not in key and key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            value = known.declared.text(key)
            fix = Edit(FILE, f"{near[0]}: {value}", line) if near and value else Edit(FILE, "", line)
            hint = f"did you mean {near[0]}" if near else f"there are: {', '.join(KEYS)}"
            yield Finding(Location(FILE, line), f"{SECTION}.{key} is not a key ({hint})", [fix])
    python = known.declared.values.get("python")
    if python is not None and not isinstance(python, str):
        quoted = f'python: "{python}"'
        yield Finding(
            known.declared.at("python"), "project.python is a number to YAML: 3.10 would be 3.1", (project(quoted),)
        )


def manage(known: Known) -> Iterator[Finding]:
    """Where manage.py is."""
    found, said = known.detected.sites, known.declared.text("site")
    names = [each.name for each in found]
    if not found:
        yield Finding(
            known.declared.at("site"),
            "there is no manage.py in this repository",
            command="django-admin startproject config .",
        )
    elif said and said not in names:
        others = f"; there are more in {', '.join(names[1:])}" if names[1:] else ""
        what = f"project.site is {said!r}, but manage.py is in {names[0]!r}{others}"
        yield Finding(known.declared.at("site"), what, [project(f"site: {_quoted(names[0])}")])
    elif not said and len(names) > 1:
        what = f"several folders have a manage.py: {', '.join(names)}"
        yield Finding(found[0].at, what, [project(f"site: {_quoted(names[0])}")])


def _quoted(name: str) -> str:
    return f'"{name}"' if name == "." else name


def settings_modules(known: Known) -> Iterator[Finding]:
    """The settings modules that something names, and the modules that settings import."""
    roles = (
        *((("dev", known.detected.development),) if known.develops else ()),
        *((("prod", known.detected.production),) if known.serves else ()),
    )
    others = [
        name for name in known.detected.settings if known.detected.base is None or name != known.detected.base.name
    ]
    files = {_file_of(known, found.name) for _, found in roles if found}
    for role, found in roles:
        if found is None and known.detected.sites:
            what = f"no settings module is found for {role}"
            yield Finding(known.detected.sites[0].at, what, [project(f"{role}: {_or(others)}", "settings")])
        elif found and _file_of(known, found.name) in known.detected.tree.broken:
            continue
        elif found and known.detected.module(found) is None:
            fit = [each for each in others if each != found.name]
            what = f"the settings module {found.name} is not there"
            yield Finding(found.at, what, [project(f"{role}: {_or(fit)}", "settings")])
    folders = {path.rpartition("/")[0] for path in files}
    for path, at in known.detected.tree.broken.items():
        if path.rpartition("/")[0] in folders:
            yield from _unreadable(known, at)
    for name, at in dict.fromkeys(each for _, module in known.settings for each in module.missing):
        yield Finding(at, f"imports {name}, which is not there", [Edit(_file_of(known, name), "")])


def _unreadable(known: Known, at: Location) -> Iterator[Finding]:
    """Settings that the Python of the tools cannot parse: wrong, or written for a newer one."""
    mine, needed = sys.version_info[:2], known.detected.requirements.lowest
    newer = needed is not None and needed.version > mine
    wanted = needed.text if needed and newer else f"{mine[0]}.{mine[1] + 1}"
    what = f"Python {mine[0]}.{mine[1]} cannot parse this; if it is right, the tools need a newer one"
    yield Finding(at, what, command=f"invoke venv --env tools --python {wanted}", advice=newer)


def _or(names: list[str]) -> str:
    return names[0] if names else "MODULE"


def _file_of(known: Known, module: str) -> str:
    """The file of a module, or that which it would have."""
    folder = "" if known.detected.site == "." else f"{known.detected.site}/"
    library = known.detected.library
    return library.path(module) or f"{folder}{module.replace('.', '/')}.py"


def python(known: Known) -> Iterator[Finding]:
    """The locks are made for a Python, and all later ones; what needs a newer one cannot be locked."""
    requirements, mine = known.detected.requirements, ".".join(map(str, known.python))
    for needed in filter(None, (requirements.lowest, requirements.used)):
        if needed.version > known.python:
            what = (
                f"{needed.by} {'needs' if needed.firm else 'names'} Python {needed.text}, and the locks are for {mine}"
            )
            fix = project(f'python: "{needed.text}"')
            yield Finding(needed.at, f"{what} and newer", [fix], "invoke lock", advice=not needed.firm)
            return


def locked_packages(known: Known) -> Iterator[Finding]:
    """What each runtime needs beside what the project asks for itself."""
    if known.serves:
        yield from _lacking(known, "prod", ("gunicorn",), "gunicorn", "serves the site")
        yield from _lacking(known, "prod", DRIVERS, "psycopg2", "speaks to PostgreSQL")
        if _serves_asgi(known):
            yield from _lacking(known, "prod", ("uvicorn-worker",), "uvicorn-worker", "serves what is asynchronous")
            yield from _lacking(known, "prod", ("websockets", "wsproto"), "websockets", "speaks to websockets")
    if known.develops and _serves_asgi(known):
        yield from _lacking(known, "dev", ("uvicorn", "daphne"), "uvicorn", "serves what is asynchronous")
    if DEV in known.runtimes:
        yield from _lacking(known, "dev", ("watchfiles",), "watchfiles", "reloads the code in containers")
        yield from _lacking(known, "dev", DRIVERS, "psycopg2-binary", "speaks to PostgreSQL")
    if "redis" in known.declared.names("services"):
        env = "prod" if known.serves else "dev"
        broker = inner(known.declared.values, "services", "redis").get("broker") is True
        for each in _lacking(known, env, ("redis", "valkey"), "redis", "speaks to Redis", source="base"):
            yield replace(each, advice=not broker)
    if known.app:
        env = "prod" if known.serves else "dev"
        yield from _lacking(known, env, ("celery",), "celery", f"runs {known.app.name}", source="base")
        for kind in workers.parse(inner(known.declared.values, "workers")):
            for pool in (each for each in ("gevent", "eventlet") if f"--pool={each}" in kind.options):
                yield from _lacking(known, env, (pool,), pool, f"is the pool of workers {kind.name}", source="base")


def too_old(known: Known) -> Iterator[Finding]:
    """A lock may hold versions of long ago, which run on no Python that runs here."""
    asked: dict[str, packages.Package] = {}
    for each in _asked(known, "prod"):
        if each.name not in asked or "==" in each.versions:
            asked[each.name] = each
    tree = known.detected.tree
    there = {**packages.locked(tree, "requirements/prod.txt"), **packages.locked(tree, "requirements/base.txt")}
    old = [each for name, each in sorted(there.items()) if (packages.lowest(each.versions) or (99, 0)) < _first(name)]
    # What nobody asks for came with the others, and goes with them.
    for package in [each for each in old if each.name in asked] or old:
        wanted, by = ".".join(map(str, _first(package.name))), asked.get(package.name)
        fix = [Edit(by.at.path, f"{package.name}>={wanted}", line=by.at.line)] if by and by.versions else []
        version, mine = package.versions.removeprefix("=="), ".".join(map(str, OLDEST))
        what = f"{package.name} {version} does not run on Python {mine}; {wanted} is the first that does"
        yield Finding(by.at if by else package.at, what, fix, "invoke lock --upgrade")


def _first(name: str) -> tuple[int, int]:
    return FIRST.get(name, (0, 0))


def _serves_asgi(known: Known) -> bool:
    """Whether gunicorn runs the ASGI application: `names` of `detect.py` decides in the same way."""
    found = known.detected
    return found.asgi is not None and (bool(known.declared.text("asgi")) or is_asynchronous(found))


def _lacking(
    known: Known, env: str, names: tuple[str, ...], wanted: str, why: str, *, source: str = ""
) -> Iterator[Finding]:
    """A package that a lock lacks: it is asked for and not locked yet, or it is not asked for."""
    tree, lock = known.detected.tree, f"requirements/{env}.txt"
    if set(names) & set(packages.locked(tree, lock)) and f"requirements/{env}.in" in tree.files:
        return
    asked = next((found for found in _asked(known, env) if found.name in names), None)
    if asked:
        yield Finding(asked.at, f"{asked.name} is not in {lock} yet", command="invoke lock")
        return
    file = f"requirements/{source or env}.in"
    lines = [] if source or tree.text(file) else [Edit(file, "-r base.in")]
    yield Finding(Location(file), f"nothing in {lock} {why}", [*lines, Edit(file, wanted)], "invoke lock")


def _asked(known: Known, env: str) -> Iterator[packages.Package]:
    """What an .in file asks for, and those that it stands on."""
    tree, waiting = known.detected.tree, [f"requirements/{env}.in"]
    while waiting:
        path = waiting.pop()
        for _, line in tree.lines(path):
            if line.startswith("-r ") and line.split()[1].endswith(".in"):
                waiting.append(f"requirements/{line.split()[1]}")
        yield from packages.locked(tree, path).values()


def postgres_only(known: Known) -> Iterator[Finding]:
    """A native start has SQLite, unless it is given a server."""
    given = known.environ.get("DATABASE_URL", "").startswith(("postgres", "postgis"))
    if known.detected.postgres_only and NATIVE in known.runtimes and not given:
        at = known.detected.postgres_only[0]
        what = "needs PostgreSQL, and a native start has SQLite unless DATABASE_URL names a server"
        command = "DATABASE_URL=postgres://USER:PASSWORD@127.0.0.1:5432/NAME invoke dev --native"
        yield Finding(at, what, command=command, advice=not known.named)


def assets(known: Known) -> Iterator[Finding]:
    """A front end whose output is not there."""
    if known.declared.values.get("assets") or not known.detected.frontends:
        return
    front = known.detected.frontends[0]
    for _, module in known.settings:
        for path, at in _served_folders(known, module):
            folder = known.detected.root / path
            files = (
                [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
                if folder.is_dir()
                else []
            )
            if not files:
                folder_of = str(PurePosixPath(front.at.path).parent)
                step = f"cd {folder_of} && " if folder_of != "." else ""
                run = f"{step}npm ci && {front.build or 'npm run build'}"
                line = f'assets: {{image: "node:22", run: "{run}", output: {path}}}'
                yield Finding(at, f"{path} has no files: {front.at.path} must be built first", [project(line)])
                return


def _served_folders(known: Known, module: Module) -> Iterator[tuple[str, Location]]:
    """The folders of static files within the repository."""
    found = module.get("STATICFILES_DIRS")
    for each in found.value if found and isinstance(found.value, tuple) else ():
        inside = each[-1] if isinstance(each, tuple) and each else each
        if isinstance(inside, PurePosixPath) or text(inside).startswith("/"):
            path = known.detected.tree.relative(PurePosixPath(text(inside)))
            if path and found:
                yield path, found.at


def additions(known: Known) -> Iterator[Finding]:
    """A file of `deploy/local/` whose name is not quite the one that is read."""
    for name, right in local.misnamed(known.detected.root).items():
        yield Finding(Location(name), f"nothing reads this file: the name is {right}", command=f"git mv {name} {right}")


RULES = (additions, unknown_keys, manage, settings_modules, python, locked_packages, too_old, postgres_only, assets)
