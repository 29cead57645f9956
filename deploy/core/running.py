"""What the runtimes of one machine share: one-shot commands, ports, readiness, locks, being told to stop."""

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
#: Seconds after which it is said what is not ready yet.
PATIENCE_SECONDS = 60
#: Lines that are shown of what has failed.
QUOTED_LINES = 20


def taken(port: int, host: str = HOST) -> bool:
    """Whether another program listens on a port. Raises OSError where it cannot be tried."""
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
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextmanager
def alone(path: Path, what: str, refusal: str) -> Iterator[None]:
    """Hold a lock file for something that is done. The system frees it however we end.

    Raises `Failure` with the refusal when another does, `{holder}` in it replaced by what that is, whose, and since
    when.
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
    """Who runs this, for ledgers, and for those who meet a lock: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # as in a container, for a number that has no name
        user = str(os.getuid())
    return printable(f"{user}@{socket.gethostname()}")


def printable(text: str) -> str:
    """A text from elsewhere without what would control a terminal."""
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", text).strip()


def quote(name: str, text: str) -> None:
    """Show the last lines that something else has said, on standard error, each with its name before it."""
    for line in text.splitlines()[-QUOTED_LINES:]:
        tell(f"{name} | {printable(line)}")


def tell(line: str) -> None:
    """A line of progress, on standard error so that what a command prints can be piped.

    A terminal or connection that is gone must not keep what goes on from its end, or from being put back.
    """
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def confirm(what: str, name: str, confirmed: bool) -> None:
    """Go on only when somebody types the name, or has said so beforehand. Raises `Failure` otherwise."""
    if confirmed:
        return
    if not sys.stdin.isatty():
        raise Failure(f"{what} Nobody is here to be asked: add --yes")
    try:
        typed = input(f"{what} Type {name} to go on: ")
    except EOFError:  # Ctrl-D
        print(file=sys.stderr)
        typed = ""
    if typed.strip() != name:
        raise Failure("nothing was done")


#: TERM is what service managers and `kill` send; HUP is what a terminal or an SSH session sends when it closes.
TOLD = (signal.SIGTERM, signal.SIGHUP)


def exit_when_told() -> None:
    """Have TERM, and a closed terminal, end us by an exception as Ctrl-C does, so that what we began is taken back.

    One that is ignored stays ignored, as HUP is under `nohup`.
    """
    for number in TOLD:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    for each in TOLD:
        if signal.getsignal(each) is not signal.SIG_IGN:
            # A closed session sends HUP twice, from the kernel and from the shell; the second must not end the
            # clean-up. A handler, as SIG_IGN would be inherited by what the clean-up starts.
            signal.signal(each, lambda *_: None)
    sys.exit(128 + number)


def run_once(name: str, command: Run, folder: Path, seconds: float | None = None) -> None:
    """Run a one-shot command. Raises `Failure` with the reason in one line; all that it said is then in a log.

    It is ended after so many ``seconds``; nothing ends it without.
    """
    result = shell.run(replace(command, seconds=seconds), capture=True, check=False)
    if result.code:
        raise Failure(explained(name, result, folder))


def explained(name: str, result: Result, folder: Path) -> str:
    """Why a management command failed, in one line; all that it said is then in a log."""
    return f"{name}: {explain(result.stdout, result.stderr)}; {logged(name, result, folder)}"


def logged(name: str, result: Result, folder: Path) -> str:
    """Lay what a command said into a log, and say where that is."""
    log = folder / f"{name}.log"
    shell.perform([MakeFolder(folder), Write(log, result.stdout + result.stderr)])
    return f"all of it is in {log}"


def explain(stdout: str, stderr: str) -> str:
    """What went wrong in a management command: the migration that it was at, and the error's own line."""
    applying = re.findall(r"Applying ([\w.]+)\.\.\.(?! OK)", stdout)
    errors = re.findall(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Configured|Exists)\b.*$", stderr, re.MULTILINE)
    reason = errors[-1] if errors else shell.last_line(stderr) or shell.last_line(stdout)
    return f"{applying[-1]}: {reason}" if applying else reason


def announce(url: str, names: Sequence[str], lacking: Callable[[], list[str]], ended: Callable[[], bool]) -> None:
    """Say in one line when all is at work, or after `PATIENCE_SECONDS` what is not; nothing once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (missing := lacking()) and time.monotonic() < deadline and not ended():
        time.sleep(0.1)
    if missing and ended():
        return
    line = f"Ready: {url} ({', '.join(names)}). Ctrl-C ends it."
    if missing:
        line = f"Not ready after {PATIENCE_SECONDS} s: {', '.join(missing)}; the lines above may say why."
    sys.stdout.write(f"{line}\n")  # at once with its end: others write beside this thread
    sys.stdout.flush()


def answers(url: str) -> bool:
    """Whether a GET of the URL on this machine succeeds; a proxy is never asked."""
    import urllib.error  # late: it takes longer to import than most commands need
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
