"""Finishes a layer. The new layer's own Python runs this once the packages are installed.

    python -I finish_layer.py PLAN.json

It puts the lower layers on the import path, rewrites their console scripts for this Python, and makes every script
refer to the folder that the layer will be renamed to. It writes `layer.json` last, which marks a complete layer.
Standard library only, and no imports of ours: neither packages nor `deploy` are available where it runs.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

#: The name sorts after every other .pth file, so that an environment's own packages come first.
PATH_FILE = "~layers.pth"
#: Files that uv and setuptools create in each environment, and that need not be inherited.
HARMLESS = {PATH_FILE, "_virtualenv.pth", "distutils-precedence.pth"}
#: A copy of the lock, with which the bootstrap compares the lock without parsing it.
LOCK_COPY = "lock.txt"
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
    Path(plan_path).unlink()
    (layer / "layer.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
