"""One deploy at a time across all clients: a lock in the swarm that expires by itself.

The lock is a service without replicas. Creating a service of a given name is atomic, and the holder rewrites its label
every few seconds. A client that finds a lock no longer rewritten removes it by its id and creates its own. If two do so
at once, one of them finds it already removed.

The holder may have been asleep, or cut off from the network. So it trusts its lock only while nobody can have taken it,
by a clock that keeps running during sleep. After that, and before each change, it asks the swarm, by the lock's id.
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

#: Seconds within which a client that considers a lock stale has removed it: it inspects it and removes it at once.
SETTLE_SECONDS = 3.0
#: Seconds for the swarm to accept a heartbeat, and for the last heartbeat to end when the lock is released.
ANSWER_SECONDS, RELEASE_SECONDS = 10.0, 15.0
#: Stale locks to remove before giving up: each time another client was faster.
ATTEMPTS = 5
TAKEN = "name conflicts with an existing object"


def clock() -> float:
    """Seconds of a clock that keeps running while the machine sleeps.

    On Linux that is CLOCK_BOOTTIME; on macOS CLOCK_MONOTONIC does the same (its clock_gettime(3)).
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LockLost(Failure):
    """Another client holds the lock now: change nothing more, and clean nothing up."""

    def __init__(self) -> None:
        super().__init__(
            "another client took over the lock because this one stopped responding; nothing more was changed;"
            " `invoke swarm-status` shows what runs"
        )


class Lock:
    """A held lock. ``check`` and ``confirm`` raise if it is no longer held."""

    def __init__(self, manager: Manager, service: str, made: float) -> None:
        """``service`` is the lock's id; ``made`` is a time, by `clock`, just before it was created."""
        self._manager, self._service = manager, service
        self._lived, self._beats, self._lost = made, 0, False
        self._ended, self._one = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `LockLost` if another client has taken the lock. Asks the swarm only if one can have taken it."""
        if self._lost:
            raise LockLost
        if clock() - self._lived > limits.SWARM_LEASE:
            self._beat()

    def confirm(self) -> None:
        """Ask the swarm, before a change, whether the lock is ours. Raises `Failure` if it does not confirm it."""
        self.check()
        self._beat()

    def release(self) -> None:
        """Release the lock. Ignores a failure: without heartbeats the lock expires."""
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
                continue  # a missed heartbeat; `check` notices when there were too many

    def _beat(self) -> None:
        """Send a heartbeat. Raises `LockLost` if the lock no longer exists, `Failure` if the swarm does not answer."""
        with self._one:
            last = self._lived
            while True:
                began = clock()
                self._write()
                if began - last <= limits.SWARM_LEASE:
                    self._lived = began
                    return
                # A client that considered it stale just before this may still be about to remove it.
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
            raise Failure(f"the swarm does not confirm our lock on {self._manager.stack}: {why}; run the command again")


@contextmanager
def held(manager: Manager, what: str) -> Iterator[Lock]:
    """Hold the lock on the stack. Raises `Failure` if another client holds it."""
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
            raise Failure(f"cannot create the lock on {manager.stack}: {shell.last_line(made.stderr)}")
        if stale := _stale(manager, name):
            manager.try_("service", "rm", stale, seconds=ANSWER_SECONDS)
    raise Failure(f"cannot get the lock on {manager.stack}: other clients take it first; retry in a minute")


def _stale(manager: Manager, name: str) -> str:
    """The id of a lock without heartbeats; empty if it was removed. Raises `Failure` if its holder is alive."""
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
    """The holder of a lock, as messages name it."""
    labels = json.loads(text.split(" ", 2)[2])
    what, by, at = (labels.get(f"portico.{key}", "?") for key in ("what", "by", "at"))
    return printable(f"{what} by {by}, started {at}")
