"""Steps: commands and file operations, each of which can be shown as shell or performed.

A plan is a list of steps. `perform` either prints it, ready to paste into a POSIX shell, or carries it out. Every child
process of the project is started by `start`.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from deploy.core.errors import Failure

#: The environment variable with a process id: a child stops itself when that process has ended, for whatever reason.
OWNER = "PORTICO_OWNER"
#: Replaces each byte of a child's output that is not UTF-8. Callers that need the exact output reject text with it.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
#: Seconds between TERM and KILL for a child when we ourselves are stopped.
TERMINATE_SECONDS = 10


class Step(Protocol):
    """One thing to do. It can be shown as a line of shell, or performed."""

    def render(self) -> str:
        """The step as a POSIX shell command."""

    def perform(self) -> None:
        """Do it. Raises `Failure` if that fails."""


@dataclass(frozen=True)
class Run:
    """A command: its arguments, the variables added to our environment, and its working directory."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    #: File descriptors that the child inherits, such as a lock that must be held until the child ends.
    keep: tuple[int, ...] = ()
    #: The text of its standard input.
    input: str = field(default="", repr=False)
    #: Whether ``input`` is secret, and so must not be shown.
    secret: bool = False
    #: Seconds after which `run` stops it; None means no limit.
    seconds: float | None = None
    #: A command in the same folder whose output is its standard input. It runs to its end before.
    source: Run | None = None
    #: Variables of ours that the command does not get.
    unset: tuple[str, ...] = ()

    def render(self) -> str:
        words = [f"{name}={shlex.quote(without_password(value))}" for name, value in self.env.items()]
        words = ["env", *(word for name in self.unset for word in ("-u", name)), *words] if self.unset else words
        line = " ".join([*words, shlex.join(self.argv)])
        line = f"{shlex.join(self.source.argv)} | {line}" if self.source else line
        line = f"(cd {shlex.quote(str(self.cwd))} && {line})" if self.cwd else line
        if not self.input:
            return line
        return f"{line}   # with a secret on its standard input" if self.secret else heredoc(line, self.input)

    @property
    def environment(self) -> dict[str, str]:
        """All variables that the command gets."""
        ours = {name: value for name, value in os.environ.items() if name not in self.unset}
        return {**ours, **self.env}

    def perform(self) -> None:
        run(self)


def without_password(text: str) -> str:
    """A text to show: in a URL with a password, `***` is in place of user and password."""
    return re.sub(r"(?<=://)[^/@\s]*:[^/@\s]*@", "***@", text)


def heredoc(line: str, text: str) -> str:
    """A line of shell that gets a text on standard input."""
    return f"{line} <<'END_OF_FILE'\n{text}END_OF_FILE"


@dataclass(frozen=True)
class Write:
    """Write a text file with exactly this content."""

    path: Path
    text: str

    def render(self) -> str:
        return heredoc(f"cat > {shlex.quote(str(self.path))}", self.text)

    def perform(self) -> None:
        _write_whole(self.path.resolve(), self.text)


@dataclass(frozen=True)
class WriteSecret:
    """Write a text file with this content. It has its mode from the start, and is replaced atomically."""

    path: Path
    text: str
    mode: int = 0o600

    def render(self) -> str:
        return f"# {self.path}: written with mode {self.mode:o}; its content is not shown"

    def perform(self) -> None:
        if not self.path.is_file() or self.path.read_bytes() != self.text.encode():
            _write_whole(self.path, self.text, self.mode)


def _write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file atomically: it is complete, or unchanged. It has its mode from the start.

    Without ``mode``, an existing file keeps its mode, and a new one gets the default. Raises OSError with the file's
    name, which an OSError from `write` itself, as on a full disk, does not have.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                elif path.exists():
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                file.write(text)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


