"""A release put into service on all hosts, or on none: one conversation with each host, in step with the others.

`scripts/activate.sh` is the other side. It waits for a word before each step, and puts its host back by itself when we
say so, when a step fails, and when it no longer hears of us.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from deploy.core.errors import Failure
from deploy.core.running import printable, quote
from deploy.hosts.release.view import View
from deploy.hosts.ssh.channel import Result, run_script, script
from deploy.hosts.ssh.connect import Connection
from deploy.project import limits

#: Seconds that a host has: for units to begin and be asked, to flip and be asked, to put itself back.
START_SECONDS, FLIP_SECONDS, BACK_SECONDS = 240, 40, 30
#: Seconds for what is left when the release serves: the old units are told, and the hook has its time.
END_SECONDS = 1800
#: Seconds that a whole conversation may last.
_LIMIT = 24 * 60 * 60


class Conversation:
    """What is said with one host."""

    def __init__(self, connection: Connection, header: str) -> None:
        self.name = connection.name
        self.why = ""
        self.ended = False
        self._connection = connection
        self._header = header
        self._words: queue.Queue[str | None] = queue.Queue()
        self._heard: queue.Queue[str | Result | BaseException] = queue.Queue()
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        try:
            text = script("activate.sh")
            self._heard.put(run_script(self._connection, text, self._notify(), seconds=_LIMIT, line=self._heard.put))
        except BaseException as error:  # it is for the one who waits for an answer
            self._heard.put(error)

    def _notify(self) -> Iterator[bytes]:
        yield self._header.encode()
        while True:
            try:
                word = self._words.get(timeout=limits.SIGN)
            except queue.Empty:
                word = "."
            if word is None:
                return
            yield f"{word}\n".encode()

    def tell(self, word: str) -> None:
        self._words.put(word)

    def expect(self, word: str, seconds: float, since: float) -> None:
        """Return when it answers with a word, with ``seconds`` for that from ``since``, as `time.monotonic` has it.

        Raises `Failure` with its reason, or when it does not in time.
        """
        deadline = since + seconds
        while not self.ended:
            try:
                heard = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                why = self.why or f"does not answer within {seconds:.0f} s"
                raise Failure(f"{self.name}: {why}") from None
            if not isinstance(heard, str):
                self._end(heard)
            elif heard == f"= {word}":
                return
            elif heard.startswith("! "):
                self.why = printable(heard[2:])
            elif heard.startswith("| "):
                quote(self.name, heard[2:])
        raise Failure(f"{self.name}: {self.why or 'has ended'}")

    def _end(self, how: Result | BaseException) -> None:
        self.ended = True
        self._words.put(None)
        if isinstance(how, Failure):
            self.why = self.why or how.message.removeprefix(f"{self.name}: ")
        elif isinstance(how, BaseException):
            raise how
        elif how.code:
            self.why = self.why or how.last_line


@dataclass
class Fleet:
    """Hosts on which a release is put into service together."""

    view: View
    #: Seconds that requests and tasks under way have: a web unit that still stops is waited for before it starts again.
    drain: int = 0
    members: dict[str, Conversation] = field(default_factory=dict)
    #: Whether some host was told to stay with it.
    committed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.committed:
            self._put_back(error.message if isinstance(error, Failure) else "it was stopped")

    def join(self, connection: Connection, header: str) -> None:
        """Begin on a host: its new units start, and its old ones go on."""
        self.members[connection.name] = Conversation(connection, header)
        self.view.show(connection.name, "starting")

    def started(self) -> None:
        """Return when the new web units answer. Raises `Failure` naming all hosts on which they do not."""
        self._expect(self.members, "STARTED", START_SECONDS + self.drain, "started")

    def do(self, names: Sequence[str], word: str, answer: str, seconds: float, said: str) -> None:
        """Have hosts do a step. Raises `Failure`."""
        for name in names:
            self.members[name].tell(word)
        self._expect(names, answer, seconds, said)

    def workers(self, names: Sequence[str]) -> None:
        """Return when the new workers of these hosts are ready, which began with `join`. Raises `Failure`."""
        self.do(names, "workers", "WORKERS", START_SECONDS, "workers ready")

    def flip(self, names: Sequence[str]) -> None:
        """Requests to these hosts go to the release from now on. Raises `Failure`."""
        self.do(names, "flip", "FLIPPED", FLIP_SECONDS, "flipped")

    def move_beat(self, name: str) -> None:
        """The old beat ends, then the new one begins. Raises `Failure`."""
        self.do([name], "beat", "BEAT", START_SECONDS, "beat moved")

    def hold(self) -> None:
        """Return when every host is still with us. Raises `Failure` naming those that have put themselves back."""
        for member in self.members.values():
            member.tell("hold")
        _need_all(self._answers(self.members, "HELD", FLIP_SECONDS))

    def commit(self) -> None:
        """The release stays. Raises `Failure` for hosts that did not say that they heard it."""
        if len(self.members) > 1:
            self.hold()
        self.committed = True
        try:
            self.do(list(self.members), "commit", "COMMITTED", FLIP_SECONDS, "serves")
        except Failure as failure:
            if len(self.members) == 1:
                raise
            raise Failure(f"{failure.message}; the others serve it: repeat the deploy to bring all to one") from None
        try:
            self._expect(self.members, "DONE", END_SECONDS, "done")
        except Failure as failure:
            raise Failure(f"{failure.message}; the release serves, and what comes after that is not done") from None
        for name, member in self.members.items():
            if member.why:
                self.view.notify(f"{name}: {member.why}")

    def _answers(self, names: Iterable[str], word: str, seconds: float) -> Iterator[tuple[str, Failure | None]]:
        """Each of some hosts, and why it has not answered with a word; the seconds are for all of them together."""
        since = time.monotonic()
        for name in names:
            try:
                self.members[name].expect(word, seconds, since)
            except Failure as failure:
                yield name, failure
            else:
                yield name, None

    def _expect(self, names: Iterable[str], word: str, seconds: float, said: str) -> None:
        def shown() -> Iterator[tuple[str, Failure | None]]:
            for name, failure in self._answers(names, word, seconds):
                self.view.show(name, "failed" if failure else said)
                yield name, failure

        _need_all(shown())

    def _put_back(self, why: str) -> None:
        others = [name for name, member in self.members.items() if not member.ended]
        for name in others:
            self.members[name].tell("back " + printable(why.splitlines()[0] if why else why)[:300])
        for name, failure in self._answers(others, "BACK", BACK_SECONDS):
            if failure:
                self.view.notify(
                    f"{failure.message}; if it is cut off, it puts itself back when it does not hear of us"
                )
            else:
                self.view.show(name, "put back")


def _need_all(answers: Iterable[tuple[str, Failure | None]]) -> None:
    """Raise `Failure` with a line for each host that failed, once all have answered."""
    if failed := [failure.message for _, failure in answers if failure]:
        raise Failure("\n".join(failed))
