"""Builds layers into the store, and removes unused ones.

Standard library only: the bootstrap builds the tools environment with this module.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Link, MakeFolder, Move, Remove, Run, Step, Write, last_line, perform, run
from deploy.venvs import layers
from deploy.venvs.layers import Layer
from deploy.venvs.store import (
    FINISH,
    TOOLS,
    Python,
    Store,
    below_of,
    built,
    chosen_python,
    find_uv,
    is_complete,
    is_current,
    state,
    unused,
)

if TYPE_CHECKING:
    from deploy.venvs.installers import Sources

#: What builds a package that comes as source only (PEP 517), locked: nothing newer or other is fetched and run.
BACKENDS = "build.txt"
#: Where it is while a layer is built, and why it is not there.
BACKENDS_FOLDER, BACKENDS_REASON = "build-backends", "build-backends.txt"
#: Otherwise uv would download an interpreter that it does not find.
NO_DOWNLOADS = {"UV_PYTHON_DOWNLOADS": "never"}


@dataclass(frozen=True)
class Finish(Run):
    """The command that finishes a layer. It says why a layer is not whole."""

    def perform(self) -> None:
        result = run(self, capture=True, check=False)
        if result.code:
            raise Failure(last_line(result.stderr) or f"finish_layer failed with exit code {result.code}")


@dataclass(frozen=True)
class Backends(Run):
    """The command that installs the build back-ends. It may fail: packages that are wheels need none."""

    reason: Path = Path()

    def perform(self) -> None:
        result = run(self, capture=True, check=False)
        if result.code:
            with suppress(OSError):  # a full disk, which the next step names
                self.reason.write_text(last_line(result.stderr) or f"exit code {result.code}")


def backends(store: Store, building: Path, uv: str | None, *, keep: tuple[int, ...], sources: Sources) -> Backends:
    """The command that installs the build back-ends beside a layer that is built; only wheels, with these hashes."""
    from deploy.venvs import installers

    unset = installers.unset(os.environ)
    python, reason = str(building / "bin" / "python"), building / BACKENDS_REASON
    what = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(store.requirements / BACKENDS)]
    target = ["--target", str(building / BACKENDS_FOLDER)]
    if uv:
        argv = [uv, "pip", "install", "--quiet", *sources.uv_options, "--python", python, *target, *what]
        return Backends(argv, {**NO_DOWNLOADS, **sources.uv}, keep=keep, unset=unset, reason=reason)
    pip = [str(store.link(TOOLS) / "bin" / "python"), "-m", "pip", "--python", python]
    argv = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", *target, *what]
    return Backends(argv, sources.pip, keep=keep, unset=unset, reason=reason)


def creation(layer: Layer, building: Path, python: Python, uv: str | None) -> Run:
    """The command that creates the empty environment."""
    from deploy.venvs import installers  # imported late, as below: most commands find nothing to build

    unset = installers.unset(os.environ)
    if uv:
        options = ["--quiet", "--no-project", "--no-config", "--python", python.executable, "--prompt", layer.name]
        return Run([uv, "venv", *options, str(building)], NO_DOWNLOADS, unset=unset)
    pip = [] if layer.name == TOOLS else ["--without-pip"]
    return Run([python.executable, "-m", "venv", "--prompt", layer.name, *pip, str(building)], unset=unset)


def installation(
    store: Store, layer: Layer, building: Path, uv: str | None, *, keep: tuple[int, ...] = (), sources: Sources
) -> Run:
    """The command that installs the layer's own packages: hashes are checked, dependencies are not added.

    A package that comes as source only is built with what `backends` has installed. The tools are wheels.
    """
    from deploy.venvs import installers

    unset = installers.unset(os.environ)
    python = str(building / "bin" / "python")
    quiet = [] if sys.stderr.isatty() else ["--quiet"]  # progress bars and names are for people
    what = ["--no-deps", "--require-hashes", "-r", str(building / "requirements.txt")]
    here: dict[str, str] = {}
    if layer.name != TOOLS:
        here, what = {"PYTHONPATH": str(building / BACKENDS_FOLDER)}, ["--no-build-isolation", *what]
        unset = tuple(name for name in unset if name != "PYTHONPATH")
    if uv:
        bytecode = ["--compile-bytecode"] if store.compiled else []
        argv = [uv, "pip", "install", *quiet, *bytecode, *sources.uv_options, "--python", python, *what]
        return Run(argv, {**NO_DOWNLOADS, **sources.uv, **here}, keep=keep, unset=unset)
    if layer.name == TOOLS:
        pip = [python, "-m", "pip"]
    else:
        pip = [str(store.link(TOOLS) / "bin" / "python"), "-m", "pip", "--python", python]
    bytecode = [] if store.compiled else ["--no-compile"]
    options = ["--disable-pip-version-check", "--no-input", *bytecode]
    return Run([*pip, "install", *quiet, *options, *what], {**sources.pip, **here}, keep=keep, unset=unset)


def building_steps(
    store: Store, layer: Layer, python: Python, uv: str | None, keep: tuple[int, ...] = ()
) -> list[Step]:
    """The steps that build a layer in a temporary folder and then rename it."""
    from deploy.venvs import installers

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
        "pins": [[pin.name, pin.version, pin.marker] for pin in layer.pins],
    }
    sources = installers.configured(store.requirements.parent, os.environ)
    steps: list[Step] = [
        MakeFolder(building.parent),
        Remove(building),
        creation(layer, building, python, uv),
        Write(building / "requirements.txt", layer.requirements),
    ]
    if layer.pins and layer.name != TOOLS:
        steps.append(backends(store, building, uv, keep=keep, sources=sources))
    if layer.pins:
        steps.append(installation(store, layer, building, uv, keep=keep, sources=sources))
        steps += [Remove(building / each) for each in (BACKENDS_FOLDER, BACKENDS_REASON)]
    return [
        *steps,
        Write(building / "plan.json", json.dumps(plan, indent=1) + "\n"),
        Finish([str(building / "bin" / "python"), "-I", str(FINISH), str(building / "plan.json")], keep=keep),
        Remove(path),
        Move(building, path),
    ]


# --- actions --------------------------------------------------------------------------------------------------------


def ensure(
    store: Store, name: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False, notify: Notify = print
) -> bool:
    """Bring an environment up to date with its locks, building missing layers, lowest first. Returns whether it did.

    Concurrent calls are safe: the second waits, and then finds nothing to do. After a kill at any point, the next call
    continues from the last complete layer. Raises `Failure` with a remedy if a layer cannot be built.
    """
    chosen = chosen_python(store, name, python)
    layer = layers.resolve(store.requirements, name, chosen.tag)
    chain = [*reversed(layer.below), layer]
    if not rebuild and is_current(store, layer) and all(is_complete(store.path(lower)) for lower in layer.below):
        return False
    if dry_run:
        for each in chain:
            if rebuild or not is_complete(store.path(each)):
                perform(building_steps(store, each, chosen, find_uv(store)), dry_run=True)
            perform(linking_steps(store, each, name), dry_run=True)
        return True
    with store.lock(notify) as descriptor:
        for each in chain:
            if rebuild or not is_complete(store.path(each)):
                build(store, each, chosen, (descriptor,), notify)
            perform(linking_steps(store, each, name))
    return True


def linking_steps(store: Store, layer: Layer, asked: str) -> list[Step]:
    """Link the environment to its layer. A lower environment that is current with another Python keeps its layer."""
    if layer.name != asked and state(store, layer.name) == "current":
        return []
    return [Link(store.link(layer.name), f".layers/{layer.folder}")]


def build(store: Store, layer: Layer, python: Python, keep: tuple[int, ...], notify: Notify) -> None:
    """Build one layer while holding the store's lock. After an error, the incomplete layer is removed."""
    uv = working(find_uv(store))
    require_installer(layer, python, uv)
    count = len(layer.pins)
    notify(f"{layer.name}: installing {count} package{'' if count == 1 else 's'} with {'uv' if uv else 'pip'}")
    try:
        perform(building_steps(store, layer, python, uv, keep))
    except Failure as failure:
        reason = failure.message + without_backends(store.building(layer))
        raise Failure(f"environment {layer.name} was not built: {reason}{remedy(layer)}") from None
    finally:
        shutil.rmtree(store.building(layer), ignore_errors=True)


