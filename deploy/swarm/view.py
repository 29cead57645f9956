"""A deploy as it goes on: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from rich.table import Table

from deploy.core.errors import Failure
from deploy.core.running import quote
from deploy.core.screen import Screen
from deploy.core.screen import table as empty_table
from deploy.swarm.manager import Manager
from deploy.swarm.state import Snapshot, Standing, nowhere, standing

#: Seconds between two looks at the swarm.
LOOK_SECONDS = 1.0
#: Seconds for which a replica may fit nowhere, as a node that has just joined is soon known; or a service be missing.
NOWHERE_SECONDS = 15
LABEL = "`docker node update --label-add NAME=true NODE` says that a node has the data of NAME"


class ServiceFailed(Failure):
    """A service did not come to be as it was asked for. Its name, and one line that says why."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(message)
        self.service = service


def follow(
    manager: Manager, services: Mapping[str, float], known: Collection[str], check: Callable[[], None]
) -> Snapshot:
    """Return when each of these services is as it was asked for; what is then there.

    ``services``: the seconds that each may take; ``known``: ids of the earlier tasks; ``check`` raises when we are
    to give up. Raises `ServiceFailed` for one that failed, the last lines of its replica shown, and `Failure` when one
    takes too long, or is removed meanwhile.
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
            if late := [*gone(services, standings, waited), *overdue(services, standings, waited)]:
                raise Failure("; ".join(late))
            time.sleep(LOOK_SECONDS)
    raise ServiceFailed(failed.service, reason(manager, snapshot, failed))


def gone(services: Collection[str], standings: Sequence[Standing], waited: float) -> list[str]:
    """The services that are not there: somebody removed them."""
    there = {each.service for each in standings}
    return [f"{name}: somebody removed it" for name in services if waited > NOWHERE_SECONDS and name not in there]


def overdue(services: Mapping[str, float], standings: Sequence[Standing], waited: float) -> list[str]:
    """The services that have taken longer than they may."""
    done = {each.service for each in standings if each.done}
    notes = {each.service: f" ({each.note})" for each in standings if each.note}
    return [
        f"{name}{notes.get(name, '')}: not done within {seconds:g} s"
        for name, seconds in services.items()
        if name not in done and waited > seconds
    ]


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
