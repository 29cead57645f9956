"""Scripts on a host, each over one channel of a connection, and a lock that is held as long as its channel is open.

A script and its input are sent over standard input, so no argument list contains any of it. It ends when it is done,
when its time is over, and when the client disconnects (`scripts/frame.sh`).
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import os
import re
import select
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import printable
from deploy.hosts.environment import owner
from deploy.hosts.ssh.connect import Connection
from deploy.project import limits

if TYPE_CHECKING:
    import paramiko

SCRIPTS = Path(__file__).parent.parent / "scripts"
#: The default limit of a script, in seconds.
LIMIT_SECONDS = 600
#: Seconds after a script's limit for the host to stop it; then we cut the connection and report that.
GRACE_SECONDS = 20
#: Seconds that a lock may be held.
LOCK_SECONDS = 86400
#: What `scripts/frame.sh` prints first, on both streams: what comes before it is the start-up files'.
BEGIN = b"portico: begin\n"
#: What is sent before a script.
_BEFORE = {
    **dict.fromkeys(("activate.sh", "restart.sh"), ("site.sh",)),
    **dict.fromkeys(("look.sh", "scale.sh"), ("numbers.sh",)),
    **dict.fromkeys(("health.sh", "facts.sh", "apply.sh", "restore.sh"), ("systemd.sh",)),
}
_PIECE = 32768
#: What sudo says on a host whose own name cannot be resolved; it goes on, so that is never the reason.
_NOISE = re.compile(rb"^sudo: unable to resolve host .*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """The result of a script."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Its standard output; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def last_line(self) -> str:
        """Its last line of standard error, else of standard output, made printable."""
        said = shell.last_line(self.stderr.decode(errors="replace")) or shell.last_line(self.text)
        return printable(said)


def script(name: str) -> str:
    """The text of a script in `scripts/`, after what it has in common with others."""
    return "".join((SCRIPTS / each).read_text("utf-8") for each in (*_BEFORE.get(name, ()), name))


@cache
def _frame() -> bytes:
    return base64.b64encode(script("frame.sh").encode())


def _preamble(connection: Connection, text: str, seconds: int) -> bytes:
    asking = connection.owner.line if connection.owner else "-"
    return b"%s\n%d\n%s\n%s\n" % (_frame(), seconds, asking.encode(), base64.b64encode(text.encode()))


def after_begin(data: bytes) -> bytes:
    """What a script printed: without what its shell's start-up files printed before. All of it if no script began."""
    _, begin, rest = data.partition(BEGIN)
    return rest if begin else data


def run_script(
    connection: Connection,
    text: str,
    stdin: bytes | Iterable[bytes] = b"",
    *,
    seconds: int = LIMIT_SECONDS,
    line: Callable[[str], None] | None = None,
    keep: bool = True,
) -> Result:
    """Run a POSIX script on a host; ``line`` gets each line of its output as it arrives.

    Without ``keep``, the result has no standard output: it may be as long as it likes.

    Returns a result even if the script fails. Raises `Failure` if the host is another's (nothing was run there), if the
    script takes longer than ``seconds``, or if the connection is lost. If we are interrupted, or ``stdin`` or ``line``
    raises, the connection is cut, which stops the script.
    A script cannot tell the end of its input from a killed client: where partial input matters, send a length or a
    checksum.
    """
    channel = connection.shell()
    try:
        sent = _all(_preamble(connection, text, seconds), stdin)
        result = _Conversation(connection.name, channel, seconds, line, keep).hold(sent)
    except BaseException:
        connection.close()
        raise
    finally:
        channel.close()
    if failed := _others(connection, result.code, result.stderr):
        raise failed
    return result


def _others(connection: Connection, code: int, stderr: bytes) -> Failure | None:
    """The failure if the host is another's, which has refused the script."""
    if code != owner.OTHERS_CODE:
        return None
    return owner.others(connection.name, connection.owner, stderr.decode(errors="replace"))


def _all(preamble: bytes, data: bytes | Iterable[bytes]) -> Iterator[bytes]:
    yield preamble
    yield from (data,) if isinstance(data, bytes) else data


