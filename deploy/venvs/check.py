"""Checks built environments. Reports each problem with its remedy, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run, run
from deploy.venvs import layers
from deploy.venvs import store as layer_store
from deploy.venvs.finish_layer import incomplete
from deploy.venvs.layers import Layer
from deploy.venvs.store import Record, Store


def check_all(store: Store, names: Sequence[str], notify: Notify) -> None:
    """Check environments, reporting progress. Raises `Failure` with a line for each problem."""
    problems: dict[str, None] = {}
    for name in names:
        notify(f"{name} …")
        if not layer_store.declared(store, name):
            notify(f"{name}: its lock is not compared, as there is no requirements/{name}.in: {away(name)}")
        problems |= dict.fromkeys(check(store, name))
    if problems:
        raise Failure("\n".join(problems))
    notify(f"{', '.join(names)}: in order")


def check(store: Store, name: str) -> list[str]:
    """The problems of an environment, one line each; empty if it matches its locks."""
    again = f"`invoke venv --env {name}`"
    record = store.record(name)
    if record is None:
        return [f"{name}: not built, or not completely: {again}"]
    path = Path(os.path.realpath(store.link(name)))
    if record.path != str(path):
        return [f"{name}: was moved here from {record.path}: {again} rebuilds it"]
    problems = [*python_problems(name, record, path, again), *base_problems(name, record, again)]
    if problems:
        return problems
    if not layer_store.finds_below(path, record):
        return [f"{name}: {layer_store.PATH_FILE} was changed, and the layers below are not found: {again} rebuilds it"]
    problems += lock_problems(store, name, record, path, again) if layer_store.declared(store, name) else []
    problems += package_problems(name, record, path)
    for lower in map(Path, record.below):
        if found := layer_store.read_record(lower):
            problems += package_problems(found.name, found, lower)
    problems += shadowed(name, package_folders(path, record), os.environ)
    return [*problems, *dependency_problems(store, name, path)]


def away(name: str) -> str:
    """What to do with an environment whose .in file has gone."""
    return layer_store.AWAY.format(name=name)


def lock_problems(store: Store, name: str, record: Record, path: Path, again: str) -> list[str]:
    """A lock that is not the one with which the environment was built."""
    try:
        layer = layers.resolve(store.requirements, name, record.python)
    except Failure as failure:
        return [f"{name}: {failure.message}"]
    if layer.folder == path.name:
        return []
    return [f"{name}: requirements/{changed_lock(store, layer, record)} changed since it was built: {again}"]


def python_problems(name: str, record: Record, path: Path, again: str) -> list[str]:
    """A Python that no longer exists, or that differs from the one that the layers were built with."""
    interpreter = path / "bin" / "python"
    if not interpreter.exists():
        return [f"{name}: its Python {record.interpreter} no longer exists: {again} rebuilds it with another"]
    now = layer_store.describe_other(str(interpreter)).tag
    wrong = [(name, record.python)] if now != record.python else []
    lower = [found for path in record.below if (found := layer_store.read_record(Path(path)))]
    wrong += [(each.name, each.python) for each in lower if each.python != now]
    return [
        f"{name}: runs {layer_store.short(now)}, but {layer} was built for {layer_store.short(made)}: {again}"
        for layer, made in wrong
    ]


def base_problems(name: str, record: Record, again: str) -> list[str]:
    """A lower layer that is not where this one expects it; Python itself would not report that."""
    return [
        f"{name}: stands on {Path(lower).name}, which is no longer at {Path(lower).parent}: {again} rebuilds it"
        for lower in record.below
        if layer_store.read_record(Path(lower)) is None
    ]


def changed_lock(store: Store, layer: Layer, record: Record) -> str:
    """The lock that changed: the layer's own, or that of a layer below."""
    changed = [lower.name for lower in layer.below if str(store.path(lower)) not in record.below]
    return f"{changed[-1] if changed else layer.name}.txt"


def package_problems(name: str, record: Record, path: Path) -> list[str]:
    """Packages that were installed, removed or changed by hand since the layer was finished."""
    fix = f"add it to requirements/{name}.in and run `invoke lock`, or `invoke venv --env {name} --rebuild`"
    packages = next((path / "lib").glob("python*/site-packages"), path)
    there = list(distributions(path=[str(packages)]))
    # Empty metadata has no name; `incomplete` names it.
    now = {distribution.name: distribution.version for distribution in there if distribution.name is not None}
    new = sorted(now.keys() - record.installed.keys())
    lines = [f"{name}: {each} {now[each]} was installed by hand: {fix}" for each in new]
    for each, version in sorted(record.installed.items()):
        if each not in now:
            lines.append(f"{name}: {each} {version} was removed by hand: {fix}")
        elif now[each] != version:
            lines.append(f"{name}: {each} is {now[each]}, but {version} is locked: {fix}")
    again = f"`invoke venv --env {name} --rebuild`"
    return lines + [f"{name}: {wrong}: {again}" for wrong in incomplete(there, package_folders(path, record))]


def package_folders(layer: Path, record: Record) -> list[Path]:
    """The folders of packages of a layer and of those below it, without any that is gone."""
    found = []
    for each in (layer, *map(Path, record.below)):
        with suppress(OSError):
            found.append(layer_store.packages_of(each))
    return [folder for folder in found if folder.is_dir()]


def shadowed(name: str, folders: Sequence[Path], environ: Mapping[str, str]) -> list[str]:
    """The packages of an environment that PYTHONPATH hides: Python looks there first."""
    installed = {module(entry) for folder in folders for entry in os.listdir(folder)} - {""}
    problems = []
    for folder in filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)):
        found = sorted({module(entry) for entry in os.listdir(folder)} & installed) if os.path.isdir(folder) else []
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            hidden = ", ".join(found[:3]) + more
            problems.append(f"{name}: PYTHONPATH has {folder}, which hides {hidden} of the environment: unset it")
    return problems


def module(entry: str) -> str:
    """The top-level module that an entry of a folder is; empty if it is none."""
    name, dot, kind = entry.partition(".")
    return name if name.isidentifier() and name != "__pycache__" and (not dot or kind in ("py", "so")) else ""


def dependency_problems(store: Store, name: str, path: Path) -> list[str]:
    """The problems that `pip check` reports, which sees all layers."""
    pip = [str(store.link(layer_store.TOOLS) / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    result = run(Run([*pip, "--python", str(path / "bin" / "python"), "check"]), capture=True, check=False)
    said = (result.stdout + result.stderr).strip().splitlines()
    return [f"{name}: {line}" for line in said] if result.code else []
