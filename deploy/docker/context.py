"""The files that the production image is built from: those that Git knows, in the same folders for every project.

    python -m deploy.docker.context FOLDER [INPUTS…] | docker buildx build …  -

FOLDER is that of manage.py, and INPUTS are what a front end is built from (`.` for all of the project). Git knows a
file if it tracks it, or would: what `.gitignore` names (secrets, databases, environments, uploads) never reaches an
image. In the archive are `Dockerfile`, `requirements/*.txt`, the project's own wheels, `kit/`, `site/`, and the front
end's inputs in `assets/`.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project import local
from deploy.project.assets import Assets
from deploy.project.names import WHEELS
from deploy.project.site import KIT

#: At the root, these are not the project's: they matter where manage.py is there too.
OURS = frozenset({"deploy", "nginx", "requirements", "Dockerfile", "tasks.py", "project_tasks.py", "invoke.yaml"})
#: The time of each file in the archive (1980, as in other reproducible archives): the same code gives the same image.
TIME = 315532800


def places(names: Iterable[str], site: str) -> dict[str, str]:
    """Where in the archive each file goes, by its name in the repository; without those that an image does not need.

    Hidden files at the top of the site's folder, and `.env` files anywhere, are left out even if Git tracks them.
    """
    found = {}
    for name in names:
        path = PurePosixPath(name)
        lock = path.parent == PurePosixPath("requirements") and path.suffix == ".txt"
        if name == "Dockerfile" or lock or (path.parent == PurePosixPath(WHEELS) and path.suffix == ".whl"):
            found[name] = name
        elif path.is_relative_to(KIT):
            found[name] = str("kit" / path.relative_to(KIT))
        elif path.is_relative_to(site) and not path.name.startswith(".env"):
            inside = path.relative_to(site)
            if not inside.parts[0].startswith(".") and not (site == "." and inside.parts[0] in OURS):
                found[name] = str("site" / inside)
    return found


def known(root: Path) -> Iterator[str]:
    """The files of a work tree that Git tracks or would, with those of its submodules. Raises `Failure` without Git."""
    command = Run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    result = shell.run(command, capture=True, check=False)
    if result.code:
        git.require_ours(root, result.stderr)
        raise Failure(
            f"{root}: Git says which files an image is built from: {shell.last_line(result.stderr)}; `git init`"
        )
    for name in dict.fromkeys(result.stdout.split("\0")):
        path = root / name
        if name and path.is_dir() and not path.is_symlink():
            yield from (f"{name.rstrip('/')}/{inside}" for inside in known(path))
        elif name and (path.is_symlink() or path.exists()):
            yield name


def write(root: Path, site: str, output: IO[bytes], front: Assets | None = None) -> None:
    """Write the archive. Owners and times are the same everywhere, and modes say only whether a file can be run.

    ``front`` is the front end whose inputs are in it too; without one, `assets/` is empty.
    """

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = TIME
        entry.mode = 0o755 if entry.mode & 0o100 else 0o644
        return entry

    with tarfile.open(fileobj=output, mode="w|") as archive:
        folder = tarfile.TarInfo("assets")
        folder.type, folder.mtime, folder.mode = tarfile.DIRTYPE, TIME, 0o755
        archive.addfile(folder)
        names = list(known(root))
        for name in sorted(filter(front.reads, names) if front else ()):
            archive.add(root / name, f"assets/{name}", recursive=False, filter=plain)
        own = local.dockerfile(root).encode()
        for name, place in sorted(places(names, site).items()):
            if place == "Dockerfile" and own:
                entry = tarfile.TarInfo(place)
                entry.size = len(own)
                archive.addfile(plain(entry), io.BytesIO(own))
                continue
            archive.add(root / name, place, recursive=False, filter=plain)


def command(root: Path, site: str, front: Assets | None = None) -> Run:
    """The command that writes the archive to its standard output."""
    inputs = (front.inputs or (".",)) if front else ()
    return Run([sys.executable, "-m", "deploy.docker.context", site, *inputs], cwd=root)


if __name__ == "__main__":
    try:
        site, *inputs = sys.argv[1:]
        write(Path.cwd(), site, sys.stdout.buffer, Assets("", "", inputs=tuple(inputs)) if inputs else None)
    except Failure as failure:
        sys.exit(failure.message)
