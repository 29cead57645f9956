"""Builds layers into the store, and removes those that nothing uses.

Standard library only: the bootstrap builds the tools environment with it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Link, MakeFolder, Move, Remove, Run, Step, Write, perform
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
    is_current,
    is_whole,
    state,
    unused,
)

#: uv would otherwise fetch an interpreter that it does not find.
NO_DOWNLOADS = {"UV_PYTHON_DOWNLOADS": "never"}


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
    store: Store, name: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False, notify: Notify = print
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
    with store.lock(notify) as descriptor:
        for each in chain:
            if rebuild or not is_whole(store.path(each)):
                build(store, each, chosen, (descriptor,), notify)
            perform(linking_steps(store, each, name))
    return True


def linking_steps(store: Store, layer: Layer, asked: str) -> list[Step]:
    """Give the environment its layer. A lower one that is in order with another Python keeps what it has."""
    if layer.name != asked and state(store, layer.name) == "current":
        return []
    return [Link(store.link(layer.name), f".layers/{layer.folder}")]


def build(store: Store, layer: Layer, python: Python, keep: tuple[int, ...], notify: Notify) -> None:
    """Build one layer under the store's lock; what was half made is removed before the error goes on."""
    uv = find_uv(store)
    require_installer(layer, python, uv)
    count = len(layer.pins)
    notify(f"{layer.name}: installing {count} package{'' if count == 1 else 's'} with {'uv' if uv else 'pip'}")
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


def remove(store: Store, name: str, *, dry_run: bool = False, notify: Notify = print) -> None:
    """Remove an environment and the layers that nothing stands on any more.

    Raises `Failure` while another environment stands on it, or it runs this very command.
    """
    if not store.link(name).is_symlink():
        raise Failure(f"environment {name} is not built; `invoke venv-list` shows what is")
    if name == TOOLS:
        raise Failure("environment tools runs this command; remove the folder .venvs by hand to start again")
    own = os.path.realpath(store.link(name))
    above = [other for other in built(store) if other != name and own in below_of(store, other)]
    if above:
        raise Failure(f"environment {name} carries {', '.join(above)}; remove what stands on it first")
    with store.lock(notify):
        perform([Remove(store.link(name)), *map(Remove, unused(store, without=name))], dry_run=dry_run)


def prune(store: Store, *, dry_run: bool = False, notify: Notify = print) -> int:
    """Remove the layers of earlier locks, which no environment uses; returns how many there were."""
    with store.lock(notify):
        paths = unused(store)
        perform(map(Remove, paths), dry_run=dry_run)
    return len(paths)


def clear(store: Store, names: Sequence[str], *, unused: bool, dry_run: bool = False, notify: Notify = print) -> None:
    """Remove environments, and with ``unused`` what no environment uses. Raises `Failure` where neither is named."""
    if not names and not unused:
        raise Failure("say which: --env NAME, or --unused for the layers that nothing uses")
    for name in names:
        remove(store, name, dry_run=dry_run, notify=notify)
    if unused:
        count = prune(store, dry_run=dry_run, notify=notify)
        notify(f"{count} unused layer{'' if count == 1 else 's'}")
