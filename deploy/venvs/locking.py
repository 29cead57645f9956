"""Turns requirements/*.in into locks with hashes, each consistent with the locks below it."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy import OLDEST
from deploy.core import text
from deploy.core.errors import Failure
from deploy.core.shell import Run, run
from deploy.project.names import WHEELS
from deploy.venvs import infile, installers, layers
from deploy.venvs.installers import Sources
from deploy.venvs.store import Store, find_uv

#: The public index alone.
PUBLIC = Sources()


def python_of(name: str, python: tuple[int, int]) -> tuple[int, int]:
    """The oldest Python that a lock supports; the machinery's own lock does not follow the project's."""
    return OLDEST if name == layers.TOOLS else max(OLDEST, python)


def compilation(
    uv: str,
    name: str,
    constraints: list[str],
    folder: Path,
    python: tuple[int, int] = OLDEST,
    *,
    upgrade: bool = False,
    sources: Sources = PUBLIC,
) -> Run:
    """The command that locks one file. `fewest`: one version of a package for all Python versions, if possible."""
    version = ".".join(map(str, python_of(name, python)))
    return Run(
        [
            *[uv, "pip", "compile", "--quiet", "--universal", "--python-version", version],
            *["--fork-strategy", "fewest", "--generate-hashes", "--custom-compile-command", "invoke lock"],
            *(["--upgrade"] if upgrade else []),
            *(word for each in constraints for word in ("-c", f"{each}.txt")),
            *sources.uv_options,
            *[f"{name}.in", "-o", f"{name}.txt"],
        ],
        env={"UV_PYTHON_DOWNLOADS": "never", **sources.uv},
        cwd=folder,
        unset=installers.unset(os.environ),
    )


def commands(
    graph: layers.Graph,
    uv: str,
    folder: Path,
    python: tuple[int, int] = OLDEST,
    *,
    upgrade: bool = False,
    sources: Sources = PUBLIC,
) -> dict[str, Run]:
    """One command for each environment, in the order in which they must be locked."""
    return {
        name: compilation(uv, name, layers.companions(graph, name), folder, python, upgrade=upgrade, sources=sources)
        for name in layers.sequence_of(graph)
    }


def compile_into(
    folder: Path,
    requirements: Path,
    uv: str,
    upgrade: bool,
    notify: Callable[[str], None],
    *,
    python: tuple[int, int] = OLDEST,
) -> list[str]:
    """Lock everything in a copy of the requirements; returns the names of the locks that changed.

    Each lock is read back by what installs it. Raises `Failure` naming the file and those with which it conflicts, or
    the line that could be locked but not installed.
    """
    graph = layers.read_graph(requirements)
    for name in graph:
        infile.check(requirements / f"{name}.in")
    shutil.copytree(requirements, folder, dirs_exist_ok=True)
    for source in folder.glob("*.in"):
        source.write_text(text.read(source))  # without a byte order mark
    wheels = wheels_of(requirements.parent / WHEELS)
    for known in folder.glob("*.txt"):
        known.write_text(without_rebuilt(known.read_text(), wheels))
    sources = installers.configured(requirements.parent, os.environ)
    planned = commands(graph, uv, folder, python, upgrade=upgrade, sources=sources)
    for number, (name, command) in enumerate(planned.items(), start=1):
        notify(f"lock: {name} ({number} of {len(graph)})")
        result = run(command, capture=True, check=False)
        if result.code:
            said = result.stderr.replace(f"{folder}/", "requirements/")
            raise Failure(missing(requirements, name, said) or explain(name, layers.companions(graph, name), said))
        made = folder / f"{name}.txt"
        made.write_text(layers.for_python(made.read_text(), python_of(name, python)))
    for name in graph:
        layers.resolve(folder, name, "")
    return [name for name in graph if not same(folder / f"{name}.txt", requirements / f"{name}.txt")]


def wheels_of(folder: Path) -> dict[str, set[str]]:
    """The hashes of the wheels in a folder, by `name==version`."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*-*-*.whl")):
        name, version, *_ = path.name.split("-")
        pin = f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
        found.setdefault(pin, set()).add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def without_rebuilt(lock: str, wheels: Mapping[str, set[str]]) -> str:
    """A lock without the pins of wheels that were built again: uv would keep their former hashes."""

    def kept(found: re.Match[str]) -> str:
        hashes = wheels.get(f"{found['name']}=={found['version']}", set())
        return found[0] if hashes <= set(re.findall(r"sha256:(\w+)", found[0])) else ""

    return re.sub(
        r"^(?P<name>[\w.-]+)(?:\[[^]]*\])?==(?P<version>[^\s;]+).*\n(?:[ \t]+.*\n)*", kept, lock, flags=re.MULTILINE
    )


