"""Keeps one command of the native runtime running: restarts it when code changes, stops it with `invoke dev`.

    python -m deploy.native.reloader --watch FOLDER --grace SECONDS -- COMMAND…

The command runs in FOLDER, which is the folder of manage.py.

With PORTICO_OWNER in its environment, it exits as soon as no process has that id.

The command leads its own session, so that a signal to our process group reaches only us. Celery finishes its tasks if
TERM reaches only its main process, and loses them if the pool gets it too.
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

#: Milliseconds between two checks of the child and the owner.
CHECK_INTERVAL = 500
#: A command that fails after this many seconds is restarted; one that fails earlier is not.
STEADY_SECONDS = 10
#: Seconds for Celery's cold shutdown, which follows the grace period and returns running tasks to the queue.
COLD_SECONDS = 5


def owner_is_alive(pid: int) -> bool:
    """Whether the owner's process still exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def notify(line: str) -> None:
    """Print a line among the command's output."""
    print(line, flush=True)


class Keeper:
    """One command, and the child that currently runs it."""

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
        self._kill_session()

    def _kill_session(self) -> None:
        """Kill the rest of the child's session, such as Celery's pool after a `kill -9` of its main process."""
        if self.child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            self.child = None

    def restart(self) -> None:
        self.end()
        self.changed = True
        self.start()

    def check(self) -> int | None:
        """Restart the child if it has ended; returns an exit code for us if it must not be restarted."""
        code = self.child.poll() if self.child else None
        if code is None:
            return None
        steady = time.monotonic() - self.began > STEADY_SECONDS
        self._kill_session()
        if code < 0 or (steady and code):
            notify(f"ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}; restarting it")
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
    # The site gets the kit, but not our import path: it may have a package with the same name as one of ours.
    kit = {"PYTHONPATH": str(Path(__file__).resolve().parents[1] / "kit")}
    keeper = Keeper(Run(options.command, kit, cwd=options.watch), options.grace)
    try:
        keeper.start()
        changes = watch(
            options.watch,
            watch_filter=PythonFilter(),
            debounce=200,
            rust_timeout=CHECK_INTERVAL,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        )
        for change in changes:
            if owner and not owner_is_alive(owner):
                break
            if change:
                files = sorted({Path(path).name for _, path in change})
                notify(f"{', '.join(files[:3])}{' …' if len(files) > 3 else ''} changed; restarting")
                keeper.restart()
            elif (code := keeper.check()) is not None:
                return code
    finally:
        keeper.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
