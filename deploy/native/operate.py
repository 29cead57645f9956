"""The native site as a place: the operations on it while `dev --native` runs, and those it does not support."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.core.action import Action, steps
from deploy.core.errors import Failure
from deploy.core.logs import Query
from deploy.core.report import Grid, Report
from deploy.core.running import Notify, is_held
from deploy.core.shell import Run
from deploy.native import runtime
from deploy.project import maintenance
from deploy.project.config import Project
from deploy.venvs import build
from deploy.venvs.store import Store

_TERMINAL = "the terminal of `invoke dev --native`"


@dataclass(frozen=True)
class Native:
    """The processes of this machine, and the dev environment in which they run."""

    project: Project
    store: Store
    notify: Notify

    name = "native"

    def runs(self) -> bool:
        """Whether `dev --native` runs in this checkout."""
        return is_held(self.project.run_folder / "lock")

    def status(self) -> Report:
        """The processes that have reported that they are ready."""
        if not self.runs():
            raise Failure("nothing runs natively: `invoke dev --native` starts it")
        ready = sorted(path.name for path in (self.project.run_folder / "ready").iterdir())
        return Report([Grid(("process", "state"), [(name, "ready") for name in ready])])

    def logs(self, service: str, asked: Query) -> Action:
        """Raises `Failure`: the native site does not store logs."""
        raise Failure(f"the native site stores no logs: they are in {_TERMINAL}")

    def scale(self, service: str, number: int) -> Action:
        """Raises `Failure`: the number of workers is set at the start."""
        raise Failure("the native site cannot be scaled: restart it with `invoke dev --native --workers N`")

    def manage(self, arguments: Sequence[str]) -> Action:
        """Run manage.py in the dev environment, which is built first if it is not current."""
        command = runtime.manage(self.project, self.store, list(arguments))
        built = steps([], command)

        def show() -> None:
            build.ensure(self.store, "dev", dry_run=True, notify=self.notify)
            built.show()

        def do() -> Run:
            os.environ.update(runtime.own_variables(self.project))
            build.ensure(self.store, "dev", notify=self.notify)
            return command

        return Action(show, do)

    def releases(self) -> Report:
        """Raises `Failure`: the native site runs the work tree itself."""
        raise Failure("the native site has no releases: it runs the work tree")

    def rollback(self, to: str) -> Action:
        """Raises `Failure`, as `releases` does."""
        raise Failure("the native site has no releases: `git switch` changes the work tree that it runs")

    def maintenance(self, wanted: maintenance.Wanted | None) -> Action:
        """Raises `Failure`: no nginx is in front of the native site."""
        raise Failure("the native site has no nginx that could show a page: Ctrl-C in its terminal ends it")
