"""What a rule looks at: what was detected, what is declared, and for which runtimes it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from deploy import OLDEST
from deploy.project.config import GIVEN
from deploy.project.declared import FILE, SECTION, Declared
from deploy.project.detect import Detected
from deploy.project.findings import Edit
from deploy.project.source.celery import App
from deploy.project.source.modules import Module
from deploy.project.source.tree import Location, Named
from deploy.project.source.values import FALSE, External, Reader

#: How settings read a file of variables: django-environ, python-dotenv, environs, decouple.
_READS_FILES = re.compile(r"\bread_env(?:file)?\(|\bload_dotenv\(|\bdotenv_values\(|\bdecouple\b")
#: Files of this kind only show what there may be.
_EXAMPLES = (".example", ".sample", ".template", ".dist")
_ASSIGNED = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*\S", re.MULTILINE)

NATIVE, DEV, PROD, SWARM, HOSTS = "native", "dev", "prod", "swarm", "hosts"
RUNTIMES = (NATIVE, DEV, PROD, SWARM)


@dataclass(frozen=True)
class Known:
    """All that a rule may ask."""

    detected: Detected
    declared: Declared
    #: The runtimes that the question is about.
    runtimes: frozenset[str]
    #: Whether one was named: what it lacks is an error then.
    named: bool
    #: The variables that have a value, with it, in `.env` or the file of the hosts; a secret's may be unknown.
    values: Mapping[str, str]
    #: The process environment.
    environ: Mapping[str, str]
    #: The file of an environment of hosts; empty for `.env`.
    hosts_file: str = ""

    def given(self, name: str, kind: str, value: str = "VALUE") -> Edit:
        """The line that gives a variable its value, where these runtimes have it."""
        if not self.hosts_file:
            return Edit(".env", f"{name}={value}")
        secret = kind == "secret"
        text = f"{name}: env:{name}" if secret else f'{name}: "{value}"'
        return Edit(self.hosts_file, text, under=("secrets" if secret else "settings",))

    def switch_off(self, variable: str, at: Location) -> list[Edit]:
        """What switches a variable off; nothing where it is, or where every runtime gives it a value.

        ``at``: where it is read. Code that makes a number of it, `bool(int(…))`, takes no word.
        """
        if variable in GIVEN or self.values.get(variable, self.environ.get(variable, "on")).strip().lower() in FALSE:
            return []
        number = re.search(r"\bint\b", dict(self.detected.tree.lines(at.path)).get(at.line, ""))
        declare = [] if variable in self.env else [project(f"{variable}: plain", "env")]
        return [*declare, self.given(variable, "plain", "0" if number else "False")]

    @cached_property
    def read_by_settings(self) -> frozenset[str]:
        """The variables in files `.env…` that settings read themselves; in production these files are not there."""
        tree, modules = self.detected.tree, list(self.detected.settings.values())
        if self.serves or not any(_READS_FILES.search(tree.text(each.path)) for each in modules):
            return frozenset()
        folders = {str(folder) for each in modules for folder in PurePosixPath(each.path).parents}
        files = [path for path in map(PurePosixPath, tree.files) if str(path.parent) in folders]
        found = [path for path in files if path.name.startswith(".env") and path.suffix not in _EXAMPLES]
        return frozenset(name for path in found for name in _ASSIGNED.findall(tree.text(str(path))))

    @property
    def develops(self) -> bool:
        return bool(self.runtimes & {NATIVE, DEV})

    @property
    def serves(self) -> bool:
        """Whether it is about production."""
        return bool(self.runtimes - {NATIVE, DEV})

    @cached_property
    def development(self) -> Module | None:
        return self.detected.module(self.detected.development)

    @cached_property
    def production(self) -> Module | None:
        return self.detected.module(self.detected.production)

    def module_of(self, path: str) -> Module | None:
        """The settings module in a file."""
        return next((each for each in self.detected.settings.values() if each.path == path), None)

    @property
    def settings(self) -> Iterator[tuple[Named, Module]]:
        """The settings that the runtimes run with."""
        found = [
            *([self.detected.development] if self.develops else []),
            *([self.detected.production] if self.serves else []),
        ]
        seen = set()
        for each in found:
            if each and (module := self.detected.module(each)) and each.name not in seen:
                seen.add(each.name)
                yield each, module

    @property
    def app(self) -> App | None:
        """The Celery application, where there is one and no more."""
        return self.detected.celery[0] if len(self.detected.celery) == 1 else None

    @property
    def python(self) -> tuple[int, int]:
        """The lowest Python that the locks are for."""
        parts = self.declared.text("python").split(".")
        return (int(parts[0]), int(parts[1])) if len(parts) > 1 and all(map(str.isdigit, parts)) else OLDEST

    @property
    def env(self) -> frozenset[str]:
        """The variables that are declared."""
        return frozenset(self.declared.names("env"))


def project(text: str, *under: str) -> Edit:
    """A line of the section in `invoke.yaml`."""
    return Edit(FILE, text, under=(SECTION, *under))


def reading(module: Module, name: str, default: str = "") -> tuple[str, tuple[Edit, ...]]:
    """How a module reads a variable in its own way, and what it must import for that; ``default`` as Python."""
    more = f", default={default}" if default else ""
    for each, found in module.names.items():
        value = found[-1].value
        if isinstance(value, Reader) and value.kind in ("environ", "environs"):
            return f'{each}("{name}"{more})', ()
        if value == External("decouple.config"):
            return f'{each}("{name}"{more})', ()
    imported = isinstance(module.value("os"), External)
    needed = () if imported else (Edit(module.path, "import os", top=True),)
    return (f'os.environ.get("{name}", {default})' if default else f'os.environ["{name}"]'), needed
