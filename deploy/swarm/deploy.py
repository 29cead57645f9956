"""Deploy a release to a swarm, and roll it back.

A deploy first creates the image, the configs and the secrets, each under a name derived from its content. Then the jobs
run: migrations once, static files on each node. Then it deploys the stack file and follows each service until it has
converged. If one service fails, all of them return to the previous release: Swarm itself rolls back only that service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker import additions, images
from deploy.docker import stack as stacks
from deploy.docker.dotenv import load
from deploy.docker.releases import next_number, target
from deploy.docker.stack import DATASTORES, SWARM, Stack
from deploy.project import hooks
from deploy.project.config import Project
from deploy.project.workers import is_worker
from deploy.swarm import ledger, owner
from deploy.swarm.images import Image, build_steps, pin_all, publish, repository, serving_from
from deploy.swarm.jobs import JOBS, Session, hand_over, remove_services, run_jobs, session
from deploy.swarm.lock import LockLost
from deploy.swarm.maintenance import holding, remarks
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.stack import as_release, guard, stack_file, wanted, without_rollback
from deploy.swarm.state import Snapshot
from deploy.swarm.uploads import require_place


@dataclass(frozen=True)
class Options:
    """The options of a deploy."""

    #: The tag of an image in the registry; empty for a new build.
    tag: str = ""
    #: What may be removed while it runs, by the names that `lost` returns.
    remove: Sequence[str] = ()
    #: Pull images again whose tags are running already.
    pull: bool = False


def deploy(manager: Manager, stack: Stack, options: Options, notify: Notify) -> None:
    """Deploy the work tree, or an image by its tag.

    Raises `Failure` if the deploy fails; the previous release then keeps running.
    """
    stacks.check(stack)
    root, name = stack.project.root, options.tag or git.revision(stack.project.root).tag
    hooks.run(stack.env.hook_before, root, stack.place, name, key="HOOK_BEFORE", after=False)
    additions.services(stack)
    additions.require_nginx(stack, manager.engine)
    no_containers(manager)
    with session(manager, "a deploy", stack.project.run_folder, notify) as held:
        snapshot = manager.look()
        owner.require_own(snapshot, stack)
        wished = stack_file(stack, {})
        guard(snapshot, wished, options.remove)
        require_place(stack.project.media, snapshot.nodes, wished.sections["volumes"])
        image = image_of(manager, stack, options, snapshot, notify)
        file = stack_file(stack, pin_all(manager, stack, snapshot, image, pull=options.pull))
        entries = ledger.read(manager)
        number = next_number(entries)
        file = as_release(file, number, wanted(stack, snapshot))
        file = owner.marked(file, git.roots(stack.project.root) or owner.recorded(snapshot))
        carry_out(held, holding(file, snapshot), snapshot, entries)
        held.change(ledger.record(manager, number, number, image.revision, file))
        remove_services(held, [name for name in options.remove if ":" not in name])
        held.clean_up()
    notify("; ".join([f"release {number} serves: {image.pinned}", *remarks(snapshot, stack)]))
    hooks.run(stack.env.hook_after, root, stack.place, name, key="HOOK_AFTER", after=True)


def image_of(manager: Manager, stack: Stack, options: Options, snapshot: Snapshot, notify: Notify) -> Image:
    """The image to deploy: that which serves if nothing but `.env` has changed, unless `--pull` asks for newer ones."""
    same = (
        None
        if options.tag or options.pull
        else serving_from(stack.env.image, git.revision(stack.project.root), snapshot)
    )
    if same:
        notify(f"{same.pinned} serves already: no build")
    return same or publish(manager, stack, options.tag, notify)


def carry_out(held: Session, file: StackFile, before: Snapshot, entries: Sequence[ledger.Release]) -> None:
    """Carry out the steps of a release, from its configs to its services. On failure, remove what it created."""
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
    """The release that ``to`` names, else the one before the current one. Raises `Failure` if there is none."""
    return target(entries, to, max((each.release for each in snapshot.services), default=0))


def rollback(manager: Manager, folder: Path, to: str, notify: Notify) -> None:
    """Deploy an earlier release again, from the swarm's own record. Raises `Failure` if there is none."""
    with session(manager, "a rollback", folder, notify) as held:
        snapshot, entries = manager.look(), ledger.read(manager)
        goal = earlier(snapshot, entries, to)
        number = next_number(entries)
        notify(f"back to {goal.title}")
        file = as_release(goal.file, number, {each.name: each.wanted for each in snapshot.services})
        run_jobs(held, file, ["static"])
        put_into_service(held, holding(file, snapshot), entries)
        # Kinds of workers that the release has not: they would go on with the code that was rolled back.
        remove_services(
            held, [each.name for each in snapshot.services if is_worker(each.name) and each.name not in file.services]
        )
        held.change(ledger.record(manager, number, goal.of, goal.revision, file))
        held.clean_up()
    notify(f"release {number} serves: it repeats release {goal.of}. Migrations are not reverted")


