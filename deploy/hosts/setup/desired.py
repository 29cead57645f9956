"""The desired state of a host, by its roles. Only decides; facts that only hosts know are parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Host
from deploy.hosts.layout import BROKER_PORT, DATABASE_PORT, NGINX_GROUP, OWNER, SHARED, UNIT_KINDS, Layout, UnitKind
from deploy.hosts.setup import redis
from deploy.hosts.setup.additions import with_additions
from deploy.hosts.setup.backup import with_backup
from deploy.hosts.setup.diff import Access, Desired, Facts, File, Folder, Group, Idle, Server, Unit, User, digest
from deploy.hosts.setup.firewall import with_firewall
from deploy.hosts.setup.redis import with_redis, without_redis
from deploy.hosts.setup.servers import (
    with_broker,
    with_database,
    with_nginx,
    without_broker,
    without_database,
    without_nginx,
)
from deploy.hosts.setup.site import (
    DROP_IN,
    FOLDER,
    SERVERS,
    Learned,
    Site,
    has_files,
    is_site,
    shows_certificate,
    template_text,
)

_SITE_PACKAGES = (
    *("curl", "gcc", "iproute2", "libc6-dev", "libpq-dev", "libpq5"),
    *("python3", "python3-dev", "python3-venv", "util-linux"),
)


def setup_digest(site: Site, host: Host) -> str:
    """A digest of the desired state of a host, without the certificate and key of `tls`, and the secrets of backups.

    A deploy compares it on machines that do not have the key, and may not have the certificate.
    """
    return digest(_without_mark(replace(site, certificate="", key="", backup_secrets={}), host, Learned()))


def setup_mark(site: Site, host: Host) -> str:
    """The mark that remote-setup writes to `Layout.setup`: the digest and, on a host that serves it, the certificate's.

    The certificate's digest is omitted if the certificate is unknown.
    """
    shown = [site.certificate] if site.certificate and shows_certificate(site, host) else []
    return " ".join([setup_digest(site, host), *(hashlib.sha256(text.encode()).hexdigest() for text in shown)])


def desired(site: Site, host: Host, learned: Learned) -> Desired:
    """The desired state of a host."""
    found = _without_mark(site, host, learned)
    if site.owner:
        text = site.owner.mark(learned.mark).text
        first = None if learned.others else File(str(OWNER), text)
        found = replace(found, owner=File(str(site.layout.mark), text), first_owner=first)
    return (
        found
        if waits_for(site, host, learned)
        else replace(found, setup=File(str(site.layout.setup), f"{setup_mark(site, host)}\n"))
    )


def waits_for(site: Site, host: Host, learned: Learned) -> list[str]:
    """The names of the hosts that must still generate a password for this one. It keeps its old one meanwhile."""
    lacking = [server for server in SERVERS if is_site(host) and server not in learned.access]
    return list(dict.fromkeys(other.name for server in lacking for other in site.environment.with_role(server)))


def _without_mark(site: Site, host: Host, learned: Learned) -> Desired:
    parts = _joined(
        [
            _common(site, host),
            _site(site, host, learned) if is_site(host) else _no_site(site),
            _client(site, host),
            with_nginx(site, host, learned) if has_files(host) else without_nginx(site, learned),
            with_database(site, host, learned) if "database" in host.roles else without_database(site, learned),
            with_broker(site, host, learned) if "broker" in host.roles else without_broker(site, learned),
            with_redis(site, host, learned) if "redis" in host.roles else without_redis(site),
            with_backup(site, host),
            with_firewall(site, host, learned),
            with_additions(site, host),
            _upgrades(site, learned),
        ]
    )
    return replace(parts, others=bool(learned.others), moved=_moved(site.layout))


def _moved(layout: Layout) -> tuple[tuple[str, str], ...]:
    """Files that earlier versions called as the project, and that belong to the host: their text is the same."""
    if not layout.earlier or layout.name == SHARED:
        return ()
    units = ("nginx.service", "rabbitmq-server.service", "epmd.socket")
    return (
        *((DROP_IN.format(unit, layout.name), DROP_IN.format(unit, SHARED)) for unit in units),
        (f"/etc/postgresql/%PG%/conf.d/{layout.name}.conf", f"/etc/postgresql/%PG%/conf.d/{SHARED}.conf"),
        (f"/etc/apt/apt.conf.d/60{layout.name}", f"/etc/apt/apt.conf.d/60{SHARED}"),
    )


def _joined(parts: list[Desired]) -> Desired:
    return Desired(
        packages=tuple(each for part in parts for each in part.packages),
        users=tuple(each for part in parts for each in part.users),
        folders=tuple(each for part in parts for each in part.folders),
        groups=tuple(each for part in parts for each in part.groups),
        absent=tuple(each for part in parts for each in part.absent),
        units=tuple(each for part in parts for each in part.units),
        idle=tuple(each for part in parts for each in part.idle),
        servers=tuple(each for part in parts for each in part.servers),
        retired=tuple(each for part in parts for each in part.retired),
        retired_files=tuple(each for part in parts for each in part.retired_files),
    )


def _common(site: Site, host: Host) -> Desired:
    layout = site.layout
    state = Folder(str(layout.state), host.user, host.user)
    sudoers = template_text("files/sudoers", user=host.user, helper=str(layout.helper))
    return Desired(
        packages=("sudo", "ca-certificates"),
        users=(User(host.user),),
        folders=(Folder(str(layout.etc)), Folder(str(layout.library)), Folder(str(layout.root)), state),
        groups=(
            Group(
                (
                    File(str(layout.roles), f"{' '.join(host.roles)}\n"),
                    File(str(layout.database_name), f"{layout.database}\n"),
                    File(str(layout.helper), (FOLDER / "scripts/helper.sh").read_text(), mode=0o755),
                    File(str(layout.sudoers), sudoers, mode=0o440),
                )
            ),
        ),
    )


# --- Hosts that run the site ---


def _site(site: Site, host: Host, learned: Learned) -> Desired:
    layout = site.layout
    kinds: list[UnitKind] = ["release", *(kind for kind in ("web", "worker", "beat") if kind in host.roles)]
    others: list[UnitKind] = [kind for kind in ("web", "worker", "beat") if kind not in host.roles]
    return Desired(
        packages=(*_SITE_PACKAGES, *(name for name in site.project.packages if name not in _SITE_PACKAGES)),
        users=(User(layout.user, system=True),),
        folders=(
            Folder(str(layout.releases), host.user, layout.user, 0o2755),
            Folder(str(layout.layers), host.user, layout.user, 0o2755),
            Folder(str(layout.static), host.user, host.user),
            Folder(str(layout.protected), layout.user, NGINX_GROUP, 0o2750),
            *([Folder(str(layout.media), layout.user, NGINX_GROUP, 0o2750)] if site.project.media == "local" else []),
        ),
        groups=(
            Group(
                (
                    *([] if waits_for(site, host, learned) else _services(site, host, learned)),
                    File(str(layout.launch), (FOLDER / "scripts/launch.sh").read_text(), mode=0o755),
                    File(str(layout.sandbox), _sandbox(layout)),
                    *(File(f"/etc/systemd/system/{layout.template(kind)}", _unit(site, host, kind)) for kind in kinds),
                    File(
                        f"/etc/systemd/system/{layout.boot_unit}",
                        template_text("units/boot.service", name=layout.name, helper=str(layout.helper)),
                    ),
                )
            ),
        ),
        # The file `project` is of earlier versions: a release now has the names of its own parts.
        absent=(str(layout.etc / "project"), *(f"/etc/systemd/system/{layout.template(kind)}" for kind in others)),
        idle=tuple(Idle(layout.template(kind)) for kind in others),
        units=(Unit(layout.boot_unit, runs=False),),
    )


def _client(site: Site, host: Host) -> Desired:
    """For `dbshell` on any host of the site: the client of a database on the environment's hosts."""
    needs = is_site(host) and site.environment.with_role("database")
    return Desired(packages=("postgresql-client",) if needs else ())