def same(one: Path, other: Path) -> bool:
    """Whether both files exist and have the same content."""
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


def missing(requirements: Path, name: str, stderr: str) -> str:
    """The message for a package that no index has, or not in the wanted version; empty for another problem."""
    words = " ".join(re.sub(r"[^\x00-\x7f]+", " ", stderr).split())
    unknown = re.search(r"[Bb]ecause (\S+) was not found in the (?:package registry|provided package locations)", words)
    version = re.search(r"[Bb]ecause only \S+ (?:is|are) available and you require (\S+?)([=<>~!]\S*), we", words)
    version = version or re.search(
        r"[Bb]ecause there (?:is no version of|are no versions of) (\S+?)([=<>~!]\S+)? ", words
    )
    if not unknown and not (version and version[2]):
        return ""
    package = (unknown or version)[1]  # type: ignore[index]
    where = infile.line_of(requirements / f"{name}.in", package)
    if unknown:
        return f"{where}: there is no package {package} in the package index; check its name; no lock was changed"
    found = f"{package}{version[2]}" if version else package
    return f"{where}: there is no version {found} in the package index; change the line; no lock was changed"


def explain(name: str, constraints: list[str], stderr: str) -> str:
    """The resolver's reason in one line, with the files that conflict."""
    words = re.sub(r"[^\x00-\x7f]+", " ", stderr)  # without the characters of its drawing
    words = " ".join(words.split())
    if "No solution found" not in words:
        return f"requirements/{name}.in could not be locked: {words or 'uv printed no reason'}"
    reason = re.split(r"resolving dependencies(?: cause)?:", words, maxsplit=1)[-1].strip()
    others = " and ".join(f"{each}.in" for each in constraints)
    conflict = f"conflicts with {others}" if others else "contains a conflict"
    newer = re.search(r"depends on Python>=?(\d+\.\d+)", reason)
    remedy = f'Set `python: "{newer[1]}"` under project in invoke.yaml, or change' if newer else "Change"
    return f"requirements/{name}.in {conflict}: {reason} {remedy} one of them and lock again; no lock was changed."


def lock(
    store: Store,
    *,
    upgrade: bool,
    check: bool,
    dry_run: bool,
    notify: Callable[[str], None],
    python: tuple[int, int] = OLDEST,
) -> None:
    """Write every lock that changed, all or none. With ``check``, only compare. ``python``: the project's oldest.

    Raises `Failure` for a conflict, and with ``check`` if a lock does not match its `.in` file.
    """
    requirements, uv = store.requirements, find_uv(store)
    if uv is None:
        raise Failure("locking needs uv, which is in the tools environment: unset PORTICO_INSTALLER and retry")
    if dry_run:
        sources = installers.configured(requirements.parent, os.environ)
        graph = layers.read_graph(requirements)
        for command in commands(graph, uv, requirements, python, upgrade=upgrade, sources=sources).values():
            print(command.render())
        return
    with tempfile.TemporaryDirectory(prefix="lock-") as scratch:
        try:
            changed = compile_into(Path(scratch), requirements, uv, upgrade, notify, python=python)
        except OSError as error:  # `shutil.Error` is a list of files and reasons
            why = error.strerror or str(error.args[0][0][-1])
            raise Failure(f"{scratch}: {why}; free space there, or set TMPDIR to another folder") from None
        if check and changed:
            files = ", ".join(f"requirements/{name}.txt" for name in changed)
            raise Failure(f"{files}: out of date with the .in files; `invoke lock` updates them")
        for name in changed:
            fresh = requirements / f".{name}.txt.new"
            shutil.copyfile(Path(scratch) / f"{name}.txt", fresh)
            fresh.replace(requirements / f"{name}.txt")
    notify(f"lock: {'wrote ' + ', '.join(changed) if changed else 'every lock matches its .in file'}")
