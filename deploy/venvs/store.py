"""The store of layers, `.venvs/`: what is there, with which Python it was made, what stands on what.

    .venvs/dev -> .layers/dev-3f2a…     an environment is a link to a layer
    .venvs/.layers/dev-3f2a…/           a layer, complete, never changed
    .venvs/.layers/.building-dev-…/     one being built; it gets its name when it is whole

Standard library only: the bootstrap and the hosts run it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy import OLDEST
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run, run
from deploy.venvs import layers
from deploy.venvs.layers import Layer

TOOLS = "tools"
RECORD = "layer.json"

FINISH = Path(__file__).with_name("finish_layer.py")


@dataclass(frozen=True)
class Python:
    """An interpreter: the executable that makes environments, and the tag that its compiled packages fit."""

    executable: str
    tag: str


def short(tag: str) -> str:
    """The first words of a Python's tag: implementation and version."""
    return " ".join(tag.split("-")[:2])


@dataclass(frozen=True)
class Record:
    """What `finish_layer` wrote into a whole layer."""

    name: str
    python: str
    base_python: str
    interpreter: str
    path: str
    below: list[str]
    installed: dict[str, str]


@dataclass(frozen=True)
class Store:
    """The folder of a project's environments, and the requirements they are made from."""

    folder: Path
    requirements: Path
    #: Whether packages are compiled to bytecode as they are installed: where those who run them may not write.
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
        """The record of an environment's layer; None if there is no whole layer."""
        return read_record(self.link(name))

    @contextmanager
    def lock(self, notify: Notify) -> Iterator[int]:
        """Hold the store alone; yields the descriptor. It is freed when the last process that has it open ends.

        Raises `Failure` if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise Failure(f"{self.folder}: cannot be written ({error.strerror}); make it yours, or remove it") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                notify("another command is building environments here; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def read_record(layer: Path) -> Record | None:
    """The record of a layer; None if it is not whole."""
    try:
        return Record(**json.loads((layer / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def describe_running() -> Python:
    """The interpreter that runs this, or the one that its environment was made from."""
    import sysconfig  # late: a command that builds nothing does not need it

    version = f"{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    multiarch: str = getattr(sys.implementation, "_multiarch", "")
    tag = "-".join([sys.implementation.name, version, multiarch, sysconfig.get_platform()])
    base: str = getattr(sys, "_base_executable", sys.executable)
    return Python(base, tag)


def describe_other(executable: str) -> Python:
    """The same for another interpreter, which is asked. Raises `Failure` when it does not answer."""
    ask = "from deploy.venvs.store import describe_running as ask; print(ask().executable); print(ask().tag)"
    answer = run(Run([executable, "-c", ask], {"PYTHONPATH": str(FINISH.parents[2])}), capture=True)
    return Python(*answer.stdout.splitlines())


def find_python(python: str) -> Python:
    """The interpreter named by a version (`3.12`), a command or a path.

    Raises `Failure` when there is none such, or it is older than 3.11.
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
        raise Failure(f"{found} does not answer as a Python that this runs on; {needed}") from None
    if tuple(int(part) for part in version.rstrip("tdmu").split(".")) < OLDEST:
        raise Failure(f"{found} is Python {version}; {needed}")
    return described


def chosen_python(store: Store, name: str, asked: str = "") -> Python:
    """The Python for an environment: the one asked for, else the one it has, else the one that runs this."""
    if asked:
        return find_python(asked)
    record = store.record(name)
    if record and os.path.exists(record.base_python):
        return Python(record.base_python, record.python)
    return describe_running()


# --- what to do -----------------------------------------------------------------------------------------------------


def find_uv(store: Store) -> str | None:
    """The uv to install with: the tools environment's own, else one on PATH; None where pip is to be used."""
    if os.environ.get("PORTICO_INSTALLER") == "pip":
        return None
    own = store.link(TOOLS) / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def is_current(store: Store, layer: Layer) -> bool:
    """Whether the environment is this layer, whole, where it was made, with the Python it was made with."""
    path = store.path(layer)
    if not store.link(layer.name).is_symlink() or os.readlink(store.link(layer.name)) != f".layers/{layer.folder}":
        return False
    return is_whole(path)


def is_whole(path: Path) -> bool:
    """Whether a layer was finished, has not been moved since, and its Python is still the one that made it."""
    record = read_record(path)
    if record is None or record.path != str(path):
        return False
    return record.interpreter == os.path.realpath(path / "bin" / "python")


def built(store: Store) -> list[str]:
    """The environments that have a link."""
    if not store.folder.is_dir():
        return []
    return sorted(path.name for path in store.folder.iterdir() if path.is_symlink() and not path.name.startswith("."))


def below_of(store: Store, name: str) -> list[str]:
    """The folders that a built environment stands on."""
    record = store.record(name)
    return record.below if record else []


def unused(store: Store, without: str = "") -> list[Path]:
    """The layers that no environment is or stands on, ignoring one environment."""
    used: set[str] = set()
    for name in built(store):
        if name != without:
            used |= {os.path.realpath(store.link(name)), *below_of(store, name)}
    folder = store.folder / ".layers"
    return sorted(path for path in folder.iterdir() if str(path) not in used) if folder.is_dir() else []


# --- looking --------------------------------------------------------------------------------------------------------


def state(store: Store, name: str) -> str:
    """One word on an environment: missing, broken, stale or current."""
    if not store.link(name).is_symlink():
        return "missing"
    record = store.record(name)
    if record is None or not is_whole(Path(os.path.realpath(store.link(name)))):
        return "broken"
    layer = layers.resolve(store.requirements, name, record.python)
    return "current" if is_current(store, layer) else "stale"
