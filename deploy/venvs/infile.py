"""The one reader of requirements/*.in. What it does not understand as pip does, it refuses, naming file and line.

`graph` reads the `-r` lines only, for every command; `check` reads all lines, before they are locked. Standard library
only: the bootstrap and the hosts read these files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from deploy.core import text
from deploy.core.errors import Failure

#: A comment, as pip's own expressions have it (`pip/_internal/req/req_file.py`), but in linear time.
_COMMENT = re.compile(r"(?:^|(?<=\s))#")
#: User and password of a URL, but for the user of SSH, which everybody knows.
_SECRET = re.compile(r"(?<=://)(?!git@)[^/@\s'\"]+@")
#: Characters of a line that are read.
LONGEST = 4000
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
#: Options that name another file, with their other spellings.
_FILES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c", "-e": "-e", "--editable": "-e"}
_INDEXES = (
    "-i",
    "--index-url",
    "--pypi-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--no-index",
    "--trusted-host",
)
#: A version as PEP 440 has it, with the `.*` that == and != take.
_VERSION = (
    r"v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*(?:[-_.]?(?:alpha|beta|preview|pre|a|b|c|rc)[-_.]?[0-9]*)?"
    r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?(?:[-_.]?dev[-_.]?[0-9]*)?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?"
)
_ONE = rf"(?:(?:===|<=|>=|<|>)\s*{_VERSION}|~=\s*{_VERSION}|[=!]=\s*{_VERSION}(?:\.\*)?)"
_NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_NO_FILE = "names no file: write one after it, or remove the line"
_ARCHIVE = re.compile(r"\.(whl|zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$", re.IGNORECASE)


@cache
def _requirement() -> re.Pattern[str]:
    """A requirement by name and version. Compiled late: most commands read no more than the `-r` lines."""
    return re.compile(
        rf"(?P<name>{_NAME})\s*(?:\[\s*(?:{_NAME}\s*(?:,\s*{_NAME}\s*)*)?\])?\s*"
        rf"(?P<versions>\(\s*(?:{_ONE}\s*(?:,\s*{_ONE}\s*)*,?\s*)?\)|{_ONE}\s*(?:,\s*{_ONE}\s*)*,?|)"
        r"\s*(?:;(?P<marker>.*))?",
        re.IGNORECASE,
    )


@dataclass(frozen=True)
class Line:
    """A logical line: its text without comments and continuations, and the number of its first line in the file."""

    number: int
    text: str


@dataclass(frozen=True)
class File:
    """An .in file: its name in messages, and its lines."""

    path: Path
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    def refuse(self, line: Line, why: str) -> NoReturn:
        """Raise `Failure` for a line, without what may be a password or token in its URLs."""
        shown = _SECRET.sub("***@", line.text)
        raise Failure(f"{self.name}:{line.number}: {shown[:80]}: {_SECRET.sub('***@', why)}")


def read(path: Path) -> File:
    """The lines of a file. Raises `Failure` if it is not UTF-8, or has a line that pip and uv do not read alike."""
    name = f"{path.parent.name}/{path.name}"
    return File(path, tuple(_lines(text.read(path, name), name)))


def _lines(content: str, name: str) -> Iterator[Line]:
    """The logical lines: a backslash at the end of a line continues it, but not that of a comment, as pip has it."""
    joined, first = "", 0
    for number, raw in enumerate([*content.split("\n"), ""], start=1):
        if len(raw) > LONGEST:
            raise Failure(f"{name}:{number}: is longer than {LONGEST} characters; break it into lines")
        if found := text.hidden(raw.partition("#")[0]) or _breaking(raw):
            raise Failure(f"{name}:{number}: has the hidden character {found}; write a plain space, or remove it")
        comment = raw.lstrip().startswith("#")
        if raw.endswith("\\") and not comment:
            joined, first = joined + raw.strip("\\"), first or number
            continue
        whole = _COMMENT.split(joined + (f" {raw}" if comment else raw), maxsplit=1)[0].strip()
        if whole:
            yield Line(first or number, whole)
        joined, first = "", 0


def _breaking(raw: str) -> str:
    """A character within a line that ends a line for pip, as U+2028, but not for uv; else empty."""
    return text.hidden("".join(each for each in raw if len(f"{each}x{each}".splitlines()) > 1))


def option(line: Line) -> tuple[str, str]:
    """An option of a line and its value, in any of pip's spellings: `-rX`, `-r X`, `--requirement=X`. Else empty."""
    if not line.text.startswith("-"):
        return "", ""
    try:
        words = shlex.split(line.text)
    except ValueError:
        words = line.text.split()
    first = words[0]
    if first.startswith("--"):
        name, equals, value = first.partition("=")
        return name, " ".join([value, *words[1:]] if equals else words[1:])
    return first[:2], " ".join([*([first[2:].removeprefix("=")] if first[2:] else []), *words[1:]])


def graph(path: Path) -> tuple[str, ...]:
    """The layers that an .in file stands on, by its `-r` lines in order. Raises `Failure` if one names no layer."""
    file = read(path)
    found = []
    for line in file.lines:
        name, value = option(line)
        if _FILES.get(name) == "-r":
            found.append(_layer(file, line, value))
    return tuple(found)


def asks(path: Path) -> bool:
    """Whether an .in file names a package that every Python needs."""
    return any(not line.text.startswith("-") and ";" not in line.text for line in read(path).lines)


