"""The small commands on a swarm and on a stack that runs there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Say, confirm
from deploy.core.shell import Run
from deploy.docker.stack import DATASTORES, DEFAULT_REPLICAS, Stack
from deploy.swarm import ledger
from deploy.swarm.images import LOCAL_REGISTRY
from deploy.swarm.jobs import run_jobs, session
from deploy.swarm.lock import held
from deploy.swarm.manager import Manager, need_engine
from deploy.swarm.render import StackFile
from deploy.swarm.state import Service, Snapshot, standing
from deploy.swarm.view import follow, word

#: Seconds for the networks of a removed stack to be gone; before that, it cannot be deployed anew.
GONE_SECONDS = 120


# --- The swarm ---


def init(manager: Manager, stack: Stack, advertise: str, say: Say, *, dry_run: bool) -> None:
    """Make the engine a manager of a new swarm, and give it what the stack needs of a node."""
    need_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    if swarm["LocalNodeState"] == "active" and not swarm["ControlAvailable"]:
        raise Failure("this engine is a worker of a swarm already: `invoke swarm-leave` takes it out")
    if swarm["LocalNodeState"] != "active":
        words = ["--advertise-addr", advertise] if advertise else []
        make = manager.docker("swarm", "init", *words)
        if dry_run:
            shell.perform([make], dry_run=True)
        else:
            result = shell.run(make, capture=True, check=False)
            if result.code:
                more = "; say which with --advertise-addr" if "choose an IP address" in result.stderr else ""
                raise Failure(f"the engine makes no swarm: {shell.last_line(result.stderr)}{more}")
    steps = [*label_steps(manager, set() if dry_run else labelled(manager)), *registry_steps(manager, stack)]
    if dry_run:
        shell.perform(steps, dry_run=True)
        return
    for step in steps:
        manager.tell(step)
    if steps or swarm["LocalNodeState"] != "active":
        say("This engine is a manager. `docker swarm join-token manager` on it shows how others join; three managers")
        say(
            "bear the loss of one. The databases stay on the node labelled for them: `invoke swarm-status` shows which."
        )


def need_env(manager: Manager, env: Path) -> None:
    """Raise `Failure` when there is no `.env`, but the stack runs with another's secrets."""
    if env.exists():
        return
    need_engine(manager)
    if manager.try_("service", "ls", "-q", "--filter", f"label={manager.label}").stdout.strip():
        raise Failure(
            f"there is no .env, but {manager.stack} runs on this swarm with another's secrets: bring that .env here"
        )


def labelled(manager: Manager) -> set[str]:
    """The data services that some node is labelled for."""
    return {name for node in manager.nodes() for name in DATASTORES if node.labels.get(name) == "true"}


def label_steps(manager: Manager, there: set[str]) -> list[Run]:
    """What labels this node for the data services that no node is labelled for."""
    words = [word for name in DATASTORES if name not in there for word in ("--label-add", f"{name}=true")]
    node = manager.ask("info", "--format", "{{.Swarm.NodeID}}").strip() or "NODE"
    return [manager.docker("node", "update", *words, node)] if words else []


def registry_steps(manager: Manager, stack: Stack) -> list[Run]:
    """What starts a registry for the one node alone, where IMAGE names none."""
    name = f"{stack.name}-registry"
    if "/" in stack.env.image or manager.try_("inspect", name).code == 0:
        return []
    words = ["--detach", "--restart", "unless-stopped", "--name", name, "--publish", f"{LOCAL_REGISTRY}:5000"]
    return [manager.docker("run", *words, "--volume", f"{name}:/var/lib/registry", "registry:3")]


def leave(manager: Manager, stack_name: str, *, confirmed: bool, dry_run: bool) -> None:
    """Take the engine out of its swarm. Raises `Failure` while the stack runs, or when nobody confirms."""
    need_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    if swarm["LocalNodeState"] == "inactive":
        raise Failure("this engine is in no swarm")
    last = swarm["ControlAvailable"] and swarm.get("Managers", 0) <= 1
    if last and manager.look().services:
        raise Failure(f"{stack_name} runs on this swarm, and this is its last manager: `invoke swarm-rm` first")
    if swarm["ControlAvailable"] and swarm.get("Managers", 0) == 2:
        raise Failure(
            "of two managers none can go: the other alone is no majority. `docker node demote` this one, then repeat"
        )
    if swarm["ControlAvailable"] and not dry_run:
        what = "the swarm ends, and the releases it remembers" if last else "this manager leaves the swarm"
        confirm(f"Then {what}.", stack_name, confirmed)
    force = ["--force"] if swarm["ControlAvailable"] else []
    registry = manager.docker("rm", "--force", f"{stack_name}-registry")
    shell.perform([manager.docker("swarm", "leave", *force), registry], dry_run=dry_run)


# --- The stack ---


def remove(manager: Manager, *, confirmed: bool, say: Say, dry_run: bool) -> None:
    """Stop and remove the stack with its secrets and the releases it remembers; the data on the nodes stays."""
    command = manager.docker("stack", "rm", manager.stack)
    if dry_run:
        shell.perform([command], dry_run=True)
        return
    if not manager.look().services:
        raise Failure(f"no stack of the name {manager.stack} runs on this swarm")
    confirm(f"This ends {manager.stack} on every node; its volumes stay.", manager.stack, confirmed)
    with held(manager, "a removal"):
        manager.tell(command)
        deadline = time.monotonic() + GONE_SECONDS
        while manager.ask("network", "ls", "-q", "--filter", f"label={manager.label}").strip():
            if time.monotonic() > deadline:
                raise Failure(f"its networks are still there after {GONE_SECONDS} s: repeat")
            manager.try_("stack", "rm", manager.stack)
            time.sleep(1)
    say(f"{manager.stack} is gone; its volumes are still on the nodes")


