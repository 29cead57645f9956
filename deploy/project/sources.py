"""Where a secret comes from, in an environment file and in `.env`: a variable, a file, or the output of a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.core import shell
from deploy.core.errors import Failure

Runner = Callable[[shell.Run], shell.Result]
#: How a value begins that names a source. A URL may begin so, too.
_SOURCE = re.compile(r"(env|file|command):(?!//)")
#: How a source is written.
SOURCES = "env:NAME, file:PATH or command:WORDS"


@dataclass(frozen=True)
class Source:
    """The source of a secret."""

    kind: Literal["env", "file", "command"]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{shlex.join(self.words)}"


def words(value: object) -> tuple[str, ...]:
    """One command, as a line or as the list of its words. Raises `ValueError` for anything else."""
    found = shlex.split(value) if isinstance(value, str) else value
    if isinstance(found, list) and found and all(isinstance(word, str) and "\0" not in word for word in found):
        return tuple(found)
    raise ValueError("must be one command: a line, or the list of its words")


def parse(value: object) -> Source:
    """The source that a text, or a mapping with one key, names. Raises `ValueError` for anything else."""
    kind, rest = "", value
    if isinstance(value, str):
        kind, _, rest = value.partition(":")
    elif isinstance(value, Mapping) and len(value) == 1:
        [(kind, rest)] = value.items()
    if kind == "command":
        return Source("command", words(rest))
    name = rest.strip() if isinstance(rest, str) else ""
    if kind == "env" and re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        return Source("env", (name,))
    if kind == "file" and name and name.isprintable():
        return Source("file", (name,))
    raise ValueError(f"must be {SOURCES}; a secret itself must not be in this file")


def named(value: str) -> Source | None:
    """The source that a value in `.env` names; None for a value that is the secret itself.

    Raises `ValueError` for one that begins as a source does and is none.
    """
    return parse(value) if _SOURCE.match(value) else None


def captured(command: shell.Run) -> shell.Result:
    """Run a command, and capture what it prints."""
    return shell.run(command, capture=True, check=False)


def fetch(source: Source, root: Path, environ: Mapping[str, str], run: Runner = captured) -> str:
    """The secret, without the line break at the end of a file or an output; a space there may be part of it.

    ``root``: the folder to which paths are relative, and in which commands run. Raises `Failure` with the reason, which
    never shows what a command printed on its standard output.
    """
    if source.kind == "env":
        if source.words[0] not in environ:
            raise Failure("is not set in this shell; export it")
        return environ[source.words[0]]
    if source.kind == "file":
        return _file_text(root, source.words[0]).rstrip("\r\n")
    result = run(shell.Run(source.words, cwd=root))
    if shell.UNREADABLE in result.stdout:
        raise Failure("its output is not text")
    if result.code:
        said = shell.last_line(result.stderr)
        raise Failure(f"failed with exit code {result.code}{': ' + said if said else ''}")
    return result.stdout.rstrip("\r\n")


def _file_text(root: Path, name: str) -> str:
    try:
        path = root / Path(name).expanduser()
        if path.stat().st_mode & 0o077:
            raise Failure(f"others may read it: chmod 600 {shlex.quote(str(path))}")
        return path.read_text()
    except OSError as error:
        raise Failure(f"{error.strerror}; put it there, or fix the path") from None
    except UnicodeDecodeError:
        raise Failure("is not a text file") from None
    except RuntimeError:
        raise Failure("begins with the ~ of an unknown user; fix the path") from None
