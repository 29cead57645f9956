"""A maintenance on a swarm: a job on each node writes what nginx looks for, and no service is replaced.

The job's service stays, with the record as its label: a node that joins or comes back later runs it too.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker.kinds import BEAT
from deploy.docker.stack import MAINTENANCE, MAINTENANCE_ROOT, Stack
from deploy.project import limits, maintenance
from deploy.project.maintenance import Record, Wanted
from deploy.project.workers import is_worker
from deploy.swarm import ledger
from deploy.swarm.jobs import Session, clear_job, explained, hand_over
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile
from deploy.swarm.state import Snapshot
from deploy.swarm.view import ServiceFailed, follow

#: The label of the job's service that has the record, in base64; empty for no maintenance.
LABEL = "portico.maintenance"
#: The command that ends it.
STOP = "invoke maintenance --on swarm --stop"
#: What the job runs, as root without capabilities in nginx's image. `on` comes last, so that nginx never finds a part.
#: The page stays after the end, for a request that is answered at this moment.
SCRIPT = f"""\
set -eu
umask 022
cd {MAINTENANCE_ROOT}
if [ "$RECORD" = off ]; then rm -f on; exit; fi
mkdir -p allow
for each in $ALLOW; do : >"allow/$each"; done
printf %s "$PAGE" | base64 -d >.page
mv -f .page page.html
printf %s "$RECORD" | base64 -d >.on
mv -f .on on
for file in allow/*; do
    case " $ALLOW " in *" ${{file##*/}} "*) ;; *) rm -f "$file" ;; esac
done
"""


# --- Pure ---


def current(snapshot: Snapshot) -> Record | None:
    """The maintenance that is on; None without one."""
    job = snapshot.service(MAINTENANCE)
    label = job.labels.get(LABEL, "") if job else ""
    try:
        return maintenance.read(base64.b64decode(label).decode()) if label else None
    except ValueError:
        return None


def services(snapshot: Snapshot, hold: Collection[str]) -> dict[str, int]:
    """The services of what is held, with the replicas that they have now."""
    return {each.name: each.wanted for each in snapshot.services if not each.job and _held(each.name, hold)}


def _held(name: str, hold: Collection[str]) -> bool:
    return ("workers" in hold and is_worker(name)) or ("beat" in hold and name == BEAT)


def holding(file: StackFile, snapshot: Snapshot) -> StackFile:
    """The stack file of a release, in which nothing runs that is held."""
    on = current(snapshot)
    none = {
        name: {**each, "deploy": {**(each.get("deploy") or {}), "replicas": 0}}
        for name, each in file.services.items()
        if on and _held(name, on.hold)
    }
    return replace(file, services={**file.services, **none})


def job(file: StackFile, record: Record | None) -> StackFile:
    """The stack file of the job, made of the job for static files: it runs on each node too. ``file``: a release's."""
    shown = record or Record("", "")
    static = {key: value for key, value in file.services["static"].items() if key != "command"}
    deploy, label = static["deploy"], _encoded(record.text) if record else ""
    given = {
        # None is empty: the shell of the client would set it.
        "RECORD": label or "off",
        "PAGE": _encoded(maintenance.page(shown.message)),
        "ALLOW": " ".join(maintenance.names(("127.0.0.1", *shown.allow))),
    }
    service: dict[str, Any] = {
        **static,
        "image": file.services["nginx"]["image"],
        "user": "0",
        "entrypoint": ["sh", "-c", SCRIPT.replace("$", "$$")],
        "environment": given,
        "volumes": [{"type": "volume", "source": MAINTENANCE, "target": MAINTENANCE_ROOT}],
        "deploy": {**deploy, "labels": {**(deploy.get("labels") or {}), LABEL: label}},
    }
    return StackFile({MAINTENANCE: service}, file.sections).only([MAINTENANCE])


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def changes(before: Record | None, wanted: Wanted | None, snapshot: Snapshot) -> tuple[dict[str, int], dict[str, int]]:
    """The replicas that the held services had, which are stopped now; and those of services that are started again."""
    known = before.replicas if before else {}
    now = services(snapshot, wanted.hold if wanted else ())
    held = {name: max(number, known.get(name, 0)) for name, number in now.items()}
    there = {each.name for each in snapshot.services}
    return held, {name: number for name, number in known.items() if name not in held and name in there}


def remarks(snapshot: Snapshot, stack: Stack) -> list[str]:
    """What `status` says of it; nothing without a maintenance."""
    on = current(snapshot)
    return [f"{maintenance.said(on)}: `{STOP}{stack.project.option}` ends it"] if on else []


def down(snapshot: Snapshot) -> list[str]:
    """The nodes that get a change when they are back."""
    return [node.name for node in snapshot.nodes if node.state != "ready"]


def release_file(stack: Stack, entries: list[ledger.Release]) -> StackFile:
    """The stack file of the last release. Raises `Failure` without one, or for one whose nginx knows no maintenance."""
    if not entries:
        raise Failure("no release has been deployed to this swarm yet: `invoke swarm-deploy`")
    file = entries[-1].file
    mounts = [each.get("source") for each in file.services.get("nginx", {}).get("volumes") or []]
    if MAINTENANCE not in mounts:
        raise Failure(f"nginx of {stack.name} is of an earlier version: `invoke swarm-deploy` first, then this again")
    return file


def scaling(manager: Manager, replicas: Mapping[str, int]) -> Run:
    """The command that sets the replicas of services."""
    words = [f"{manager.stack}_{name}={number}" for name, number in replicas.items()]
    return manager.docker("service", "scale", "--detach", *words)


# --- Doing ---


def maintain(held: Session, stack: Stack, wanted: Wanted | None) -> None:
    """Begin a maintenance or change it; with None, end it. Raises `Failure` if a node cannot."""
    snapshot, file = held.manager.look(), release_file(stack, list(ledger.read(held.manager)))
    before = current(snapshot)
    stopped, resumed = changes(before, wanted, snapshot)
    if not wanted:
        _scale(held, snapshot, resumed)
        _write(held, file, None)
        held.notify("visitors see the site again" if before else "no maintenance is on")
    else:
        record = maintenance.record(wanted, before, stopped)
        _write(held, file, record)
        held.notify(maintenance.said(record))
        _scale(held, snapshot, {**resumed, **dict.fromkeys(stopped, 0)})
    if away := down(snapshot):
        held.notify(f"{', '.join(away)}: down, and so changed when back")


def _write(held: Session, file: StackFile, record: Record | None) -> None:
    clear_job(held, MAINTENANCE)
    try:
        hand_over(held, job(file, record), Snapshot())
    except ServiceFailed as failure:
        raise Failure(explained(held.manager, held.folder, failure)) from None


def _scale(held: Session, before: Snapshot, replicas: Mapping[str, int]) -> None:
    if replicas:
        held.notify(", ".join(f"{name}: {number}" for name, number in replicas.items()))
        held.change(scaling(held.manager, replicas))
        seconds = dict.fromkeys(replicas, float(limits.CONVERGE))
        follow(held.manager, seconds, {task.id for task in before.tasks}, held.lock.check)