def need_running(manager: Manager, name: str = "") -> Snapshot:
    """The stack as it runs. Raises `Failure` when it does not, or has no such service."""
    snapshot = manager.look()
    if not snapshot.services:
        raise Failure(f"no stack of the name {manager.stack} runs on this swarm: `invoke swarm-deploy` starts it")
    if name and not snapshot.service(name):
        raise Failure(f"--service is {name!r}; there are: {', '.join(each.name for each in snapshot.services)}")
    return snapshot


def scale(manager: Manager, name: str, number: int, say: Say) -> None:
    """Have so many replicas of a service. Raises `Failure` for one that cannot be scaled."""
    if name not in DEFAULT_REPLICAS:
        raise Failure(f"--service is {name!r}: {' and '.join(DEFAULT_REPLICAS)} can be scaled; there must be one beat")
    with held(manager, f"a change of {name}") as lock:
        before = need_running(manager, name)
        manager.tell(manager.docker("service", "scale", "--detach", f"{manager.stack}_{name}={number}"))
        follow(manager, [name], {task.id for task in before.tasks}, lock.check)
    now = before.service(name)
    say(f"{name}: {now.wanted if now else 0} → {number}")


def logs(manager: Manager, name: str, *, follow: bool) -> list[Run]:
    """The logs of a service, or of each. Raises `Failure` for a service that there is not."""
    snapshot = need_running(manager, name)
    names = [name] if name else [each.name for each in snapshot.services]
    if follow and len(names) > 1:
        raise Failure(f"--follow goes with one --service; there are: {', '.join(names)}")
    words = ["service", "logs", "--tail", "200", *(["--follow"] if follow else [])]
    return [manager.docker(*words, f"{manager.stack}_{each}") for each in names]


def manage(manager: Manager, stack: Stack, arguments: Sequence[str]) -> Run | None:
    """manage.py in a replica of the app on the manager's own node; where it has none, as a job of the swarm.

    Returns the command to go on with, or None when the job has run. A job has no keyboard. Raises `Failure` when it
    fails.
    """
    need_running(manager, "app")
    words = ["--filter", f"label=com.docker.swarm.service.name={manager.stack}_app", "--filter", "health=healthy"]
    here = manager.ask("ps", "-q", *words).split()
    if here:
        terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
        return manager.docker("exec", *terminal, here[0], "python", "manage.py", *arguments)
    as_job(manager, stack, arguments)
    return None


def as_job(manager: Manager, stack: Stack, arguments: Sequence[str]) -> None:
    """Run manage.py once, somewhere; its output is ours."""
    entries = ledger.read(manager)
    if not entries:
        raise Failure("no release has come to its end on this swarm yet")
    file = entries[-1].file
    job = {**file.services["release"], "command": ["python", "manage.py", *arguments]}
    once = StackFile({"manage": job}, file.sections)
    with session(manager, "a management command", stack.project.run_folder, lambda _: None) as held:
        try:
            run_jobs(held, once, ["manage"])
            result = manager.try_("service", "logs", "--raw", f"{manager.stack}_manage")
            sys.stdout.write(result.stdout)
            sys.stderr.write(result.stderr)
        finally:
            manager.try_("service", "rm", f"{manager.stack}_manage")


def show(manager: Manager) -> None:
    """Print the nodes, the services and the releases."""
    from rich.console import Console

    snapshot, entries = manager.look(), ledger.read(manager)
    console = Console(width=None if sys.stdout.isatty() else 200)
    for table in (nodes(snapshot), services(snapshot), releases(entries)):
        console.print(table)
        console.print()


def nodes(snapshot: Snapshot) -> object:
    table = _table("node", "state", "manager", "data", "replicas")
    for node in snapshot.nodes:
        state = node.state if node.availability == "active" else f"{node.state}, {node.availability}"
        data = ", ".join(name for name in DATASTORES if node.labels.get(name) == "true")
        count = sum(1 for task in snapshot.tasks if task.node == node.id and task.state == "running")
        table.add_row(node.name, state, node.manager, data, str(count))
    return table


def services(snapshot: Snapshot) -> object:
    table = _table("service", "replicas", "", "image", "on", "now")
    for service in snapshot.services:
        now = standing(service, snapshot, {task.id for task in snapshot.tasks})
        table.add_row(
            service.name, f"{now.running}/{now.wanted}", word(now), tag_of(service), _where(service, snapshot), now.note
        )
    return table


def _where(service: Service, snapshot: Snapshot) -> str:
    return ", ".join(sorted({snapshot.node(task) for task in snapshot.of(service) if task.state == "running"}))


def tag_of(service: Service) -> str:
    """The end of an image's name, without its digest."""
    return service.image.partition("@")[0].rpartition("/")[2]


def releases(entries: Sequence[ledger.Entry]) -> object:
    table = _table("release", "revision", "at", "by", "")
    for entry in reversed(entries):
        note = f"release {entry.of} again" if entry.of != entry.number else ""
        table.add_row(str(entry.number), entry.revision[:12], entry.at, entry.by, note)
    return table


def _table(*headings: str):  # type: ignore[no-untyped-def]
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table
