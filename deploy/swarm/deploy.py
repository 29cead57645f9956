"""A release on a swarm, from the work tree to replicas that serve; and the way back.

What it needs is made first: image, configs, secrets, each under a name that stands for its content. Then the jobs:
migrations once, static files on each node. Then the stack file is handed over, and each service followed to its end. If
one fails, all of them go back to the release before: Swarm by itself takes back that one service only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker import images
from deploy.docker import stack as stacks
from deploy.docker.releases import next_number, target
from deploy.docker.stack import DATASTORES, SWARM, Stack, load
from deploy.project.config import Project
from deploy.swarm import ledger
from deploy.swarm.images import build_steps, pin_all, publish, repository
from deploy.swarm.jobs import JOBS, Session, hand_over, remove_services, run_jobs, session
from deploy.swarm.lock import LockLost
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.stack import as_release, guard, insistent, stack_file, wanted
from deploy.swarm.state import Snapshot


@dataclass(frozen=True)
class Options:
    """What was asked of a deploy."""

    #: An image of the registry instead of a new build.
    tag: str = ""
    #: What may be removed although it runs, by the names that `lost` gives.
    remove: Sequence[str] = ()
    #: Take what the registry has now for tags that run already.
    pull: bool = False


def deploy(manager: Manager, stack: Stack, options: Options, notify: Notify) -> None:
    """Put the work tree's release, or an image by its tag, into service.

    Raises `Failure` when that does not succeed; then the release before serves on.
    """
    stacks.check(stack)
    no_containers(manager)
    with session(manager, "a deploy", stack.project.run_folder, notify) as held:
        snapshot = manager.look()
        guard(snapshot, stack_file(stack, {}), options.remove)
        image = publish(manager, stack, options.tag, notify)
        file = stack_file(stack, pin_all(manager, stack, snapshot, image, pull=options.pull))
        entries = ledger.read(manager)
        number = next_number(entries)
        file = as_release(file, number, wanted(stack, snapshot))
        carry_out(held, file, snapshot, entries)
        held.change(ledger.record(manager, number, number, image.revision, file))
        remove_services(held, [name for name in options.remove if ":" not in name])
        held.clean_up()
    notify(f"release {number} serves: {image.pinned}")


def carry_out(held: Session, file: StackFile, before: Snapshot, entries: Sequence[ledger.Release]) -> None:
    """Take a release from its configs to replicas that serve; when that fails, what was made for it is removed."""
    try:
        provide(held, file)
        datastores = [name for name in DATASTORES if name in file.services and not before.service(name)]
        if datastores:
            held.notify(f"start: {', '.join(datastores)}")
            hand_over(held, file.only(datastores), before)
        run_jobs(held, file, JOBS)
        put_into_service(held, file, entries)
    except BaseException:
        held.clean_up()
        raise


def earlier(snapshot: Snapshot, entries: Sequence[ledger.Release], to: str) -> ledger.Release:
    """The release that is named, else the one before the present one. Raises `Failure` without one."""
    return target(entries, to, max((each.release for each in snapshot.services), default=0))


def rollback(manager: Manager, folder: Path, to: str, notify: Notify) -> None:
    """Put an earlier release into service, as the swarm remembers it. Raises `Failure` without one."""
    with session(manager, "a rollback", folder, notify) as held:
        snapshot, entries = manager.look(), ledger.read(manager)
        goal = earlier(snapshot, entries, to)
        number = next_number(entries)
        notify(f"back to {goal.title}")
        file = as_release(goal.file, number, {each.name: each.wanted for each in snapshot.services})
        run_jobs(held, file, ["static"])
        put_into_service(held, file, entries)
        held.change(ledger.record(manager, number, goal.of, goal.revision, file))
        held.clean_up()
    notify(f"release {number} serves: it is release {goal.of} again. Migrations stay as they are")


def no_containers(manager: Manager) -> None:
    """Raise `Failure` when the same stack runs with compose on that engine: ports and volumes would be shared."""
    mine = ["--filter", f"label=com.docker.compose.project={manager.stack}"]
    if manager.ask("ps", "-q", *mine).strip():
        raise Failure(f"{manager.stack} runs there with compose: `invoke down` first; the swarm takes its volumes over")


def provide(held: Session, file: StackFile) -> None:
    """Put the configs and secrets of a file into the swarm, those that are not there yet."""
    there = {kind: held.manager.names(kind) for kind in ("config", "secret")}
    held.change(*provide_steps(held.manager, file, there))


def provide_steps(manager: Manager, file: StackFile, there: Mapping[str, Sequence[str]]) -> list[Run]:
    """The commands that make the configs and secrets that are missing."""
    return [
        manager.create(kind, name, text)
        for kind, texts in (("config", file.configs), ("secret", file.secrets))
        for name, text in texts.items()
        if name not in there.get(kind, [])
    ]


def serving(file: StackFile) -> list[str]:
    """The services that are not over when they have done their work."""
    return [name for name in file.services if name not in JOBS]


def put_into_service(held: Session, file: StackFile, entries: Sequence[ledger.Release]) -> None:
    """Deploy the services of a file; when one fails, all are put back to the last release that served.

    Raises what went wrong first, also when they cannot be put back. Changes nothing more when the lock is lost.
    """
    before = held.manager.look()
    part = file.only(serving(file))
    try:
        hand_over(held, part, before)
    except LockLost:
        raise
    except BaseException as error:
        if not entries:
            raise
        held.notify(f"failed: {error}" if isinstance(error, Failure) else "stopped")
        held.notify(f"put all services back to release {entries[-1].number}")
        try:
            put_back(held, part, before, entries[-1])
        except Failure as failure:
            held.notify(f"they could not be put back: {failure}; `invoke swarm-status` shows what runs")
        raise


def put_back(held: Session, failed: StackFile, before: Snapshot, entry: ledger.Release) -> None:
    """Have the services as they were in a release, with the replicas they had; those that it has not go."""
    file = as_release(entry.file, entry.number, {each.name: each.wanted for each in before.services})
    file = insistent(file.only(serving(file)))
    new = [name for name in failed.services if name not in file.services and not before.service(name)]
    remove_services(held, new)
    hand_over(held, file, held.manager.look())


# --- A dry run ---


def show(manager: Manager, stack: Stack, tag: str) -> None:
    """Print what a deploy would run; images stand there by their tags, as their digests are known only when pushed."""
    name, _, steps = build_steps(manager, stack)
    if tag:
        name, steps = f"{repository(stack.env.image)}:{images.tag(tag)}", []
    file = stack_file(stack, {stack.image: name})
    shell.perform(
        [
            *steps,
            *provide_steps(manager, file, {}),
            manager.stack_deploy(file.only(JOBS)),
            manager.stack_deploy(file.only(serving(file))),
        ],
        dry_run=True,
    )


def rendered(project: Project, tag: str) -> str:
    """The stack file of the work tree as it would be deployed, with the site's image by a tag (`latest` without)."""
    stack = load(project, SWARM)
    name = f"{repository(stack.env.image)}:{images.tag(tag or 'latest')}"
    return stack_file(stack, {stack.image: name}).text
