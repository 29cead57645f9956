"""One deploy at a time, whoever the clients are: a lock in the swarm that frees itself.

It is a service without replicas: making one of a name is atomic, and its label is written again every few seconds. Who
finds a lock that is not written any more takes it: by its id, so that of two who do, one finds it gone.
"""

from __future__ import annotations

import getpass
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.swarm.manager import Manager

#: Seconds between two signs of life of a lock's holder, and without one after which it is taken to be gone.
BEAT_SECONDS, STALE_SECONDS = 3.0, 20.0
TAKEN = "name conflicts with an existing object"


def who() -> str:
    """The user and machine that this is."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


class Lock:
    """A held lock. ``check`` says whether it still is."""

    def __init__(self, manager: Manager, service: str) -> None:
        self._manager, self._service = manager, service
        self._ended, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        beats = 0
        while not self._ended.wait(BEAT_SECONDS):
            beats += 1
            words = ["service", "update", "--detach", "--quiet", "--label-add", f"portico.beat={beats}", self._service]
            result = self._manager.try_(*words)
            if result.code and "not found" in result.stderr:
                self._lost = True
                return

    def check(self) -> None:
        """Raise `Failure` when somebody has taken the lock."""
        if self._lost:
            raise Failure(
                "the lock was taken by another client, which took this one to be gone; look with `invoke swarm-status`"
            )

    def release(self) -> None:
        """Give it back."""
        self._ended.set()
        self._thread.join()
        self._manager.try_("service", "rm", self._service)


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
            raise Failure(f"{holder(now.stdout)}; repeat when it is done")
    return "" if first.code else first.stdout.split()[0]


def holder(text: str) -> str:
    """Who holds a lock, in words."""
    import json

    labels = json.loads(text.split(" ", 2)[2])
    what, by, at = (labels.get(f"portico.{key}", "?") for key in ("what", "by", "at"))
    return f"another command is changing this stack at this moment: {what} by {by}, begun at {at}"
