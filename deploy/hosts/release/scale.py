"""Change how many processes a kind of units has, on all chosen hosts or on none, without losing a request or a task.

The number is beside the releases (`scripts/scale.sh`), so that each later one has it: until the next change, or until
the environment file says another number than the one that was changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.hosts.environment.model import Host
from deploy.hosts.release import deploy, phases, restart
from deploy.hosts.release.phases import Target
from deploy.hosts.release.restart import UnderWay
from deploy.hosts.release.state import HostState
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection
from deploy.project.config import Project
from deploy.project.workers import PROCESS, SERVICE

#: Stands for the number of the environment file.
FILE = "-"
_SECONDS = 30


def kind_of(service: str, project: Project) -> str:
    """The kind of units of a role or of a service of containers. Raises `Failure` for what has no number. Pure."""
    name = "web" if service == "app" else service.replace(SERVICE, PROCESS, 1)
    kinds = {kind.process: kind for kind in project.kinds}
    if name == "beat":
        raise Failure("beat cannot be scaled: there must be only one")
    if name != "web" and name not in kinds:
        raise Failure(f"{service!r} is not {' or '.join(('web', *kinds))}")
    kind = kinds.get(name)
    if kind and kind.alone:
        raise Failure(f"{name} cannot be scaled: project.workers.{kind.name}.alone in invoke.yaml")
    if kind and any(each.startswith("--autoscale") for each in kind.options):
        raise Failure(f"{name} scales itself: --autoscale is in project.workers.{kind.name}.celery in invoke.yaml")
    return name


def remarks(has: HostState) -> list[str]:
    """What status says of a host whose numbers are not those of the environment file. Pure."""
    return [
        f"{kind} has {number} processes instead of {own}, by `remote-scale`, until the next one"
        " or another number in the file"
        for kind, (number, own) in has.scaled.items()
    ]


def plan(hosts: Sequence[Host], states: Mapping[str, HostState], kind: str, number: int) -> list[str]:
    """A description of the steps. Pure."""
    due = [host for host, _ in restart.steps(hosts, states, kind)]
    return [
        f"1. scale.sh on {', '.join(host.name for host in due)}: {kind} has {number} processes from its next start on",
        *(f"{at}. restart.sh on {host.name}: {kind}" for at, host in enumerate(due, 2)),
    ]


def show(target: Target, kind: str, number: int) -> None:
    """Print the steps and their scripts, after inspecting the hosts."""
    print("\n".join(plan(target.hosts, restart.looked(target), kind, number)))
    for name in ("scale.sh", "restart.sh"):
        print(f"\n# --- {name}\n{script(name)}", end="")


def scale(target: Target, kind: str, number: int, notify: Notify) -> None:
    """Change the number and restart the units of the kind, one host after the other.

    If one does not come back, all hosts get the number that they had. Raises `Failure` that names it.
    """
    with restart.under_way(target, f"scale of {kind} to {number}") as now:
        due = [host for host, _ in restart.steps(target.hosts, now.states, kind)]
        wanted = dict.fromkeys((host.name for host in due), str(number))
        before: dict[str, str] = {}
        begun: list[Host] = []
        try:
            now.operation.everywhere(partial(_set, now.states, kind, wanted, before), due)
            for host in due:
                now.check()
                begun.append(host)
                now.restart(host, [kind])
        except BaseException as error:
            whole = _put_back(now, kind, before, begun)
            if isinstance(error, Failure) and whole:
                raise Failure(f"{error.message}; all hosts have the number of {kind} that they had") from None
            raise
        notify(f"{kind} has {number} processes on {', '.join(wanted)} ({now.seconds:.1f} s)")


def _set(
    states: Mapping[str, HostState], kind: str, wanted: Mapping[str, str], before: dict[str, str], to: Connection
) -> None:
    """Change the number on a host, for the next start, and note in ``before`` which it had."""
    text = phases.lines(states[to.name].current, kind, wanted[to.name]).encode()
    result = run_script(to, script("scale.sh"), text, seconds=_SECONDS)
    if result.code:
        raise Failure(f"{to.name}: {result.last_line}")
    before[to.name] = result.text.strip()


def _put_back(now: UnderWay, kind: str, before: Mapping[str, str], begun: Sequence[Host]) -> bool:
    """The number as it was on all hosts, and their units restarted where that had begun; what fails is said.

    Returns whether nothing failed.
    """
    back = replace(now, entry=deploy.entry("", f"number of {kind} as it was", ""))
    known = {name: number for name, number in before.items() if number == FILE or number.isdecimal()}
    whole = True
    for host in now.operation.target.hosts:
        if host.name not in known:
            continue
        try:
            _set(now.states, kind, known, {}, now.operation.connections.to(host))
            if host in begun:
                back.restart(host, [kind])
        except Failure as failure:
            now.operation.view.notify(failure.message)
            whole = False
    return whole
