"""Services that run once: migrations, static files, management commands; and handing a stack file over."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Say, explain
from deploy.core.shell import MakeFolder, Run, Write
from deploy.project import limits
from deploy.swarm.lock import Lock, held
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Snapshot
from deploy.swarm.view import ServiceFailed, follow

#: What runs once, before anything of a release serves, and where.
JOBS = {"static": "files, on each node", "release": "migrations, once"}
#: States of a task that has not come to its end.
WANTED = ("running", "complete")
AT_WORK = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


# --- A release ---


@dataclass(frozen=True)
class Session:
    """A held lock on a stack, and where to tell of what goes on under it."""

    manager: Manager
    lock: Lock
    #: Where the log of a job that failed is laid.
    folder: Path
    say: Say

    def change(self, *commands: Run) -> None:
        """Run commands that change the stack. Raises `Failure` when the lock is no longer ours, and when one fails."""
        if commands:
            self.lock.confirm()
        for command in commands:
            self.manager.tell(command)


@contextmanager
def session(manager: Manager, what: str, folder: Path, say: Say) -> Iterator[Session]:
    """Hold the stack. Raises `Failure` when another client does."""
    with held(manager, what) as lock:
        yield Session(manager, lock, folder, say)


def hand_over(held: Session, file: StackFile, before: Snapshot, seconds: float = limits.CONVERGE) -> None:
    """Deploy a file, and return when its services are as it says, within so many ``seconds``.

    Raises `Failure` naming the one that is not.
    """
    held.change(held.manager.stack_deploy(file))
    follow(held.manager, list(file.services), {task.id for task in before.tasks}, held.lock.check, seconds)


def remove_services(held: Session, names: Sequence[str]) -> None:
    """Remove services of the stack. Raises `Failure` when the lock is no longer ours."""
    if names:
        held.change(held.manager.docker("service", "rm", *(f"{held.manager.stack}_{name}" for name in names)))


# --- Jobs ---


def run_jobs(held: Session, file: StackFile, names: Collection[str]) -> None:
    """Run one-shot services to their end, at once. Raises `Failure` with the reason; all it said is then in a log."""
    for name in names:
        held.say(f"{name}: {JOBS[name]}")
        clear_job(held, name)
    try:
        hand_over(held, file.only(names), Snapshot(), limits.MIGRATE)
    except ServiceFailed as failure:
        raise Failure(explained(held.manager, held.folder, failure)) from None


def clear_job(held: Session, name: str) -> None:
    """Remove a job of before; a migration that still runs, because its client was killed, is waited for.

    Raises `Failure` when that takes longer than a migration may.
    """
    deadline = time.monotonic() + limits.MIGRATE
    while (job := (snapshot := held.manager.look()).service(name)) is not None:
        if name == "static" or not any(task.state in AT_WORK for task in snapshot.of(job) if task.desired in WANTED):
            remove_services(held, [name])
            return
        held.lock.check()
        if time.monotonic() > deadline:
            raise Failure(
                f"{name}: one of an earlier deploy still runs: `docker service rm {held.manager.stack}_{name}`"
            )
        time.sleep(1)


def run_command(manager: Manager, job: Mapping[str, Any], file: StackFile, arguments: Sequence[str]) -> None:
    """Run manage.py once, somewhere, as a service of its own; its output is ours. Raises `Failure` when it fails.

    It needs no lock: it changes no service of the stack, and each has its own name.
    """
    name = f"manage_{secrets.token_hex(4)}"
    once = StackFile({name: {**job, "command": ["python", "manage.py", *arguments]}}, file.sections)
    try:
        manager.tell(manager.stack_deploy(once))
        follow(manager, [name], [], lambda: None, limits.COMMAND)
    except ServiceFailed as failure:
        raise Failure(f"manage.py: {failure.message.partition(': ')[2]}; what it said is above") from None
    finally:
        said = manager.try_("service", "logs", "--raw", f"{manager.stack}_{name}")
        sys.stdout.write(said.stdout)
        sys.stderr.write(said.stderr)
        manager.try_("service", "rm", f"{manager.stack}_{name}")


def explained(manager: Manager, folder: Path, failure: ServiceFailed) -> str:
    """Why a job failed, in one line; all that it said is in a log."""
    name = failure.service
    result = manager.try_("service", "logs", "--raw", f"{manager.stack}_{name}")
    if not result.stdout + result.stderr:
        return failure.message
    log = folder / f"{name}.log"
    shell.perform([MakeFolder(folder), Write(log, result.stdout + result.stderr)])
    return f"{name}: {explain(result.stdout, result.stderr)}; all of it is in {log}"
