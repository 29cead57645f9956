"""What a team says of its project: `invoke.yaml`, with the line of each key, and the values in `.env`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.project import env_file
from deploy.project.detect import Said
from deploy.project.source.packages import inner
from deploy.project.source.tree import Location

FILE = "invoke.yaml"
SECTION = "project"


@dataclass(frozen=True)
class Declared:
    """The keys of the section, with the defaults of tasks.py, and the lines that the file has them in."""

    values: Mapping[str, object]
    lines: Mapping[str, int]

    def at(self, key: str) -> Location:
        """Where a key stands, by its dotted name within the section; the first line for one that does not."""
        return Location(FILE, self.lines.get(key, 1))

    def text(self, *keys: str) -> str:
        """A value as text; empty where there is none."""
        *outer, last = keys
        found = inner(self.values, *outer).get(last)
        return "" if found is None or isinstance(found, Mapping | list) else str(found)

    def names(self, key: str) -> tuple[str, ...]:
        """The names in a list or mapping."""
        found = self.values.get(key)
        return tuple(map(str, found)) if isinstance(found, Mapping | list | tuple) else ()

    @property
    def said(self) -> Said:
        """What it says of what is detected otherwise."""
        return Said(
            site=self.text("site"),
            path=self.text("path"),
            dev=self.text("settings", "dev"),
            prod=self.text("settings", "prod"),
            wsgi=self.text("wsgi"),
            asgi=self.text("asgi"),
            celery=self.text("celery"),
        )


def declared(root: Path, merged: Mapping[str, object]) -> Declared:
    """Read `invoke.yaml`; ``merged`` is the section as Invoke has it, with defaults and the environment.

    Raises `Failure` for a file that is no YAML, naming the line.
    """
    path = root / FILE
    text = texts.read(path) if path.exists() else ""
    try:
        values: object = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Failure(f"{FILE}:{line}: {error.problem}; fix the line") from None
    except yaml.YAMLError as error:
        raise Failure(f"{FILE}:1: {error}; fix it") from None
    lines = dict(_lines(node, ()))
    found = inner(values, SECTION)
    # Invoke's own mappings are no dictionaries, so what is nested comes from the file.
    plain = {key: value for key, value in merged.items() if value is None or isinstance(value, str | int | float)}
    return Declared({**found, **plain}, {name.partition(".")[2]: line for name, line in lines.items()})


def _lines(node: object, keys: Sequence[str]) -> list[tuple[str, int]]:
    """The line of each key, by its dotted name."""
    if not isinstance(node, yaml.MappingNode):
        return []
    found = []
    for key, value in node.value:
        here = [*keys, str(key.value)]
        found += [(".".join(here), key.start_mark.line + 1), *_lines(value, here)]
    return found


def server_values(root: Path, file: str = ".env") -> dict[str, str]:
    """The variables in `.env` that have a value."""
    return {name: value for name, value in env_file.load(root / file).items() if value}


def host_values(root: Path, environment: str) -> dict[str, str]:
    """The variables that an environment of hosts gives, by `settings` and `secrets`: of these, where they come from."""
    path = root / "deploy" / "environments" / f"{environment}.yaml"
    try:
        values: object = yaml.safe_load(texts.read(path))
    except (OSError, Failure, yaml.YAMLError):
        return {}
    given = {**inner(values, "settings"), **inner(values, "secrets")}
    hosts = inner(values, "hosts")
    if any("redis" in str(inner(hosts, name).get("roles")) for name in hosts):
        given |= dict.fromkeys(("REDIS_URL", "CACHE_URL"), "the role redis")
    return {name: str(value) for name, value in given.items()}
