"""Activate a release on all hosts, or on none: one conversation with each host, in step with the others.

`scripts/activate.sh` is the other side. It waits for a command before each step. It restores its host when we send
`back`, when a step fails, and when it has received nothing from us for a while.
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

#: Seconds for a host to start and check its units, to flip and check the site, to restore itself.
START_SECONDS, FLIP_SECONDS, BACK_SECONDS = 240, 40, 30
#: Seconds for the rest once the release serves: stop the old units, and run the hook.
END_SECONDS = 1800
#: The limit for a whole conversation, in seconds.
_LIMIT = 24 * 60 * 60


class Conversation:
    """The commands to one host, and its answers."""

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
            self._heard.put(run_script(self._connection, text, self._input(), seconds=_LIMIT, line=self._heard.put))
        except BaseException as error:  # `expect` raises it
            self._heard.put(error)

    def _input(self) -> Iterator[bytes]:
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
        """Wait until the host answers with ``word``, at most ``seconds`` after ``since`` (of `time.monotonic`).

        Raises `Failure` with the host's reason, or if the time is over.
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
    """Hosts on which a release is activated together."""

    view: View
    #: Seconds for current requests and tasks to finish: a web unit that is still stopping must end before it restarts.
    drain: int = 0
    members: dict[str, Conversation] = field(default_factory=dict)
    #: The hosts that may run new workers of which there must never be two.
    joined: list[str] = field(default_factory=list)
    #: Whether `commit` was sent to any host.
    committed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.committed:
            self._put_back(error.message if isinstance(error, Failure) else "it was stopped")

    def join(self, connection: Connection, header: str) -> None:
        """Begin on a host: it starts the new units and keeps the old ones running."""
        self.members[connection.name] = Conversation(connection, header)
        self.view.show(connection.name, "starting")

    def started(self) -> None:
        """Wait until the new web units answer. Raises `Failure` naming all hosts on which they do not."""
        self._expect(self.members, "STARTED", START_SECONDS + self.drain, "started")

    def do(self, names: Sequence[str], word: str, answer: str, seconds: float, said: str) -> None:
        """Send a command to hosts and wait for their answers. Raises `Failure`."""
        for name in names:
            self.members[name].tell(word)
        self._expect(names, answer, seconds, said)

    def workers(self, names: Sequence[str]) -> None:
        """Wait until the new workers of these hosts, started by `join`, are ready. Raises `Failure`."""
        self.do(names, "workers", "WORKERS", START_SECONDS, "workers ready")

    def flip(self, names: Sequence[str]) -> None:
        """Route the requests of these hosts to the new release. Raises `Failure`."""
        self.do(names, "flip", "FLIPPED", FLIP_SECONDS, "flipped")

    def move_beat(self, name: str) -> None:
        """Stop the old beat, then start the new one. Raises `Failure`."""
        self.do([name], "beat", "BEAT", START_SECONDS, "beat moved")

    def move_alone(self, names: Sequence[str]) -> None:
        """Stop the old workers of which there must never be two, on all of these hosts; then start the new ones.

        An old one has `drain` seconds for its tasks. Raises `Failure`.
        """
        for word, answer in (("part", "PARTED"), ("alone", "ALONE")):
            self.joined = list(names) if word == "alone" else []
            for name in names:
                self.members[name].tell(word)
            _require_all(self._answers(names, answer, START_SECONDS + self.drain))

    def hold(self) -> None:
        """Check that every host still takes part. Raises `Failure` naming those that have restored themselves."""
        for member in self.members.values():
            member.tell("hold")
        _require_all(self._answers(self.members, "HELD", FLIP_SECONDS))

    def commit(self) -> None:
        """Make the release permanent. Raises `Failure` naming hosts that did not confirm it."""
        if len(self.members) > 1:
            self.hold()
        self.committed = True
        try:
            self.do(list(self.members), "commit", "COMMITTED", FLIP_SECONDS, "serves")
        except Failure as failure:
            if len(self.members) == 1:
                raise
            raise Failure(f"{failure.message}; the other hosts serve the release: repeat the deploy") from None
        try:
            self._expect(self.members, "DONE", END_SECONDS, "done")
        except Failure as failure:
            raise Failure(f"{failure.message}; the release serves, but the steps after that are not done") from None
        for name, member in self.members.items():
            if member.why:
                self.view.notify(f"{name}: {member.why}")

    def _answers(self, names: Iterable[str], word: str, seconds: float) -> Iterator[tuple[str, Failure | None]]:
        """Each of these hosts, and its failure if it did not answer; ``seconds`` are for all of them together."""
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

        _require_all(shown())

    def _put_back(self, why: str) -> None:
        others = [name for name, member in self.members.items() if not member.ended]
        # Those first that run what there must not be two of: another host may have run it before.
        for some in ([name for name in others if name in self.joined], [n for n in others if n not in self.joined]):
            self._back(some, why, BACK_SECONDS + (self.drain if self.joined else 0))

    def _back(self, names: Sequence[str], why: str, seconds: float) -> None:
        for name in names:
            self.members[name].tell("back " + printable(why.splitlines()[0] if why else why)[:300])
        for name, failure in self._answers(names, "BACK", seconds):
            if failure:
                self.view.notify(
                    f"{failure.message}; if it is only unreachable, it restores itself when the connection times out"
                )
            else:
                self.view.show(name, "put back")


def _require_all(answers: Iterable[tuple[str, Failure | None]]) -> None:
    """Raise `Failure` with a line for each host that failed, once all have answered."""
    if failed := [failure.message for _, failure in answers if failure]:
        raise Failure("\n".join(failed))