@dataclass
class _Conversation:
    """Handles input, output and errors of a channel at the same time; otherwise large ones would block each other."""

    name: str
    channel: paramiko.Channel
    seconds: int
    line: Callable[[str], None] | None
    keep: bool
    stdout: list[bytes] = field(default_factory=list)
    stderr: list[bytes] = field(default_factory=list)
    #: The exception that the input raised.
    broken: list[BaseException] = field(default_factory=list)

    def hold(self, data: Iterator[bytes]) -> Result:
        begin = time.monotonic()
        feeder = threading.Thread(target=self._feed, args=(data,), daemon=True)
        feeder.start()
        self._read(begin + self.seconds + GRACE_SECONDS)
        if self.broken:
            raise self.broken[0]
        code = self.channel.recv_exit_status()
        if not self.channel.get_transport().is_active():
            lost = "the connection was lost while a script ran; the host stops the script"
            raise Failure(f"{self.name}: {lost}. If the host restarts, run the command again when it is back")
        if code in (-1, 124, 137) and time.monotonic() - begin >= self.seconds:
            raise Failure(f"{self.name}: a script was not done within {self.seconds} s and was stopped")
        if code < 0:
            raise Failure(f"{self.name}: a signal killed a script there: the host's journal may show why")
        said = after_begin(b"".join(self.stderr))
        return Result(code, after_begin(b"".join(self.stdout)), _NOISE.sub(b"", said))

    def _feed(self, data: Iterator[bytes]) -> None:
        try:
            for piece in data:
                for start in range(0, len(piece), _PIECE):
                    try:
                        self.channel.sendall(piece[start : start + _PIECE])
                    except (OSError, EOFError):
                        return  # the script has ended, or reads no more; its exit code tells which
            with contextlib.suppress(OSError, EOFError):
                self.channel.shutdown_write()
        except BaseException as error:  # raised by the source of the data; the other thread raises it again
            self.broken.append(error)
            with contextlib.suppress(OSError, EOFError):
                self.channel.close()

    def _read(self, deadline: float) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pending, ended, begun = "", False, False
        while not ended:
            select.select([self.channel], [], [], 1)
            while self.channel.recv_stderr_ready():
                self.stderr.append(self.channel.recv_stderr(_PIECE))
            ended = self.channel.eof_received or self.channel.closed
            while self.channel.recv_ready():
                piece = self.channel.recv(_PIECE)
                if self.keep:
                    self.stdout.append(piece)
                *lines, pending = (pending + (decoder.decode(piece) if self.line else "")).split("\n")
                for each in lines:
                    if begun:
                        self._tell(each)
                    begun = begun or f"{each}\n".encode().endswith(BEGIN)
            ended = ended and not self.channel.recv_stderr_ready()
            self._require_time(deadline)
        if pending and begun:
            self._tell(pending)
        while not self.channel.status_event.wait(1):
            self._require_time(deadline)

    def _tell(self, text: str) -> None:
        if self.line:
            self.line(text)

    def _require_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            done = self.channel.exit_status_ready()
            why = "ended, but left something running that holds its output open" if done else "did not end"
            raise Failure(f"{self.name}: a script {why} within {self.seconds} s; the connection was cut")


def pipe(connection: Connection, argv: Sequence[str], source: BinaryIO | None, out: BinaryIO, err: BinaryIO) -> int:
    """Run a command on a host with our standard input, if any, and its output as it comes; returns its exit code.

    Nothing is kept in memory, so that data of any size passes. Raises `Failure` if the connection is lost.
    """
    channel = connection.plain(shlex.join(argv))
    feeder = threading.Thread(target=_feed, args=(channel, source), daemon=True)
    feeder.start()
    ended = False
    try:
        while not ended:
            select.select([channel], [], [], 1)
            ended = channel.eof_received or channel.closed
            for ready, read, to in (
                (channel.recv_ready, channel.recv, out),
                (channel.recv_stderr_ready, channel.recv_stderr, err),
            ):
                while ready():
                    to.write(read(_PIECE))
                to.flush()
        code = int(channel.recv_exit_status())
    finally:
        channel.close()
    if code < 0:
        raise Failure(f"{connection.name}: the connection was lost, or a signal ended the command there")
    return code


