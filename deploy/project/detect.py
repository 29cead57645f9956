"""What a Django project is, found in its source with `ast`: nothing of it is imported, and nothing is run.

`detect` walks the repository once and parses only files that can matter. What `invoke.yaml` says goes before what is
found; each finding has the file and line that says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from deploy.core.errors import Failure
from deploy.project.names import Names
from deploy.project.source import celery, packages, paths, runner
from deploy.project.source.celery import App, Task
from deploy.project.source.modules import FAR, Library, Module
from deploy.project.source.tree import Location, Named, Tree, above, walk, within
from deploy.project.source.values import Read, text, texts

#: What settings modules are called, by what they are for.
DEVELOPMENT = ("development", "develop", "dev", "local")
PRODUCTION = ("production", "prod", "live", "heroku", "deploy")
TEST = ("test", "tests", "testing", "ci")
BASE = ("base", "common", "defaults", "shared")
VARIABLE = "DJANGO_SETTINGS_MODULE"
#: The variable of django-configurations, whose settings are a class in that module: `module:Class`.
CLASS = "DJANGO_CONFIGURATION"
YAML = Location("invoke.yaml")
#: A settings module has one of these, by itself or from another; else it is a part of one.
WHOLE = ("INSTALLED_APPS", "ROOT_URLCONF")


@dataclass(frozen=True)
class Frontend:
    """A package.json, and the command of its own that builds what the site serves, if it names one."""

    at: Location
    build: str


@dataclass(frozen=True)
class Detected:
    """All that was found. Locations are relative to the root."""

    root: Path
    #: The folders of manage.py, the one that is used first.
    sites: tuple[Named, ...]
    #: All settings modules that are whole, and what they hold.
    settings: Mapping[str, Module]
    development: Named | None
    production: Named | None
    test: Named | None
    base: Named | None
    wsgi: Named | None
    asgi: Named | None
    celery: tuple[App, ...]
    tasks: tuple[Task, ...]
    requirements: packages.Requirements
    frontends: tuple[Frontend, ...]
    #: Migrations and models that only PostgreSQL serves.
    postgres_only: tuple[Location, ...]
    #: How the project runs its own tests: pytest, or manage.py test.
    runner: Named | None
    tree: Tree
    #: Folders that are on the import path beside that of manage.py, relative to the root.
    paths: tuple[str, ...] = ()

    @property
    def site(self) -> str:
        """The folder of manage.py that is used."""
        return self.sites[0].name if self.sites else "."

    @property
    def library(self) -> Library:
        """The modules of the project, by the names that it imports them by."""
        return Library(self.tree, self.site, self.paths)

    @cached_property
    def elsewhere(self) -> tuple[Read, ...]:
        """Variables that are read outside of the settings. Not looked for before somebody asks: many files may be."""
        return tuple(_elsewhere(self.tree, self.library, self.settings))

    @property
    def production_name(self) -> str:
        """The settings module of production; empty for none."""
        return self.production.name if self.production else ""

    def module(self, found: Named | None) -> Module | None:
        """What a settings module that was found holds; None where it is not there."""
        return self.settings.get(found.name) if found else None

    def apps(self, settings: Module) -> tuple[str, ...]:
        """INSTALLED_APPS, as far as its words are literal, those under a condition too."""
        return tuple(dict.fromkeys(name for each in settings.every("INSTALLED_APPS") for name in texts(each.value)))


@dataclass(frozen=True)
class Said(Names):
    """What `invoke.yaml` says of it, each empty where it says nothing."""

    at: Location = YAML

    def named(self, name: str) -> Named | None:
        """A name as what is said of it; None for an empty one."""
        return Named(name, self.at) if name else None


def detect(root: Path, said: Said | None = None) -> Detected:
    """Read a repository. A project without manage.py is not an error here: the lists are empty then."""
    said = said or Said()
    tree = walk(root)
    sites = _sites(tree, said)
    site = sites[0].name if sites else "."
    library = Library(tree, site)
    starters = _starters(tree, library)
    found_paths = paths.declared(site, said.path) if said.path else paths.find(tree, site, tuple(starters.values()))
    library = Library(tree, site, found_paths)
    named = {name: tuple(_seeded(library, path)) for name, path in starters.items()}
    apps = _chosen(celery.apps(tree, library), said)
    for each in apps:
        named.setdefault("celery", tuple(_seeded(library, each.at.path)))
    settings = _settings(library, [each.name for found in named.values() for each in found])
    for name in (said.dev, said.prod):
        if name and (module := library.module(name)):
            settings.setdefault(name, module)
    development = said.named(said.dev) or _development(settings, named)
    production = said.named(said.prod) or _production(settings, named, development)
    served = settings.get(production.name) if production else None
    return Detected(
        root=root,
        sites=sites,
        settings=settings,
        development=development,
        production=production,
        test=runner.settings(tree, site) or _by_name(settings, TEST),
        base=_by_name(settings, BASE) or _inherited(settings),
        wsgi=_entry("WSGI_APPLICATION", served, library, starters.get("wsgi"), said.named(said.wsgi)),
        asgi=_entry("ASGI_APPLICATION", served, library, starters.get("asgi"), said.named(said.asgi)),
        celery=apps,
        tasks=tuple(celery.tasks(tree, site)),
        requirements=packages.read(tree, set(above(site))),
        frontends=tuple(_frontends(tree)),
        postgres_only=tuple(_postgres_only(tree, site)),
        runner=runner.runner(tree, site),
        tree=tree,
        paths=found_paths,
    )


def names(root: Path, declared: Names) -> Names:
    """Where the parts of a project are: as declared, else as found; `celery` is `none` for a project without it.

    Raises `Failure` for a part that every project has and that is not found, or if there are several to choose from.
    """
    found = detect(root, Said(**asdict(declared)))
    if not found.sites:
        raise Failure("there is no manage.py here; set project.site in invoke.yaml to its folder")
    for key, module in (("dev", found.development), ("prod", found.production)):
        if module is None:
            raise Failure(f"no settings module is found; set project.settings.{key} in invoke.yaml")
    if len(found.celery) > 1 and not declared.celery:
        several = ", ".join(each.name for each in found.celery)
        raise Failure(
            f"several Celery applications are found: {several}; set project.celery in invoke.yaml to one of them"
        )
    assert found.development
    assert found.production
    return Names(
        site=declared.site or found.site,
        path=" ".join(str(PurePosixPath(each).relative_to(found.site)) for each in found.paths),
        dev=found.development.name,
        prod=found.production.name,
        wsgi=found.wsgi.name if found.wsgi else "",
        asgi=found.asgi.name if found.asgi and (declared.asgi or is_asynchronous(found)) else "",
        celery=declared.celery or (found.celery[0].name if found.celery else "none"),
    )


def is_asynchronous(found: Detected) -> bool:
    """Whether a site needs an ASGI server: it has channels or daphne, or routes more than HTTP."""
    settings = found.module(found.production)
    if settings and {"channels", "daphne"} & set(found.apps(settings)):
        return True
    path = found.library.path(found.asgi.name.partition(":")[0]) if found.asgi else None
    return bool(path) and "ProtocolTypeRouter" in found.tree.text(path or "")


# --- manage.py, and what starts the site ---


def _sites(tree: Tree, said: Said) -> tuple[Named, ...]:
    """The folders of manage.py: the one that is said, else the nearest to the root, first."""
    found = sorted((path for path in tree.files if path.rsplit("/", 1)[-1] == "manage.py"), key=_depth)
    made = [
        Named(str(PurePosixPath(path).parent), Location(path)) for path in found if "django" in tree.text(path).lower()
    ]
    return tuple(sorted(made, key=lambda each: each.name != said.site))


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _starters(tree: Tree, library: Library) -> dict[str, str]:
    """manage.py, wsgi.py and asgi.py, by their names, the nearest to the site's folder each."""
    found: dict[str, str] = {}
    for path in sorted(tree.files, key=_depth):
        stem = path.removesuffix("/__init__.py").removesuffix(".py").rsplit("/", 1)[-1]
        if stem in ("manage", "wsgi", "asgi") and path.endswith(".py") and within(path, library.folder):
            found.setdefault(stem, path)
    return found


