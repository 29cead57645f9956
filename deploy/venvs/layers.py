"""The definition of layered environments. Pure, except that it reads requirements/.

`requirements/NAME.in` begins with one `-r PARENT.in` line for each layer that it stands on; these lines are the layer
graph. `NAME.txt` is its complete lock. A layer contains only the difference: the packages in its lock that no layer
below it has. Other modules of this room build and check real environments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy import OLDEST
from deploy.core import text
from deploy.core.errors import Failure
from deploy.venvs import infile

#: Increased when the format of built layers changes, so that older layers are not used.
FORMAT = "2"

#: The environment of the machinery itself.
TOOLS = "tools"

Graph = Mapping[str, tuple[str, ...]]

#: The comment in a lock that is not for `OLDEST`.
_LOWEST = re.compile(r"^# For Python (\d+)\.(\d+) and newer\.$", re.MULTILINE)
_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==(?P<version>[^\s;]+)"
    r"\s*(?:;\s*(?P<marker>.*?))?(?P<hashes>(?:\s+--hash=\S+)+)$"
)


@dataclass(frozen=True)
class Pin:
    """One locked requirement: an exact version, its environment marker, and the hashes of its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The requirement as pip and uv read it, on one line."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " ".join([f"{self.name}=={self.version}{marker}", *self.hashes])


@dataclass(frozen=True)
class Layer:
    """The content of an environment: what it installs, on top of which layers, for which Python."""

    name: str
    python: str
    pins: tuple[Pin, ...]
    #: Every layer below, in the order of the import path: each comes before those that it stands on.
    below: tuple[Layer, ...] = ()

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits that change with everything that the environment is built from."""
        content = [FORMAT, self.name, self.python, *(lower.key for lower in self.below), *(p.line for p in self.pins)]
        return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The name of its folder in the store."""
        return f"{self.name}-{self.key}"

    @property
    def requirements(self) -> str:
        """The text of the requirements file from which it is installed."""
        return "".join(f"{pin.line}\n" for pin in self.pins)


def read_graph(requirements: Path) -> dict[str, tuple[str, ...]]:
    """Environments and their parents, by the `-r` lines of ``requirements/*.in``.

    Raises `Failure` if a parent does not exist.
    """
    graph = {source.stem: infile.graph(source) for source in sorted(requirements.glob("*.in"))}
    if not graph:
        raise Failure(f"{requirements}: there are no .in files here; restore them from the repository")
    for name, lower in graph.items():
        for parent in lower:
            if parent not in graph:
                raise Failure(f"requirements/{name}.in stands on {parent}.in, which does not exist; fix its -r line")
    return graph


def chain(requirements: Path, name: str) -> dict[str, tuple[str, ...]]:
    """The same for one environment and those below it: a mistake in another environment's file is no matter."""
    if not (requirements / f"{name}.in").is_file():
        return read_graph(requirements)
    graph: dict[str, tuple[str, ...]] = {}
    missing = [name]
    while missing:
        each = missing.pop()
        graph[each] = infile.graph(requirements / f"{each}.in")
        for parent in graph[each]:
            if not (requirements / f"{parent}.in").is_file():
                raise Failure(f"requirements/{each}.in stands on {parent}.in, which does not exist; fix its -r line")
        missing += [parent for parent in graph[each] if parent not in graph and parent not in missing]
    return graph


def order(graph: Graph, names: Iterable[str]) -> list[str]:
    """The named environments and all that they stand on, lowest first.

    Raises `Failure` for an unknown name or a cycle.
    """
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name not in graph:
            raise Failure(f"no environment is called {name!r}; there are: {', '.join(sorted(graph))}")
        if name in path:
            raise Failure(f"requirements: {' stands on '.join([*path, name])}; remove one of these -r lines")
        if name not in done:
            for parent in graph[name]:
                visit(parent, (*path, name))
            done.append(name)

    for name in names:
        visit(name, ())
    return done


def standing_on(graph: Graph, name: str) -> list[str]:
    """The environments that stand on this one."""
    return [other for other in graph if other != name and name in order(graph, [other])]


