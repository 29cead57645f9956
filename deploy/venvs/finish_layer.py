"""Finishes a layer. The new layer's own Python runs this once the packages are installed.

    python -I finish_layer.py PLAN.json

It checks that what was asked for is there. It puts the lower layers on the import path, rewrites their console scripts
for this Python, and makes every script refer to the folder that the layer will be renamed to. It writes `layer.json`
last, which marks a complete layer.
Standard library only, and no imports of ours: neither packages nor `deploy` are available where it runs.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import all_suffixes
from importlib.metadata import Distribution, distributions
from pathlib import Path

#: The name sorts after every other .pth file, so that an environment's own packages come first.
PATH_FILE = "~layers.pth"
#: Files that uv and setuptools create in each environment, and that need not be inherited.
HARMLESS = {PATH_FILE, "_virtualenv.pth", "distutils-precedence.pth"}
#: A copy of the lock, with which the bootstrap compares the lock without parsing it.
LOCK_COPY = "lock.txt"
#: The names of the distributions' folders and, after `bin/`, of the console scripts when the layer was finished: a
#: glance shows whether they are all there.
CONTENTS = "contents.txt"
#: How much of a `#!` line Linux reads (BINPRM_BUF_SIZE less `#!` and the line's end).
SHEBANG_LENGTH = 253

SCRIPT = """\
{shebang}
# Written by Portico: {name} of {distribution}.
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({call}())
"""


def shebang(python: str) -> str:
    """The first lines of a script for this interpreter, even if its path contains a space or is very long."""
    if " " not in python and len(python) <= SHEBANG_LENGTH:
        return f"#!{python}"
    # Valid in two languages: an exec for sh, a string for Python.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\" \"$@\"\n' '''"


def site_packages(layer: Path) -> Path:
    """The folder of a layer's packages. The Python that runs this has the same version as every layer's."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(layer)}))


def entry_points(distribution: Distribution, python: str) -> dict[str, str]:
    """The console scripts of a distribution, name and text, for this interpreter."""
    return {
        entry.name: SCRIPT.format(
            shebang=shebang(python),
            name=entry.name,
            distribution=distribution.name,
            module=entry.module,
            first=entry.attr.split(".")[0],
            call=entry.attr,
        )
        for entry in distribution.entry_points
        if entry.group in ("console_scripts", "gui_scripts")
    }


def programs(distribution: Distribution, folder: Path) -> list[Path]:
    """A distribution's files in its layer's `bin`, including compiled programs and scripts without an entry point."""
    names = (file.name for file in distribution.files or () if file.parent.name == "bin" and file.parts[0] == "..")
    return [folder / name for name in names if (folder / name).is_file()]


def write_script(path: Path, text: str) -> None:
    """Write an executable script, replacing any file of that name."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def inherit_scripts(lower: Path, folder: Path, python: str, own: set[str]) -> None:
    """Make a lower layer's scripts work from this `bin`, except those that this layer has under the same name.

    With the lower `bin` on PATH instead, the lower Python would run them, and it does not see this layer.
    """
    for distribution in distributions(path=[str(site_packages(lower))]):
        scripts = entry_points(distribution, python)
        for name in scripts.keys() - own:
            write_script(folder / name, scripts[name])
        for program in programs(distribution, lower / "bin"):
            if program.name in own or program.name in scripts:
                continue
            if program.read_bytes().startswith(b"#!" + str(lower).encode()):
                here = str(Path(python).parents[1])
                write_script(folder / program.name, program.read_text().replace(str(lower), here))
            else:
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)


def relocate_scripts(folder: Path, old: str, script: str, activated: str) -> None:
    """Replace the build folder in scripts by the layer's folder, and in `activate` by the environment's."""
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if old in text:
            path.write_text(text.replace(old, activated if path.name.lower().startswith("activate") else script))


def refuse_path_files(layer: Path) -> None:
    """Exit if a lower layer has other .pth files, as of an editable package: it could not be inherited completely."""
    for path in site_packages(layer).glob("*.pth"):
        if path.name not in HARMLESS:
            sys.exit(
                f"{layer.name} contains {path.name}: editable packages are allowed in the uppermost environment only; "
                f"rebuild it with `invoke venv --env {layer.name.rsplit('-', 1)[0]} --rebuild`"
            )


# --- whether what was asked for is there ---------------------------------------------------------------------------


def marker_environment() -> dict[str, str]:
    """What environment markers are about, for the Python that runs this (PEP 508)."""
    implementation = sys.implementation.version
    kind = "" if implementation.releaselevel == "final" else f"{implementation.releaselevel[0]}{implementation.serial}"
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": f"{implementation.major}.{implementation.minor}.{implementation.micro}{kind}",
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
        "extra": "",
    }


#: The variables of markers that are compared as versions.
VERSIONS = ("implementation_version", "platform_release", "python_full_version", "python_version")
_TOKEN = re.compile(r"""\s*(?:(\()|(\))|("[^"]*"|'[^']*')|(===|==|!=|<=|>=|~=|<|>)|([A-Za-z_.]+))\s*""")


