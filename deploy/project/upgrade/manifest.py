"""`deploy/MANIFEST`: which Portico is installed in a repository, with the SHA-256 of each of its files.

`adopt`, `rename` and `upgrade` write it. Portico's own repository has none: there, Git is the record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run

FILE = "deploy/MANIFEST"
#: What is Portico's in an adopted repository: files, and folders with all that is in them.
REQUIREMENTS = ("requirements/tools.in", "requirements/tools.txt", "requirements/build.txt")
OURS = ("tasks.py", "deploy", "nginx", "Dockerfile", *REQUIREMENTS)
#: Of these folders only what explains them is Portico's.
THEIRS = ("deploy/environments", "deploy/local")
EXAMPLE = "deploy/environments/example.yaml"
EXPLAINED = (EXAMPLE, "deploy/local/README.md")
#: What programs leave in folders; not part of anything.
MADE = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".DS_Store"})
UNKNOWN = "unknown"
#: For Git to read a repository of this machine.
SECONDS = 60
_HEAD = """\
# Portico's files in this repository: `invoke upgrade` replaces them, nothing else should.
# `sha256sum --check deploy/MANIFEST`, at the top of the repository, compares them.
"""
_KEY = re.compile(r"# (version|commit|source): (.*)")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


@dataclass(frozen=True)
class Manifest:
    """What is installed."""

    #: The day of the commit; `unknown` for files that come from no Git repository.
    version: str = UNKNOWN
    #: The full id, with `-changed` if the work tree that it was copied from had changes.
    commit: str = UNKNOWN
    #: A URL or a folder: where `upgrade` looks for a newer one. Empty for none.
    source: str = ""
    #: The SHA-256 of each file, by its name in the repository.
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.version if self.commit == UNKNOWN else f"{self.version} ({self.commit[:12]})"

    @property
    def base(self) -> str:
        """The commit's id without the mark of changes."""
        return self.commit.partition("-")[0]

    def render(self) -> str:
        """The text of the file."""
        keys = f"# version: {self.version}\n# commit: {self.commit}\n# source: {self.source}\n"
        return _HEAD + keys + "".join(f"{digest}  {name}\n" for name, digest in sorted(self.files.items()))


def parse(text: str) -> Manifest:
    """A manifest from its text. Raises `Failure` naming a line that is not one."""
    values: dict[str, str] = {}
    files: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _KEY.fullmatch(line):
            values[found[1]] = found[2].strip()
        elif found := _LINE.fullmatch(line):
            files[found[2]] = found[1]
        elif line.strip() and not line.startswith("#"):
            raise Failure(f"{FILE}:{number}: is neither a hash with a file nor a comment; `git checkout {FILE}`")
    return Manifest(values.get("version") or UNKNOWN, values.get("commit") or UNKNOWN, values.get("source", ""), files)


def read(root: Path) -> Manifest | None:
    """The manifest of a repository; None if it has none."""
    path = root / FILE
    return parse(path.read_text("utf-8")) if path.is_file() else None


def is_ours(name: str) -> bool:
    """Whether a file, by its name in the repository, is Portico's."""
    if name == FILE or (name not in EXPLAINED and name.startswith(tuple(f"{folder}/" for folder in THEIRS))):
        return False
    return name in OURS or name.startswith(("deploy/", "nginx/"))


def present(root: Path) -> Iterator[str]:
    """The files in Portico's places, also those that Git does not know, without what programs leave there."""
    for each in OURS:
        path = root / each
        for file in sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]:
            name = file.relative_to(root).as_posix()
            is_file = file.is_symlink() or file.is_file()
            if is_file and is_ours(name) and not MADE & set(file.relative_to(root).parts) and file.suffix != ".pyc":
                yield name


def digest(path: Path) -> str:
    """The SHA-256 of a file's content; of a link, that of its target's name."""
    content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: digest(root / name) for name in names}


def without_password(url: str) -> str:
    """A URL without the user and password of `https://user:password@…`; other addresses as they are."""
    parts = urlsplit(url) if "://" in url else None
    if parts is None or parts.password is None:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def of_checkout(ours: Path) -> Manifest:
    """What a checkout is: that of its own manifest if Portico was adopted there, else its commit; without files."""
    if adopted := read(ours):
        return replace(adopted, files={})
    if not (ours / ".git").exists():
        return Manifest()
    git = ["git", "-C", str(ours)]
    said = shell.run(Run([*git, "log", "-1", "--format=%H %ct"], seconds=SECONDS), capture=True, check=False)
    if said.code:
        return Manifest()
    commit, seconds = said.stdout.split()
    paths = [*OURS, *(f":(exclude){folder}" for folder in THEIRS)]
    changed = shell.run(Run([*git, "status", "--porcelain", "--", *paths], seconds=SECONDS), capture=True, check=False)
    origin = shell.run(Run([*git, "remote", "get-url", "origin"], seconds=SECONDS), capture=True, check=False)
    source = without_password(origin.stdout.strip()) or str(ours.resolve())
    return Manifest(day(int(seconds)), f"{commit}-changed" if changed.stdout else commit, source)


def day(seconds: int) -> str:
    """The day of a time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