def _layer(file: File, line: Line, value: str) -> str:
    """The layer that an `-r` line names."""
    folder = file.path.parent
    if not value:
        file.refuse(line, _NO_FILE)
    if "://" in value:
        file.refuse(line, f"only an .in file of {folder.name}/ can be stood on: copy its lines here")
    target = Path(_normal(folder, value))
    if target.parent == folder and target.suffix == ".in":
        return target.stem
    if target.parent == folder and target.with_suffix(".in").exists():
        return file.refuse(line, f"a lock is not something to stand on: write -r {target.stem}.in")
    return file.refuse(
        line, f"only an .in file of {folder.name}/ can be stood on: move that file there, or copy its lines here"
    )


def _normal(folder: Path, value: str) -> str:
    """A path as pip resolves it, from the folder of the file; URLs stay what they are."""
    parts: list[str] = []
    for part in (folder / value).parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        else:
            parts.append(part)
    return str(Path(*parts))


def check(path: Path, within: tuple[Path, ...] = ()) -> None:
    """Raise `Failure` for the first line that could be locked, but not installed everywhere, or is not understood.

    ``within``: the files with the `-c` lines that lead here.
    """
    file = read(path)
    for line in file.lines:
        if found := _VARIABLE.search(line.text):
            file.refuse(line, f"{found[0]} differs between machines: write its value")
        name, value = option(line)
        if name:
            _check_option(file, line, name, value, (*within, path))
        else:
            _check_requirement(file, line)


def _check_option(file: File, line: Line, name: str, value: str, within: tuple[Path, ...]) -> None:
    kind = _FILES.get(name)
    if kind and not value:
        file.refuse(line, _NO_FILE)
    if kind == "-r":
        if not (file.path.parent / f"{_layer(file, line, value)}.in").is_file():
            file.refuse(line, "there is no such file")
    elif kind == "-c":
        _check_constraints(file, line, value, within)
    elif kind == "-e":
        _refuse_direct(file, line)
    elif name in _INDEXES:
        file.refuse(
            line,
            "an index belongs in pyproject.toml, where every installer finds it: [[tool.uv.index]] with its url"
            if name not in ("-f", "--find-links", "--no-index")
            else "this belongs in pyproject.toml, where every installer finds it: find-links or no-index in [tool.uv]",
        )
    elif name == "--pre":
        file.refuse(line, "name the pre-release in place of it, as in django>=6.0rc1")
    else:
        file.refuse(line, "this option is not carried to where the lock is installed: remove it")


def _check_constraints(file: File, line: Line, value: str, within: tuple[Path, ...]) -> None:
    folder = file.path.parent
    if "://" in value:
        file.refuse(line, f"lies outside {folder.name}/: save it there, and write -c with its name")
    target = Path(_normal(folder, value))
    if target.parent != folder:
        file.refuse(line, f"lies outside {folder.name}/: move it there, and write -c {target.name}")
    if not target.is_file():
        file.refuse(line, "there is no such file")
    if target.suffix == ".in" or target.with_suffix(".in").exists():
        return  # a layer's own file is checked by itself
    if target in within:
        file.refuse(line, "leads back to this file; remove the line")
    check(target, within)


def _check_requirement(file: File, line: Line) -> None:
    words = re.split(r"\s+--hash[= ]", line.text)[0].strip()
    if re.match(r"[^;#]*?\s@\s|[^;#\[\]]*\]?\s*@\s*[A-Za-z./]|[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]+\+", words):
        _refuse_direct(file, line)
    start = words.partition(";")[0].strip()
    if start.startswith((".", "/", "~")) or "/" in start or _ARCHIVE.search(start.partition("[")[0]):
        _refuse_direct(file, line)
    found = _requirement().fullmatch(words)
    if found is None:
        file.refuse(line, "is not understood; write it as NAME>=VERSION")
    if found["marker"] is not None:
        from deploy.venvs.finish_layer import marker_environment, selected  # imported late: only `check` needs it

        try:
            selected(found["marker"] or "?", marker_environment())
        except ValueError:
            file.refuse(line, "its marker is not understood; write it as in ; python_version < '3.13'")


def _refuse_direct(file: File, line: Line) -> NoReturn:
    """Refuse a file, folder or repository, with the command that makes a wheel of it."""
    what = shlex.quote(_reference(line))
    file.refuse(
        line,
        "a file, folder or repository has no hash that every machine could check: build it once,"
        f" `pip wheel --no-deps -w {file.path.parent.name}/wheels {what}`, commit the wheel, and write NAME==VERSION",
    )


def _reference(line: Line) -> str:
    """What a line of a direct reference names: without the name, options, hashes and markers around it."""
    text = option(line)[1] if line.text.startswith("-") else line.text
    text = re.split(r"\s+--|\s+;|;\s", text)[0].strip()
    named_before = re.match(rf"{_NAME}\s*(?:\[[^\]]*\])?\s*@\s*(?P<rest>\S.*)", text)
    return (named_before["rest"] if named_before and "://" not in text.partition("@")[0] else text).strip("'\"")


def line_of(path: Path, package: str) -> str:
    """Where a file names a package, as FILE:LINE; the file alone if it does not."""
    file = read(path)
    for line in file.lines:
        found = _requirement().match(line.text)
        if found and re.sub(r"[-_.]+", "-", found["name"]).lower() == re.sub(r"[-_.]+", "-", package).lower():
            return f"{file.name}:{line.number}"
    return file.name
