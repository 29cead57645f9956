"""The desired state of nginx, PostgreSQL and RabbitMQ on hosts that run them, and what to remove from the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from deploy.hosts.environment.model import Host
from deploy.hosts.layout import NGINX_MAIN, SHARED
from deploy.hosts.setup import acme
from deploy.hosts.setup.diff import Desired, File, Folder, Group, Idle, Unit
from deploy.hosts.setup.site import (
    Learned,
    Site,
    confined,
    has_files,
    memory_limit,
    shared_drop_in,
    shows_certificate,
    template_text,
)
from deploy.project import beside, proxy

#: All files that nginx may have of a site; earlier versions had them in the folder of the main file.
_NGINX_FILES = (
    *("site.conf", "proxy.conf", "http.conf", "server.conf", "missing.conf", "unknown.conf"),
    *("defaults.conf", "local.conf", "tls.crt", "tls.key", "tls.pem"),
)
_NGINX_DROP_IN = shared_drop_in("nginx.service")

POSTGRESQL = "postgresql@%PG%.service"


def with_nginx(site: Site, host: Host, learned: Learned) -> Desired:
    layout, main = site.layout, "site.conf" if "web" in host.roles else "http.conf"
    texts = beside.beside(_nginx_texts(site, host, learned), layout.name, alone=not learned.shares_nginx)
    files = [File(str(layout.nginx / name), text) for name, text in texts.items()]
    if shows_certificate(site, host):
        files.append(File(str(layout.nginx / "tls.crt"), site.certificate))
        files.append(File(str(layout.nginx / "tls.key"), site.key, mode=0o600, secret=True))
    part = template_text("files/nginx.site.conf", name=layout.name, path=str(layout.nginx / main))
    files.append(File(str(layout.nginx_site), part))
    whole = File(str(NGINX_MAIN), template_text("files/nginx.conf"), common=True)
    drop_in = confined(_NGINX_DROP_IN, "files/nginx.drop-in.conf")
    groups: tuple[Group, ...] = (Group((drop_in,)), Group((*files, whole), check="nginx"))
    absent = nginx_paths(site, files)
    if acme.orders(site, host):
        # The host makes it, and replaces it by itself.
        absent = tuple(path for path in absent if path != str(layout.nginx / "tls.pem"))
    if learned.shares_nginx:
        groups = (Group(tuple(files), check="nginx-beside"),)
        absent = (drop_in.path, whole.path, *absent)
    return Desired(
        packages=("nginx", "logrotate"),
        folders=(Folder(str(layout.nginx)),),
        groups=groups,
        absent=absent,
        units=(
            Unit("nginx.service", restart_for=(drop_in.path,), reload_for=(*(file.path for file in files), whole.path)),
        ),
    )


def _nginx_texts(site: Site, host: Host, learned: Learned) -> dict[str, str]:
    layout, environment, web = site.layout, site.environment, "web" in host.roles
    front = proxy.Front(
        environment.names,
        environment.tls is not None,
        443,
        [str(network) for network in environment.trusted_proxies],
        static_root=str(layout.static),
        protected_root=str(layout.protected),
        maintenance_root=str(layout.maintenance),
        media_url=site.project.media_url,
        media_root=str(layout.media),
        upload_megabytes=site.project.upload_megabytes,
        metrics=site.project.metrics,
        own=site.own.nginx,
    )
    others = [other for other in environment.hosts if other.name != host.name]
    if acme.orders(site, host):
        first = acme.issuer(environment)
        front = (
            replace(front, acme=True, challenges=str(layout.challenges))
            if first.name == host.name
            else replace(front, acme=True, challenged=learned.of(first)[0])
        )
    here = proxy.Here(
        front,
        socket=str(layout.upstream),
        log=str(layout.access_log),
        web=web,
        others=[address for other in others if has_files(other) for address in learned.of(other)[:1]],
        askers=[address for other in others if "web" in other.roles for address in learned.of(other)],
        ipv6=learned.ipv6,
        # The same on all hosts, whatever each calls the site.
        peers_name=acme.peers_name(site),
        handover=str(layout.handover / "pair") if acme.hands_over(site, host) else "",
    )
    return {
        **({name: site.nginx[name] for name in ("site.conf", "proxy.conf")} if web else {}),
        **proxy.host_files(here),
    }


def nginx_paths(site: Site, files: Sequence[File] = ()) -> tuple[str, ...]:
    """The paths of the site's files without those of ``files``."""
    layout = site.layout
    folders = (layout.nginx, *([NGINX_MAIN.parent] if layout.earlier else []))
    paths = [str(layout.nginx_site), *(str(folder / name) for folder in folders for name in _NGINX_FILES)]
    return tuple(path for path in paths if path not in [file.path for file in files])


def without_nginx(site: Site, learned: Learned) -> Desired:
    """Leave an nginx alone that does not use our configuration, or serves other sites."""
    if learned.others:
        units = (Unit("nginx.service", reload_for=(str(site.layout.nginx_site),), optional=True),)
        return Desired(absent=nginx_paths(site), units=units)
    shared = (_NGINX_DROP_IN, str(NGINX_MAIN))
    return Desired(absent=(*shared, *nginx_paths(site)), idle=(Idle("nginx.service", _NGINX_DROP_IN),))


# --- Servers ---


def without_database(site: Site, learned: Learned) -> Desired:
    """Stop a server that the site no longer uses, and keep its data. Leave one alone that others use."""
    password = str(site.layout.password("database"))
    idle = () if learned.shares_database or learned.others else (Idle("postgresql.service", password),)
    return Desired(absent=(password,), idle=idle)