def _feed(channel: paramiko.Channel, source: BinaryIO | None) -> None:
    with contextlib.suppress(OSError, EOFError):  # the command has ended, or reads no more; its exit code tells which
        # What there is, not a whole piece: the other end of a pipe may wait for an answer.
        while source and (piece := os.read(source.fileno(), _PIECE)):
            channel.sendall(piece)
        channel.shutdown_write()


# --- Locks ---


@dataclass
class Lock:
    """A lock on a host, held as long as the connection is open."""

    name: str
    channel: paramiko.Channel
    _over: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise `Failure` if the lock is no longer ours, such as after this machine slept. Call before each phase."""
        if self.channel.closed or self.channel.eof_received or self.channel.exit_status_ready():
            raise Failure(
                f"{self.name}: the lock was lost with the connection; nothing more was changed; run the command again"
            )

    def beat(self) -> None:
        """Send heartbeats to the host until `release`."""
        while not self._over.wait(limits.HOST_BEAT):
            try:
                self.channel.sendall(b".")
            except OSError:
                return

    def release(self) -> None:
        """Release the lock, and wait until the host has done so."""
        self._over.set()
        with contextlib.suppress(OSError, EOFError):
            self.channel.shutdown_write()
            self.channel.status_event.wait(5)
        self.channel.close()


def take_lock(connection: Connection, path: str, who: str, entry: str = "") -> Lock:
    """Hold a lock, a file on the host, until `Lock.release`. Raises `Failure` naming the holder if another has it.

    With an ``entry``, the host writes it to the ledger beside the lock if the client is gone before its end is there.
    The host releases it at once if this process is killed, and a minute after this machine falls asleep. The file
    remains; that means nothing.
    """
    channel = connection.shell()
    try:
        said = _ask_for_lock(connection, channel, path, f"{printable(who)[:200]}\n{entry}\n")
        if said.startswith("BUSY"):
            holder = printable(said[4:]) or "somebody"
            raise Failure(
                f"{connection.name}: busy: {holder}; wait for that, or end it where it runs, or with `remote-unlock`"
            )
        if said != "HELD":
            raise Failure(f"{connection.name}: unexpected output {printable(said)[:100]!r} instead of the lock")
    except BaseException:
        channel.close()
        raise
    lock = Lock(connection.name, channel)
    threading.Thread(target=lock.beat, daemon=True).start()
    return lock


@contextmanager
def hold_lock(connection: Connection, path: str, who: str) -> Iterator[Lock]:
    """Hold a lock within the context. Raises `Failure` as `take_lock` does."""
    lock = take_lock(connection, path, who)
    try:
        yield lock
    finally:
        lock.release()


def _ask_for_lock(connection: Connection, channel: paramiko.Channel, path: str, lines: str) -> str:
    name = connection.name
    if not path or not path.isprintable():
        raise Failure(f"{path!r} is not a path for a lock")
    try:
        channel.settimeout(GRACE_SECONDS)
        channel.sendall(_preamble(connection, script("lock.sh"), LOCK_SECONDS))
        channel.sendall(f"{path}\n{lines}".encode())
        said = b""
        while BEGIN not in said or not after_begin(said).endswith(b"\n"):
            piece = channel.recv(_PIECE)
            if not piece:
                raise _why_no_lock(connection, channel, path)
            said += piece
    except TimeoutError:
        raise Failure(f"{name}: no answer within {GRACE_SECONDS} s; run the command again") from None
    except (OSError, EOFError):
        raise Failure(f"{name}: the connection was lost; run the command again") from None
    return shell.last_line(after_begin(said).decode(errors="replace"))


def _why_no_lock(connection: Connection, channel: paramiko.Channel, path: str) -> Failure:
    stderr = b""
    while piece := channel.recv_stderr(_PIECE):
        stderr += piece
    code = channel.recv_exit_status() if channel.status_event.wait(1) else -1
    why = printable(shell.last_line(after_begin(stderr).decode(errors="replace")))
    return _others(connection, code, stderr) or Failure(
        f"{connection.name}: cannot take the lock {path}: {why or 'the connection was lost'}"
    )