def _no_site(site: Site) -> Desired:
    """What to remove from a host that no longer runs the site: above all the servers' URLs with their passwords."""
    layout = site.layout
    units = (layout.boot_unit, *map(layout.template, UNIT_KINDS))
    known = map(str, (layout.services, *map(layout.certificate, SERVERS)))
    return Desired(absent=(*known, *(f"/etc/systemd/system/{unit}" for unit in units)), idle=tuple(map(Idle, units)))


def _sandbox(layout: Layout) -> str:
    return template_text(
        "units/sandbox", etc=str(layout.etc), root=str(layout.root), user=layout.user, group=layout.group
    )


def _unit(site: Site, host: Host, kind: UnitKind) -> str:
    limit = host.max_memory.get(kind) if kind != "release" else None
    return template_text(
        f"units/{kind}@.service",
        name=site.layout.name,
        launch=str(site.layout.launch),
        stop=str(site.environment.drain + 15),
        limits=f"MemoryMax={limit}" if limit else "",
        sandbox=_sandbox(site.layout),
    )


def _services(site: Site, here: Host, learned: Learned) -> list[File]:
    """The URLs and certificates of the servers on the environment's hosts.

    Each server's own certificate is the only trusted authority, so the name in it does not matter.
    """
    lines, files = [], []
    for server in SERVERS:
        for host in site.environment.with_role(server):
            lines += service_lines(site, here, host, server, learned.access[server])
            files.append(File(str(site.layout.certificate(server)), learned.access[server].certificate))
    text = "".join(f"{line}\n" for line in lines)
    return [*files, File(str(site.layout.services), text, mode=0o600, secret=True)]