def selected(marker: str, environment: Mapping[str, str]) -> bool:
    """Whether an environment marker holds (PEP 508). Raises `ValueError` for a text that is none."""
    tokens: list[str] = []
    position = 0
    while position < len(marker):
        found = _TOKEN.match(marker, position)
        if found is None:
            raise ValueError(marker)
        tokens.append(found[0].strip())
        position = found.end()
    tokens.append("")

    def either() -> bool:
        holds = both()
        while tokens[0] == "or":
            tokens.pop(0)
            holds = both() or holds
        return holds

    def both() -> bool:
        holds = one()
        while tokens[0] == "and":
            tokens.pop(0)
            holds = one() and holds
        return holds

    def one() -> bool:
        if tokens[0] == "(":
            tokens.pop(0)
            holds = either()
            if tokens.pop(0) != ")":
                raise ValueError(marker)
            return holds
        left, operator = tokens.pop(0), tokens.pop(0)
        if operator == "not":
            operator = f"not {tokens.pop(0)}"
        return compared(left, operator, tokens.pop(0), environment)

    try:
        holds = not marker.strip() or either()
    except (IndexError, KeyError, RecursionError):
        raise ValueError(marker) from None
    if marker.strip() and tokens != [""]:
        raise ValueError(marker)
    return holds


def compared(left: str, operator: str, right: str, environment: Mapping[str, str]) -> bool:
    """One comparison of a marker: of versions if it is about one, else of texts."""
    one, other = (word[1:-1] if word[:1] in "\"'" else environment[word] for word in (left, right))
    if operator in ("in", "not in"):
        return (one in other) == (operator == "in")
    if (left in VERSIONS or right in VERSIONS) and _numbers(one) and _numbers(other):
        wild = other.endswith(".*")
        there, wanted = _numbers(one), _numbers(other.removesuffix(".*"))
        if operator == "~=":
            return there >= wanted and there[: len(_dotted(other)) - 1] == wanted[: len(_dotted(other)) - 1]
        if wild:
            there = there[: len(_dotted(other)) - 1]
            wanted = wanted[: len(_dotted(other)) - 1]
        return _holds(there, operator, wanted)
    if operator not in ("==", "===", "!=", "<", "<=", ">", ">=", "~="):
        raise ValueError(operator)
    # Texts have no order: only equal ones are at most and at least each other.
    return operator in ("==", "===", "<=", ">=") if one == other else operator == "!="


def _holds(one: tuple[int, ...], operator: str, other: tuple[int, ...]) -> bool:
    compare = {
        "==": one == other,
        "===": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }
    if operator not in compare:
        raise ValueError(operator)
    return compare[operator]


def _dotted(version: str) -> list[str]:
    return version.split(".")


def _numbers(version: str) -> tuple[int, ...]:
    """A version for comparisons, as long as any; empty for any other text. A release comes after its candidates."""
    found = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:\.\*)?(?:(a|b|rc|c)(\d+))?(?:\+.*)?", version.strip())
    if found is None:
        return ()
    parts = [int(part) for part in found[1].split(".")]
    stage = {"a": 0, "b": 1, "c": 2, "rc": 2, None: 3}[found[2]]
    return (*parts, *[0] * (6 - len(parts)), stage, int(found[3] or 0))


def normal(version: str) -> str:
    """A version in the spelling that indexes use (PEP 440), without the zeros at its end."""
    text, plus, local = version.strip().lower().removeprefix("v").replace("_", "-").partition("+")
    text = re.sub(
        r"[-.]?(alpha|beta|preview|pre|c|rc|a|b)[-.]?(\d*)", lambda m: f"{_STAGES[m[1]]}{int(m[2] or 0)}", text
    )
    text = re.sub(r"(?:[-.]?(?:post|rev|r(?!c))[-.]?(\d*)|-(\d+))", lambda m: f".post{int(m[1] or m[2] or 0)}", text)
    text = re.sub(r"[-.]?dev[-.]?(\d*)", lambda m: f".dev{int(m[1] or 0)}", text)
    release = re.match(r"(?:\d+!)?\d+(?:\.\d+)*", text)
    if release is None:
        return text
    parts = [str(int(part)) if part.isdigit() else part for part in release[0].split(".")]
    while len(parts) > 1 and parts[-1] == "0":
        parts.pop()
    return ".".join(parts) + text[release.end() :] + plus + local.replace("-", ".")


