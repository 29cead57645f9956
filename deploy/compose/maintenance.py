"""The maintenance of a stack: its files beside nginx's, and the services that are held meanwhile.

They lie in the folder that nginx has mounted, where no update touches them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from deploy.core.errors import Failure
from deploy.core.shell import MakeFolder, Remove, Step, WriteSecret
from deploy.docker.kinds import BEAT
from deploy.docker.stack import PROD, READABLE, Stack
from deploy.project import maintenance
from deploy.project.maintenance import Record

#: The command that ends it.
STOP = "invoke maintenance --on prod --stop"


def folder(stack: Stack) -> Path:
    """Where nginx looks (`proxy.Front.maintenance_root`)."""
    return stack.secrets / "nginx" / "maintenance"


def current(stack: Stack) -> Record | None:
    """The maintenance that is on; None without one."""
    path = folder(stack) / "on"
    return maintenance.read(path.read_text()) if stack.kind == PROD and path.exists() else None


def services(stack: Stack, hold: Collection[str]) -> list[str]:
    """The services of what is held."""
    return [name for name in stack.site_services if ("beat" if name == BEAT else "workers") in hold and name != "app"]


def free(stack: Stack, some: Sequence[str]) -> list[str]:
    """Those of some services that are not held: an update starts no others."""
    on = current(stack)
    held = services(stack, on.hold) if on else []
    return [name for name in some if name not in held]


def remarks(stack: Stack) -> list[str]:
    """What `status` says of it; nothing without a maintenance."""
    on = current(stack)
    return [f"{maintenance.said(on)}: `{STOP}{stack.project.option}` ends it"] if on else []


def require_known(stack: Stack) -> None:
    """Raise `Failure` if nginx runs with a configuration of an earlier version, which looks for nothing."""
    path = stack.secrets / "nginx" / "site.conf"
    if not path.exists() or "$maintenance_root" not in path.read_text():
        raise Failure("nginx runs with the configuration of an earlier version: `invoke prod` first, then this again")


def start_steps(stack: Stack, record: Record) -> list[Step]:
    """The steps that begin a maintenance or change one: `on` comes last, so that nginx never finds a part of it."""
    here = folder(stack)
    allowed, wanted = here / "allow", maintenance.names(record.allow)
    gone = sorted(path for path in allowed.glob("*") if path.name not in wanted)
    return [
        MakeFolder(here, 0o755),
        MakeFolder(allowed, 0o755),
        *(WriteSecret(allowed / name, "", READABLE) for name in wanted),
        WriteSecret(here / "page.html", maintenance.page(record.message), READABLE),
        WriteSecret(here / "on", f"{record.text}\n", READABLE),
        *(Remove(path) for path in gone),
    ]


def stop_steps(stack: Stack) -> list[Step]:
    """The steps that end a maintenance. The page stays, for a request that is answered at this moment."""
    return [Remove(folder(stack) / "on")]


def replicas(record: Record | None, held: Sequence[str], running: Mapping[str, int]) -> dict[str, int]:
    """How many replicas each of the held services had; what an earlier command has stopped, it has recorded."""
    before = record.replicas if record else {}
    return {name: max(before.get(name, 0), running.get(name, 0)) for name in held}
