"""Log entries of several machines or containers: which are wanted, their order, and how they are shown."""

from __future__ import annotations

import heapq
import json
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from deploy.core.errors import Failure
from deploy.core.running import printable, tell

#: The most lines of one place that are read, of which `--grep` and `--errors` choose.
MOST = 10_000
#: Seconds for which a line is held while lines are followed: an older one of a slower host may still arrive.
HOLD_SECONDS = 1.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: A level as loggers write it: as a word in capitals, or in brackets as servers do.
_LEVEL = re.compile(r"\b(?:ERROR|CRITICAL|FATAL|PANIC|ALERT|EMERGENCY)\b|\[(?:error|crit|alert|emerg|critical)\]")
_LEVELS = ("error", "critical", "fatal", "panic", "alert", "emergency")
_TRACEBACK = "Traceback (most recent call last)"
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")

Put = Callable[["Entry"], None]


@dataclass(frozen=True, order=True)
class Entry:
    """A line of a log."""

    #: Seconds since the epoch, by the clock of its machine.
    at: float
    #: The machine or container, and what writes there.
    source: str
    text: str


@dataclass(frozen=True)
class Query:
    """Which lines of a log are asked for."""

    lines: int
    #: Seconds since the epoch; 0 means any time.
    since: float = 0.0
    pattern: re.Pattern[str] | None = None
    errors: bool = False
    follow: bool = False
    json: bool = False

    @property
    def chooses(self) -> bool:
        """Whether not every line is wanted."""
        return self.errors or self.pattern is not None

    @property
    def to_read(self) -> int:
        """The number of lines to read of each place so that enough remain."""
        return MOST if self.chooses else self.lines


def wanted(
    lines: int, *, since: str = "", grep: str = "", errors: bool = False, follow: bool = False, json: bool = False
) -> Query:
    """What the options of a task ask for. Raises `Failure` for a time or a pattern that is none."""
    pattern = None
    try:
        # As journalctl and ripgrep do: capitals count if there are any.
        pattern = re.compile(grep, re.IGNORECASE if grep == grep.lower() else 0) if grep else None
    except re.error as error:
        why = f"is not a regular expression ({error}); write `\\` before a special character"
        raise Failure(f"--grep {grep!r}: {why}") from None
    return Query(lines, moment(since, time.time()) if since else 0.0, pattern, errors, follow, json)


def moment(text: str, now: float) -> float:
    """The time that `--since` names, in seconds since the epoch: 90s, 10m, 2h, 3d, or a date, a time or both.

    A date or time without a zone is this machine's; a time alone is the last one that has passed. Raises `Failure` for
    anything else, and for a time to come.
    """
    if found := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return max(0.0, now - int(found[1]) * _UNITS[found[2]])
    try:
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").time()
            today = datetime.combine(datetime.fromtimestamp(now).astimezone().date(), clock).timestamp()
            return today if today <= now else today - _UNITS["d"]
        named = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise Failure(
            f"--since {text!r}: write 90s, 10m, 2h or 3d, or a time such as 14:30 or 2026-01-31T14:30"
        ) from None
    if named > now:
        raise Failure(f"--since {text!r}: is still to come")
    return max(0.0, named)


# --- Choosing ---


def is_error(text: str) -> bool:
    """Whether a line says that something failed: by its level, or in nginx's access log by its status."""
    if text.startswith("{"):
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if isinstance(said, dict):
            level = str(said.get("level", said.get("levelname", said.get("severity", "")))).lower()
            return level in _LEVELS or str(said.get("status", "")).startswith("5")
    return text.startswith(_TRACEBACK) or bool(_LEVEL.search(text))


class Errors:
    """Tells the lines that belong to errors: those with the level, and the traceback that follows one."""

    def __init__(self) -> None:
        #: For each source, what comes next: the lines of a traceback, or what may still belong to the error.
        self._after: dict[str, str] = {}

    def has(self, entry: Entry) -> bool:
        """Whether an entry belongs to an error. To be asked for each, in their order."""
        after, text = self._after.get(entry.source), entry.text
        indented = text[:1].isspace() or not text
        if text.startswith(_TRACEBACK):
            self._after[entry.source] = "traceback"
            return True
        if is_error(text):
            self._after[entry.source] = "error"
            return True
        if after == "traceback":
            if not indented:  # its last line: the exception and its message
                self._after[entry.source] = "error"
            return True
        if after == "error" and (indented or text.startswith(("During handling of", "The above exception"))):
            return True
        self._after.pop(entry.source, None)
        return False