def service_lines(site: Site, here: Host, there: Host, server: Server, access: Access) -> list[str]:
    """The variables by which the site's processes on a host reach a server on another host, or on the same one."""
    checked = f"sslmode=verify-ca&sslrootcert={site.layout.certificate('database')}"
    forms: Mapping[Server, tuple[str, ...]] = {
        "database": (f"DATABASE_URL=postgres://{{account}}:{{}}@{{}}:{DATABASE_PORT}/{{place}}?{checked}",),
        "broker": (
            f"CELERY_BROKER_URL=amqps://{{account}}:{{}}@{{}}:{BROKER_PORT}/{{place}}",
            f"CELERY_BROKER_CA={site.layout.certificate('broker')}",
        ),
        "redis": redis.variables(site),
    }
    address = there.private_address
    if server == "redis" and there.name == here.name:
        address = "127.0.0.1"  # all that it listens to if there is no other host
    shown = f"[{address}]" if ":" in address else address
    names = {"account": access.account, "place": access.place}
    return [line.format(access.password.get_secret_value(), shown, **names) for line in forms[server]]


def _upgrades(site: Site, learned: Learned) -> Desired:
    file = File(f"/etc/apt/apt.conf.d/60{SHARED}", template_text("files/unattended-upgrades.conf"), common=True)
    if not site.environment.unattended_upgrades:
        return Desired() if learned.others else Desired(absent=(file.path,))
    return Desired(packages=("unattended-upgrades",), groups=(Group((file,)),))


def require_addresses(site: Site, host: Host, facts: Facts) -> None:
    """Raise `Failure` if a host cannot resolve the address of another."""
    for other in site.environment.hosts:
        if other.name != host.name and not facts.addresses.get(other.private_address):
            raise Failure(
                f"{host.name}: cannot resolve {other.private_address}: give {other.name} a private_address "
                f"in {site.environment.source}"
            )
