"""The files of a repository, walked once, and their source, read and parsed once. Nothing of it is imported or run."""

from __future__ import annotations

import ast
import codecs
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

#: Folders that hold no source of the project, whatever is in them.
SKIPPED = frozenset({"node_modules", "bower_components", "__pycache__", "site-packages"})
#: Folders of made or collected files, unless they are Python packages.
BUILT = frozenset({"static", "staticfiles", "media", "dist", "build", "htmlcov", "locale"})
#: A folder with this file is the machinery's own, in a repository that was adopted.
MACHINERY = "bootstrap.py"
#: Files that are larger are data, whatever they are called.
LARGEST = 1_000_000


@dataclass(frozen=True)
class Location:
    """A line of a file, the path relative to the repository's root."""

    path: str
    line: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Named:
    """A name, and where it is said."""

    name: str
    at: Location


@dataclass(frozen=True)
class Tree:
    """A repository: its files, relative to the root, and the source of those that are asked for."""

    root: Path
    files: frozenset[str]
    _texts: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _parsed: dict[str, ast.Module | None] = field(default_factory=dict, repr=False, compare=False)
    #: Files that this Python cannot parse, and where it gives up.
    broken: dict[str, Location] = field(default_factory=dict, repr=False, compare=False)

    def text(self, path: str) -> str:
        """The text of a file; empty for one that is missing, too large, or not text."""
        if path not in self._texts:
            try:
                file = self.root / path
                text = _decoded(file.read_bytes()) if file.stat().st_size <= LARGEST else ""
            except OSError:
                text = ""
            self._texts[path] = text
        return self._texts[path]

    def parse(self, path: str) -> ast.Module | None:
        """The syntax tree of a Python file; None for one that this Python cannot read."""
        if path not in self._parsed:
            try:
                self._parsed[path] = ast.parse(self.text(path))
            except (SyntaxError, ValueError, RecursionError) as error:
                self._parsed[path] = None
                self.broken[path] = Location(path, getattr(error, "lineno", None) or 1)
        return self._parsed[path]

    def python(self, folder: str, *, tests: bool = False) -> Iterator[str]:
        """The Python files below a folder, shortest path first; without those of tests, unless they are asked for."""
        for path in sorted(self.files, key=lambda each: (each.count("/"), each)):
            if path.endswith(".py") and within(path, folder) and (tests or not is_test(path)):
                yield path

    def containing(self, folder: str, *words: str, tests: bool = False) -> Iterator[str]:
        """The Python files below a folder whose text has one of the words: only these are worth parsing."""
        for path in self.python(folder, tests=tests):
            text = self.text(path)
            if any(word in text for word in words):
                yield path

    def lines(self, path: str) -> Iterator[tuple[int, str]]:
        """The lines of a file, with their numbers."""
        yield from enumerate(self.text(path).splitlines(), start=1)

    def relative(self, path: PurePosixPath) -> str | None:
        """An absolute path relative to the root, with `..` resolved; None outside of it."""
        found = os.path.relpath(os.path.normpath(path), self.root)
        return None if found.startswith("..") else found


def _decoded(content: bytes) -> str:
    """Text as Python and pip read it: a byte order mark is no part of it, and names UTF-16 (PowerShell's `>`)."""
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    text = content.decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def within(path: str, folder: str) -> bool:
    """Whether a relative path lies below a folder; `.` is the root."""
    return folder == "." or path.startswith(f"{folder}/")


def above(folder: str) -> tuple[str, ...]:
    """The root, and each folder on the way to this one, which is the last."""
    parents = [str(each) for each in PurePosixPath(folder).parents]
    return tuple(dict.fromkeys((".", *reversed(parents), folder)))


def is_test(path: str) -> bool:
    """Whether a Python file belongs to tests."""
    *folders, name = path.split("/")
    return bool({"tests", "test"} & set(folders)) or name.startswith(("test_", "conftest")) or name == "tests.py"


def walk(root: Path) -> Tree:
    """All files of a repository but those of other programs: environments, caches, packages, collected files.

    Links to folders are not followed.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                here = list(entries)
        except OSError:
            continue
        names = {entry.name for entry in here}
        if folder and _is_foreign(folder, names):
            continue
        for entry in here:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in SKIPPED:
                    waiting.append(path)
            else:
                found.append(path)
    return Tree(root, frozenset(found))


def _is_foreign(folder: str, names: set[str]) -> bool:
    """Whether a folder is a virtual environment, the machinery, or made of built files."""
    if "pyvenv.cfg" in names or (folder == "deploy" and MACHINERY in names):
        return True
    return folder.rsplit("/", 1)[-1] in BUILT and "__init__.py" not in names
