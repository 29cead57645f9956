"""One deploy at a time, whoever the clients are: a lock in the swarm that frees itself.

It is a service without replicas: making one of a name is atomic, and its label is written again every few seconds. Who
finds a lock that is not written any more takes it over: by its id, so that of two who do, one finds it gone.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import printable, who
from deploy.swarm.manager import Manager

#: Seconds between two signs of life of a lock's holder, and without one after which others take it over.
BEAT_SECONDS, STALE_SECONDS = 3.0, 20.0
#: Seconds since its last sign of life after which the holder itself takes the lock for lost: before others may.
OWN_SECONDS = STALE_SECONDS - BEAT_SECONDS
#: Seconds for one sign of life; one that hangs is given up, and the next one tried.
SIGN_SECONDS = 10.0
TAKEN = "name conflicts with an existing object"


def clock() -> float:
    """Seconds that go on while this machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


class Lock:
    """A held lock. ``check`` says whether it still is."""

    def __init__(self, manager: Manager, service: str) -> None:
        self._manager, self._service = manager, service
        self._ended, self._lost, self._signed = threading.Event(), False, clock()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether it was taken over, or may have been: this machine slept, or the manager did not answer for long."""
        return self._lost or clock() - self._signed > OWN_SECONDS

    def _beat(self) -> None:
        beats = 0
        while not self._ended.wait(BEAT_SECONDS):
            beats += 1
            words = ["service", "update", "--detach", "--quiet", "--label-add", f"portico.beat={beats}", self._service]
            began = clock()
            with suppress(Failure):  # no answer: `_signed` grows old by itself
                result = self._manager.try_(*words, seconds=SIGN_SECONDS)
                if not result.code:
                    self._signed = began
                elif "not found" in result.stderr:
                    self._lost = True
                    return

    def check(self) -> None:
        """Raise `Failure` when somebody has taken the lock over, or may have."""
        if self.is_lost:
            raise Failure(
                "another client took over the lock, or could have, because this one stopped responding: nothing more is"
                " done here; look with `invoke swarm-status`"
            )

    def confirm(self) -> None:
        """Ask the swarm, before a change, whether the lock is still ours. Raises `Failure` when it is not."""
        self.check()
        asked = self._manager.try_("service", "inspect", "--format", "{{.ID}}", self._service)
        if asked.code and "no such service" in asked.stderr.lower():
            self._lost = True
        self.check()
        if asked.code:
            raise Failure(f"the manager does not say who holds the lock: {shell.last_line(asked.stderr)}")

    def release(self) -> None:
        """Give it back, unless it was lost; what cannot be given back frees itself."""
        self._ended.set()
        self._thread.join(SIGN_SECONDS + BEAT_SECONDS)
        with suppress(Failure):
            self._manager.try_("service", "rm", self._service, seconds=SIGN_SECONDS)


@contextmanager
def held(manager: Manager, what: str) -> Iterator[Lock]:
    """Hold the stack's lock. Raises `Failure` when another client does."""
    lock = Lock(manager, _take(manager, what))
    try:
        yield lock
    finally:
        lock.release()


def _take(manager: Manager, what: str) -> str:
    name = f"{manager.stack}_lock"
    labels = {"portico.what": what, "portico.by": who(), "portico.at": datetime.now(UTC).isoformat(timespec="seconds")}
    marks = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    words = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--replicas", "0", *marks]
    while True:
        made = manager.try_(*words, "--name", name, "lock")
        if not made.code:
            return made.stdout.strip()
        if TAKEN not in made.stderr:
            raise Failure(f"the lock of {manager.stack} cannot be made: {shell.last_line(made.stderr)}")
        if stale := _stale(manager, name):
            manager.try_("service", "rm", stale)


def _stale(manager: Manager, name: str) -> str:
    """The id of a lock whose holder gives no sign of life; empty when it has gone. Raises `Failure` when it lives."""
    shown = "{{.ID}} {{.Version.Index}} {{json .Spec.Labels}}"
    first = manager.try_("service", "inspect", "--format", shown, name)
    deadline = time.monotonic() + STALE_SECONDS
    while not first.code and time.monotonic() < deadline:
        time.sleep(1)
        now = manager.try_("service", "inspect", "--format", shown, name)
        if now.code or now.stdout.split()[0] != first.stdout.split()[0]:
            return ""
        if now.stdout.split()[1] != first.stdout.split()[1]:
            raise Failure(f"{holder(now.stdout)} holds the lock on {manager.stack}; retry when it has finished")
    return "" if first.code else first.stdout.split()[0]


def holder(text: str) -> str:
    """Who holds a lock, in words."""
    labels = json.loads(text.split(" ", 2)[2])
    what, by, at = (labels.get(f"portico.{key}", "?") for key in ("what", "by", "at"))
    return printable(f"{what} by {by}, started {at},")
