"""A compose stack as a place: the operations on it while it runs."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from deploy.compose import journal, ledger, maintenance, rollout
from deploy.compose.containers import (
    START,
    Replica,
    another_owner,
    create_replicas,
    has_containers,
    replicas,
    require_own,
    scales,
    start_replicas,
    stop_replicas,
)
from deploy.compose.data import view
from deploy.core import git, shell
from deploy.core.action import Action, Question, steps
from deploy.core.errors import Failure
from deploy.core.logs import Query
from deploy.core.report import Grid, Report
from deploy.core.running import Notify, is_held
from deploy.core.shell import Run
from deploy.docker import logs
from deploy.docker.dotenv import load
from deploy.docker.engine import can_run
from deploy.docker.stack import DEV, PROD, Stack, files_of, secret_texts
from deploy.project import maintenance as decided
from deploy.project import site
from deploy.project.config import Project
from deploy.project.maintenance import Record, Wanted

#: The secret files that a management command has beside the site's; a release of an earlier version wrote none.
OWNER = ("database_owner_url", "owner_broker_url")


@dataclass(frozen=True)
class Compose:
    """The development or production stack on this machine's engine."""

    stack: Stack
    notify: Notify

    @property
    def name(self) -> str:
        return f"{self.stack.kind}{self.stack.project.option}"

    def status(self) -> Report:
        """A row for each container. A problem is a container that is unhealthy, or that failed while others run."""
        now = self._containers()
        kept = self.stack.kind == PROD and self.stack.env.backup_repository
        said = view.remarks(ledger.read(self.stack, busy=False)) if kept else []
        if held := self.stack.env.hold:
            said.append(f"held here: {' and '.join(held)} (HOLD in {self.stack.project.env_path.name})")
        return Report([grid(now)], [*maintenance.remarks(self.stack), *self._remarks(now), *said], wrong(now))

    def _remarks(self, now: Sequence[Replica]) -> list[str]:
        """What the site says of itself besides; nothing if it does not answer, which its health tells."""
        for app in (each for each in now if each.service == "app" and each.ready):
            asked = Run(["docker", "exec", app.name, *site.READY], seconds=site.READY_SECONDS)
            with suppress(Failure):
                said = shell.run(asked, capture=True).stdout
                return site.given_up(said, f"invoke manage --on {self.name} --")
        return []

    def logs(self, service: str, asked: Query) -> Action:
        """The log of a service, or of all, in order of time. Raises `Failure` for an unknown service."""
        known = sorted({replica.service for replica in self._containers()})
        if service and service not in known:
            raise Failure(f"--service {service}: there is no such service; there are: {', '.join(known)}")
        names = [service] if service else []

        def printed(words: Sequence[str]) -> Run:
            return self.stack.compose("logs", "--no-color", *words, *names)

        return Action(lambda: None, lambda: logs.show([printed], asked))

    def scale(self, service: str, number: int) -> Action:
        """Change the number of replicas; those that are stopped first finish their requests or tasks.

        Raises `Failure` for a service that cannot be scaled.
        """
        rollout.require_scalable(self.stack, service)
        if not maintenance.free(self.stack, [service]):
            stop = f"{maintenance.STOP}{self.stack.project.option}"
            raise Failure(f"{service} is held: `{stop}` starts it with what it had")
        self._containers()
        shown = self.stack.compose(*START, "--no-recreate", *scales({service: number}), service)
        return Action(steps([shown]).show, lambda: rollout.scale(self.stack, service, number, self.notify))

    def manage(self, arguments: Sequence[str]) -> Action:
        """Run manage.py in a container of its own, with the rights of a release: it may create and change tables.

        In development as this user, as it may write to the work tree.
        """
        terminal = [] if sys.stdin.isatty() else ["-T"]
        user = ["--user", f"{os.getuid()}:{os.getgid()}"] if self.stack.kind == DEV else []
        once = ["run", "--rm", "--no-deps", *terminal, *user, "release", "python", "manage.py", *arguments]

        def do() -> Run:
            self._containers()
            stack = ledger.serving(self.stack)
            absent = [name for name in OWNER if not (stack.secrets / name).exists()]
            shell.perform(files_of(stack, {name: text for name, text in secret_texts(stack).items() if name in absent}))
            return stack.compose(*once)

        return Action(lambda: shell.perform([self.stack.compose(*once)], dry_run=True), do)

    def releases(self) -> Report:
        """The releases and the ledger. Raises `Failure` for development."""
        self._require_releases()
        busy = is_held(self.stack.secrets / "lock")
        return Report(ledger.grids(ledger.releases(self.stack), ledger.read(self.stack, busy=busy)))

    def rollback(self, to: str) -> Action:
        """Return to an earlier release. Raises `Failure` for development, and for an unknown release."""
        self._require_releases()
        return rollout.rollback(self.stack, to, self.notify)

    def maintenance(self, wanted: Wanted | None) -> Action:
        """Have nginx answer 503 with a page, until None ends that. Raises `Failure` for development.

        What is held is stopped when nginx shows the page, and runs again before nginx shows the site.
        """
        if self.stack.kind == DEV:
            raise Failure("dev has no nginx that could show a page: `invoke down --on dev` stops the site")
        now = Counter(each.service for each in self._containers() if each.running)
        maintenance.require_known(self.stack)
        held = maintenance.services(self.stack, wanted.hold) if wanted else []

        def show() -> None:
            before = maintenance.current(self.stack)
            if wanted:
                shell.perform(maintenance.start_steps(self.stack, decided.record(wanted, before)), dry_run=True)
            if held:
                shell.perform([self.stack.compose("rm", "--stop", "--force", *held)], dry_run=True)
            if resumed := self._resumed(before, held, now):
                shell.perform([self.stack.compose(*START, *scales(resumed), *resumed)], dry_run=True)
            if not wanted:
                shell.perform(maintenance.stop_steps(self.stack), dry_run=True)

        def do() -> None:
            what = "on" if wanted else "off"
            with rollout.only_one(self.stack, "a maintenance"), ledger.recorded(self.stack, "maintenance", what):
                self._maintain(wanted, held)

        return Action(show, do)

    def _maintain(self, wanted: Wanted | None, held: Sequence[str]) -> None:
        before = maintenance.current(self.stack)
        if not wanted and not before:
            self.notify("no maintenance is on")
            return
        journal.recover(self.stack, self.notify)
        now = [each for each in self._containers() if each.running]
        counts = Counter(each.service for each in now)
        if wanted:
            record = decided.record(wanted, before, maintenance.replicas(before, held, counts))
            shell.perform(maintenance.start_steps(self.stack, record))
            self.notify(decided.said(record))
        if stopped := [each for each in now if each.service in held]:
            self.notify(f"stop {', '.join(each.name for each in stopped)}, when their tasks have ended")
            stop_replicas(stopped)
        if resumed := self._resumed(before, held, counts):
            self.notify(f"start {', '.join(f'{number} {service}' for service, number in resumed.items())}")
            start_replicas(serving := ledger.serving(self.stack), create_replicas(serving, resumed))
        if not wanted:
            shell.perform(maintenance.stop_steps(self.stack))
            self.notify("visitors see the site again")

    def _resumed(self, before: Record | None, held: Sequence[str], now: Mapping[str, int]) -> dict[str, int]:
        """The replicas to start of services that were held and no longer are."""
        known = before.replicas if before else {}
        there = {name: number - now.get(name, 0) for name, number in known.items() if name not in held}
        return {name: number for name, number in there.items() if number > 0 and name in self.stack.site_services}

    def down(self, *, volumes: bool) -> Action:
        """Stop and remove the stack; with ``volumes``, also its data."""
        name = self.stack.name
        question = Question(f"This deletes the database, queues and files of {name}.", name) if volumes else None
        run = self.stack.compose("down", "--remove-orphans", *(["--volumes"] if volumes else []))
        # A service whose profile is not named would keep its volume.
        profiles = ",".join(filter(None, (run.env["COMPOSE_PROFILES"], "backup")))
        return steps([replace(run, env={**run.env, "COMPOSE_PROFILES": profiles})], question=question)

    def _containers(self) -> list[Replica]:
        found = replicas(self.stack.name)
        if not found:
            raise Failure(f"{self.stack.name} does not run here: `invoke {self.name}` starts it")
        return found

    def _require_releases(self) -> None:
        if self.stack.kind == DEV:
            raise Failure("dev has no releases: it runs the work tree")


