"""A release on a swarm, from the work tree to replicas that serve; and the way back.

What it needs is made first: image, configs, secrets, each under a name that stands for its content. Then the jobs:
migrations once, static files on each node. Then the stack file is handed over, and each service followed to its end. If
one fails, all of them go back to the release before: Swarm by itself takes back that one service only.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy import doctor
from deploy.compose import rollout
from deploy.compose.operate import DATASTORES, DEFAULT_REPLICAS, Say, Stack, build_ca
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import explain
from deploy.core.shell import MakeFolder, Run, Write
from deploy.docker import images
from deploy.project import proxy
from deploy.swarm import ledger, render
from deploy.swarm.lock import Lock, held
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import RELEASE, Snapshot, lost
from deploy.swarm.view import ServiceFailed, follow

#: Where images are kept when IMAGE names no registry: on the one node, for itself alone. `swarm-init` starts it.
LOCAL_REGISTRY = "127.0.0.1:5000"
#: What runs once, before anything of a release serves, and where.
JOBS = {"static": "files, on each node", "release": "migrations, once"}
#: States of a task that has not come to its end.
WANTED = ("running", "complete")
AT_WORK = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")
#: What stands in for a certificate where there is none: a swarm takes no empty file.
NO_CERTIFICATE = "# no certificate\n"


@dataclass(frozen=True)
class Image:
    """An image by its digest, and the revision that it was built of."""

    pinned: str
    revision: str


# --- What is to run ---


def document(stack: Stack) -> dict[str, Any]:
    """The compose files and `.env` as one document. Raises `Failure` with what Compose finds wrong."""
    result = shell.run(stack.compose("config", "--format", "json"), capture=True, check=False)
    if result.code:
        raise Failure(f"deploy/compose: {shell.last_line(result.stderr)}")
    found: dict[str, Any] = json.loads(result.stdout)
    return without(found, external(stack))


def external(stack: Stack) -> list[str]:
    """The services that `.env` replaces by an address."""
    given = {"postgres": stack.env.database_url, "rabbitmq": stack.env.celery_broker_url}
    return [name for name, url in given.items() if url]


def without(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A document without some of its services."""
    services = {name: each for name, each in document["services"].items() if name not in names}
    return {**document, "services": services}


def contents(stack: Stack, document: Mapping[str, Any]) -> dict[str, str]:
    """The text of each file that the document names. Raises `Failure` for one that cannot be read."""
    folder = stack.secrets
    made = {str(folder / name): text for name, text in stack.env.secret_files().items()}
    made |= {str(folder / "swarm" / name): text for name, text in proxy.runtime_files(stack.front(), proxy.ALL).items()}
    pair = {"tls.crt": stack.env.tls_certificate, "tls.key": stack.env.tls_key}
    elsewhere = {str(folder / "swarm" / name): path for name, path in pair.items() if path}
    made |= {str(folder / "swarm" / name): NO_CERTIFICATE for name, path in pair.items() if not path}
    return {
        name: made[name] if name in made else read(elsewhere.get(name, Path(name)))
        for name in render.referenced(document)
    }


def read(path: Path) -> str:
    """The text of a config or secret. Raises `Failure` when there is none."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "is no text"
        raise Failure(f"{path}: {why}; a config or secret names it") from None


def stack_file(stack: Stack, pinned: Mapping[str, str]) -> StackFile:
    """The stack file of the work tree. Raises `Failure` naming what a swarm cannot do, or does not take."""
    found = document(stack)
    file = render.render(found, stack.name, contents(stack, found), pinned)
    checked = shell.run(Run(["docker", "stack", "config", "-c", "-"], input=file.text), capture=True, check=False)
    if checked.code:
        raise Failure(f"docker stack config does not take the stack file: {shell.last_line(checked.stderr)}")
    return file


def as_release(file: StackFile, number: int, replicas: Mapping[str, int]) -> StackFile:
    """A stack file whose services are marked with a release, with so many replicas of those that are scaled."""
    services = {}
    for name, service in file.services.items():
        deploy = service.get("deploy") or {}
        deploy = {**deploy, "labels": {**(deploy.get("labels") or {}), RELEASE: str(number)}}
        if name in replicas and name in DEFAULT_REPLICAS:
            deploy["replicas"] = replicas[name]
        services[name] = {**service, "deploy": deploy}
    return replace(file, services=services)


def wanted(stack: Stack, snapshot: Snapshot) -> dict[str, int]:
    """How many replicas of what can be scaled: as `.env` says, else as many as were asked for, else the default."""
    named = {"app": stack.env.app_replicas, "celery_worker": stack.env.worker_replicas}
    running = {service.name: service.wanted for service in snapshot.services}
    return {name: named[name] or running.get(name) or number for name, number in DEFAULT_REPLICAS.items()}


def guard(snapshot: Snapshot, file: StackFile, remove: Sequence[str]) -> None:
    """Raise `Failure` when something runs that the file does not have, and nobody said that it is to go."""
    gone = lost(snapshot, file.services, file.secrets, DATASTORES)
    if unknown := [name for name in remove if name not in gone]:
        raise Failure(f"--remove {', '.join(unknown)}: the files still have it, or nothing of that name runs")
    if forgotten := [name for name in gone if name not in remove]:
        raise Failure(
            f"{', '.join(forgotten)}: runs, but the files or .env have it no more. Was a file cut short, a value"
            f" forgotten, is this another's .env? If it is to go: --remove {','.join(gone)}"
        )


# --- Images ---


def repository(image: str) -> str:
    """Where an image is pushed to: its own registry, else the one that the only node keeps for itself."""
    return image if "/" in image else f"{LOCAL_REGISTRY}/{image}"


def builder(manager: Manager, image: str) -> Manager:
    """The engine that builds: this machine's, unless it has none or the image never leaves the node."""
    return replace(manager, engine={}) if "/" in image and doctor.engine() else manager