def working(uv: str | None) -> str | None:
    """The uv if it runs, else another on PATH that does; without any, None, for pip.

    The uv of the tools may be broken, and the tools must be built again nevertheless.
    """
    for each in dict.fromkeys([uv, shutil.which("uv")] if uv else []):
        with suppress(Failure):
            if each and run(Run([each, "--version"], seconds=60), capture=True, check=False).code == 0:
                return each
    return None


def without_backends(building: Path) -> str:
    """Words about build back-ends that could not be installed; empty if they are there."""
    try:
        reason = (building / BACKENDS_REASON).read_text()
    except OSError:
        return ""
    return f". What builds packages from source (requirements/{BACKENDS}) could not be installed: {reason}"


def require_installer(layer: Layer, python: Python, uv: str | None) -> None:
    """Raise `Failure` if there is neither uv nor Python's own pip, which Debian ships in a separate package."""
    if uv is None and layer.name == TOOLS and importlib.util.find_spec("ensurepip") is None:
        raise Failure(
            f"{python.executable} has no ensurepip: `sudo apt install python3-venv`, or install uv, and repeat"
        )


def remedy(layer: Layer) -> str:
    """A hint for the error message if the layer contains a package that is compiled on this machine."""
    if any(pin.name == "psycopg2" for pin in layer.pins):
        return ". psycopg2 is compiled here: `invoke doctor` says what it needs"
    return ""


def remove(store: Store, name: str, *, dry_run: bool = False, notify: Notify = print) -> None:
    """Remove an environment and the layers that are then unused.

    Raises `Failure` if another environment stands on it, or if it runs this command.
    """
    if not store.link(name).is_symlink():
        raise Failure(f"environment {name} is not built; `invoke venv-list` lists those that are")
    if name == TOOLS:
        raise Failure("environment tools runs this command; to start again, remove the folder .venvs by hand")
    own = os.path.realpath(store.link(name))
    above = [other for other in built(store) if other != name and own in below_of(store, other)]
    if above:
        raise Failure(f"environment {name} is needed by {', '.join(above)}; remove those first")
    with store.lock(notify):
        perform([Remove(store.link(name)), *map(Remove, unused(store, without=name))], dry_run=dry_run)


def prune(store: Store, *, dry_run: bool = False, notify: Notify = print) -> int:
    """Remove the layers that no environment uses, such as those of earlier locks; returns their number."""
    with store.lock(notify):
        paths = unused(store)
        perform(map(Remove, paths), dry_run=dry_run)
    return len(paths)


def clear(store: Store, names: Sequence[str], *, unused: bool, dry_run: bool = False, notify: Notify = print) -> None:
    """Remove environments, and with ``unused`` what no environment uses. Raises `Failure` where neither is named."""
    if not names and not unused:
        raise Failure("nothing to remove was named: use --env NAME, or --unused for layers that no environment uses")
    for name in names:
        remove(store, name, dry_run=dry_run, notify=notify)
    if unused:
        count = prune(store, dry_run=dry_run, notify=notify)
        notify(f"{count} unused layer{'' if count == 1 else 's'}")
