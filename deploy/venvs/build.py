"""Doing: builds layers into `.venvs/`, and says what is wrong with those that stand there.

    .venvs/dev -> .layers/dev-3f2a…     an environment is a link to a layer
    .venvs/.layers/dev-3f2a…/           a layer, complete, never changed
    .venvs/.layers/.building-dev-…/     one in the making; it gets its name when it is whole

Standard library only: the bootstrap builds the tools environment with it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap import OLDEST
from deploy.core.errors import Failure
from deploy.core.shell import Link, MakeFolder, Move, Remove, Run, Step, Write, perform, run
from deploy.venvs import layers
from deploy.venvs.layers import Layer

TOOLS = "tools"
RECORD = "layer.json"
#: uv would otherwise fetch an interpreter that it does not find.
NO_DOWNLOADS = {"UV_PYTHON_DOWNLOADS": "never"}
FINISH = Path(__file__).with_name("finish_layer.py")

Say = Callable[[str], None]


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
    def lock(self, say: Say) -> Iterator[int]:
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
                say("another command is building environments here; waiting for it")
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
    ask = "from deploy.venvs.build import describe_running as ask; print(ask().executable); print(ask().tag)"
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


def creation(layer: Layer, building: Path, python: Python, uv: str | None) -> Run:
    """The command that makes the bare environment."""
    if uv:
        options = ["--quiet", "--no-project", "--python", python.executable, "--prompt", layer.name]
        return Run([uv, "venv", *options, str(building)], NO_DOWNLOADS)
    pip = [] if layer.name == TOOLS else ["--without-pip"]
    return Run([python.executable, "-m", "venv", "--prompt", layer.name, *pip, str(building)])


def installation(store: Store, layer: Layer, building: Path, uv: str | None, keep: tuple[int, ...]) -> Run:
    """The command that installs the difference, its hashes checked and nothing else drawn in."""
    python = str(building / "bin" / "python")
    quiet = [] if sys.stderr.isatty() else ["--quiet"]  # bars and names are for people
    what = ["--no-deps", "--require-hashes", "-r", str(building / "requirements.txt")]
    if uv:
        bytecode = ["--compile-bytecode"] if store.compiled else []
        return Run([uv, "pip", "install", *quiet, *bytecode, "--python", python, *what], NO_DOWNLOADS, keep=keep)
    if layer.name == TOOLS:
        pip = [python, "-m", "pip"]
    else:
        pip = [str(store.link(TOOLS) / "bin" / "python"), "-m", "pip", "--python", python]
    bytecode = [] if store.compiled else ["--no-compile"]
    options = ["--disable-pip-version-check", "--no-input", *bytecode]
    return Run([*pip, "install", *quiet, *options, *what], keep=keep)


def building_steps(
    store: Store, layer: Layer, python: Python, uv: str | None, keep: tuple[int, ...] = ()
) -> list[Step]:
    """The steps that make a layer: aside, then renamed to its own name."""
    path, building = store.path(layer), store.building(layer)
    plan = {
        "name": layer.name,
        "python": layer.python,
        "base_python": python.executable,
        "building": str(building),
        "path": str(path),
        "link": str(store.link(layer.name)),
        "below": [str(store.path(lower)) for lower in layer.below],
        "lock": str(store.requirements / f"{layer.name}.txt"),
    }
    steps: list[Step] = [
        MakeFolder(building.parent),
        Remove(building),
        creation(layer, building, python, uv),
        Write(building / "requirements.txt", layer.requirements),
    ]
    if layer.pins:
        steps.append(installation(store, layer, building, uv, keep))
    return [
        *steps,
        Write(building / "plan.json", json.dumps(plan, indent=1) + "\n"),
        Run([str(building / "bin" / "python"), "-I", str(FINISH), str(building / "plan.json")], keep=keep),
        Remove(path),
        Move(building, path),
    ]


# --- doing it -------------------------------------------------------------------------------------------------------


def ensure(
    store: Store, name: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False, say: Say = print
) -> bool:
    """Make an environment what its locks say, building what is missing, lowest first. Returns whether it had to.

    Safe beside another that does the same: the second waits, then finds it done. Killed at any point, the next call
    goes on from the last whole layer. Raises `Failure` with a remedy when a layer cannot be built.
    """
    chosen = chosen_python(store, name, python)
    layer = layers.resolve(store.requirements, name, chosen.tag)
    chain = [*reversed(layer.below), layer]
    if not rebuild and is_current(store, layer) and all(is_whole(store.path(lower)) for lower in layer.below):
        return False
    if dry_run:
        for each in chain:
            if rebuild or not is_whole(store.path(each)):
                perform(building_steps(store, each, chosen, find_uv(store)), dry_run=True)
            perform(linking_steps(store, each, name), dry_run=True)
        return True
    with store.lock(say) as descriptor:
        for each in chain:
            if rebuild or not is_whole(store.path(each)):
                build(store, each, chosen, (descriptor,), say)
            perform(linking_steps(store, each, name))
    return True


def linking_steps(store: Store, layer: Layer, asked: str) -> list[Step]:
    """Give the environment its layer. A lower one that is in order with another Python keeps what it has."""
    if layer.name != asked and state(store, layer.name) == "current":
        return []
    return [Link(store.link(layer.name), f".layers/{layer.folder}")]


def build(store: Store, layer: Layer, python: Python, keep: tuple[int, ...], say: Say) -> None:
    """Build one layer under the store's lock; what was half made is removed before the error goes on."""
    uv = find_uv(store)
    require_installer(layer, python, uv)
    count = len(layer.pins)
    say(f"{layer.name}: installing {count} package{'' if count == 1 else 's'} with {'uv' if uv else 'pip'}")
    try:
        perform(building_steps(store, layer, python, uv, keep))
    except Failure as failure:
        raise Failure(f"environment {layer.name} was not built: {failure.message}{remedy(layer)}") from None
    finally:
        shutil.rmtree(store.building(layer), ignore_errors=True)


