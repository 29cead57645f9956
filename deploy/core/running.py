"""What the runtimes of one machine share: one-shot commands, ports, readiness, locks, signals."""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import MakeFolder, Result, Run, Write

Notify = Callable[[str], None]

HOST = "127.0.0.1"
#: Bytes of an answer that are shown.
ANSWER_BYTES = 300
#: Seconds after which `announce` reports what is not ready yet.
PATIENCE_SECONDS = 60
#: How settings say that a variable is missing: by `os.environ`, django-environ, decouple, environs.
_NO_VARIABLE = re.compile(
    r"KeyError: '([A-Z][A-Z0-9_]+)'|Set the ([A-Z][A-Z0-9_]+) environment variable"
    r"|UndefinedValueError: ([A-Z][A-Z0-9_]+) not found|variable \"([A-Z][A-Z0-9_]+)\" not set"
)
#: How many of the last lines of a failed program are shown.
QUOTED_LINES = 20


def port_in_use(port: int, host: str = HOST) -> bool:
    """Whether another program listens on a port. Raises OSError if the port cannot be tested."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def free_port() -> int:
    """A port on which no program listens at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextmanager
def port_taken(port: int, refusal: str) -> Iterator[None]:
    """Take a port for a program that will listen on it later: another `invoke` of this machine is refused at once.

    Raises `Failure` with the ``refusal`` if another program listens on the port, or another `invoke` has taken it. The
    kernel releases it when this process ends. Raises OSError if the port cannot be tested.
    """
    if port_in_use(port):
        raise Failure(refusal)
    if not sys.platform.startswith("linux"):  # names without a file are Linux's own
        yield
        return
    with socket.socket(socket.AF_UNIX) as mark:
        try:
            mark.bind(f"\0portico-port-{port}")
        except OSError as error:
            raise Failure(refusal) if error.errno == errno.EADDRINUSE else error from None
        yield


@contextmanager
def alone(path: Path, what: str, refusal: str) -> Iterator[None]:
    """Hold a lock file. The kernel releases it when this process ends, even after kill -9.

    ``what`` describes the action for other users. If another process holds the lock, raises `Failure` with the
    ``refusal``, in which `{holder}` is replaced by the action, the user and the start time.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Failure(refusal.format(holder=printable(lock.read(500)) or "another command")) from None
        lock.truncate(0)
        lock.write(f"{what} by {who()}, started {datetime.now():%Y-%m-%d %H:%M}")
        lock.flush()
        yield


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Hold a lock file while a small file beside it is read and written; others wait for that moment."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def who() -> str:
    """User and machine of this process, for ledgers and for the message about a held lock."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = str(os.getuid())
    return printable(f"{user}@{socket.gethostname()}")


def printable(text: str) -> str:
    """A text from an untrusted source, without the characters that control a terminal."""
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text).strip()


def quote(name: str, text: str) -> None:
    """Print the last lines of another program's output on standard error, each prefixed with the program's name."""
    for line in text.splitlines()[-QUOTED_LINES:]:
        tell(f"{name} | {printable(line)}")


def tell(line: str) -> None:
    """Print a line of progress on standard error, so that standard output can be piped.

    Errors are ignored: a closed terminal or connection must not stop the action, or its undoing.
    """
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def confirm(what: str, name: str, confirmed: bool) -> None:
    """Ask the user to type the name, unless ``confirmed`` in advance. Raises `Failure` if the user does not."""
    if confirmed:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{what} There is no terminal to confirm it on: add --yes")
    try:
        typed = input(f"{what} Type {name} to continue: ")
    except EOFError:  # Ctrl-D
        print(file=sys.stderr)
        typed = ""
    if typed.strip() != name:
        raise Failure("nothing was done")