def sequence_of(graph: Graph) -> list[str]:
    """All environments in the order in which they are locked."""
    return order(graph, [*([TOOLS] if TOOLS in graph else []), *graph])


def companions(graph: Graph, name: str) -> list[str]:
    """The locks that constrain this one: those of its lower layers, and those that share an upper environment with it.

    An environment that stands on both `base` and `tools` needs the two to agree, although neither stands on the other.
    The one that is locked later adapts. `tools` comes first: no requirement of the project's may change it.
    """
    sequence = sequence_of(graph)
    earlier = sequence[: sequence.index(name)]
    above = [name, *standing_on(graph, name)]
    return [other for other in earlier if any(other in order(graph, [upper]) for upper in above)]


def read_lock(requirements: Path, name: str) -> tuple[Pin, ...]:
    """The pins of ``NAME.txt``. Raises `Failure` if it is missing or not a lock with hashes."""
    path = requirements / f"{name}.txt"
    try:
        return parse_lock(text.read(path, f"requirements/{name}.txt"), f"requirements/{name}.txt")
    except FileNotFoundError:
        raise Failure(f"requirements/{name}.txt is missing; `invoke lock` makes it from {name}.in") from None


def lowest(requirements: Path, name: str) -> tuple[int, int]:
    """The oldest Python that a lock is for."""
    path = requirements / f"{name}.txt"
    found = _LOWEST.search(text.read(path, f"requirements/{name}.txt")) if path.exists() else None
    return (int(found[1]), int(found[2])) if found else OLDEST


def for_python(lock: str, python: tuple[int, int]) -> str:
    """The text of a lock that says for which Python it is; one for `OLDEST` says nothing."""
    return lock if python <= OLDEST else f"# For Python {python[0]}.{python[1]} and newer.\n{lock}"


def parse_lock(lock: str, source: str) -> tuple[Pin, ...]:
    """The pins in the text of a lock file; ``source`` names it in errors."""
    pins = []
    logical = lock.replace("\\\n", " ").splitlines()
    for line in (line.strip() for line in logical):
        if not line or line.startswith("#"):
            continue
        match = _PIN.match(line)
        if match is None:
            raise Failure(f"{source}: {line[:60]!r} is not an exact version with hashes; make it with `invoke lock`")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        pins.append(Pin(name, match["version"], (match["marker"] or "").strip(), tuple(match["hashes"].split())))
    return tuple(pins)


def difference(name: str, lock: Iterable[Pin], below: Iterable[Layer]) -> tuple[Pin, ...]:
    """The pins of a lock that are not in the layers below.

    Raises `Failure` if a lower layer has another version of the same package: the packages below would then import
    a version with which they were not locked.
    """
    inherited: dict[str, dict[tuple[str, str], str]] = {}
    for layer in below:
        for pin in layer.pins:
            inherited.setdefault(pin.name, {})[pin.version, pin.marker] = layer.name
    own = []
    for pin in lock:
        lower = inherited.get(pin.name, {})
        if (pin.version, pin.marker) in lower:
            continue
        if lower and pin.version not in {version for version, _ in lower}:
            (version, _), owner = next(iter(lower.items()))
            raise Failure(
                f"requirements/{name}.txt has {pin.name} {pin.version}, {owner}.txt has {version}: run `invoke lock`"
            )
        own.append(pin)
    return tuple(own)


def resolve(requirements: Path, name: str, python: str) -> Layer:
    """The layer of an environment according to the current lock files, with all layers below it."""
    graph = chain(requirements, name)
    made: dict[str, Layer] = {}
    for each in order(graph, [name]):
        lower = [made[other] for other in reversed(order(graph, graph[each]))]
        pins = read_lock(requirements, each)
        if not pins and infile.asks(requirements / f"{each}.in"):
            raise Failure(f"requirements/{each}.txt is empty, and {each}.in is not: restore it, or run `invoke lock`")
        made[each] = Layer(each, python, difference(each, pins, lower), tuple(lower))
    return made[name]


def chosen(requirements: Path, name: str) -> list[str]:
    """The named environment, or without a name all of them, lowest first. Raises `Failure` for an unknown name."""
    graph = read_graph(requirements)
    return order(graph, [name])[-1:] if name else order(graph, graph)