def require_installer(layer: Layer, python: Python, uv: str | None) -> None:
    """Without uv, the first environment needs Python's own pip, which Debian ships in a package apart."""
    if uv is None and layer.name == TOOLS and importlib.util.find_spec("ensurepip") is None:
        raise Failure(
            f"{python.executable} has no ensurepip: `sudo apt install python3-venv`, or install uv, and repeat"
        )


def remedy(layer: Layer) -> str:
    """What helps when a package that is compiled on this machine did not build."""
    if any(pin.name == "psycopg2" for pin in layer.pins):
        return ". psycopg2 is compiled here: `invoke doctor` says what it needs"
    return ""


def remove(store: Store, name: str, *, dry_run: bool = False, say: Say = print) -> None:
    """Remove an environment and the layers that nothing stands on any more.

    Raises `Failure` while another environment stands on it, or it runs this very command.
    """
    if not store.link(name).is_symlink():
        raise Failure(f"environment {name} is not built; `invoke venv-list` shows what is")
    if name == TOOLS:
        raise Failure("environment tools runs this command; remove the folder .venvs by hand to begin anew")
    own = os.path.realpath(store.link(name))
    above = [other for other in built(store) if other != name and own in below_of(store, other)]
    if above:
        raise Failure(f"environment {name} carries {', '.join(above)}; remove what stands on it first")
    with store.lock(say):
        perform([Remove(store.link(name)), *map(Remove, unused(store, without=name))], dry_run=dry_run)


def prune(store: Store, *, dry_run: bool = False, say: Say = print) -> int:
    """Remove the layers of earlier locks, which no environment uses; returns how many there were."""
    with store.lock(say):
        paths = unused(store)
        perform(map(Remove, paths), dry_run=dry_run)
    return len(paths)


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
    """The layers that no environment is or stands on, leaving one environment out of account."""
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