#: TERM is what service managers and `kill` send; HUP is what a terminal or an SSH session sends when it closes.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def exit_on_signal() -> None:
    """Make TERM and HUP raise an exception, as Ctrl-C does, so that the running action undoes what it has begun.

    A signal that is ignored stays ignored, as HUP is under `nohup`.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    for each in STOP_SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            # A closed session sends HUP twice, from the kernel and from the shell; the second must not stop the
            # clean-up. This is a handler because the children of the clean-up would inherit SIG_IGN.
            signal.signal(each, lambda *_: None)
    sys.exit(128 + number)


def run_once(name: str, command: Run, folder: Path, seconds: float | None = None) -> None:
    """Run a one-shot command. If it fails, raises `Failure` with the reason in one line, and logs its full output.

    The command is stopped after ``seconds``; None means no limit.
    """
    result = shell.run(replace(command, seconds=seconds), capture=True, check=False)
    if result.code:
        raise Failure(explained(name, result, folder))


def explained(name: str, result: Result, folder: Path) -> str:
    """Why a management command failed, in one line. Its full output is logged."""
    return f"{name}: {explain(result.stdout, result.stderr)}; {logged(name, result, folder)}"


def logged(name: str, result: Result, folder: Path) -> str:
    """Write a command's full output to a log; returns the words that name the log."""
    log = folder / f"{name}.log"
    shell.perform([MakeFolder(folder), Write(log, result.stdout + result.stderr)])
    return f"the full output is in {log}"


def explain(stdout: str, stderr: str) -> str:
    """The reason why a management command failed: the line of the error, after the name of a failed migration."""
    applying = re.findall(r"Applying ([\w.]+)\.\.\.(?! OK)", stdout)
    errors = re.findall(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Configured|Exists)\b.*$", stderr, re.MULTILINE)
    checks = re.search(r"^ERRORS:\n.+$", stderr, re.MULTILINE)
    reason = errors[-1] if errors and not checks else shell.last_line(stderr) or shell.last_line(stdout)
    return (f"{applying[-1]}: {reason}" if applying else reason) + remedy(reason)


def remedy(reason: str) -> str:
    """What to write for an error that says what a site lacks where it runs; empty for others."""
    if found := _NO_VARIABLE.search(reason):
        name = next(filter(None, found.groups()))
        return f"; if {name} is a variable: invoke.yaml, under project.env: `{name}: plain`, and .env: `{name}=VALUE`"
    if "Read-only file system" in reason:
        return "; code is read-only in production: write below MEDIA_ROOT (`media: true` in invoke.yaml), or into /tmp"
    return ""


def announce(url: str, names: Sequence[str], not_ready: Callable[[], list[str]], ended: Callable[[], bool]) -> None:
    """Print one line: when everything is ready, or after `PATIENCE_SECONDS` what is not. Nothing once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (missing := not_ready()) and time.monotonic() < deadline and not ended():
        time.sleep(0.1)
    if missing and ended():
        return
    line = f"Ready: {url} ({', '.join(names)}). Ctrl-C ends it."
    if missing:
        line = f"Not ready after {PATIENCE_SECONDS} s: {', '.join(missing)}; the lines above may say why."
    sys.stdout.write(f"{line}\n")  # one write with the newline, because other threads and processes write too
    sys.stdout.flush()


def complaint(url: str) -> str:
    """What is wrong with the answer to a GET of a URL on this machine; empty for 200. Never through a proxy."""
    import urllib.error  # imported late because the import is slow
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    path = url[url.find("/", url.find("//") + 2) :]
    try:
        with opener.open(url, timeout=5) as response:
            return "" if response.status == 200 else f"{path} answers {response.status}"
    except urllib.error.HTTPError as error:
        said = error.read(ANSWER_BYTES).decode(errors="replace").strip()
        is_page = said.startswith("<") or not said
        return f"{path} answers {error.code}{'' if is_page else f': {printable(said)}'}"
    except (urllib.error.URLError, OSError) as error:
        return f"{path}: {getattr(error, 'reason', error)}"