def on(manager: Manager, command: Run) -> Run:
    """A command for the engine of a manager."""
    return replace(command, env={**command.env, **manager.engine})


def build_steps(manager: Manager, stack: Stack) -> tuple[str, images.Revision, list[Run]]:
    """What builds the work tree and pushes it: the image's name, its revision, the commands."""
    version = images.revision(stack.project.root)
    name = f"{repository(stack.env.image)}:{version.tag}"
    where = builder(manager, stack.env.image)
    build = images.build(stack.project, "app", [name], version, ca=build_ca(stack.env))
    return name, version, [on(where, build), where.docker("push", "--quiet", name)]


def publish(manager: Manager, stack: Stack, tag: str, say: Say) -> Image:
    """Build and push the work tree, or take an image of the registry by its tag."""
    need_reach(manager, stack)
    if tag:
        name = f"{repository(stack.env.image)}:{images.tag(tag)}"
        return Image(pin(manager, name), tag)
    name, version, (build, push) = build_steps(manager, stack)
    say(f"build and push {name}")
    shell.run(build)
    result = shell.run(push, capture=True, check=False)
    if result.code:
        registry = name.partition("/")[0]
        why = shell.last_line(result.stderr)
        raise Failure(f"{name} cannot be pushed: {why}; `docker login {registry}` signs you in")
    return Image(digest_of(builder(manager, stack.env.image), name), version.name)


def need_reach(manager: Manager, stack: Stack) -> None:
    """Raise `Failure` when nodes could not get the image: it is in no registry that all of them reach."""
    if "/" not in stack.env.image and len(manager.nodes()) > 1:
        raise Failure(
            f"IMAGE is {stack.env.image!r} in .env, but this swarm has several nodes: put a registry before it that all"
            " of them reach, as registry.example.org/portico"
        )


def pin(manager: Manager, name: str) -> str:
    """Name and digest of an image in a registry, as the manager sees it. Raises `Failure` when it is in none."""
    result = manager.try_("pull", "--quiet", name)
    if result.code:
        raise Failure(f"{name} cannot be pulled: {shell.last_line(result.stderr)}")
    return digest_of(manager, name)


def digest_of(manager: Manager, name: str) -> str:
    said = manager.try_("image", "inspect", "--format", "{{json .RepoDigests}}", name).stdout
    return with_digest(name, json.loads(said or "[]"))


def with_digest(name: str, digests: Sequence[str]) -> str:
    """``NAME:TAG@sha256:…`` of an image's digests. Raises `Failure` when it has none of that name's registry."""
    repository = re.sub(r":[^:/]+$", "", name)
    short = {repository, repository.removeprefix("docker.io/").removeprefix("library/")}
    for each in digests:
        where, _, digest = each.partition("@")
        if where in short:
            return f"{name}@{digest}"
    raise Failure(f"{name} has no digest: it is in no registry, so nodes cannot get it")


def pin_all(manager: Manager, stack: Stack, snapshot: Snapshot, image: Image, *, pull: bool) -> dict[str, str]:
    """The images of the document, each with its digest.

    What runs already under the same name and tag is kept, so that a release of the site never replaces a database
    whose tag has moved; ``pull`` takes what the registry has now.
    """
    found = {service["image"] for service in document(stack)["services"].values()} - {stack.image}
    running = (
        {} if pull else {each.image.partition("@")[0]: each.image for each in snapshot.services if "@" in each.image}
    )
    missing = sorted(found - set(running))
    with ThreadPoolExecutor() as pool:
        pulled = dict(zip(missing, pool.map(lambda name: pin(manager, name), missing), strict=True))
    return {stack.image: image.pinned, **{name: running[name] for name in found & set(running)}, **pulled}


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


@dataclass(frozen=True)
class Wish:
    """What was asked of a deploy."""

    #: An image of the registry instead of a new build.
    tag: str = ""
    #: What may go though it runs, by the names that `lost` gives.
    remove: Sequence[str] = ()
    #: Take what the registry has now for tags that run already.
    pull: bool = False