def no_containers(manager: Manager) -> None:
    """Raise `Failure` if the same stack runs with compose on that engine: both would use the same ports and volumes."""
    mine = ["--filter", f"label=com.docker.compose.project={manager.stack}"]
    if manager.ask("ps", "-q", *mine).strip():
        raise Failure(f"{manager.stack} runs there with compose: run `invoke down` first; the swarm reuses its volumes")


def provide(held: Session, file: StackFile) -> None:
    """Create the configs and secrets of a file that the swarm does not have yet."""
    there = {kind: held.manager.names(kind) for kind in ("config", "secret")}
    held.change(*provide_steps(held.manager, file, there))


def provide_steps(manager: Manager, file: StackFile, there: Mapping[str, Sequence[str]]) -> list[Run]:
    """The commands that create the missing configs and secrets."""
    return [
        manager.create(kind, name, text)
        for kind, texts in (("config", file.configs), ("secret", file.secrets))
        for name, text in texts.items()
        if name not in there.get(kind, [])
    ]


def serving(file: StackFile) -> list[str]:
    """The services that keep running, unlike jobs."""
    return [name for name in file.services if name not in JOBS]


def put_into_service(held: Session, file: StackFile, entries: Sequence[ledger.Release]) -> None:
    """Deploy the services of a file. If one fails, restore all of them to the last release that served.

    Raises the first error, even if the restore fails too. Changes nothing more once the lock is lost.
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
        held.notify(f"restoring all services to release {entries[-1].number}")
        try:
            restore(held, part, before, entries[-1])
        except Failure as failure:
            held.notify(f"cannot restore the services: {failure}; `invoke swarm-status` shows what runs")
        raise


def restore(held: Session, failed: StackFile, before: Snapshot, entry: ledger.Release) -> None:
    """Restore the services of a release, with the replicas they had; remove services that it does not define."""
    file = as_release(entry.file, entry.number, {each.name: each.wanted for each in before.services})
    file = holding(without_rollback(file.only(serving(file))), before)
    new = [name for name in failed.services if name not in file.services and not before.service(name)]
    remove_services(held, new)
    hand_over(held, file, held.manager.look())


# --- A dry run ---


def show(manager: Manager, stack: Stack, tag: str) -> None:
    """Print the commands of a deploy. It names images by their tags: a digest is known only after the push."""
    name, _, steps = build_steps(manager, stack)
    if tag:
        name, steps = f"{repository(stack.env.image)}:{images.tag(tag)}", []
    file = stack_file(stack, {stack.image: name})
    about = (stack.project.root, stack.place, tag or git.revision(stack.project.root).tag)
    shell.perform(
        [
            *hooks.steps(stack.env.hook_before, *about),
            *steps,
            *provide_steps(manager, file, {}),
            manager.stack_deploy(file.only(JOBS)),
            manager.stack_deploy(file.only(serving(file))),
            *hooks.steps(stack.env.hook_after, *about),
        ],
        dry_run=True,
    )


def rendered(project: Project, tag: str) -> str:
    """The stack file of the work tree as it would be deployed, with the site's image by a tag (`latest` without)."""
    stack = load(project, SWARM)
    name = f"{repository(stack.env.image)}:{images.tag(tag or 'latest')}"
    return stack_file(stack, {stack.image: name}).text