def without_broker(site: Site, learned: Learned) -> Desired:
    password = str(site.layout.password("broker"))
    units = (
        () if learned.shares_broker or learned.others else ("rabbitmq-server.service", "epmd.service", "epmd.socket")
    )
    beside = () if learned.others else (_broker_beside_others(site),)
    return Desired(absent=(password, *beside), idle=tuple(Idle(unit, password) for unit in units))


def _broker_beside_others(site: Site) -> str:
    """Our part of the configuration of a RabbitMQ that others use too. `scripts/rabbitmq.sh` knows the path."""
    return f"/etc/rabbitmq/conf.d/{site.layout.name if site.layout.earlier else SHARED}.conf"


def with_database(site: Site, host: Host, learned: Learned) -> Desired:
    folder = "/etc/postgresql/%PG%"
    own = ("postgres", "postgres")
    text = template_text("files/postgresql.conf")
    configuration = File(f"{folder}/conf.d/{SHARED}.conf", text, *own, common=True)
    rules = admission(site, _admitted(site, host, learned))
    memory = memory_limit(site, host, "database", "postgresql@.service", learned)
    rights = confined(shared_drop_in("postgresql@.service"), "files/postgresql.drop-in.conf")
    # A server that others use keeps the rights it has, fewer or not: it is not restarted for a database of theirs.
    files = (configuration, rules, *([] if learned.shares_database else [rights]))
    limits = [file.path for group in memory.groups for file in group.files]
    watched = [configuration.path, rights.path, *limits, *memory.absent]
    return Desired(
        packages=("postgresql", "ssl-cert"),
        folders=(Folder(str(site.layout.backups), mode=0o700),),
        groups=(Group(files), *memory.groups),
        absent=memory.absent,
        units=(
            Unit("postgresql.service", runs=False),
            Unit(POSTGRESQL, restart_for=tuple(watched), reload_for=(rules.path,), enabled=False),
        ),
        servers=("database",),
    )


def admission(site: Site, lines: Iterable[str]) -> File:
    """The site's lines in pg_hba.conf, which others have lines in too."""
    text = template_text("files/pg_hba.conf", name=site.layout.name, lines="\n".join(lines))
    path = "/etc/postgresql/%PG%/pg_hba.conf"
    return File(path, text, "postgres", "postgres", 0o640, shared="merged", earlier=site.layout.earlier)


def _admitted(site: Site, host: Host, learned: Learned) -> Iterator[str]:
    names = f"{site.layout.database} {site.layout.database}"
    for other in site.environment.site_hosts:
        if other.name == host.name:
            yield f"hostssl {names} samehost scram-sha-256"
        else:
            for address in learned.of(other):
                yield f"hostssl {names} {_network(address)} scram-sha-256"


def _network(address: str) -> str:
    try:
        return f"{address}/{ip_address(address).max_prefixlen}"
    except ValueError:
        return address


def with_broker(site: Site, host: Host, learned: Learned) -> Desired:
    return _shared_broker(site) if learned.shares_broker else _own_broker(site, host, learned)


def _broker_key() -> File:
    path = shared_drop_in("rabbitmq-server.service")
    return File(path, template_text("files/rabbitmq.drop-in.conf"), common=True)


def _broker_rights() -> File:
    return confined(shared_drop_in("rabbitmq-server.service", "confined"), "files/rabbitmq.confined.drop-in.conf")


def _shared_broker(site: Site) -> Desired:
    """A server that others use keeps its name, its configuration, its users and its rights."""
    own = ("rabbitmq", "rabbitmq")
    path, key, rights = _broker_beside_others(site), _broker_key(), _broker_rights()
    beside = File(path, template_text("files/rabbitmq.beside.conf"), *own, common=True)
    return Desired(
        packages=("rabbitmq-server", "ssl-cert"),
        groups=(Group((beside, key)),),
        absent=(rights.path,),
        units=(Unit("rabbitmq-server.service", restart_for=(beside.path, key.path, rights.path)),),
        servers=("broker",),
    )


def _own_broker(site: Site, host: Host, learned: Learned) -> Desired:
    limit = host.max_memory.get("broker", "")
    size = f"total_memory_available_override_value = {limit.replace('M', 'MB').replace('G', 'GB')}" if limit else ""
    own = ("rabbitmq", "rabbitmq")
    texts = {
        "rabbitmq.conf": template_text("files/rabbitmq.conf", memory=size),
        "rabbitmq-env.conf": template_text("files/rabbitmq-env.conf"),
    }
    files = tuple(
        File(f"/etc/rabbitmq/{name}", text, *own, shared="copied", common=True) for name, text in texts.items()
    )
    names = File(shared_drop_in("epmd.socket"), template_text("files/epmd.drop-in.conf"), common=True)
    key, rights = _broker_key(), _broker_rights()
    memory = memory_limit(site, host, "broker", "rabbitmq-server.service", learned)
    watched = [file.path for group in (Group((*files, key, rights)), *memory.groups) for file in group.files]
    return Desired(
        packages=("rabbitmq-server", "ssl-cert"),
        groups=(Group((*files, names, key, rights)), *memory.groups),
        absent=(*(() if learned.others else (_broker_beside_others(site),)), *memory.absent),
        units=(
            Unit("epmd.socket", restart_for=(names.path,)),
            Unit("rabbitmq-server.service", restart_for=(*watched, *memory.absent, names.path)),
        ),
        servers=("broker",),
    )
