"""Run by a new layer's own Python once its packages are in: makes the folder into a layer.

    python -I finish_layer.py PLAN.json

It puts the lower layers on the import path, writes their console scripts again for this Python, points every script
at the folder that the layer is about to be renamed to, and leaves `layer.json`, by which a whole layer is known.
Standard library only, and nothing of ours: it runs in an environment that has neither.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

#: Named to sort after every other .pth file, so that what an environment installs itself comes first.
PATH_FILE = "~layers.pth"
#: What uv and setuptools leave in each environment, and which works without being inherited.
HARMLESS = {PATH_FILE, "_virtualenv.pth", "distutils-precedence.pth"}
#: The lock as it was, by which the bootstrap sees without reading it that nothing changed.
LOCK_COPY = "lock.txt"
#: Linux reads this much of a `#!` line (BINPRM_BUF_SIZE less the two signs and the end).
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
    """The first lines of a script for this interpreter, also where its path has a space or is very long."""
    if " " not in python and len(python) <= SHEBANG_LENGTH:
        return f"#!{python}"
    # Two languages at once: to sh an exec, to Python a string.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\" \"$@\"\n' '''"


def site_packages(layer: Path) -> Path:
    """Where a layer keeps its packages; the Python that runs this is of the same version as every layer's."""
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
    """What a distribution has in its layer's `bin`: compiled programs too, and scripts that are no entry points."""
    names = (file.name for file in distribution.files or () if file.parent.name == "bin" and file.parts[0] == "..")
    return [folder / name for name in names if (folder / name).is_file()]


def write_script(path: Path, text: str) -> None:
    """Write an executable script in place of whatever has that name."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def lift_scripts(lower: Path, folder: Path, python: str, own: set[str]) -> None:
    """Make a lower layer's scripts work from this `bin`, except where this layer has its own of that name.

    Putting the lower `bin` on PATH instead would run them with the lower Python, which does not see this layer.
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


def repoint(folder: Path, old: str, script: str, activated: str) -> None:
    """Take the building place out of scripts (they name the layer) and of `activate` (it names the environment)."""
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
    """A lower layer with .pth files of its own, such as an editable package, would not be inherited whole."""
    for path in site_packages(layer).glob("*.pth"):
        if path.name not in HARMLESS:
            sys.exit(
                f"{layer.name} holds {path.name}: editable packages belong in the uppermost environment only; "
                f"rebuild it with `invoke venv --env {layer.name.rsplit('-', 1)[0]} --rebuild`"
            )


def main(plan_path: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    building, final, link = plan["building"], plan["path"], plan["link"]
    below = [Path(path) for path in plan["below"]]
    layer = Path(building)
    for lower in below:
        refuse_path_files(lower)

    packages = site_packages(layer)
    own = list(distributions(path=[str(packages)]))
    python = str(Path(final) / "bin" / "python")
    scripts = {name: text for each in own for name, text in entry_points(each, python).items()}
    own_names = {*scripts, *(path.name for path in (layer / "bin").iterdir())}
    for lower in reversed(below):
        lift_scripts(lower, layer / "bin", python, own_names)
    for name, text in scripts.items():
        write_script(layer / "bin" / name, text)
    repoint(layer / "bin", building, final, link)

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
    Path(plan_path).unlink()
    (layer / "layer.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
