"""A stack on a swarm as a place: the tasks for a stack that runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from deploy.core.action import Action, Question, command, steps
from deploy.core.errors import Failure
from deploy.core.logs import Query
from deploy.core.report import Grid, Report
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker import logs
from deploy.docker.dotenv import load
from deploy.docker.engine import ANSWER_SECONDS
from deploy.docker.releases import grid
from deploy.docker.stack import DATASTORES, SWARM, Stack
from deploy.project import limits, site
from deploy.project.config import Project
from deploy.project.maintenance import Wanted, record
from deploy.swarm import deploy, ledger, maintenance, owner
from deploy.swarm.jobs import MANAGE, command_file, run_command, session
from deploy.swarm.lock import held
from deploy.swarm.manager import Manager
from deploy.swarm.stack import can_scale
from deploy.swarm.state import Service, Snapshot, standing
from deploy.swarm.view import follow, word

#: Seconds for the networks of a removed stack to disappear; before that, it cannot be deployed again.
GONE_SECONDS = 120


@dataclass(frozen=True)
class Swarm:
    """A stack on a manager's swarm."""

    manager: Manager
    stack: Stack
    notify: Notify

    name = SWARM

    def status(self) -> Report:
        """The nodes, the services and the releases."""
        snapshot, entries = self.manager.look(), ledger.read(self.manager)
        said = [*maintenance.remarks(snapshot, self.stack), *self._remarks()]
        return Report([nodes(snapshot), services(snapshot), grid(entries)], said)

    def _remarks(self) -> list[str]:
        """What a replica of the app on the manager's node says of the site; nothing without one that answers."""
        with suppress(Failure):
            if here := self._apps_here():
                said = self.manager.ask("exec", here[0], *site.READY)
                return site.given_up(said, "invoke manage --on swarm --")
        return []

    def _apps_here(self) -> list[str]:
        """The healthy replicas of the app on the manager's node."""
        app = f"label=com.docker.swarm.service.name={self.manager.stack}_app"
        return self.manager.ask("ps", "-q", "--filter", app, "--filter", "health=healthy").split()

    def logs(self, service: str, asked: Query) -> Action:
        """The logs of one service or of all, in order of time. Raises `Failure` for an unknown service."""
        snapshot = self._running(service)
        names = [service] if service else [each.name for each in snapshot.services]

        def printed(name: str, words: Sequence[str]) -> Run:
            return self.manager.docker("service", "logs", *words, f"{self.manager.stack}_{name}")

        return Action(lambda: None, lambda: logs.show([partial(printed, name) for name in names], asked))

    def scale(self, service: str, number: int) -> Action:
        """Change the number of replicas. Raises `Failure` for a service that cannot be scaled."""
        snapshot = self._own(self._running(service))
        found, on = snapshot.service(service), maintenance.current(snapshot)
        if on and service in maintenance.services(snapshot, on.hold):
            stop = f"{maintenance.STOP}{self.stack.project.option}"
            raise Failure(f"{service} is held: `{stop}` starts it with what it had")
        if found and not can_scale(service, found.labels):
            can = " and ".join(self.stack.rolling)
            why = self.stack.why_not_scaled(service) or "it has a fixed number"
            raise Failure(f"--service is {service!r}: {can} can be scaled; {why}")
        change = self.manager.docker("service", "scale", "--detach", f"{self.manager.stack}_{service}={number}")

        def do() -> None:
            with held(self.manager, f"a change of {service}") as lock:
                before = self._running(service)
                lock.confirm()
                self.manager.tell(change)
                follow(self.manager, {service: limits.CONVERGE}, {task.id for task in before.tasks}, lock.check)
            now = before.service(service)
            self.notify(f"{service}: {now.wanted if now else 0} → {number}")

        return Action(command(change).show, do)

    def manage(self, arguments: Sequence[str]) -> Action:
        """Run manage.py in a replica of the app on the manager's node; if it has none, as a job of the swarm.

        A job has no terminal.
        """
        self._own(self._running("app"))
        here = self._apps_here()
        words = ["python", "manage.py", *arguments]
        if here:
            terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
            return command(self.manager.docker("exec", *terminal, here[0], *words))
        entries = ledger.read(self.manager)
        if not entries:
            raise Failure("no release has been deployed to this swarm yet: `invoke swarm-deploy`")
        file = command_file(entries[-1], f"{MANAGE}ID", arguments)
        shown = [
            self.manager.stack_deploy(file),
            self.manager.docker("service", "rm", f"{self.manager.stack}_{MANAGE}ID"),
        ]
        folder = self.stack.project.run_folder
        return Action(steps(shown).show, lambda: run_command(self.manager, folder, entries[-1], arguments))

    def releases(self) -> Report:
        """The recorded releases, newest first."""
        return Report([grid(ledger.read(self.manager))])

    def rollback(self, to: str) -> Action:
        """Roll the whole stack back to an earlier release. Raises `Failure` if there is none."""
        goal = deploy.earlier(self._own(self.manager.look()), ledger.read(self.manager), to)
        return Action(
            lambda: print(f"# back to {goal.title}\n{goal.file.text}", end=""),
            lambda: deploy.rollback(self.manager, self.stack.project.run_folder, to, self.notify),
        )

    def maintenance(self, wanted: Wanted | None) -> Action:
        """Have nginx answer 503 with a page on each node, until None ends that. No service is replaced."""
        snapshot = self._own(self._running("nginx"))
        file, before = maintenance.release_file(self.stack, ledger.read(self.manager)), maintenance.current(snapshot)
        stopped, resumed = maintenance.changes(before, wanted, snapshot)
        on = record(wanted, before, stopped) if wanted else None
        shown = [self.manager.stack_deploy(maintenance.job(file, on))]
        scaled = {**resumed, **dict.fromkeys(stopped, 0)}
        change = [maintenance.scaling(self.manager, scaled)] if scaled else []

        def do() -> None:
            with session(self.manager, "a maintenance", self.stack.project.run_folder, self.notify) as held:
                maintenance.maintain(held, self.stack, wanted)

        return Action(steps([*shown, *change] if wanted else [*change, *shown]).show, do)

    def deploy(self, options: deploy.Options) -> Action:
        """Deploy the work tree, or an image by its tag."""
        return Action(
            lambda: deploy.show(self.manager, self.stack, options.tag),
            lambda: deploy.deploy(self.manager, self.stack, options, self.notify),
        )

    def remove(self) -> Action:
        """Stop and remove the stack with its secrets and its record of releases; keep the data on the nodes."""
        snapshot = self._own(self.manager.look())
        if not snapshot.services:
            raise Failure(f"no stack named {self.manager.stack} runs on this swarm")
        if maintenance.current(snapshot):
            stop = f"{maintenance.STOP}{self.stack.project.option}"
            raise Failure(f"a maintenance is on, which its nodes would keep: `{stop}` first")
        remove = self.manager.docker("stack", "rm", self.manager.stack)
        name = self.manager.stack
        question = Question(f"This stops {name} on every node; its volumes stay.", name)
        return Action(command(remove).show, lambda: self._remove(remove), question)

    def _remove(self, remove: Run) -> None:
        with held(self.manager, "a removal") as lock:
            lock.confirm()
            self.manager.tell(remove)
            deadline = time.monotonic() + GONE_SECONDS
            while self.manager.ask("network", "ls", "-q", "--filter", f"label={self.manager.label}").strip():
                if time.monotonic() > deadline:
                    raise Failure(f"its networks still exist after {GONE_SECONDS} s: run the command again")
                lock.check()
                self.manager.try_("stack", "rm", self.manager.stack)
                time.sleep(1)
        self.notify(f"{self.manager.stack} is removed; its volumes are still on the nodes")

    def _own(self, snapshot: Snapshot) -> Snapshot:
        """The same state. Raises `Failure` if the stack is another project's."""
        owner.require_own(snapshot, self.stack)
        return snapshot

    def _running(self, service: str = "") -> Snapshot:
        """The stack's current state. Raises `Failure` if it does not run, or has no such service."""
        snapshot = self.manager.look()
        if not snapshot.services:
            raise Failure(f"no stack named {self.manager.stack} runs on this swarm: `invoke swarm-deploy` starts it")
        if service and not snapshot.service(service):
            raise Failure(f"--service is {service!r}; there are: {', '.join(each.name for each in snapshot.services)}")
        return snapshot