@dataclass
class _Choice:
    """Says of each entry in turn whether it is wanted."""

    wanted: Query
    _errors: Errors = field(default_factory=Errors)

    def takes(self, entry: Entry) -> bool:
        error = not self.wanted.errors or self._errors.has(entry)
        pattern = self.wanted.pattern
        return error and entry.at >= self.wanted.since and (pattern is None or bool(pattern.search(entry.text)))


def chosen(entries: Iterable[Entry], asked: Query) -> list[Entry]:
    """The last of the entries that are wanted, in order of time. Entries of one moment stay as they came."""
    choice = _Choice(asked)
    found = [entry for entry in sorted(entries, key=lambda entry: entry.at) if choice.takes(entry)]
    return found[-asked.lines :]


def show_last(entries: Iterable[Entry], asked: Query, show: Put) -> None:
    """Show the last of the entries that are wanted; says so if there are none, unless more may follow."""
    found = chosen(entries, asked)
    for entry in found:
        show(entry)
    if not found and not asked.follow:
        tell(f"no such line among the last {MOST} of each" if asked.chooses else "no lines")


# --- Following ---


def follow(sources: Sequence[Callable[[Put], None]], asked: Query, show: Put) -> None:
    """Show the wanted entries of sources that run beside each other, in order of time, until all have ended.

    Each is held for `HOLD_SECONDS`. A `Failure` of a source is raised when the others have ended too.
    """
    arrived: queue.SimpleQueue[tuple[float, Entry] | None] = queue.SimpleQueue()
    failed: list[Failure] = []

    def run(source: Callable[[Put], None]) -> None:
        try:
            source(lambda entry: arrived.put((time.monotonic(), entry)))
        except Failure as failure:
            failed.append(failure)
        finally:
            arrived.put(None)

    for source in sources:
        threading.Thread(target=run, args=(source,), daemon=True).start()
    choice = _Choice(asked)
    for entry in in_order(arrived, len(sources)):
        if choice.takes(entry):
            show(entry)
    if failed:
        raise Failure("\n".join(failure.message for failure in failed))


def in_order(arrived: queue.SimpleQueue[tuple[float, Entry] | None], sources: int) -> Iterator[Entry]:
    """The entries that arrive, each with the moment of its arrival, by their time; None says that a source has ended.

    A line that is later than `HOLD_SECONDS` comes when it comes.
    """
    held: list[tuple[float, int, float, Entry]] = []
    number = 0
    while sources or held:
        with_time = max(0.0, held[0][2] + HOLD_SECONDS - time.monotonic()) if held else None
        try:
            got = arrived.get(timeout=with_time if sources else 0)
            if got is None:
                sources -= 1
            else:
                number += 1
                heapq.heappush(held, (got[1].at, number, *got))
        except queue.Empty:
            pass
        while held and (not sources or held[0][2] + HOLD_SECONDS <= time.monotonic()):
            yield heapq.heappop(held)[3]


# --- Showing ---


class Printer:
    """Prints entries on standard output: coloured by source on a terminal, or as JSON."""

    def __init__(self, asked: Query) -> None:
        self._json = asked.json
        self._colours: dict[str, str] = {}
        self._terminal = sys.stdout.isatty()

    def show(self, entry: Entry) -> None:
        """Print an entry, at once."""
        print(json.dumps(asdict(entry), ensure_ascii=False) if self._json else self._line(entry), flush=True)

    def _line(self, entry: Entry) -> str:
        said = shown(entry)
        if not self._terminal:
            return said
        from rich.style import Style

        machine = entry.source.partition(" ")[0]
        colour = self._colours.setdefault(machine, _COLOURS[len(self._colours) % len(_COLOURS)])
        head, bar, text = said.partition(" | ")
        return f"{Style(color=colour).render(head)}{bar}{text}"


def shown(entry: Entry) -> str:
    """An entry as a line: its time in UTC, where it comes from, and its text, with nothing that controls a terminal."""
    at = datetime.fromtimestamp(entry.at, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    indent = " " * (len(entry.text) - len(entry.text.lstrip(" ")))
    return f"{at}Z {printable(entry.source)} | {indent}{printable(entry.text)}".rstrip()
