"""What a project adds to its hosts: lines for the site's own units, and units of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploy.hosts.environment.model import Host
from deploy.hosts.environment.values import ROLES
from deploy.hosts.layout import UNIT_KINDS, Layout
from deploy.hosts.setup.diff import Desired, File, Group, Idle, Unit
from deploy.hosts.setup.site import DROP_IN, Site, is_site
from deploy.project import local

#: The line of a unit of its own that says on which hosts it runs; systemd itself ignores keys that begin with X-.
_ON = re.compile(r"^X-Roles=(.*)$", re.MULTILINE)


def with_additions(site: Site, host: Host) -> Desired:
    """The project's own part of a host's desired state.

    A unit's addition takes effect with the next deploy, which restarts units; a unit of the project's own at once.
    """
    files = [*_drop_ins(site, host)]
    paths = {file.path for file in files}
    places = (_drop_in(site.layout, kind) for kind in UNIT_KINDS)
    absent = [path for path in places if path not in paths]
    units, idle = [], []
    for name, text in site.own.services.items():
        unit = f"{site.layout.name}-{name}.service"
        path = f"/etc/systemd/system/{unit}"
        if text.strip() and set(_roles(text)) & set(host.roles):
            files.append(File(path, text))
            units.append(Unit(unit, restart_for=(path,)))
        else:
            absent.append(path)
            idle.append(Idle(unit, path))
    groups = (Group(tuple(files)),) if files else ()
    return Desired(groups=groups, absent=tuple(absent), units=tuple(units), idle=tuple(idle))


def _drop_ins(site: Site, host: Host) -> Iterator[File]:
    for kind in UNIT_KINDS:
        runs = is_site(host) and (kind == "release" or kind in host.roles)
        if runs and (text := site.own.drop_ins.get(kind)):
            yield File(_drop_in(site.layout, kind), text)


def _drop_in(layout: Layout, kind: str) -> str:
    return DROP_IN.format(f"{layout.name}-{kind}@.service", f"{layout.name}-local")


def _roles(text: str) -> list[str]:
    """The roles whose hosts run a unit: those that it names, else those of the site."""
    found = _ON.search(text)
    return found[1].split() if found else ["web", "worker", "beat"]


def problems(site: Site) -> list[str]:
    """A line for each mistake in the project's own units."""
    return [
        f"{local.UNITS}/{name}.service: X-Roles: {role!r} is not a role; there are: {', '.join(ROLES)}"
        for name, text in site.own.services.items()
        for role in _roles(text)
        if role not in ROLES
    ]