def here(project: Project, notify: Notify) -> Iterator[Swarm]:
    """The stack on the swarm that this machine's engine manages, if it runs there."""
    stack = load(project, SWARM)
    manager = Manager(stack.name)
    asked = manager.try_("info", "--format", "{{json .Swarm}}", seconds=ANSWER_SECONDS)
    try:
        manages = not asked.code and json.loads(asked.stdout)["ControlAvailable"]
    except (ValueError, KeyError, TypeError):
        manages = False
    if manages and manager.try_("service", "ls", "-q", "--filter", f"label={manager.label}").stdout.strip():
        yield Swarm(manager, stack, notify)


# --- Tables ---


def nodes(snapshot: Snapshot) -> Grid:
    """A row for each node."""
    rows = []
    for node in snapshot.nodes:
        state = node.state if node.availability == "active" else f"{node.state}, {node.availability}"
        data = ", ".join(name for name in DATASTORES if node.labels.get(name) == "true")
        count = sum(1 for task in snapshot.tasks if task.node == node.id and task.state == "running")
        rows.append((node.name, state, node.manager, data, str(count)))
    return Grid(("node", "state", "manager", "data", "replicas"), rows)


def services(snapshot: Snapshot) -> Grid:
    """A row for each service."""
    rows = []
    for service in snapshot.services:
        now = standing(service, snapshot, {task.id for task in snapshot.tasks})
        where = ", ".join(sorted({snapshot.node(task) for task in snapshot.of(service) if task.state == "running"}))
        rows.append((service.name, f"{now.running}/{now.wanted}", word(now), tag_of(service), where, now.note))
    return Grid(("service", "replicas", "", "image", "on", "now"), rows)


def tag_of(service: Service) -> str:
    """The end of an image's name, without its digest."""
    return service.image.partition("@")[0].rpartition("/")[2]
