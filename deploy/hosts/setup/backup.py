"""The desired state of backups: the script, its timers, and where the repository is. `scripts/backup.sh` makes them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.values import Role
from deploy.hosts.layout import Layout, site_name
from deploy.hosts.setup.diff import Desired, File, Folder, Group, Idle, Unit
from deploy.hosts.setup.site import Site, has_files, template_text
from deploy.hosts.ssh.channel import script
from deploy.project.config import Media

_SCRIPTS = {"dumps": 0o644, "backup": 0o755, "restore": 0o755}


def folders(environment: Environment, media: Media, layout: Layout, host: Host) -> tuple[PurePosixPath, ...]:
    """The folders of the site's files that are backed up on a host: each file is on one host, or on a share of all."""
    writers = [each for each in environment.hosts if has_files(each)]
    uploads = host in (writers[:1] if media == "shared" else writers)
    exporting: Role = "worker" if environment.with_role("worker") else "web"
    return (
        *([layout.media] if media and uploads else []),
        *([layout.protected] if exporting in host.roles else []),
    )


def parts(environment: Environment, media: Media) -> tuple[Host, ...]:
    """The hosts that make backups: of the database first, then those that have files of their own."""
    layout = Layout("x")
    having = [each for each in environment.hosts if folders(environment, media, layout, each)]
    first = environment.with_role("database")
    return (*first, *(each for each in having if each not in first))


def with_backup(site: Site, host: Host) -> Desired:
    """The scripts are on each host of the site, as a restore stops it there; and where the database is copied."""
    layout, backup = site.layout, site.environment.backup
    if not backup or host not in parts(site.environment, site.project.media):
        return _without(site, host)
    template, timer, proof = layout.backup_units
    found = " ".join(map(str, folders(site.environment, site.project.media, layout, host)))
    configuration = {
        "RESTIC_REPOSITORY": backup.repository,
        "SITE": site_name(site.project.name, site.environment.name),
        "HOST": host.name,
        "KEEP": " ".join(backup.keep.arguments()),
        "FOLDERS": found,
    }
    own = backup.repository if backup.repository.startswith("/") else ""
    unit = template_text(
        "units/backup@.service",
        name=layout.name,
        program=str(layout.library / "backup"),
        record=str(layout.backup_record),
        spool=str(layout.backups),
        repository=f"ReadWritePaths=-{own}" if own else "",
    )
    hour = int(backup.at[:2])
    days = {timer: f"*-*-* {backup.at}:00", proof: f"Sun *-*-* {(hour + 1) % 24:02d}:{backup.at[3:]}:00"}
    instances = {timer: "timer", proof: "verify"}
    timers = [
        File(
            f"/etc/systemd/system/{each}",
            template_text("units/backup.timer", name=layout.name, what=instances[each], when=days[each]),
        )
        for each in days
        if each == timer or "database" in host.roles
    ]
    files = (
        *_scripts(layout),
        File(str(layout.etc / "backup.conf"), _shell(configuration)),
        File(str(layout.etc / "backup.env"), _shell(site.backup_secrets), mode=0o600, secret=True),
        File(f"/etc/systemd/system/{template}", unit),
        *timers,
    )
    return Desired(
        packages=("restic", "openssh-client", "ca-certificates"),
        folders=(Folder(str(layout.backups), mode=0o700), Folder(str(layout.backup_record))),
        groups=(Group(files),),
        units=tuple(Unit(PurePosixPath(file.path).name, restart_for=(file.path,)) for file in timers),
        servers=("backup",),
    )


def _scripts(layout: Layout) -> tuple[File, ...]:
    return tuple(
        File(str(layout.library / name), f"#!/bin/sh\n{script(f'{name}.sh')}", mode=mode)
        for name, mode in _SCRIPTS.items()
    )


def _shell(values: Mapping[str, str]) -> str:
    """Assignments that a shell reads."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def unit_files(layout: Layout) -> tuple[str, ...]:
    """The units' files."""
    return tuple(f"/etc/systemd/system/{each}" for each in layout.backup_units)


def _without(site: Site, host: Host) -> Desired:
    """What was backed up stays where it is: no command removes anything of a repository."""
    layout = site.layout
    gone = (*unit_files(layout), str(layout.etc / "backup.conf"), str(layout.etc / "backup.env"))
    _, *timers = layout.backup_units
    idle = tuple(map(Idle, timers))
    if not site.environment.backup and "database" not in host.roles:
        return Desired(absent=(*gone, *(str(layout.library / name) for name in _SCRIPTS)), idle=idle)
    folders = (Folder(str(layout.backup_record)),)
    return Desired(folders=folders, groups=(Group(_scripts(layout)),), absent=gone, idle=idle)
