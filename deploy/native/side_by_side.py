"""Runs several commands in parallel under honcho, until one ends or we are stopped."""

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
    """honcho's manager, extended to accept a signal before all its processes have reported their ids."""

    too_early = False

    def terminate(self) -> None:
        self.too_early = not self._all_started()
        if not self.too_early:
            super().terminate()


class Announcer(Printer):  # type: ignore[misc]
    """honcho's printer. At its first line, honcho has forked all processes; from then on, threads are safe."""

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
    """Run the commands; returns the exit code of the first that ended, or 128 plus the signal that stopped us.

    A process that has not ended ``patience`` seconds after it was told to is killed. ``when_forked`` runs in a thread.
    """
    honcho.manager.KILL_WAIT = patience
    manager = Announcer(when_forked).manager
    for name, command in commands.items():
        # With an owner, each stops when we end, even if we are killed. A command pasted from a dry run has none.
        env = {**os.environ, **command.env, OWNER: str(os.getpid())}
        manager.add_process(name, f"exec {shlex.join(command.argv)}", env=env)
    # Make a closed terminal stop us as Ctrl-C does; honcho itself handles INT and TERM only.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under `nohup`
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    manager.loop()
    return int(manager.returncode or 0)
