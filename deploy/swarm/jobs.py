"""Services that run once: migrations, static files, management commands; and handing a stack file over."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Say, explain
from deploy.core.shell import MakeFolder, Write
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


@contextmanager
def session(manager: Manager, what: str, folder: Path, say: Say) -> Iterator[Session]:
    """Hold the stack. Raises `Failure` when another client does."""
    with held(manager, what) as lock:
        yield Session(manager, lock, folder, say)


def hand_over(held: Session, file: StackFile, before: Snapshot) -> None:
    """Deploy a file, and return when its services are as it says. Raises `Failure` naming the one that is not."""
    held.lock.check()
    held.manager.tell(held.manager.stack_deploy(file))
    follow(held.manager, list(file.services), {task.id for task in before.tasks}, held.lock.check)


def remove_services(manager: Manager, names: Sequence[str]) -> None:
    if names:
        manager.tell(manager.docker("service", "rm", *(f"{manager.stack}_{name}" for name in names)))


# --- Jobs ---


def run_jobs(held: Session, file: StackFile, names: Collection[str]) -> None:
    """Run one-shot services to their end, at once. Raises `Failure` with the reason; all it said is then in a log."""
    for name in names:
        held.say(f"{name}: {JOBS.get(name, 'once')}")
        clear_job(held, name)
    try:
        hand_over(held, file.only(names), Snapshot())
    except ServiceFailed as failure:
        raise Failure(explained(held, failure)) from None


def clear_job(held: Session, name: str) -> None:
    """Remove a job of before; a migration that still runs, because its client was killed, is waited for."""
    while (job := (snapshot := held.manager.look()).service(name)) is not None:
        if name == "static" or not any(task.state in AT_WORK for task in snapshot.of(job) if task.desired in WANTED):
            remove_services(held.manager, [name])
            return
        held.lock.check()
        time.sleep(1)


def explained(held: Session, failure: ServiceFailed) -> str:
    """Why a job failed, in one line; all that it said is in a log."""
    name = failure.service
    result = held.manager.try_("service", "logs", "--raw", f"{held.manager.stack}_{name}")
    if not result.stdout + result.stderr:
        return failure.message
    log = held.folder / f"{name}.log"
    shell.perform([MakeFolder(held.folder), Write(log, result.stdout + result.stderr)])
    return f"{name}: {explain(result.stdout, result.stderr)}; all of it is in {log}"