def _seeded(library: Library, path: str) -> Iterator[Named]:
    """The settings module that a file names where none is set, wherever in the file that is."""
    module = library.module(library.name(path), FAR)
    seeded = module.seeded if module else ()
    chosen = next((value for variable, value, at in seeded if variable == CLASS and at.path == path), "")
    for variable, value, at in seeded:
        if variable == VARIABLE and at.path == path:
            yield Named(f"{value}:{chosen}" if chosen else value, at)


# --- Settings ---


def _settings(library: Library, named: Sequence[str]) -> dict[str, Module]:
    """The settings modules: those that are named, their neighbours, and files that are called so."""
    folders = {name.rpartition(".")[0] for name in named}
    found: dict[str, Module] = {}
    for path in library.tree.python(library.folder):
        name = library.name(path)
        package, _, last = name.rpartition(".")
        is_called_so = "settings" in last or package.rpartition(".")[2] == "settings"
        is_near = package in folders and last in (*DEVELOPMENT, *PRODUCTION, *TEST, *BASE)
        if not (is_called_so or is_near or name in named or (name in folders and "settings" in name)):
            continue
        module = library.module(name)
        if module and (module.classes or any(module.every(each) for each in WHOLE)):
            found[name] = module
    for name, module in list(found.items()):
        found |= {f"{name}:{each}": made for each in module.classes if (made := library.module(f"{name}:{each}"))}
        if not any(module.every(each) for each in WHOLE):
            del found[name]
    for name in named:
        if name not in found and (module := library.module(name)) and not module.classes:
            found[name] = module
    return found