def present(project: Project, notify: Notify, *, stopped: bool = False) -> list[Compose]:
    """The stacks of the project that run on this machine; with ``stopped``, also those whose containers have ended."""
    stacks = [load(project, kind) for kind in kinds(project)]
    there = [stack for stack in stacks if has_containers(stack.name, stopped=stopped)]
    return [Compose(stack, notify) for stack in there if not another_owner(stack)]


def kinds(project: Project) -> tuple[str, ...]:
    """The stacks that there may be; an environment beside the usual one is for production alone."""
    return (PROD,) if project.environment else (PROD, DEV)


def named(project: Project, kind: str, notify: Notify) -> Compose:
    """The development or production stack. Raises `Failure` if there is no `.env`, or if it is another checkout's."""
    stack = load(project, kind)
    if can_run(project):
        require_own(stack)
    return Compose(stack, notify)


def known(project: Project, kind: str, notify: Notify) -> Compose:
    """The named stack, or else the one that has containers, running or not. Raises `Failure` if there is none."""
    if kind not in ("", DEV, PROD):
        raise Failure(f"--on is {kind!r}, but must be dev or prod")
    if kind == DEV and project.environment:
        raise Failure(f"--env {project.environment} is for --on prod, not for --on dev")
    if kind:
        return named(project, kind, notify)
    found = (present(project, notify) or present(project, notify, stopped=True)) if can_run(project) else []
    if len(found) > 1:
        raise Failure("both stacks of this project are here: choose one with --on prod or --on dev")
    if not found:
        for stack in (load(project, kind) for kind in kinds(project)) if can_run(project) else ():
            require_own(stack)
        start = f"`invoke prod{project.option}`" if project.option else "`invoke dev` or `invoke prod`"
        raise Failure(f"no stack of this project runs here: {start} starts one")
    return found[0]


def grid(now: Sequence[Replica]) -> Grid:
    """A row for each container: state, health, release, start time."""
    rows = []
    for each in now:
        ended = "" if each.running else f" ({each.exit_code})"
        state = f"{each.state}{ended}" if not each.health else f"{each.state}, {each.health}"
        since = each.started[:19].replace("T", " ")
        rows.append((each.name, each.service, state, str(each.restarts or ""), git.short(each.revision), since))
    return Grid(("container", "service", "state", "restarts", "release", "since"), rows)


def wrong(now: Sequence[Replica]) -> list[str]:
    """The problems of a stack; none if no container runs."""
    if not any(each.running for each in now):
        return []
    failed = ((each, each.failed(each.restarts)) for each in now)
    return [f"{each.name} {how}: `invoke logs --service {each.service}`" for each, how in failed if how]
