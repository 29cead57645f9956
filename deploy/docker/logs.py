"""The logs of containers in order of time, read through `docker compose logs` or `docker service logs`."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import IO

from deploy.core import logs, shell
from deploy.core.errors import Failure
from deploy.core.logs import Entry, Printer, Put, Query
from deploy.core.shell import Run

#: Seconds that an engine has to print its last lines.
READ_SECONDS = 120
#: Seconds before the last line that was shown from which on a log is followed: other containers' may be late.
OVERLAP_SECONDS = 5
#: A line with `--timestamps`: of Compose, `NAME  | TIME TEXT`; of a service, `TIME NAME    | TEXT`.
_TIME = r"(?P<at>\d{4}-\d\d-\d\dT\S+)"
_LINES = (
    re.compile(rf"(?P<name>\S+)\s+\| {_TIME} ?(?P<text>.*)"),
    re.compile(rf"{_TIME} (?P<name>\S+)\s+\| ?(?P<text>.*)"),
)

#: Compose erases the line that it writes, once or more often, whether or not it is on a terminal.
_ERASE = re.compile(r"\A(?:\x1b\[2K)+")
#: A command that prints logs, by its further options.
Command = Callable[[Sequence[str]], Run]


def entry(line: str) -> Entry | None:
    """What a line says; None for one of docker's own."""
    for pattern in _LINES:
        if found := pattern.fullmatch(_ERASE.sub("", line).rstrip("\r\n")):
            try:
                # Python keeps microseconds, docker writes nanoseconds.
                at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", found["at"])).timestamp()
            except ValueError:
                return None
            return Entry(at, found["name"], found["text"])
    return None


def words(asked: Query) -> list[str]:
    """The options of docker's command that read the lines from which those that are wanted are chosen."""
    since = ["--since", f"{asked.since:.6f}"] if asked.since else []
    return ["--timestamps", "--tail", str(asked.to_read), *since]


def following(since: float) -> list[str]:
    """The options of docker's command that print each line since a time as it comes."""
    return ["--timestamps", "--follow", *(["--since", f"{since:.6f}"] if since else ["--tail", "0"])]


def show(commands: Sequence[Command], asked: Query) -> None:
    """Print the logs that docker's commands print, `docker compose logs` or `docker service logs SERVICE`.

    Raises `Failure` if a command fails.
    """
    printer = Printer(asked)
    read: list[Entry] = []
    for command in commands:
        said = shell.run(replace(command(words(asked)), seconds=READ_SECONDS), capture=True)
        # The lines that a container wrote on its standard error come on docker's.
        read += filter(None, map(entry, [*said.stdout.splitlines(), *said.stderr.splitlines()]))
    logs.show_last(read, asked, printer.show)
    if asked.follow:
        _follow(commands, read, asked, printer)


def _follow(commands: Sequence[Command], read: Iterable[Entry], asked: Query, printer: Printer) -> None:
    since = max((each.at for each in read), default=0.0) - OVERLAP_SECONDS
    known = {each for each in read if each.at >= since}
    children: list[subprocess.Popen[str]] = []

    def put(entry: Entry) -> None:
        if entry not in known:
            printer.show(entry)

    try:
        sources = [partial(_lines, command(following(max(0.0, since))), children) for command in commands]
        logs.follow(sources, asked, put)
    finally:
        for child in children:
            shell.end(child)


def _lines(command: Run, children: list[subprocess.Popen[str]], put: Put) -> None:
    """Give each line of a command's output as it comes, until it ends. Raises `Failure` if it fails."""
    child = shell.start(command, capture=True)
    children.append(child)
    said: list[str] = []

    def take(output: IO[str] | None) -> None:
        for line in output or ():
            if found := entry(line):
                put(found)
            elif line.strip():
                said[:] = [line.strip()]

    other = threading.Thread(target=take, args=(child.stderr,), daemon=True)
    other.start()
    take(child.stdout)
    other.join()
    if code := child.wait():
        raise Failure(f"the log cannot be followed: {said[0] if said else f'docker ended with exit code {code}'}")
