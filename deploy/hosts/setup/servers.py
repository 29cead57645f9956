"""The desired state of nginx, PostgreSQL and RabbitMQ on hosts that run them, and what to remove from the others."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from deploy.hosts.environment.model import Host
from deploy.hosts.setup.diff import Desired, File, Folder, Group, Idle, Unit
from deploy.hosts.setup.site import DROP_IN, Learned, Site, has_files, memory_limit, shows_certificate, template_text
from deploy.project import beside, proxy

NGINX = "/etc/nginx/site"
#: All files that nginx may have on any host.
_NGINX_FILES = (
    *("nginx.conf", "site.conf", "proxy.conf", "http.conf", "server.conf", "missing.conf", "unknown.conf"),
    *("defaults.conf", "local.conf", "tls.crt", "tls.key"),
)

POSTGRESQL = "postgresql@%PG%.service"


def with_nginx(site: Site, host: Host, learned: Learned) -> Desired:
    layout, environment, web = site.layout, site.environment, "web" in host.roles
    front = proxy.Front(
        environment.names,
        environment.tls is not None,
        443,
        [str(network) for network in environment.trusted_proxies],
        static_root=str(layout.static),
        protected_root=str(layout.protected),
        media_url=site.project.media_url,
        media_root=str(layout.media),
        upload_megabytes=site.project.upload_megabytes,
        own=site.own.nginx,
    )
    others = [other for other in environment.hosts if other.name != host.name]
    here = proxy.Here(
        front,
        socket=str(layout.upstream),
        log=str(layout.access_log),
        web=web,
        others=[address for other in others if has_files(other) for address in learned.of(other)[:1]],
        askers=[address for other in others if "web" in other.roles for address in learned.of(other)],
        ipv6=learned.ipv6,
    )
    main = "site.conf" if web else "http.conf"
    texts = {
        "nginx.conf": template_text("files/nginx.conf", name=layout.name, main=main),
        **({name: site.nginx[name] for name in ("site.conf", "proxy.conf")} if web else {}),
        **proxy.host_files(here),
    }
    if learned.shares_nginx:
        texts = beside.beside(texts, layout.name)
    files = [File(f"{NGINX}/{name}", text) for name, text in texts.items()]
    if shows_certificate(site, host):
        files.append(File(f"{NGINX}/tls.crt", site.certificate))
        files.append(File(f"{NGINX}/tls.key", site.key, mode=0o600, secret=True))
    drop_in = _nginx_drop_in(site)
    if learned.shares_nginx:
        files.append(File(_beside_others(site), template_text("files/nginx.beside.conf", name=layout.name, main=main)))
        return Desired(
            packages=("nginx", "logrotate"),
            folders=(Folder(NGINX),),
            groups=(Group(tuple(files), check="nginx-beside"),),
            absent=(drop_in, *_absent(site, files)),
            units=(Unit("nginx.service", restart_for=(drop_in,), reload_for=tuple(file.path for file in files)),),
        )
    return Desired(
        packages=("nginx", "logrotate"),
        folders=(Folder(NGINX),),
        groups=(
            Group((File(drop_in, template_text("files/nginx.drop-in.conf")),)),
            Group(tuple(files), check="nginx"),
        ),
        absent=_absent(site, files),
        units=(Unit("nginx.service", restart_for=(drop_in,), reload_for=tuple(file.path for file in files)),),
    )


def _absent(site: Site, files: list[File]) -> tuple[str, ...]:
    return tuple(path for path in _nginx_paths(site) if path not in [file.path for file in files])


def _beside_others(site: Site) -> str:
    """Our part of an nginx that serves others too; read after all of those, so that the default server is theirs."""
    return f"/etc/nginx/sites-enabled/zz-{site.layout.name}.conf"


def _nginx_drop_in(site: Site) -> str:
    return DROP_IN.format("nginx.service", site.layout.name)


def _nginx_paths(site: Site) -> list[str]:
    return [_beside_others(site), *(f"{NGINX}/{name}" for name in _NGINX_FILES)]


def without_nginx(site: Site) -> Desired:
    """Leave an nginx alone that does not use our configuration."""
    drop_in = _nginx_drop_in(site)
    return Desired(absent=(drop_in, *_nginx_paths(site)), idle=(Idle("nginx.service", drop_in),))


# --- Servers ---


def without_database(site: Site, learned: Learned) -> Desired:
    """Stop a server that the site no longer uses, and keep its data. Leave one alone that others use."""
    password = str(site.layout.password("database"))
    idle = () if learned.shares_database else (Idle("postgresql.service", password),)
    return Desired(absent=(password,), idle=idle)


def without_broker(site: Site, learned: Learned) -> Desired:
    password = str(site.layout.password("broker"))
    units = () if learned.shares_broker else ("rabbitmq-server.service", "epmd.service", "epmd.socket")
    return Desired(absent=(password, _broker_beside_others(site)), idle=tuple(Idle(unit, password) for unit in units))


def _broker_beside_others(site: Site) -> str:
    """Our part of the configuration of a RabbitMQ that others use too; the user and the vhost are then the project's.

    `scripts/rabbitmq.sh` knows the path.
    """
    return f"/etc/rabbitmq/conf.d/{site.layout.name}.conf"


def with_database(site: Site, host: Host, learned: Learned) -> Desired:
    folder = "/etc/postgresql/%PG%"
    own = ("postgres", "postgres")
    configuration = File(f"{folder}/conf.d/{site.layout.name}.conf", template_text("files/postgresql.conf"), *own)
    lines = "\n".join(_admitted(site, host, learned))
    rules = File(f"{folder}/pg_hba.conf", template_text("files/pg_hba.conf", lines=lines), *own, 0o640, shared="merged")
    memory = memory_limit(site, host, "database", "postgresql@.service")
    watched = [configuration.path, *(file.path for group in memory.groups for file in group.files), *memory.absent]
    return Desired(
        packages=("postgresql", "ssl-cert"),
        folders=(Folder(str(site.layout.backups), mode=0o700),),
        groups=(Group((configuration, rules)), *memory.groups),
        absent=memory.absent,
        units=(
            Unit("postgresql.service", runs=False),
            Unit(POSTGRESQL, restart_for=tuple(watched), reload_for=(rules.path,), enabled=False),
        ),
        servers=("database",),
    )


def _admitted(site: Site, host: Host, learned: Learned) -> Iterator[str]:
    for other in site.environment.site_hosts:
        if other.name == host.name:
            yield "hostssl site site samehost scram-sha-256"
        else:
            for address in learned.of(other):
                yield f"hostssl site site {_network(address)} scram-sha-256"


def _network(address: str) -> str:
    try:
        return f"{address}/{ip_address(address).max_prefixlen}"
    except ValueError:
        return address


def with_broker(site: Site, host: Host, learned: Learned) -> Desired:
    return _shared_broker(site) if learned.shares_broker else _own_broker(site, host)


def _broker_key(site: Site) -> File:
    path = DROP_IN.format("rabbitmq-server.service", site.layout.name)
    return File(path, template_text("files/rabbitmq.drop-in.conf"))


def _shared_broker(site: Site) -> Desired:
    """A server that others use keeps its name, its configuration and its users; ours gets a vhost of its own."""
    own = ("rabbitmq", "rabbitmq")
    path, key = _broker_beside_others(site), _broker_key(site)
    beside = File(path, template_text("files/rabbitmq.beside.conf", name=site.layout.name), *own)
    return Desired(
        packages=("rabbitmq-server", "ssl-cert"),
        groups=(Group((beside, key)),),
        units=(Unit("rabbitmq-server.service", restart_for=(beside.path, key.path)),),
        servers=("broker",),
    )


def _own_broker(site: Site, host: Host) -> Desired:
    limit = host.max_memory.get("broker", "")
    size = f"total_memory_available_override_value = {limit.replace('M', 'MB').replace('G', 'GB')}" if limit else ""
    own = ("rabbitmq", "rabbitmq")
    files = (
        File("/etc/rabbitmq/rabbitmq.conf", template_text("files/rabbitmq.conf", memory=size), *own, shared="copied"),
        File("/etc/rabbitmq/rabbitmq-env.conf", template_text("files/rabbitmq-env.conf"), *own, shared="copied"),
    )
    names = File(DROP_IN.format("epmd.socket", site.layout.name), template_text("files/epmd.drop-in.conf"))
    key = _broker_key(site)
    memory = memory_limit(site, host, "broker", "rabbitmq-server.service")
    watched = [file.path for group in (Group((*files, key)), *memory.groups) for file in group.files]
    return Desired(
        packages=("rabbitmq-server", "ssl-cert"),
        groups=(Group((*files, names, key)), *memory.groups),
        absent=(_broker_beside_others(site), *memory.absent),
        units=(
            Unit("epmd.socket", restart_for=(names.path,)),
            Unit("rabbitmq-server.service", restart_for=(*watched, *memory.absent, names.path)),
        ),
        servers=("broker",),
    )
