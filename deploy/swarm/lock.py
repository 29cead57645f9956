"""One deploy at a time, whoever the clients are: a lock in the swarm that frees itself.

It is a service without replicas: making one of a name is atomic, and its label is written again every few seconds. Who
finds a lock that is not written any more takes it: by its id, so that of two who do, one finds it gone.

A holder may have slept meanwhile, or its network. So it believes its lock only for as long as nobody can have taken it,
by a clock that goes on in sleep; after that, and before each change, it asks the swarm, by the lock's id.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import printable, who
from deploy.project import limits
from deploy.swarm.manager import Manager

#: Seconds within which who takes a lock to be stale has removed it: it looks at it, and removes it at once.
SETTLE_SECONDS = 3.0
#: Seconds for the swarm to take a sign of life, and for the last one to come to its end when the lock is released.
ANSWER_SECONDS, RELEASE_SECONDS = 10.0, 15.0
#: Stale locks that are removed before we give up: each time another client was faster.
ATTEMPTS = 5
TAKEN = "name conflicts with an existing object"


def clock() -> float:
    """Seconds that go on while the machine sleeps.

    Linux has CLOCK_BOOTTIME for that. Of macOS's clocks CLOCK_MONOTONIC does so (its clock_gettime(3)).
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LockLost(Failure):
    """The lock is another's now: nothing may be changed any more, nor cleaned up."""

    def __init__(self) -> None:
        super().__init__(
            "another client took over the lock because this one stopped responding; nothing more was changed; look with"
            " `invoke swarm-status`"
        )


class Lock:
    """A held lock. ``check`` and ``confirm`` say whether it still is."""

    def __init__(self, manager: Manager, service: str, made: float) -> None:
        """``service`` is its id, ``made`` a moment before it was made, by `clock`."""
        self._manager, self._service = manager, service
        self._lived, self._beats, self._lost = made, 0, False
        self._ended, self._one = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `LockLost` when somebody has taken the lock; ask the swarm only when somebody can have."""
        if self._lost:
            raise LockLost
        if clock() - self._lived > limits.SWARM_LEASE:
            self._beat()

    def confirm(self) -> None:
        """Ask the swarm whether the lock is ours, as before each change. Raises `Failure` when it does not say so."""
        self.check()
        self._beat()

    def release(self) -> None:
        """Give it back. That this fails hides no error: without signs of life it frees itself."""
        self._ended.set()
        self._thread.join(RELEASE_SECONDS)
        if not self._lost:
            self._manager.discard("service", "rm", self._service, seconds=RELEASE_SECONDS)

    def _live(self) -> None:
        while not self._ended.wait(limits.SWARM_BEAT):
            try:
                self._beat()
            except LockLost:
                return
            except Failure:
                continue  # one that is missed; `check` finds out when there were too many

    def _beat(self) -> None:
        """Give a sign of life. Raises `LockLost` when the lock is gone, `Failure` when the swarm does not answer."""
        with self._one:
            last = self._lived
            while True:
                began = clock()
                self._write()
                if began - last <= limits.SWARM_LEASE:
                    self._lived = began
                    return
                # Who took it to be stale just before this may still be about to remove it.
                last = began
                time.sleep(SETTLE_SECONDS)

    def _write(self) -> None:
        self._beats += 1
        words = ["service", "update", "--detach", "--quiet", "--label-add", f"portico.beat={self._beats}"]
        result = self._manager.try_(*words, self._service, seconds=ANSWER_SECONDS)
        if result.code and f"{self._service} not found" in result.stderr:
            self._lost = True
            raise LockLost
        if result.code:
            why = shell.last_line(result.stderr)
            raise Failure(f"the swarm does not confirm our lock of {self._manager.stack}: {why}; repeat")


@contextmanager
def held(manager: Manager, what: str) -> Iterator[Lock]:
    """Hold the stack's lock. Raises `Failure` when another client does."""
    lock = _take(manager, what)
    try:
        yield lock
    finally:
        lock.release()


def _take(manager: Manager, what: str) -> Lock:
    name = f"{manager.stack}_lock"
    labels = {"portico.what": what, "portico.by": who(), "portico.at": datetime.now(UTC).isoformat(timespec="seconds")}
    marks = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    words = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--replicas", "0", *marks]
    for _ in range(ATTEMPTS):
        began = clock()
        made = manager.try_(*words, "--name", name, "lock")
        if not made.code:
            return Lock(manager, made.stdout.strip(), began)
        if TAKEN not in made.stderr:
            raise Failure(f"the lock of {manager.stack} cannot be made: {shell.last_line(made.stderr)}")
        if stale := _stale(manager, name):
            manager.try_("service", "rm", stale, seconds=ANSWER_SECONDS)
    raise Failure(f"the lock of {manager.stack} is there and gone again: other clients take it; repeat in a minute")


def _stale(manager: Manager, name: str) -> str:
    """The id of a lock whose holder gives no sign of life; empty when it has gone. Raises `Failure` when it lives."""
    shown = "{{.ID}} {{.Version.Index}} {{json .Spec.Labels}}"
    first = manager.try_("service", "inspect", "--format", shown, name)
    deadline = time.monotonic() + limits.SWARM_STALE
    while not first.code and time.monotonic() < deadline:
        time.sleep(1)
        now = manager.try_("service", "inspect", "--format", shown, name)
        if now.code or now.stdout.split()[0] != first.stdout.split()[0]:
            return ""
        if now.stdout.split()[1] != first.stdout.split()[1]:
            raise Failure(f"{holder(now.stdout)}, holds the lock on {manager.stack}; retry when it has finished")
    return "" if first.code else first.stdout.split()[0]


def holder(text: str) -> str:
    """Who holds a lock, in words."""
    labels = json.loads(text.split(" ", 2)[2])
    what, by, at = (labels.get(f"portico.{key}", "?") for key in ("what", "by", "at"))
    return printable(f"{what} by {by}, started {at}")
