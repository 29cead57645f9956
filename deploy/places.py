"""The interface that every runtime implements, and the choice of the runtime that a command means.

A place is where the site runs: processes of this machine, a compose stack, a stack on a swarm, an environment of hosts.
Each has the same methods, which return reports and actions; `tasks.py` shows them or carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from deploy.core.errors import Failure

if TYPE_CHECKING:
    from deploy.compose.operate import Compose
    from deploy.core.action import Action
    from deploy.core.logs import Query
    from deploy.core.report import Report
    from deploy.core.running import Notify
    from deploy.hosts.operate import Hosts
    from deploy.native.operate import Native
    from deploy.project import maintenance
    from deploy.project.config import Project
    from deploy.swarm.operate import Swarm
    from deploy.venvs.store import Store

#: The values of `--on` besides the names of environments of hosts.
RUNTIMES = ("native", "dev", "prod", "swarm")


class Place(Protocol):
    """Where the site runs. A method raises `Failure` for what the place cannot do, and says what to do instead."""

    @property
    def name(self) -> str:
        """Its name for `--on`."""

    def status(self) -> Report:
        """What runs there, and what is wrong with it."""

    def logs(self, service: str, asked: Query) -> Action:
        """The log lines of a service, or of all, in order of time."""

    def scale(self, service: str, number: int) -> Action:
        """Change the number of replicas of a service."""

    def manage(self, arguments: Sequence[str]) -> Action:
        """Run manage.py in the serving release."""

    def releases(self) -> Report:
        """The releases that `rollback` can restore, and the latest actions: who, when, what, and how each ended."""

    def rollback(self, to: str) -> Action:
        """Return to an earlier release, with the environment it had; with an empty ``to``, to the release before."""

    def maintenance(self, wanted: maintenance.Wanted | None) -> Action:
        """Have nginx answer 503 with a page, until None ends that; a deploy, a rollback and a reboot do not end it."""


class Places:
    """The places of a project."""

    def __init__(self, project: Project, store: Store, notify: Notify) -> None:
        self._project, self._store, self._notify = project, store, notify

    def named(self, on: str, *, host: str = "", context: str = "", only: str = "") -> Place:
        """The place that `--on` names. Raises `Failure` for an unknown or ambiguous name, and if nothing runs there."""
        if on in RUNTIMES and on in self.environments():
            raise Failure(
                f"--on {on}: is both a runtime and the hosts of deploy/environments/{on}.yaml: rename that file and "
                f"{on}.known_hosts; until then use the remote-* tasks for the hosts, and omit --on for what runs here"
            )
        if self._project.environment and on not in ("prod", "swarm"):
            raise Failure(f"--env {self._project.environment} is for --on prod and --on swarm, not for --on {on}")
        if on == "native":
            return self.native()
        if on in ("dev", "prod"):
            return self.compose(on)
        if on == "swarm":
            return self.swarm(host, context)
        if on not in self.environments():
            known = ", ".join([*RUNTIMES, *self.environments()])
            raise Failure(f"--on {on}: there is no such place; there are: {known}")
        return self.hosts(on, only)

    def chosen(self, on: str, host: str, context: str) -> Place:
        """The place that was named, or the one where the site runs. Raises `Failure` when it runs nowhere."""
        if on or host or context:
            return self.named(on or "swarm", host=host, context=context)
        found = self.running(stopped=True)
        if found is None and self._project.environment:
            from deploy.docker import dotenv

            dotenv.load(self._project, "prod")  # it says that there is none, or that hosts have that name
        if found is None:
            option = self._project.option
            start = f"`invoke prod{option}`" if option else "`invoke dev` or `invoke prod`"
            raise Failure(f"nothing of this project runs here: {start} starts it; --on names a place")
        return found

    def running(self, *, stopped: bool = False) -> Place | None:
        """The place where the site runs on this machine; None if it does not run.

        With ``stopped``, a compose stack whose containers have all ended counts if no other stack runs. Raises
        `Failure` if the site runs in more than one place.
        """
        found = list(self._running(stopped))
        if len(found) > 1:
            names = " and ".join(each.name for each in found)
            raise Failure(f"{names} both run here: say which with --on {found[0].name}, or --on {found[1].name}")
        return found[0] if found else None

    def _running(self, stopped: bool) -> Iterator[Place]:
        from deploy.docker.engine import can_run

        if can_run(self._project):
            from deploy.compose.operate import present
            from deploy.swarm.operate import here

            yield from present(self._project, self._notify) or present(self._project, self._notify, stopped=stopped)
            yield from here(self._project, self._notify)
        if not self._project.environment and (native := self.native()).runs():
            yield native

    def environments(self) -> list[str]:
        """The names of the environments of hosts."""
        from deploy.hosts.environment.model import known_environments

        return known_environments(self._project.root)

    def native(self) -> Native:
        """The processes of this machine."""
        from deploy.native.operate import Native

        return Native(self._project, self._store, self._notify)

    def compose(self, kind: str) -> Compose:
        """The development or production stack. Raises `Failure` if there is no `.env`, or if it is another's."""
        from deploy.compose.operate import named

        return named(self._project, kind, self._notify)

    def swarm(self, host: str = "", context: str = "", *, ready: bool = True) -> Swarm:
        """The stack on a swarm. With ``ready``, raises `Failure` if the manager cannot be reached."""
        from deploy.docker.dotenv import load
        from deploy.docker.stack import SWARM
        from deploy.swarm import manager
        from deploy.swarm.operate import Swarm

        stack = load(self._project, SWARM)
        asked = manager.Manager(stack.name, manager.engine(host, context))
        if ready:
            manager.require_manager(asked)
        return Swarm(asked, stack, self._notify)

    def hosts(self, name: str, only: str = "") -> Hosts:
        """The hosts of an environment that run the site, or some of them. Raises `Failure` for an invalid file."""
        from deploy.hosts.environment import file
        from deploy.hosts.operate import Hosts
        from deploy.hosts.release import phases

        environment = file.of(self._project, name)
        return Hosts(phases.choose(self._project, environment, only), self._notify)


def development(
    ready: Callable[[str], Project], store: Store, port: str, workers: str, notify: Notify, *, native: bool
) -> Action:
    """The site for a developer: in containers, or as processes if that is asked for or there is no engine.

    ``ready`` gives the project if nothing keeps it from running in a runtime. Raises `Failure` for a wrong number.
    """
    from deploy import doctor
    from deploy.project import config

    on_port = config.port_number(port, "--port") if port else 0
    nodes = config.whole_number(workers, "--workers", 1, 32)
    if why := "" if native else doctor.why_native():
        notify(f"Running natively: {why}.")
    if native or why:
        from deploy.native import runtime

        project = ready("native")
        return runtime.development(project, store, on_port or project.port, nodes, notify)
    from deploy.compose import dev as containers

    return containers.development(ready("dev"), on_port, nodes, notify)