def deploy(manager: Manager, stack: Stack, wish: Wish, say: Say) -> None:
    """Put the work tree's release, or an image by its tag, into service.

    Raises `Failure` when that does not succeed; then the release before serves on.
    """
    rollout.check(stack)
    no_containers(manager)
    with session(manager, "a deploy", stack.project.run_folder, say) as held:
        snapshot = manager.look()
        guard(snapshot, stack_file(stack, {}), wish.remove)
        image = publish(manager, stack, wish.tag, say)
        file = stack_file(stack, pin_all(manager, stack, snapshot, image, pull=wish.pull))
        entries = ledger.read(manager)
        number = ledger.next_number(entries)
        file = as_release(file, number, wanted(stack, snapshot))
        try:
            provide(manager, file)
            datastores = [name for name in DATASTORES if name in file.services and not snapshot.service(name)]
            if datastores:
                say(f"start: {', '.join(datastores)}")
                hand_over(held, file.only(datastores), snapshot)
            run_jobs(held, file, JOBS)
            put_into_service(held, file, entries)
        except BaseException:
            ledger.prune(manager, entries)
            raise
        ledger.add(manager, number, number, image.revision, file)
        remove_services(manager, [name for name in wish.remove if ":" not in name])
        ledger.prune(manager, ledger.read(manager))
    say(f"release {number} serves: {image.pinned}")


def earlier(manager: Manager, snapshot: Snapshot, entries: Sequence[ledger.Entry]) -> ledger.Entry:
    """The release before the present one, as the swarm remembers it. Raises `Failure` without one."""
    goal = ledger.target(entries, max((each.release for each in snapshot.services), default=0))
    if goal is None:
        raise Failure(f"{manager.stack} has no release before this one")
    return goal


def show_rollback(manager: Manager) -> None:
    """Print which release a rollback would put into service, and its stack file. Raises `Failure` without one."""
    goal = earlier(manager, manager.look(), ledger.read(manager))
    print(f"# back to {goal.title}\n{goal.file.text}", end="")


def rollback(manager: Manager, folder: Path, say: Say) -> None:
    """Put the release before the present one into service, as the swarm remembers it. Raises `Failure` without one."""
    with session(manager, "a rollback", folder, say) as held:
        snapshot, entries = manager.look(), ledger.read(manager)
        goal = earlier(manager, snapshot, entries)
        number = ledger.next_number(entries)
        say(f"back to {goal.title}")
        file = as_release(goal.file, number, {each.name: each.wanted for each in snapshot.services})
        run_jobs(held, file, ["static"])
        put_into_service(held, file, entries)
        ledger.add(manager, number, goal.of, goal.revision, file)
        ledger.prune(manager, ledger.read(manager))
    say(f"release {number} serves: it is release {goal.of} again. Migrations stay as they are")


def no_containers(manager: Manager) -> None:
    """Raise `Failure` when the same stack runs with compose on that engine: ports and volumes would be shared."""
    mine = ["--filter", f"label=com.docker.compose.project={manager.stack}"]
    if manager.ask("ps", "-q", *mine).strip():
        raise Failure(f"{manager.stack} runs there with compose: `invoke down` first; the swarm takes its volumes over")


def provide(manager: Manager, file: StackFile) -> None:
    """Put the configs and secrets of a file into the swarm, those that are not there yet."""
    for step in provide_steps(manager, file, {kind: manager.names(kind) for kind in ("config", "secret")}):
        manager.tell(step)


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


def hand_over(held: Session, file: StackFile, before: Snapshot) -> None:
    """Deploy a file, and return when its services are as it says. Raises `Failure` naming the one that is not."""
    held.lock.check()
    held.manager.tell(held.manager.stack_deploy(file))
    follow(held.manager, list(file.services), {task.id for task in before.tasks}, held.lock.check)


def put_into_service(held: Session, file: StackFile, entries: Sequence[ledger.Entry]) -> None:
    """Deploy the services of a file; when one fails, all are put back to the last release that served."""
    before = held.manager.look()
    part = file.only(serving(file))
    try:
        hand_over(held, part, before)
    except BaseException as error:
        held.lock.check()
        if not entries:
            raise
        held.say(f"failed: {error}" if isinstance(error, Failure) else "stopped")
        held.say(f"put all services back to release {entries[-1].number}")
        put_back(held, part, before, entries[-1])
        raise


def put_back(held: Session, failed: StackFile, before: Snapshot, entry: ledger.Entry) -> None:
    """Have the services as they were in a release, with the replicas they had; those that it has not go."""
    file = as_release(entry.file, entry.number, {each.name: each.wanted for each in before.services})
    file = file.only(serving(file))
    new = [name for name in failed.services if name not in file.services and not before.service(name)]
    remove_services(held.manager, new)
    hand_over(held, file, held.manager.look())


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
