"""Restart the units of the release that serves, host by host, without losing a request or a task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from deploy.core.errors import Failure
from deploy.core.running import Notify, printable, quote, who
from deploy.hosts.environment.model import Host
from deploy.hosts.release import deploy, fleet, phases, state
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connections

#: A host, and the kinds of its units that restart.
Step = tuple[Host, list[str]]


@dataclass(frozen=True)
class UnderWay:
    """A command that restarts units: the hosts are locked, and what runs there is known."""

    operation: Operation
    states: Mapping[str, HostState]
    #: Raises `Failure` if the lock is lost.
    check: Callable[[], None]
    #: What the ledger says of the command.
    entry: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.operation.view.seconds

    def restart(self, host: Host, kinds: Sequence[str]) -> None:
        """Restart these kinds of units of a host. Raises `Failure` at the first that fails."""
        restart_host(self.operation, host, kinds, {**self.entry, **served(self.states[host.name])})


@contextmanager
def under_way(target: Target, what: str) -> Iterator[UnderWay]:
    """Lock the hosts for a command, and look at them. Raises `Failure` for hosts that cannot restart a unit."""
    known = pinning.load(target.environment.root, target.environment.name)
    with (
        Connections(known, owner=target.owner).begin(target.hosts) as connections,
        View(target.names) as view,
        phases.locked(operation := Operation(target, connections, view), what, who()) as check,
    ):
        states = phases.look(operation)
        for line in require_ready(target, states):
            view.notify(line)
        yield UnderWay(operation, states, check, deploy.entry("", what, ""))


def restart(target: Target, role: str, notify: Notify) -> None:
    """Restart all units, or those of a kind, one host after the other. Raises `Failure` at the first that fails."""
    with under_way(target, f"restart{f' of {role}' if role else ''}") as now:
        due = steps(target.hosts, now.states, role)
        for host, kinds in due:
            now.check()
            now.restart(host, kinds)
        notify(f"restarted on {', '.join(host.name for host, _ in due)} ({now.seconds:.1f} s)")


def looked(target: Target) -> Mapping[str, HostState]:
    """The state of the hosts, for a dry run. Raises `Failure` for hosts that cannot restart a unit."""
    states = deploy.looked(target)
    for line in require_ready(target, states):
        print(line)
    return states


def show(target: Target, role: str) -> None:
    """Print the steps of a restart and its script, after inspecting the hosts."""
    states = looked(target)
    for number, (host, kinds) in enumerate(steps(target.hosts, states, role), 1):
        print(f"{number}. restart.sh on {host.name}: {', '.join(kinds)} of {states[host.name].current}")
    print(f"\n# --- restart.sh\n{script('restart.sh')}", end="")


def require_ready(target: Target, states: Mapping[str, HostState]) -> list[str]:
    """Raise `Failure` for hosts that cannot restart a unit; returns lines that recommend a new setup."""
    return state.require_ready(
        states, deploy.roles(target), deploy.setup_marks(target, states), target.environment.name
    )


def steps(hosts: Sequence[Host], states: Mapping[str, HostState], role: str) -> list[Step]:
    """The hosts in order, with the kinds of units that restart there: of all, or those of a kind.

    Raises `Failure` if nothing of it runs on these hosts. Pure.
    """
    due = [(host, state.due(states[host.name], host.roles)) for host in hosts]
    if found := [(host, chosen) for host, kinds in due if (chosen := [each for each in kinds if role in ("", each)])]:
        return found
    if not any(kinds for _, kinds in due):
        raise Failure("no release serves on these hosts yet: `invoke remote-deploy`")
    known = list(dict.fromkeys(kind for _, kinds in due for kind in kinds))
    raise Failure(f"--role {role}: does not run on these hosts; there are: {', '.join(known)}")


def header(target: Target, release: str, kinds: Sequence[str], entry: Mapping[str, str]) -> str:
    """The header that `scripts/restart.sh` reads."""
    environment = target.environment
    words = (" ".join(kinds), environment.domain, "https" if environment.tls else "http")
    probes = " ".join(target.project.probes)
    return phases.lines(release, *words, probes, json.dumps(dict(entry))[1:-1])


def served(has: HostState) -> dict[str, str]:
    """What the ledger says of the release that serves on a host."""
    commit = next((kept.release.commit for kept in has.kept if kept.release.id == has.current), "")
    return {"release": has.current, "commit": commit}


def restart_host(operation: Operation, host: Host, kinds: Sequence[str], entry: Mapping[str, str]) -> None:
    """Restart these kinds of units of a host, one after the other. Raises `Failure` at the first that fails."""
    target, view = operation.target, operation.view

    def heard(line: str) -> None:
        if line.startswith("= "):
            view.show(host.name, f"{printable(line[2:])} restarted")
        elif line.startswith("| "):
            quote(host.name, line[2:])

    view.show(host.name, f"restarting {', '.join(kinds)}")
    # A unit ends its requests or tasks first; web is started twice.
    seconds = (len(kinds) + 1) * (fleet.START_SECONDS + target.environment.drain)
    text = header(target, entry["release"], kinds, entry).encode()
    result = run_script(operation.connections.to(host), script("restart.sh"), text, seconds=seconds, line=heard)
    if result.code:
        view.show(host.name, "failed")
        raise Failure(f"{host.name}: {result.last_line}")
    view.show(host.name, "done")
