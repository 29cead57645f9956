"""Create a swarm, prepare its nodes for the stack, and leave it."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.core import shell
from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker.dotenv import load, prepare
from deploy.docker.stack import DATASTORES, MEDIA, SWARM, Stack
from deploy.project.config import Project
from deploy.swarm.images import LOCAL_REGISTRY
from deploy.swarm.manager import CHANGE_SECONDS, TRANSFER_SECONDS, Manager, engine, limited, require_engine


def init(project: Project, host: str, context: str, advertise: str, notify: Notify) -> Action:
    """Create a swarm on this engine and prepare the node for the stack."""
    named = engine(host, context)

    def make(*, dry_run: bool) -> None:
        require_env(Manager("-".join(filter(None, (project.name, project.environment))), named), project.env_path)
        stack = prepare(project, SWARM, dry_run=dry_run, notify=notify)
        create(Manager(stack.name, named), stack, advertise, notify, dry_run=dry_run)

    return Action(lambda: make(dry_run=True), lambda: make(dry_run=False))


def create(manager: Manager, stack: Stack, advertise: str, notify: Notify, *, dry_run: bool) -> None:
    """Create the swarm if there is none, and prepare the node. Raises `Failure` for a worker of another swarm."""
    require_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    if swarm["LocalNodeState"] == "active" and not swarm["ControlAvailable"]:
        raise Failure("this engine is already a worker of a swarm: to take it out: `invoke swarm-leave`")
    if swarm["LocalNodeState"] != "active":
        words = ["--advertise-addr", advertise] if advertise else []
        command = manager.docker("swarm", "init", *words)
        if dry_run:
            shell.perform([command], dry_run=True)
        else:
            result = shell.run(limited(command, CHANGE_SECONDS), capture=True, check=False)
            if result.code:
                more = "; name one with --advertise" if "choose an IP address" in result.stderr else ""
                raise Failure(f"cannot create a swarm: {shell.last_line(result.stderr)}{more}")
    steps = [*label_steps(manager, set() if dry_run else labelled(manager)), *registry_steps(manager, stack)]
    if dry_run:
        shell.perform(steps, dry_run=True)
        return
    for step in steps:
        manager.tell(step)
    if steps or swarm["LocalNodeState"] != "active":
        notify("This engine is a manager. `docker swarm join-token manager` on it shows how others join.")
        notify("Three managers survive the loss of one. Databases and uploads stay on the node labelled for them:")
        notify("`invoke swarm-status` shows which.")


def require_env(manager: Manager, env: Path) -> None:
    """Raise `Failure` if there is no `.env` here but the stack runs with the secrets of another `.env`."""
    if env.exists():
        return
    require_engine(manager)
    if manager.try_("service", "ls", "-q", "--filter", f"label={manager.label}").stdout.strip():
        raise Failure(
            f"there is no {env.name} here, but {manager.stack} runs on this swarm with the secrets of another one: copy"
            f" that {env.name} here"
        )


def labelled(manager: Manager) -> set[str]:
    """What a node is labelled to keep: the data of which services, and uploads."""
    return {name for node in manager.nodes() for name in (*DATASTORES, MEDIA) if node.labels.get(name) == "true"}


def label_steps(manager: Manager, there: set[str]) -> list[Run]:
    """The command that labels this node for the data for which no node is labelled."""
    words = [word for name in (*DATASTORES, MEDIA) if name not in there for word in ("--label-add", f"{name}=true")]
    node = manager.ask("info", "--format", "{{.Swarm.NodeID}}").strip() or "NODE"
    return [manager.docker("node", "update", *words, node)] if words else []


def registry_steps(manager: Manager, stack: Stack) -> list[Run]:
    """The command that starts a registry for this node only, if IMAGE names none."""
    name = f"{stack.name}-registry"
    if "/" in stack.env.image or manager.try_("inspect", name).code == 0:
        return []
    words = ["--detach", "--restart", "unless-stopped", "--name", name, "--publish", f"{LOCAL_REGISTRY}:5000"]
    run = manager.docker("run", *words, "--volume", f"{name}:/var/lib/registry", "registry:3")
    return [limited(run, TRANSFER_SECONDS)]


def leave(project: Project, host: str, context: str) -> Action:
    """Take an engine out of its swarm. Raises `Failure` if it is the last manager and the stack still runs."""
    stack = load(project, SWARM)
    manager = Manager(stack.name, engine(host, context))
    require_engine(manager)
    swarm = json.loads(manager.ask("info", "--format", "{{json .Swarm}}"))
    if swarm["LocalNodeState"] == "inactive":
        raise Failure("this engine is in no swarm")
    controls = swarm["ControlAvailable"]
    last = controls and swarm.get("Managers", 0) <= 1
    if last and manager.look().services:
        raise Failure(f"{stack.name} runs on this swarm, and this is its last manager: `invoke swarm-rm` first")
    if controls and swarm.get("Managers", 0) == 2:
        raise Failure(
            "cannot remove one of two managers: the other alone is no majority. Run `docker node demote` for this one,"
            " then repeat"
        )
    commands = [
        limited(manager.docker("swarm", "leave", *(["--force"] if controls else [])), CHANGE_SECONDS),
        limited(manager.docker("rm", "--force", f"{stack.name}-registry"), CHANGE_SECONDS),
    ]
    what = "This ends the swarm and deletes its record of releases." if last else "This manager leaves the swarm."
    question = Question(what, stack.name) if controls else None
    return Action(lambda: shell.perform(commands, dry_run=True), lambda: shell.perform(commands), question)