_STAGES = {"alpha": "a", "beta": "b", "preview": "rc", "pre": "rc", "c": "rc", "rc": "rc", "a": "a", "b": "b"}


def lacking(pins: Iterable[Sequence[str]], installed: Sequence[Distribution]) -> list[str]:
    """The pins, each as name, version and marker, that this Python needs and that are not installed."""
    environment = marker_environment()
    there = {re.sub(r"[-_.]+", "-", each.name or "").lower(): each.version for each in installed}
    wrong = []
    for name, version, marker in pins:
        if not selected(marker, environment):
            continue
        if name not in there:
            wrong.append(f"{name} {version}")
        elif normal(there[name]) != normal(version):
            wrong.append(f"{name} {version} ({there[name]} is there)")
    return wrong


def incomplete(installed: Iterable[Distribution], folders: Sequence[Path]) -> list[str]:
    """The files that distributions lack, and their console scripts whose modules are in none of the folders."""
    wrong = []
    for each in installed:
        try:
            files = recorded(each)
        except (UnicodeDecodeError, csv.Error):
            files = []
        if not files:
            wrong.append(f"{title(each)} has no list of its files (RECORD)")
        missing = (name for name in files if not os.path.exists(str(each.locate_file(name))))
        if first := next(missing, ""):
            wrong.append(f"{title(each)} lacks {first}")
        for entry in each.entry_points:
            if entry.group in ("console_scripts", "gui_scripts") and not found_module(entry.module, folders):
                wrong.append(f"{each.name} {each.version} has the script {entry.name}, but no module {entry.module}")
    return wrong


def title(distribution: Distribution) -> str:
    """Name and version of a distribution for messages; its folder's, if its metadata is empty."""
    folder = Path(str(distribution.locate_file(""))) if distribution.name is None else None
    return f"a package in {folder} without metadata" if folder else f"{distribution.name} {distribution.version}"


def recorded(distribution: Distribution) -> list[str]:
    """The files that a distribution says it has, but for bytecode. From Python 3.12 on, `files` hides missing ones."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    names = (row[0] for row in rows if row)
    return [name for name in names if "__pycache__" not in name.split("/") and not name.startswith("/")]


def found_module(module: str, folders: Sequence[Path]) -> bool:
    """Whether a module is in one of the folders. Imports nothing."""
    paths = [folder.joinpath(*module.split(".")) for folder in folders]
    return any(path.is_dir() or any(Path(f"{path}{suffix}").is_file() for suffix in all_suffixes()) for path in paths)


def contents(packages: Path, scripts: Path) -> str:
    """The names of the distributions' folders and of the console scripts, one a line."""
    names = (name for name in os.listdir(packages) if name.endswith((".dist-info", ".egg-info")))
    return "".join(f"{name}\n" for name in sorted([*names, *(f"bin/{name}" for name in os.listdir(scripts))]))


def require_whole(name: str, pins: Sequence[Sequence[str]], packages: Path, below: Sequence[Path]) -> None:
    """Exit unless each pin that this Python needs is installed, with its files and its scripts' modules."""
    own = list(distributions(path=[str(packages)]))
    if wrong := lacking(pins, own):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        sys.exit(f"{name}: the installer ended without an error, but did not install {', '.join(wrong[:3])}{more}")
    if wrong := incomplete(own, [packages, *map(site_packages, below)]):
        sys.exit(f"{name}: {wrong[0]}; report it to the package's authors, or pin another version of it")


def main(plan_path: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    building, final, link = plan["building"], plan["path"], plan["link"]
    below = [Path(path) for path in plan["below"]]
    layer = Path(building)
    for lower in below:
        refuse_path_files(lower)

    packages = site_packages(layer)
    require_whole(plan["name"], plan["pins"], packages, below)
    own = list(distributions(path=[str(packages)]))
    python = str(Path(final) / "bin" / "python")
    scripts = {name: text for each in own for name, text in entry_points(each, python).items()}
    own_names = {*scripts, *(path.name for path in (layer / "bin").iterdir())}
    for lower in reversed(below):
        inherit_scripts(lower, layer / "bin", python, own_names)
    for name, text in scripts.items():
        write_script(layer / "bin" / name, text)
    relocate_scripts(layer / "bin", building, final, link)

    (packages / PATH_FILE).write_text("".join(f"{site_packages(lower)}\n" for lower in below))
    record = {
        "name": plan["name"],
        "python": plan["python"],
        "base_python": plan["base_python"],
        "interpreter": str((layer / "bin" / "python").resolve()),
        "path": final,
        "below": plan["below"],
        "installed": {distribution.name: distribution.version for distribution in own},
    }
    shutil.copyfile(plan["lock"], layer / LOCK_COPY)
    (layer / CONTENTS).write_text(contents(packages, layer / "bin"))
    Path(plan_path).unlink()
    (layer / "layer.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
