"""The progress of a deploy: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from rich.table import Table

from deploy.core.errors import Failure
from deploy.core.running import quote
from deploy.core.screen import Screen
from deploy.core.screen import table as empty_table
from deploy.swarm.manager import Manager
from deploy.swarm.state import Snapshot, Standing, standing, unplaceable

#: Seconds between two queries of the swarm.
LOOK_SECONDS = 1.0
#: Seconds after which nodes, and services that are new or gone, are asked for again.
WHOLE_SECONDS = 5.0
#: Seconds for which a replica may fit on no node (one that has just joined is soon known), or a service be missing.
NOWHERE_SECONDS = 15
LABEL = "to label the node that keeps the data of NAME: `docker node update --label-add NAME=true NODE`"


class ServiceFailed(Failure):
    """A service did not converge. Has its name, and the reason in one line."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(message)
        self.service = service


def follow(
    manager: Manager, services: Mapping[str, float], known: Collection[str], check: Callable[[], None]
) -> Snapshot:
    """Wait until each of these services has converged, and return the state of the stack.

    ``services``: the seconds that each may take; ``known``: ids of the earlier tasks; ``check`` raises to stop the
    wait. Raises `ServiceFailed` for a service that failed, after printing the last lines of its replica, and `Failure`
    if one takes too long or is removed meanwhile.
    """
    began, looked = time.monotonic(), -WHOLE_SECONDS
    snapshot = Snapshot()
    with Progress() as progress:
        while True:
            check()
            whole = time.monotonic() - looked >= WHOLE_SECONDS
            snapshot = manager.look(None if whole else snapshot)
            looked = time.monotonic() if whole else looked
            standings = [standing(each, snapshot, known) for each in snapshot.services if each.name in services]
            progress.show(standings)
            failed = next((each for each in standings if each.failed), None)
            if failed:
                break
            if len(standings) == len(services) and all(each.done for each in standings):
                return snapshot
            waited = time.monotonic() - began
            if waited > NOWHERE_SECONDS and (lines := unplaceable(snapshot)):
                raise Failure("\n".join(f"{line}; {LABEL}" for line in lines))
            if late := [*gone(services, standings, waited), *overdue(services, standings, waited)]:
                raise Failure("; ".join(late))
            time.sleep(LOOK_SECONDS)
    raise ServiceFailed(failed.service, reason(manager, snapshot, failed))


def gone(services: Collection[str], standings: Sequence[Standing], waited: float) -> list[str]:
    """The services that no longer exist: somebody removed them."""
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
    """Why a service failed, in one line; prints the last lines of the failed replica."""
    service = snapshot.service(failed.service)
    if not failed.culprit or (service and service.job):  # `jobs` keeps the whole log of a job
        return f"{failed.service}: {failed.note}"
    where = snapshot.node(failed.culprit)
    quote(f"{failed.service} on {where}", manager.last_lines(failed.culprit.id))
    return f"{failed.service} on {where}: {failed.note}; its last lines are above"


class Progress(Screen):
    """Shows the progress of services."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, str] = {}

    def show(self, standings: Sequence[Standing]) -> None:
        """Show this state if it differs from the last one."""
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