def _is_for(module: str, names: Sequence[str]) -> bool:
    """Whether the last word of a module's name says that it is for this."""
    last = re.split("[.:]", module)[-1].lower()
    return last in names or any(each in names for each in last.split("_"))


def _by_name(settings: Mapping[str, Module], names: Sequence[str]) -> Named | None:
    found = [name for name in settings if _is_for(name, names)]
    found.sort(key=lambda name: (name.count("."), names.index(next(each for each in names if _is_for(name, (each,))))))
    return Named(found[0], Location(settings[found[0]].path)) if found else None


def _inherited(settings: Mapping[str, Module]) -> Named | None:
    """A module that another one takes all names of."""
    found = [parent for module in settings.values() for parent in module.parents if parent in settings]
    return Named(found[0], Location(settings[found[0]].path)) if found else None


def _development(settings: Mapping[str, Module], named: Mapping[str, Sequence[Named]]) -> Named | None:
    """What manage.py names, unless its name says that it is something else and another's says that it is this."""
    own = next(iter(named.get("manage", ())), None)
    if own and not _is_for(own.name, (*PRODUCTION, *TEST, *BASE)):
        return own
    return _by_name(settings, DEVELOPMENT) or own or _only(settings)


def _production(
    settings: Mapping[str, Module], named: Mapping[str, Sequence[Named]], development: Named | None
) -> Named | None:
    """What wsgi.py, asgi.py or the Celery app names, unless its name says that it is something else."""
    said = [each for starter in ("wsgi", "asgi", "celery") for each in named.get(starter, ())]
    for each in said:
        if not _is_for(each.name, (*DEVELOPMENT, *TEST, *BASE)) and (each.name in settings or not development):
            other = _by_name(settings, PRODUCTION)
            same = development is not None and each.name == development.name
            return other if other and same else each
    return _by_name(settings, PRODUCTION) or next(iter(said), None) or development or _only(settings)


def _only(settings: Mapping[str, Module]) -> Named | None:
    found = [name for name in settings if not _is_for(name, TEST)]
    return Named(found[0], Location(settings[found[0]].path)) if len(found) == 1 else None


def _entry(name: str, settings: Module | None, library: Library, path: str | None, said: Named | None) -> Named | None:
    """The WSGI or ASGI application as `module:variable`: what is said, a setting, else the module that is there."""
    if said:
        return said
    if settings and (found := settings.get(name)) and (value := text(found.value)):
        return Named(":".join(value.rsplit(".", 1)), found.at)
    return Named(f"{library.name(path)}:application", Location(path)) if path else None


# --- Celery, variables, databases, tests, front end ---


def _chosen(apps: tuple[App, ...], said: Said) -> tuple[App, ...]:
    """The applications, or the one that is said; of a package's own name, `celery -A` would find any of it."""
    if said.celery == "none":
        return ()
    if said.celery:
        return tuple(each for each in apps if said.celery in (each.name, each.module))
    return apps


def _elsewhere(tree: Tree, library: Library, settings: Mapping[str, Module]) -> Iterator[Read]:
    """Variables that other modules read, where they are imported or later."""
    inside = {(each.name, each.at) for module in settings.values() for each in module.reads}
    for path in tree.containing(library.folder, "environ", "getenv", "decouple"):
        if path not in {module.path for module in settings.values()}:
            module = library.module(library.name(path), FAR)
            for each in module.reads if module else ():
                if each.at.path == path and (each.name, each.at) not in inside:
                    inside.add((each.name, each.at))
                    yield each


def _postgres_only(tree: Tree, site: str) -> Iterator[Location]:
    """Migrations that only PostgreSQL can run."""
    needle = re.compile(r"^\s*(?:import|from) django\.contrib\.postgres|django\.contrib\.postgres\.\w+\.\w+\(")
    for path in tree.containing(site, "django.contrib.postgres"):
        if "/migrations/" in f"/{path}":
            for number, line in tree.lines(path):
                if needle.search(line):
                    yield Location(path, number)
                    break


def _frontends(tree: Tree) -> Iterator[Frontend]:
    for path in sorted(tree.files, key=_depth):
        if path.rsplit("/", 1)[-1] == "package.json":
            try:
                values = json.loads(tree.text(path))
            except json.JSONDecodeError:
                continue
            scripts = packages.inner(values, "scripts")
            name = next((each for each in ("build", "prod", "production", "dist") if each in scripts), "")
            line = next((number for number, row in tree.lines(path) if f'"{name}"' in row), 1) if name else 1
            yield Frontend(Location(path, line), f"npm run {name}" if name else "")
