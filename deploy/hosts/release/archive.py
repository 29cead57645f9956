"""The code of a commit as one compressed stream: Git's files, with the submodules in their folders."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run

_PIECE = 1 << 16
#: Git's mode of a submodule in a tree.
_SUBMODULE = "160000"


@dataclass(frozen=True)
class Part:
    """A tree in the archive: its repository, its commit, and its folder in the project."""

    folder: Path
    commit: str
    #: Relative to the project, with a trailing slash; empty for the project itself.
    prefix: str = ""

    @property
    def command(self) -> Run:
        where = [f"--prefix={self.prefix}"] if self.prefix else []
        return Run(["git", "-C", str(self.folder), "archive", "--format=tar", *where, self.commit])


def submodules(listing: str) -> list[tuple[str, str]]:
    """The paths and commits of submodules in the output of `git ls-tree -r -z`."""
    entries = (entry.partition("\t") for entry in listing.split("\0") if entry)
    return [(path, head.split()[2]) for head, _, path in entries if head.startswith(_SUBMODULE)]


def parts(root: Path, commit: str, prefix: str = "") -> Iterator[Part]:
    """The project's tree, then the trees of its submodules, recursively.

    Raises `Failure` for a submodule whose commit this machine does not have.
    """
    yield Part(root, commit, prefix)
    listing = shell.run(Run(["git", "-C", str(root), "ls-tree", "-r", "-z", commit]), capture=True).stdout
    if shell.UNREADABLE in listing:
        raise Failure(f"{root}: a file's name is not UTF-8; rename it, or remove it from the commit")
    for path, wanted in submodules(listing):
        folder = root / path
        there = ["git", "-C", str(folder), "cat-file", "-e", f"{wanted}^{{commit}}"]
        if not (folder / ".git").exists() or shell.run(Run(there), capture=True, check=False).code:
            raise Failure(
                f"{prefix}{path}: the submodule's commit {wanted[:12]} is not here: "
                "run `git submodule update --init --recursive`"
            )
        yield from parts(folder, wanted, f"{prefix}{path}/")


@contextmanager
def packed(root: Path, commit: str, more: Mapping[str, Path] | None = None) -> Iterator[tuple[IO[bytes], int]]:
    """The compressed archive of a commit, as a file that nobody else can open, and its size in bytes.

    ``more`` are folders that Git does not have, such as a built front end, by their places. It consists of several
    concatenated archives, which tar reads with `--ignore-zeros`. Raises `Failure` if Git fails.
    """
    with tempfile.TemporaryFile() as file:
        deflate = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: in gzip's format
        for part in parts(root, commit):
            for piece in _read(part.command):
                file.write(deflate.compress(piece))
        for place, folder in (more or {}).items():
            with tempfile.TemporaryFile() as built:
                with tarfile.open(fileobj=built, mode="w") as tar:
                    tar.add(folder, place, filter=_plain)
                built.seek(0)
                while piece := built.read(_PIECE):
                    file.write(deflate.compress(piece))
        file.write(deflate.flush())
        file.flush()
        yield file, file.tell()


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _read(command: Run) -> Iterator[bytes]:
    child = shell.start(command, capture=True)
    assert isinstance(child.stdout, io.TextIOWrapper)  # captured
    try:
        while piece := child.stdout.buffer.read(_PIECE):
            yield piece
    except BaseException:
        child.kill()
        raise
    finally:
        child.stdout.close()
    said = child.stderr.read() if child.stderr else ""
    if child.wait():
        raise Failure(f"git archive failed: {shell.last_line(said)}")


def pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Read the file from its beginning; safe for several threads at once."""
    position = 0
    while position < size:
        piece = os.pread(file.fileno(), _PIECE, position)
        position += len(piece)
        yield piece
