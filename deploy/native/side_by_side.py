"""Runs several commands at once under honcho, with a prefix each, until one ends or we are told to stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Mapping

import honcho.manager
from honcho.printer import Message, Printer

from deploy.core.shell import OWNER, Run


class Manager(honcho.manager.Manager):  # type: ignore[misc]
    """honcho's manager, ready for a signal that comes before its processes have told their ids."""

    too_early = False

    def terminate(self) -> None:
        self.too_early = not self._all_started()
        if not self.too_early:
            super().terminate()


class Announcer(Printer):  # type: ignore[misc]
    """honcho's printer. By its first line honcho has forked all that it forks: from then on threads are safe."""

    def __init__(self, when_forked: Callable[[], None]) -> None:
        super().__init__(sys.stdout)
        self.when_forked = when_forked
        self.manager = Manager(self)
        self.thread: threading.Thread | None = None

    def write(self, message: Message) -> None:
        super().write(message)
        if self.thread is None:
            self.thread = threading.Thread(target=self.when_forked, daemon=True)
            self.thread.start()
        if self.manager.too_early:
            self.manager.terminate()


def run(commands: Mapping[str, Run], *, patience: float, when_forked: Callable[[], None]) -> int:
    """Run the commands; returns the exit code of the first that ended, or 128 plus the signal that ended us.

    What has not ended ``patience`` seconds after it was told to is killed. ``when_forked`` runs in a thread meanwhile.
    """
    honcho.manager.KILL_WAIT = patience
    manager = Announcer(when_forked).manager
    for name, command in commands.items():
        # Each ends with us, also when we are killed; a command that somebody pasted has no owner.
        env = {**os.environ, **command.env, OWNER: str(os.getpid())}
        manager.add_process(name, f"exec {shlex.join(command.argv)}", env=env)
    # A closed terminal ends us as Ctrl-C does; honcho itself listens to INT and TERM only.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under `nohup`
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    manager.loop()
    return int(manager.returncode or 0)
