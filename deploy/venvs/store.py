"""The store of layers, `.venvs/`: which layers exist, the Python of each, and which layers it stands on.

    .venvs/dev -> .layers/dev-3f2a…     an environment is a link to a layer
    .venvs/.layers/dev-3f2a…/           a complete layer, never changed
    .venvs/.layers/.building-dev-…/     a layer being built; it is renamed when it is complete

Standard library only: the bootstrap and the hosts run this module.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from deploy import OLDEST
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run, run
from deploy.venvs import layers
from deploy.venvs.layers import Layer

TOOLS = layers.TOOLS
#: What an environment without an .in file may be, and what to do with it.
AWAY = "it is of another branch, or `invoke venv-remove --env {name}` removes it"
RECORD = "layer.json"
#: What `finish_layer` writes: the names of the folders of a layer's packages, and of its scripts.
CONTENTS = "contents.txt"
#: And the file with which Python finds the packages of the layers below.
PATH_FILE = "~layers.pth"

FINISH = Path(__file__).with_name("finish_layer.py")


@dataclass(frozen=True)
class Python:
    """An interpreter: the executable that creates environments, and the tag of its compiled packages."""

    executable: str
    tag: str


def short(tag: str) -> str:
    """Implementation and version, from a Python's tag."""
    return " ".join(tag.split("-")[:2])


@dataclass(frozen=True)
class Record:
    """The record that `finish_layer` writes into a complete layer."""

    name: str
    python: str
    base_python: str
    interpreter: str
    path: str
    below: list[str]
    installed: dict[str, str]


@dataclass(frozen=True)
class Store:
    """The folder of a project's environments, and the requirements they are built from."""

    folder: Path
    requirements: Path
    #: Whether packages are compiled to bytecode during installation, for users who cannot write to the store.
    compiled: bool = False

    @classmethod
    def of(cls, root: Path) -> Store:
        """The store of a project; `.venvs` may be a link to another disk."""
        return cls((root / ".venvs").resolve(), root / "requirements")

    def link(self, name: str) -> Path:
        return self.folder / name

    def path(self, layer: Layer) -> Path:
        return self.folder / ".layers" / layer.folder

    def building(self, layer: Layer) -> Path:
        return self.folder / ".layers" / f".building-{layer.folder}"

    def record(self, name: str) -> Record | None:
        """The record of an environment's layer; None if there is no complete layer."""
        return read_record(self.link(name))

    @contextmanager
    def lock(self, notify: Notify) -> Iterator[int]:
        """Lock the store; yields the descriptor. The lock is released when the last process that has it open ends.

        Waits for another holder. Raises `Failure` if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            why = f"cannot be written ({error.strerror}); change its owner or mode, or remove it"
            raise Failure(f"{self.folder}: {why}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                notify("waiting for another command that is building environments here")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def read_record(layer: Path) -> Record | None:
    """The record of a layer; None if it is not complete."""
    try:
        return Record(**json.loads((layer / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def describe_running() -> Python:
    """The interpreter that runs this, or the one from which its environment was created."""
    import sysconfig  # imported late: only a command that builds needs it

    version = f"{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    multiarch: str = getattr(sys.implementation, "_multiarch", "")
    tag = "-".join([sys.implementation.name, version, multiarch, sysconfig.get_platform()])
    base: str = getattr(sys, "_base_executable", sys.executable)
    return Python(base, tag)


def describe_other(executable: str) -> Python:
    """Another interpreter, described by running it. Raises `Failure` if it does not answer."""
    ask = "from deploy.venvs.store import describe_running as ask; print(ask().executable); print(ask().tag)"
    answer = run(Run([executable, "-c", ask], {"PYTHONPATH": str(FINISH.parents[2])}), capture=True)
    return Python(*answer.stdout.splitlines())


def find_python(python: str) -> Python:
    """The interpreter named by a version (`3.12`), a command or a path.

    Raises `Failure` if it is not found, or is older than 3.11.
    """
    command = f"python{python}" if python[:1].isdigit() else python
    found = shutil.which(command)
    if found is None:
        raise Failure(f"{command}: no such Python on this machine; install it, or name another with --python")
    needed = f"the layers need Python {'.'.join(map(str, OLDEST))} or newer; name another with --python"
    try:
        described = describe_other(found)
        version = described.tag.split("-")[1]
    except (Failure, TypeError, IndexError):
        raise Failure(f"{found} cannot be used as a Python; {needed}") from None
    if tuple(int(part) for part in version.rstrip("tdmu").split(".")) < OLDEST:
        raise Failure(f"{found} is Python {version}; {needed}")
    return described


def version_of(python: Python) -> tuple[int, ...]:
    """The version of an interpreter, by its tag."""
    return tuple(int(part) for part in python.tag.split("-")[1].rstrip("tdmu").split("."))


def chosen_python(store: Store, name: str, asked: str = "") -> Python:
    """The Python for an environment: the requested one, else the one it has, else the one that runs this.

    If the environment's lock is for newer ones only, it is the oldest on PATH that is new enough. Raises `Failure` if
    there is none, or if the requested one is too old.
    """
    lowest = layers.lowest(store.requirements, name)
    if asked:
        found = find_python(asked)
        return found if version_of(found) >= lowest else _too_old(name, lowest, found)
    record = store.record(name)
    if record and os.path.exists(record.base_python):
        own = Python(record.base_python, record.python)
        if version_of(own) >= lowest:
            return own
    running = describe_running()
    if version_of(running) >= lowest:
        return running
    for minor in range(lowest[1], lowest[1] + 10):
        if there := shutil.which(f"python{lowest[0]}.{minor}"):
            with suppress(Failure):  # the stand-in of a version manager may have no such Python behind it
                return find_python(there)
    return _too_old(name, lowest, running)


def _too_old(name: str, lowest: tuple[int, int], found: Python) -> NoReturn:
    wanted, have = (".".join(map(str, each)) for each in (lowest, version_of(found)))
    raise Failure(
        f"requirements/{name}.txt is for Python {wanted} and newer, but this is {have}: install python{wanted}, or name"
        " one with --python"
    )


# --- decisions ------------------------------------------------------------------------------------------------------


def find_uv(store: Store) -> str | None:
    """The uv to install with: that of the tools environment, else one on PATH; None if pip must be used."""
    if os.environ.get("PORTICO_INSTALLER") == "pip":
        return None
    own = store.link(TOOLS) / "bin" / "uv"
    return str(own) if os.access(own, os.X_OK) else shutil.which("uv")


def is_current(store: Store, layer: Layer) -> bool:
    """Whether the environment is linked to this layer, and the layer is usable as `is_complete` says."""
    path = store.path(layer)
    if not store.link(layer.name).is_symlink() or os.readlink(store.link(layer.name)) != f".layers/{layer.folder}":
        return False
    return is_complete(path)


def is_complete(path: Path) -> bool:
    """Whether a layer is complete, has not been moved, and still has its packages and the Python it was built with.

    This is a glance; `venv-check` looks at every file.
    """
    record = read_record(path)
    if record is None or record.path != str(path) or not has_contents(path) or not finds_below(path, record):
        return False
    return record.interpreter == os.path.realpath(path / "bin" / "python")


def has_contents(layer: Path) -> bool:
    """Whether a layer still has the packages and scripts with which it was finished. What was added by hand may be."""
    try:
        expected = (layer / CONTENTS).read_text().splitlines()
        scripts = (f"bin/{name}" for name in os.listdir(layer / "bin"))
        return set(expected) <= {*os.listdir(packages_of(layer)), *scripts}
    except (OSError, UnicodeDecodeError):
        return False


def finds_below(layer: Path, record: Record) -> bool:
    """Whether Python still finds the packages of the layers below; it says nothing about a file that was emptied."""
    if not record.below:
        return True
    try:
        found = (packages_of(layer) / PATH_FILE).read_text().splitlines()
        return all(line.startswith(f"{lower}/") for line, lower in zip(found, record.below, strict=True))
    except (OSError, ValueError):  # other bytes than text, or another number of lines
        return False


def packages_of(layer: Path) -> Path:
    """The folder of a layer's packages. Raises OSError if there is none."""
    lib = layer / "lib"
    return lib / next((name for name in os.listdir(lib) if name.startswith(("python", "pypy"))), "") / "site-packages"


