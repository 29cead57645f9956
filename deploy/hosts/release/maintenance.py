"""A maintenance on all hosts, or on none: nginx answers 503 with a page, and workers or beat may be held.

`scripts/maintenance.sh` is the other side. It runs as the deploy user: nginx and the units look for files of theirs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from deploy.core.errors import Failure
from deploy.core.running import Notify, printable, quote, who
from deploy.hosts.environment.model import Host
from deploy.hosts.release import deploy, phases
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection, Connections
from deploy.project import maintenance
from deploy.project.maintenance import Record, Wanted

#: Seconds for a step that only writes files; for one that starts units.
FILE_SECONDS, START_SECONDS = 60, 300
#: The host itself: a deploy, a restart and `status` ask the site through nginx.
_HERE = ("127.0.0.1", "::1")
#: What a host is after a step.
SAID = {"on": "in maintenance", "hold": "in maintenance", "release": "its units run", "off": "serves"}
#: What is held, and the role that runs it.
_ROLES = {"workers": "worker", "beat": "beat"}


def maintain(target: Target, wanted: Wanted | None, notify: Notify) -> None:
    """Begin a maintenance or change it; with None, end it. Raises `Failure` if a host cannot: then none does."""
    known = pinning.load(target.environment.root, target.environment.name)
    with (
        Connections(known, owner=target.owner).begin(target.hosts) as connections,
        View(target.names) as view,
        phases.locked(operation := Operation(target, connections, view), "maintenance", who()),
    ):
        states = phases.look(operation)
        require_ready(target, states)
        before = {name: each.maintenance for name, each in states.items()}
        first = next(filter(None, before.values()), None)
        if wanted:
            record = maintenance.record(wanted, first)
            _begin(operation, record, before)
            notify(maintenance.said(record))
        else:
            _step(operation, "release", seconds=START_SECONDS + target.environment.drain)
            _step(operation, "off", entry=_entry("maintenance ended") if first else None)
            notify("visitors see the site again" if first else "no maintenance is on")


def show(target: Target, wanted: Wanted | None) -> None:
    """Print the steps and their script, after inspecting the hosts."""
    states = deploy.looked(target)
    require_ready(target, states)
    every = ", ".join(target.names)
    steps = ["on", *(["hold"] if wanted.hold else [])] if wanted else ["release", "off"]
    for number, step in enumerate(steps, 1):
        print(f"{number}. maintenance.sh {step} on {every}")
    if wanted:
        print(f"\n# --- the page\n{maintenance.page(wanted.message)}", end="")
    print(f"\n# --- maintenance.sh\n{script('maintenance.sh')}", end="")


def require_ready(target: Target, states: Mapping[str, HostState]) -> None:
    """Raise `Failure` for hosts that are not set up."""
    if lines := [f"{name}: is not set up" for name, each in states.items() if not each.roles]:
        raise Failure(
            "\n".join([*lines[:-1], f"{lines[-1]}: run `invoke remote-setup --env {target.environment.name}`"])
        )


def remarks(found: Mapping[str, Record | None], environment: str) -> list[str]:
    """What `status` says: of a maintenance that is on, and of hosts without it. Pure."""
    ends = f"`invoke remote-maintenance --env {environment} --stop` ends it"
    on = {name: record for name, record in found.items() if record}
    if not on:
        return []
    without = [name for name in found if name not in on]
    said = [f"{maintenance.said(next(iter(on.values())))}: {ends}"]
    if without:
        again = f"`invoke remote-maintenance --env {environment} --start`, or --stop"
        said.append(f"maintenance is on {', '.join(on)}, and not on {', '.join(without)}: {again}")
    return said


def header(step: str, record: Record | None = None, entry: Mapping[str, str] | None = None) -> str:
    """The header that `scripts/maintenance.sh` reads. Pure."""

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    shown = record or Record("", "")
    names = " ".join(maintenance.names((*_HERE, *shown.allow)))
    roles = " ".join(_ROLES[each] for each in shown.hold)
    texts = (encoded(shown.text), encoded(maintenance.page(shown.message)), encoded(names))
    return phases.lines(step, *texts, roles, json.dumps(dict(entry))[1:-1] if entry else "", "end")


def _begin(operation: Operation, record: Record, before: Mapping[str, Record | None]) -> None:
    seconds = START_SECONDS + operation.target.environment.drain
    try:
        _step(operation, "on", record)
        _step(operation, "hold", record, seconds=seconds, entry=_entry("maintenance"))
    except BaseException:
        for host in operation.target.hosts:
            _back(operation, host, before[host.name])
        raise


def _back(operation: Operation, host: Host, record: Record | None) -> None:
    """Put a host back. A failure here must not hide the first one."""
    with suppress(Failure):
        for step in ("on", "hold") if record else ("release", "off"):
            _step(operation, step, record, [host], seconds=START_SECONDS)


def _entry(what: str) -> dict[str, str]:
    return deploy.entry("", what, "")


def _step(
    operation: Operation,
    step: str,
    record: Record | None = None,
    hosts: Sequence[Host] | None = None,
    *,
    seconds: int = FILE_SECONDS,
    entry: Mapping[str, str] | None = None,
) -> None:
    """Take a step on all hosts at once. Raises `Failure` with a line for each that failed."""
    text = header(step, record, entry).encode()

    def take(connection: Connection) -> None:
        result = run_script(connection, script("maintenance.sh"), text, seconds=seconds)
        if result.code:
            *said, _ = result.stderr.decode(errors="replace").splitlines() or [""]
            quote(connection.name, "\n".join(said))
            raise Failure(f"{connection.name}: {printable(result.last_line)}")
        operation.view.show(connection.name, SAID[step])

    operation.everywhere(take, hosts)
