"""Services that run once: migrations, static files, management commands. Also deploys a stack file."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.core import running
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.project import limits
from deploy.swarm import ledger
from deploy.swarm.lock import Lock, LockLost, held
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Snapshot
from deploy.swarm.view import ServiceFailed, follow

#: The jobs that run before a release serves, and where they run.
JOBS = {"static": "files, on each node", "release": "migrations, once"}
#: Seconds that a job may take, if not `limits.CONVERGE`.
LIMITS = {"release": limits.MIGRATE}
#: The prefix of the names of jobs that run management commands.
MANAGE = "manage-"
#: The desired states of a task that is still needed, and the states of one that has not ended.
WANTED = ("running", "complete")
AT_WORK = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


# --- A release ---


@dataclass(frozen=True)
class Session:
    """A held lock on a stack, and where progress is reported."""

    manager: Manager
    lock: Lock
    #: Where the log of a failed job is written.
    folder: Path
    notify: Notify

    def change(self, *commands: Run) -> None:
        """Run commands that change something. Raises `LockLost` before a command if the lock is no longer ours."""
        if commands:
            self.lock.confirm()
        for command in commands:
            self.lock.check()
            self.manager.tell(command)

    def clean_up(self) -> None:
        """Remove what no kept release names, while the lock is ours. A failure here must not hide a deploy's result."""
        try:
            self.lock.confirm()
            ledger.prune(self.manager, ledger.read(self.manager), self.lock.check)
        except LockLost:
            pass  # the new holder cleans up
        except Failure as failure:
            self.notify(f"cannot remove old configs and secrets: {failure}; the next deploy removes them")


@contextmanager
def session(manager: Manager, what: str, folder: Path, notify: Notify) -> Iterator[Session]:
    """Hold the lock on the stack. Raises `Failure` if another client holds it."""
    with held(manager, what) as lock:
        yield Session(manager, lock, folder, notify)


def hand_over(held: Session, file: StackFile, before: Snapshot) -> None:
    """Deploy a stack file and wait until its services have converged. Raises `Failure` naming one that does not."""
    held.change(held.manager.stack_deploy(file))
    seconds = {name: LIMITS.get(name, limits.CONVERGE) for name in file.services}
    follow(held.manager, seconds, {task.id for task in before.tasks}, held.lock.check)


def remove_services(held: Session, names: Sequence[str]) -> None:
    """Remove services of the stack. Raises `Failure` if the lock is no longer ours."""
    if names:
        held.change(held.manager.docker("service", "rm", *(f"{held.manager.stack}_{name}" for name in names)))


# --- Jobs ---


def run_jobs(held: Session, file: StackFile, names: Collection[str]) -> None:
    """Run one-shot services at the same time until all end. Raises `Failure` with the reason; a log has the output."""
    for name in names:
        held.notify(f"{name}: {JOBS[name]}")
        clear_job(held, name)
    try:
        hand_over(held, file.only(names), Snapshot())
    except ServiceFailed as failure:
        raise Failure(explained(held.manager, held.folder, failure)) from None


def clear_job(held: Session, name: str) -> None:
    """Remove an earlier job; wait for a migration that still runs because its client was killed.

    Raises `Failure` if it runs longer than a job may.
    """
    deadline = time.monotonic() + LIMITS.get(name, limits.CONVERGE)
    while (job := (snapshot := held.manager.look()).service(name)) is not None:
        if name != "release" or not any(task.state in AT_WORK for task in snapshot.of(job) if task.desired in WANTED):
            remove_services(held, [name])
            return
        if time.monotonic() > deadline:
            service = f"{held.manager.stack}_{name}"
            raise Failure(f"{name}: the job of an earlier deploy still runs; to stop it: `docker service rm {service}`")
        held.lock.check()
        time.sleep(1)


def run_command(manager: Manager, folder: Path, entry: ledger.Release, arguments: Sequence[str]) -> None:
    """Run manage.py once in a release, on any node, and print its output. Raises `Failure` if it fails.

    It does not lock the stack, just as a command in a replica does not: it may take hours, and nobody could deploy
    meanwhile. So each command has a name of its own.
    """
    for name in abandoned(manager.look(), datetime.now(UTC)):
        manager.discard("service", "rm", f"{manager.stack}_{name}")
    name = f"{MANAGE}{secrets.token_hex(4)}"
    try:
        manager.tell(manager.stack_deploy(command_file(entry, name, arguments)))
        follow(manager, {name: limits.COMMAND}, (), lambda: None)
        result = manager.try_("service", "logs", "--raw", f"{manager.stack}_{name}")
        sys.stdout.write(result.stdout)
        sys.stderr.write(result.stderr)
    except ServiceFailed as failure:
        raise Failure(explained(manager, folder, failure, "manage")) from None
    finally:
        manager.discard("service", "rm", f"{manager.stack}_{name}")


def command_file(entry: ledger.Release, name: str, arguments: Sequence[str]) -> StackFile:
    """The stack file of a management command as a job."""
    job = {**entry.file.services["release"], "command": ["python", "manage.py", *arguments]}
    return StackFile({name: job}, entry.file.sections).only([name])


def abandoned(snapshot: Snapshot, now: datetime) -> list[str]:
    """The jobs of management commands whose client was killed: a live client would have timed out by now."""
    begun = (now - timedelta(seconds=limits.COMMAND)).isoformat()
    return [
        each.name
        for each in snapshot.services
        if each.job and each.name.startswith(MANAGE) and (tasks := snapshot.of(each)) and tasks[0].created < begun
    ]


def explained(manager: Manager, folder: Path, failure: ServiceFailed, name: str = "") -> str:
    """Why a job failed, in one line; a log has all of its output. ``name`` is its name in messages."""
    name = name or failure.service
    try:
        result = manager.try_("service", "logs", "--raw", f"{manager.stack}_{failure.service}")
    except Failure:  # report the failure even if its log cannot be read
        return failure.message
    if not result.stdout + result.stderr:
        return failure.message
    return running.explained(name, result, folder)