def built(store: Store) -> list[str]:
    """The environments that have a link to a layer."""
    if not store.folder.is_dir():
        return []
    return sorted(path.name for path in store.folder.iterdir() if path.is_symlink() and not path.name.startswith("."))


def named(store: Store, name: str) -> list[str]:
    """The environment of that name, built or declared; without a name, all that are built.

    An environment may be built although its .in file has gone, as after a change of branch. Raises `Failure` for a name
    that is neither.
    """
    there = built(store)
    return there if not name else [name] if name in there else layers.chosen(store.requirements, name)


def declared(store: Store, name: str) -> bool:
    """Whether an environment has an .in file."""
    return (store.requirements / f"{name}.in").is_file()


def below_of(store: Store, name: str) -> list[str]:
    """The folders of the layers that a built environment stands on."""
    record = store.record(name)
    return record.below if record else []


def unused(store: Store, without: str = "") -> list[Path]:
    """The layers that no environment uses or stands on, ignoring the environment ``without``."""
    used: set[str] = set()
    for name in built(store):
        if name != without:
            used |= {os.path.realpath(store.link(name)), *below_of(store, name)}
    folder = store.folder / ".layers"
    return sorted(path for path in folder.iterdir() if str(path) not in used) if folder.is_dir() else []


# --- state ----------------------------------------------------------------------------------------------------------


def state(store: Store, name: str) -> str:
    """The state of an environment: missing, broken, stale, current, or undeclared if its .in file has gone."""
    if not store.link(name).is_symlink():
        return "missing"
    record = store.record(name)
    if record is None or not is_complete(Path(os.path.realpath(store.link(name)))):
        return "broken"
    if not declared(store, name):
        return "undeclared"
    try:
        layer = layers.resolve(store.requirements, name, record.python)
    except Failure:  # a lock is missing, or fits no other
        return "stale"
    return "current" if is_current(store, layer) else "stale"
