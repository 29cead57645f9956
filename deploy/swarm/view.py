"""A deploy as it goes on: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from rich.table import Table

from deploy.core.errors import Failure
from deploy.core.running import quote
from deploy.core.screen import Screen
from deploy.core.screen import table as empty_table
from deploy.project import limits
from deploy.swarm.manager import Manager
from deploy.swarm.state import Snapshot, Standing, nowhere, standing

#: Seconds between two looks at the swarm.
LOOK_SECONDS = 1.0
#: Seconds for which a replica may fit nowhere: a node that has just joined is soon known.
NOWHERE_SECONDS = 15
LABEL = "`docker node update --label-add NAME=true NODE` says that a node has the data of NAME"


class ServiceFailed(Failure):
    """A service did not come to be as it was asked for. Its name, and one line that says why."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(message)
        self.service = service


def follow(
    manager: Manager,
    services: Collection[str],
    known: Collection[str],
    check: Callable[[], None],
    seconds: float = limits.CONVERGE,
) -> Snapshot:
    """Return when each of these services is as it was asked for; what is then there.

    ``known``: ids of the tasks of before; ``check`` raises when we are to give up. Raises `ServiceFailed` for one
    that failed, the last lines of its replica shown, and `Failure` when it takes longer than ``seconds``.
    """
    began = time.monotonic()
    with Progress() as progress:
        while True:
            check()
            snapshot = manager.look()
            standings = [standing(each, snapshot, known) for each in snapshot.services if each.name in services]
            progress.show(standings)
            failed = next((each for each in standings if each.failed), None)
            if failed:
                break
            if len(standings) == len(services) and all(each.done for each in standings):
                return snapshot
            waited = time.monotonic() - began
            if waited > NOWHERE_SECONDS and (lines := nowhere(snapshot)):
                raise Failure("\n".join(f"{line}; {LABEL}" for line in lines))
            if waited > seconds:
                missing = ", ".join(f"{each.service} ({each.note})" for each in standings if not each.done)
                raise Failure(f"not done within {seconds:.0f} s: {missing}")
            time.sleep(LOOK_SECONDS)
    raise ServiceFailed(failed.service, reason(manager, snapshot, failed))


def reason(manager: Manager, snapshot: Snapshot, failed: Standing) -> str:
    """Why a service failed, in a line; the last lines of the replica that did are shown."""
    service = snapshot.service(failed.service)
    if not failed.culprit or (service and service.job):  # who runs a job keeps all of its log
        return f"{failed.service}: {failed.note}"
    where = snapshot.node(failed.culprit)
    quote(f"{failed.service} on {where}", manager.last_lines(failed.culprit.id))
    return f"{failed.service} on {where}: {failed.note}; its last lines are above"


class Progress(Screen):
    """Shows how far services are."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, str] = {}

    def show(self, standings: Sequence[Standing]) -> None:
        """Show this state, where it is another than the last."""
        if self.live:
            self.update(table(standings))
            return
        for each in standings:
            line = f"{each.service}: {each.running}/{each.wanted} {word(each)}{' ' + each.note if each.note else ''}"
            if self._said.get(each.service) != line:
                self._said[each.service] = line
                self.line(line)


def word(standing: Standing) -> str:
    return "failed" if standing.failed else "done" if standing.done else "…"


def table(standings: Sequence[Standing]) -> Table:
    """A row for each service."""
    colours = {"failed": "red", "done": "green", "…": "yellow"}
    shown = empty_table(("service", "replicas", "", "now"), wrapped=["now"])
    for each in standings:
        state = word(each)
        shown.add_row(each.service, f"{each.running}/{each.wanted}", f"[{colours[state]}]{state}[/]", each.note)
    return shown