@dataclass(frozen=True)
class MakeFolder:
    """Create a folder and its parents, if it does not exist."""

    path: Path
    mode: int = 0o777

    def render(self) -> str:
        private = ["-m", f"{self.mode:o}"] if self.mode != 0o777 else []
        return shlex.join(["mkdir", "-p", *private, str(self.path)])

    def perform(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if self.mode != 0o777:
            self.path.chmod(self.mode)


@dataclass(frozen=True)
class Remove:
    """Remove a file, a link or a whole folder, if it exists."""

    path: Path

    def render(self) -> str:
        return shlex.join(["rm", "-rf", str(self.path)])

    def perform(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Move:
    """Rename within one file system, which is atomic."""

    source: Path
    target: Path

    def render(self) -> str:
        return shlex.join(["mv", str(self.source), str(self.target)])

    def perform(self) -> None:
        self.source.rename(self.target)


@dataclass(frozen=True)
class Link:
    """Create a symbolic link to `target`, atomically replacing an earlier link."""

    path: Path
    target: str

    def render(self) -> str:
        return shlex.join(["ln", "-sfn", self.target, str(self.path)])

    def perform(self) -> None:
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.target)
        try:
            fresh.replace(self.path)
        except OSError as error:  # as where a folder is in its place
            fresh.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def perform(steps: Iterable[Step], *, dry_run: bool = False) -> None:
    """Carry the steps out in order, or print them and change nothing.

    Raises `Failure` if a command fails or a file cannot be written. The earlier steps are not undone.
    """
    for step in steps:
        if dry_run:
            print(step.render())
            continue
        try:
            step.perform()
        except OSError as error:
            name = error.filename or step.render().partition("\n")[0]
            raise Failure(f"{name}: {error.strerror or error}; fix that and repeat the command") from None


@dataclass(frozen=True)
class Result:
    """The exit code and output of a finished command. The output is empty unless it was captured."""

    code: int
    stdout: str = ""
    stderr: str = ""


def start(
    command: Run,
    *,
    capture: bool = False,
    own_session: bool = False,
    output: IO[bytes] | None = None,
    given: IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a child process. No other function of the project does.

    With ``own_session`` the child leads its own session, so that a signal to our process group does not reach it.
    ``output`` is a file that gets its standard output, ``given`` one that is its standard input. Raises `Failure` if
    the program is missing or cannot be run, or if the command that gives its input fails.
    """
    if command.source:
        with _finished(command.source) as made:
            return _start(command, made, capture=capture, own_session=own_session, output=output)
    return _start(command, given, capture=capture, own_session=own_session, output=output)


@contextmanager
def _finished(command: Run) -> Iterator[IO[bytes]]:
    """The output of a command that has ended, as a file at its beginning. Raises `Failure` if the command fails."""
    with tempfile.TemporaryFile() as file:
        child = start(command, capture=True, output=file)
        _, said = child.communicate()
        if child.returncode:
            raise Failure(last_line(said) or f"`{shlex.join(command.argv)}` failed with exit code {child.returncode}")
        file.seek(0)
        yield file


def _start(
    command: Run, given: IO[bytes] | IO[str] | None, *, capture: bool, own_session: bool, output: IO[bytes] | None
) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE if capture else None
    try:
        return subprocess.Popen(
            list(command.argv),
            env=command.environment,
            cwd=command.cwd,
            stdin=given or (subprocess.PIPE if command.input else subprocess.DEVNULL if capture else None),
            stdout=output or pipe,
            stderr=pipe,
            encoding="utf-8",
            errors="replace",  # by `UNREADABLE`: the output of a child may contain any bytes
            pass_fds=command.keep,
            start_new_session=own_session,
        )
    except OSError as error:
        raise cannot_start(command, error) from None


def cannot_start(command: Run, error: OSError) -> Failure:
    """The error for a command that the system could not start, with its reason."""
    program = command.argv[0]
    if command.cwd and not command.cwd.is_dir():
        return Failure(f"{command.cwd}: cannot run {program} there: no such folder")
    if isinstance(error, FileNotFoundError):
        found = "/" in program and os.path.exists(program)
        missing = "cannot be started: the interpreter named in its first line does not exist"
        return Failure(
            f"{program}: {missing if found else 'not found on this machine; `invoke doctor` says what to install'}"
        )
    if isinstance(error, PermissionError):
        return Failure(f"{program}: this user may not run it; check its mode and owner")
    if error.errno == errno.ENOEXEC:
        return Failure(f"{program}: is not a program: a script needs #! in its first line")
    return Failure(f"{program}: cannot be started: {error.strerror or error}")


def run(command: Run, *, capture: bool = False, check: bool = True) -> Result:
    """Run a command and wait for it. Its output goes to ours unless captured.

    Raises `Failure` with the child's exit code if it fails and ``check`` is set, and always if it exceeds its time
    limit. If we are interrupted, the child is stopped first.
    """
    sys.stdout.flush()
    child = start(command, capture=capture)
    try:
        stdout, stderr = child.communicate(command.input or None, timeout=command.seconds)
    except BaseException as error:
        end(child)
        if isinstance(error, subprocess.TimeoutExpired):
            late = f"no answer within {command.seconds:g} s; check the connection, then retry"
            raise Failure(f"`{shlex.join(command.argv)}`: {late}") from None
        raise
    result = Result(child.returncode, stdout or "", stderr or "")
    if check and result.code:
        said = last_line(result.stderr) or last_line(result.stdout)
        raise Failure(
            f"`{shlex.join(command.argv)}` failed with exit code {result.code}{': ' + said if said else ''}",
            code=result.code if result.code > 0 else 128 - result.code,
        )
    return result


def stream(command: Run, line: Callable[[str], None]) -> Result:
    """Run a command and wait for it; ``line`` is called with each line of its standard error as it appears.

    If we are interrupted, the child is stopped first.
    """
    child = start(command, capture=True)
    assert child.stderr is not None
    said = []
    try:
        for each in child.stderr:
            said.append(each)
            line(each.rstrip("\n"))
        stdout, _ = child.communicate()
    except BaseException:
        end(child)
        raise
    return Result(child.returncode, stdout or "", "".join(said))


def end(child: subprocess.Popen[str]) -> None:
    """Stop a child process: TERM, and KILL if it has not ended within `TERMINATE_SECONDS`."""
    child.terminate()
    try:
        child.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def exec_command(command: Run) -> None:
    """Replace this process with the command, which then has its terminal, signals and exit code."""
    sys.stdout.flush()
    try:
        if command.cwd:
            os.chdir(command.cwd)
        os.execvpe(command.argv[0], list(command.argv), command.environment)
    except OSError as error:
        raise cannot_start(command, error) from None


#: The last words of many programs, which only say where their help is.
_ADVICE = re.compile(r"(Type|Try|See|Run|Use) ['\"`].*\b(usage|help|information)\b.*")


def last_line(text: str) -> str:
    """The last line that says something. In a traceback, that is the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "ERRORS:" in lines[:-1]:  # of Django's system checks, which go on with warnings
        return lines[lines.index("ERRORS:") + 1]
    return next((line for line in reversed(lines) if not _ADVICE.match(line)), lines[-1] if lines else "")
