"""Keeps one command of the native runtime running: restarted when the code changes, stopped with `invoke dev`.

    python -m deploy.native.reloader --watch FOLDER --grace SECONDS -- COMMAND…

With PORTICO_OWNER in its environment it ends as soon as there is no process of that id.

The command leads a session of its own, so that a signal to our group reaches only us: Celery finishes its tasks when
TERM comes to its main process alone, and loses them when the pool gets it too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from watchfiles import PythonFilter, watch

from deploy.core import shell
from deploy.core.shell import OWNER, Run

#: Milliseconds between two looks at the child and the owner.
LOOK = 500
#: A command that ran for this many seconds and then fails is started again; one that fails at once is not.
STEADY_SECONDS = 10
#: Seconds for Celery's cold shutdown, which follows when the grace is over and puts running tasks back.
COLD_SECONDS = 5


def owner_lives(pid: int) -> bool:
    """Whether the process that all this belongs to is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def notify(line: str) -> None:
    """A line among the command's own."""
    print(line, flush=True)


class Keeper:
    """One command and the child that runs it at present."""

    def __init__(self, command: Run, grace: float) -> None:
        self.command = command
        self.grace = grace
        self.child: subprocess.Popen[str] | None = None
        self.began = 0.0
        self.changed = False

    def start(self) -> None:
        self.child = shell.start(self.command, own_session=True)
        self.began = time.monotonic()

    def end(self) -> None:
        """Stop the child: TERM, after the grace period QUIT, then KILL."""
        if self.child is None:
            return
        for number, seconds in ((signal.SIGTERM, self.grace), (signal.SIGQUIT, COLD_SECONDS)):
            self.child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(seconds)
                break
        self._sweep()

    def _sweep(self) -> None:
        """Kill what is left of the child's session: after a `kill -9` of Celery's main process, its pool."""
        if self.child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            self.child = None

    def restart(self) -> None:
        self.end()
        self.changed = True
        self.start()

    def look(self) -> int | None:
        """The exit code to end with if the child has failed for good; otherwise sees to it that it runs."""
        code = self.child.poll() if self.child else None
        if code is None:
            return None
        steady = time.monotonic() - self.began > STEADY_SECONDS
        self._sweep()
        if code < 0 or (steady and code):
            notify(f"ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}; starting it again")
            time.sleep(1)
            self.start()
        elif self.changed:
            notify(f"ended with exit code {code}; waiting for the code to change")
        else:
            return code or 1
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="reloader", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--watch", type=Path, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    owner = int(os.environ.get(OWNER, "0"))

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    # Our import path is not the site's, which may have a package of the same name as one of ours.
    keeper = Keeper(Run(options.command, {"PYTHONPATH": ""}), options.grace)
    try:
        keeper.start()
        changes = watch(
            options.watch,
            watch_filter=PythonFilter(),
            debounce=200,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        )
        for change in changes:
            if owner and not owner_lives(owner):
                break
            if change:
                files = sorted({Path(path).name for _, path in change})
                notify(f"{', '.join(files[:3])}{' …' if len(files) > 3 else ''} changed; starting again")
                keeper.restart()
            elif (code := keeper.look()) is not None:
                return code
    finally:
        keeper.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
