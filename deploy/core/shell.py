"""Doing: the steps that a plan is made of, each of which can show itself or happen.

Every child process of the project starts in `start`. A plan is a list of steps; `perform` either
prints it, ready to paste into a POSIX shell, or carries it out.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deploy.core.errors import Failure

#: The environment variable that names the process with which a child is to end, however that one ends.
OWNER = "PORTICO_OWNER"
#: What stands for each byte of a child that is no UTF-8. Who needs its very words refuses what has it.
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
#: Seconds between asking a child to end (TERM) and ending it (KILL) when we ourselves are told to stop.
TERMINATE_SECONDS = 10


class Step(Protocol):
    """One thing to do, which can be shown as a line of shell or done."""

    def render(self) -> str:
        """The step as a POSIX shell command."""

    def perform(self) -> None:
        """Do it. Raises `Failure` if it cannot be done."""


@dataclass(frozen=True)
class Run:
    """A command: words, and what its environment and folder add to ours."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    #: File descriptors that the child keeps open, such as a lock that must live as long as it does.
    keep: tuple[int, ...] = ()
    #: What it reads from standard input.
    input: str = field(default="", repr=False)
    #: That this is not to be shown.
    secret: bool = False
    #: Seconds after which `run` ends it; without, it may take as long as it likes.
    seconds: float | None = None

    def render(self) -> str:
        words = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        line = " ".join([*words, shlex.join(self.argv)])
        line = f"(cd {shlex.quote(str(self.cwd))} && {line})" if self.cwd else line
        if not self.input:
            return line
        return f"{line}   # with a secret on its standard input" if self.secret else heredoc(line, self.input)

    def perform(self) -> None:
        run(self)


def heredoc(line: str, text: str) -> str:
    """A line of shell with a text on its standard input."""
    return f"{line} <<'END_OF_FILE'\n{text}END_OF_FILE"


@dataclass(frozen=True)
class Write:
    """A text file with exactly this content."""

    path: Path
    text: str

    def render(self) -> str:
        return heredoc(f"cat > {shlex.quote(str(self.path))}", self.text)

    def perform(self) -> None:
        _write_whole(self.path.resolve(), self.text)


@dataclass(frozen=True)
class WriteSecret:
    """A text file with this content and mode, from its first moment on; whole, or as it was before."""

    path: Path
    text: str
    mode: int = 0o600

    def render(self) -> str:
        return f"# {self.path}: written with mode {self.mode:o}; what is in it is not shown"

    def perform(self) -> None:
        if not self.path.is_file() or self.path.read_bytes() != self.text.encode():
            _write_whole(self.path, self.text, self.mode)


def _write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file whole, or leave it as it was; it has its mode from its first moment on.

    Without ``mode``, it keeps the one that it has, or gets the usual one. Raises OSError naming the file: what `write`
    itself raises, as on a full disk, names none.
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
    """A folder, with its parents, if it is not there yet."""

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
    """A file, a link or a whole folder that goes away, if it is there."""

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
    """A rename within one file system, which happens at once or not at all."""

    source: Path
    target: Path

    def render(self) -> str:
        return shlex.join(["mv", str(self.source), str(self.target)])

    def perform(self) -> None:
        self.source.rename(self.target)


@dataclass(frozen=True)
class Link:
    """A symbolic link that points to `target`, replacing an earlier link in one step."""

    path: Path
    target: str

    def render(self) -> str:
        return shlex.join(["ln", "-sfn", self.target, str(self.path)])

    def perform(self) -> None:
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.target)
        fresh.replace(self.path)


def perform(steps: Iterable[Step], *, dry_run: bool = False) -> None:
    """Carry the steps out in order, or print them without touching anything.

    Raises `Failure` when a command fails or the disk does not take a file; the steps before it stay done.
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
    """How a finished command ended. The texts are empty unless they were captured."""

    code: int
    stdout: str = ""
    stderr: str = ""


def start(command: Run, *, capture: bool = False, own_session: bool = False) -> subprocess.Popen[str]:
    """Start a child process; the only place in the project that does.

    With ``own_session`` it leads a session of its own, so that a signal to our group does not reach it.
    Raises `Failure` when the program is missing or may not be run.
    """
    pipe = subprocess.PIPE if capture else None
    try:
        return subprocess.Popen(
            list(command.argv),
            env={**os.environ, **command.env},
            cwd=command.cwd,
            stdin=subprocess.PIPE if command.input else subprocess.DEVNULL if capture else None,
            stdout=pipe,
            stderr=pipe,
            encoding="utf-8",
            errors="replace",  # to `UNREADABLE`: a child may say what it likes
            pass_fds=command.keep,
            start_new_session=own_session,
        )
    except OSError as error:
        raise cannot_start(command, error) from None


def cannot_start(command: Run, error: OSError) -> Failure:
    """What to say of a command that the system did not start."""
    program = command.argv[0]
    if command.cwd and not command.cwd.is_dir():
        return Failure(f"{command.cwd}: there is no such folder to run {program} in")
    if isinstance(error, FileNotFoundError):
        found = "/" in program and os.path.exists(program)
        lacking = "cannot be started: the interpreter that its first line names is not there"
        return Failure(
            f"{program}: {lacking if found else 'not found on this machine; `invoke doctor` says what to install'}"
        )
    if isinstance(error, PermissionError):
        return Failure(f"{program}: this user may not run it; look at its mode and owner")
    if error.errno == errno.ENOEXEC:
        return Failure(f"{program}: is no program: a script needs #! in its first line")
    return Failure(f"{program}: cannot be started: {error.strerror or error}")


def run(command: Run, *, capture: bool = False, check: bool = True) -> Result:
    """Run a command to its end, its output streamed to ours unless captured.

    Raises `Failure` with the child's exit code when it failed and ``check`` is set, and always when it takes longer
    than it may. If we are interrupted meanwhile, the child is ended first.
    """
    sys.stdout.flush()
    child = start(command, capture=capture)
    try:
        stdout, stderr = child.communicate(command.input or None, timeout=command.seconds)
    except BaseException as error:
        _end(child)
        if isinstance(error, subprocess.TimeoutExpired):
            late = f"no answer within {command.seconds:g} s; check the connection, then repeat"
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
    """Run a command to its end; ``line`` gets each line of its standard error as it comes.

    If we are interrupted meanwhile, the child is ended first.
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
        _end(child)
        raise
    return Result(child.returncode, stdout or "", "".join(said))


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def exec_command(command: Run) -> None:
    """Turn this process into the command: its terminal, signals and exit code are then the command's own."""
    sys.stdout.flush()
    try:
        if command.cwd:
            os.chdir(command.cwd)
        os.execvpe(command.argv[0], list(command.argv), {**os.environ, **command.env})
    except OSError as error:
        raise cannot_start(command, error) from None


def last_line(text: str) -> str:
    """The last line that says something, which in a traceback is the error itself."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
