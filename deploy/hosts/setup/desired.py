"""What a host of an environment is to be, by its roles. Decides only: what the hosts know, it is told."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from string import Template

from deploy import proxy
from deploy.config import Project
from deploy.errors import Failure
from deploy.hosts.environment.file import SITE_ROLES, Environment, Host
from deploy.hosts.environment.values import Role
from deploy.hosts.layout import APP, BROKER_PORT, DATABASE_PORT, NGINX_GROUP, UNIT_KINDS, Layout, UnitKind
from deploy.hosts.setup.diff import Access, Desired, Facts, File, Folder, Group, Idle, Server, Unit, User, digest

FOLDER = Path(__file__).parent.parent
SERVERS: tuple[Server, ...] = ("database", "broker")
#: Who may not be the user that deploys: it is to have no more rights than the helper gives.
RESERVED = {"root", APP, NGINX_GROUP, "postgres", "rabbitmq"}
#: Groups whose members may do, or read, what root may.
POWERFUL = {"root", "sudo", "wheel", "adm", "disk", "docker", "lxd", "systemd-journal"}
NGINX = "/etc/nginx/site"
#: All that is there on one host or another.
_NGINX_FILES = (
    *("nginx.conf", "site.conf", "proxy.conf", "http.conf", "server.conf", "missing.conf", "unknown.conf"),
    *("tls.crt", "tls.key"),
)
DROP_IN = "/etc/systemd/system/{}.d/{}.conf"
POSTGRESQL = "postgresql@%PG%-main.service"
#: The oldest Python that the site runs on.
PYTHON = (3, 11)
_SITE_PACKAGES = (
    *("curl", "gcc", "iproute2", "libc6-dev", "libpq-dev", "libpq5"),
    *("python3", "python3-dev", "python3-venv", "util-linux"),
)


@dataclass(frozen=True)
class Site:
    """An environment, with the texts that go to its hosts."""

    environment: Environment
    project: Project
    #: Of the project's folder `nginx`, by name.
    nginx: Mapping[str, str]
    certificate: str = ""
    key: str = field(default="", repr=False)

    @property
    def layout(self) -> Layout:
        return Layout(self.project.name)

    def others(self, host: Host) -> tuple[Host, ...]:
        """What else runs something of the site."""
        return tuple(other for other in self.environment.site_hosts if other.name != host.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What hosts call each other."""
        return tuple(dict.fromkeys(host.private_address for host in self.environment.hosts))


@dataclass(frozen=True)
class Learned:
    """What only the hosts know. Without it, names stand for addresses, and what needs a password is empty."""

    ports: tuple[int, ...] = (22,)
    ipv6: bool = False
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: To the servers that are on hosts of the environment.
    access: Mapping[Server, Access] = field(default_factory=dict)

    def of(self, host: Host) -> tuple[str, ...]:
        """The addresses of a host, as another has to know them."""
        return self.addresses.get(host.private_address, (host.private_address,))


def is_site(host: Host) -> bool:
    """Whether a host runs something of the site."""
    return bool(SITE_ROLES & set(host.roles))


def has_files(host: Host) -> bool:
    """Whether protected files are written on a host, which others may be asked for."""
    return "web" in host.roles or "worker" in host.roles


def refusal(host: Host, facts: Facts) -> str:
    """Why a host cannot be set up; empty when it can."""
    system, version = facts.system
    number = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if system not in ("debian", "ubuntu") or number < ((12,) if system == "debian" else (22, 4)):
        return f"is {system} {version}; a host is Debian 12 or newer, or Ubuntu 22.04 LTS or newer"
    if system == "ubuntu" and (number[0] % 2 or number[1:2] != (4,)):
        return f"is ubuntu {version}, which has no long support; install an LTS release"
    if not facts.systemd:
        return "is not run by systemd, which the site's units need"
    python = facts.python or ((3, 10) if (system, number) == ("ubuntu", (22, 4)) else PYTHON)
    if is_site(host) and python < PYTHON:
        have, need = (".".join(map(str, each)) for each in (python, PYTHON))
        return f"has Python {have}, and the site needs {need}: install Debian 12 or Ubuntu 24.04"
    return next(_too_many_rights(facts), "")


def _too_many_rights(facts: Facts) -> Iterator[str]:
    """Of users that were there before us, who are to have no rights but those that we give."""
    for user, groups in facts.groups.items():
        for group in sorted(POWERFUL & {*groups}):
            yield f"{user} is in the group {group}, with which it may do more than deploy: gpasswd -d {user} {group}"
        if groups[:1] != (user,):
            yield f"{user} has no group of its own: groupadd -f {user} && usermod -g {user} {user}"


def complaints(environment: Environment) -> list[str]:
    """What is wrong with an environment that no host needs to be asked for, a line each."""
    return [
        f"{environment.source}: {host.name}: {host.user} cannot be the user that deploys; name another with user"
        for host in environment.hosts
        if host.user in RESERVED or host.user == host.admin
    ]


def setup_digest(site: Site, host: Host) -> str:
    """What remote-setup leaves in `Layout.setup` of a host that is as this environment, and this project, have it."""
    return digest(_without_digest(site, host, Learned()))


def desired(site: Site, host: Host, learned: Learned) -> Desired:
    """What a host is to be."""
    found = _without_digest(site, host, learned)
    return (
        found
        if waits_for(site, host, learned)
        else replace(found, setup=File(str(site.layout.setup), f"{setup_digest(site, host)}\n"))
    )


def waits_for(site: Site, host: Host, learned: Learned) -> list[str]:
    """The hosts that have yet to make a password which this one needs, by name. What it has had meanwhile stays."""
    lacking = [server for server in SERVERS if is_site(host) and server not in learned.access]
    return list(dict.fromkeys(other.name for server in lacking for other in site.environment.with_role(server)))


def _without_digest(site: Site, host: Host, learned: Learned) -> Desired:
    return _joined(
        [
            _common(site, host),
            _site(site, host, learned) if is_site(host) else _no_site(site),
            _nginx(site, host, learned) if has_files(host) else _no_nginx(site),
            _database(site, host, learned) if "database" in host.roles else _no_database(site),
            _broker(site, host) if "broker" in host.roles else _no_broker(site),
            _firewall(site, host, learned),
            _upgrades(site),
        ]
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
    )


def _text(path: str, /, **values: str) -> str:
    """One of our files for hosts. A line that is left empty by its value is dropped."""
    lines = (FOLDER / path).read_text("utf-8").splitlines()
    filled = ((line, Template(line).substitute(values)) for line in lines)
    return "".join(f"{new}\n" for old, new in filled if new or not old)


def _memory(site: Site, host: Host, role: Role, unit: str) -> Desired:
    path = DROP_IN.format(unit, f"{site.layout.name}-memory")
    if limit := host.max_memory.get(role):
        return Desired(groups=(Group((File(path, _text("files/memory.drop-in.conf", memory=limit)),)),))
    return Desired(absent=(path,))


def _common(site: Site, host: Host) -> Desired:
    layout = site.layout
    state = Folder(str(layout.state), host.user, host.user)
    sudoers = _text("files/sudoers", user=host.user, helper=str(layout.helper))
    return Desired(
        packages=("sudo", "ca-certificates"),
        users=(User(host.user),),
        folders=(Folder(str(layout.etc)), Folder(str(layout.library)), Folder(str(layout.root)), state),
        groups=(
            Group(
                (
                    File(str(layout.roles), f"{' '.join(host.roles)}\n"),
                    File(str(layout.helper), (FOLDER / "scripts/helper.sh").read_text(), mode=0o755),
                    File(str(layout.sudoers), sudoers, mode=0o440),
                )
            ),
        ),
    )


# --- What runs the site ---


def _site(site: Site, host: Host, learned: Learned) -> Desired:
    layout, project = site.layout, site.project
    said = f"SITE={shlex.quote(project.site)}\nPACKAGE={shlex.quote(project.package)}\n"
    kinds: list[UnitKind] = ["release", *(kind for kind in ("web", "worker", "beat") if kind in host.roles)]
    others: list[UnitKind] = [kind for kind in ("web", "worker", "beat") if kind not in host.roles]
    return Desired(
        packages=_SITE_PACKAGES,
        users=(User(APP, system=True),),
        folders=(
            Folder(str(layout.releases), host.user, APP, 0o2755),
            Folder(str(layout.layers), host.user, APP, 0o2755),
            Folder(str(layout.static), host.user, host.user),
            Folder(str(layout.protected), APP, NGINX_GROUP, 0o2750),
        ),
        groups=(
            Group(
                (
                    File(str(layout.project), said),
                    *([] if waits_for(site, host, learned) else _services(site, learned)),
                    File(str(layout.launch), (FOLDER / "scripts/launch.sh").read_text(), mode=0o755),
                    File(str(layout.sandbox), _sandbox(layout)),
                    *(File(f"/etc/systemd/system/{layout.template(kind)}", _unit(site, host, kind)) for kind in kinds),
                    File(
                        f"/etc/systemd/system/{layout.boot_unit}",
                        _text("units/boot.service", name=layout.name, helper=str(layout.helper)),
                    ),
                )
            ),
        ),
        absent=tuple(f"/etc/systemd/system/{layout.template(kind)}" for kind in others),
        idle=tuple(Idle(layout.template(kind)) for kind in others),
        units=(Unit(layout.boot_unit, runs=False),),
    )


def _no_site(site: Site) -> Desired:
    """What a host that no longer runs the site loses: above all where the servers are, with the passwords."""
    layout = site.layout
    units = (layout.boot_unit, *map(layout.template, UNIT_KINDS))
    known = map(str, (layout.services, *map(layout.certificate, SERVERS)))
    return Desired(absent=(*known, *(f"/etc/systemd/system/{unit}" for unit in units)), idle=tuple(map(Idle, units)))


def _sandbox(layout: Layout) -> str:
    return _text("units/sandbox", etc=str(layout.etc), root=str(layout.root))


def _unit(site: Site, host: Host, kind: UnitKind) -> str:
    limit = host.max_memory.get(kind) if kind != "release" else None
    return _text(
        f"units/{kind}@.service",
        name=site.layout.name,
        launch=str(site.layout.launch),
        stop=str(site.environment.drain + 15),
        limits=f"MemoryMax={limit}" if limit else "",
        sandbox=_sandbox(site.layout),
    )


def _services(site: Site, learned: Learned) -> list[File]:
    """Where the site finds the servers that are hosts of the environment, and how it knows them.

    A server's own certificate is the one authority, so its name in that does not matter.
    """
    lines, files = [], []
    checked = f"sslmode=verify-ca&sslrootcert={site.layout.certificate('database')}"
    forms: Mapping[Server, tuple[str, ...]] = {
        "database": (f"DATABASE_URL=postgres://site:{{}}@{{}}:{DATABASE_PORT}/site?{checked}",),
        "broker": (
            f"CELERY_BROKER_URL=amqps://site:{{}}@{{}}:{BROKER_PORT}//",
            f"CELERY_BROKER_CA={site.layout.certificate('broker')}",
        ),
    }
    for server, form in forms.items():
        for host in site.environment.with_role(server):
            address, access = host.private_address, learned.access[server]
            shown = f"[{address}]" if ":" in address else address
            lines += [line.format(access.password.get_secret_value(), shown) for line in form]
            files.append(File(str(site.layout.certificate(server)), access.certificate))
    text = "".join(f"{line}\n" for line in lines)
    return [*files, File(str(site.layout.services), text, mode=0o600, secret=True)]


def _nginx(site: Site, host: Host, learned: Learned) -> Desired:
    layout, environment, web = site.layout, site.environment, "web" in host.roles
    front = proxy.Front(
        environment.names,
        environment.tls is not None,
        443,
        [str(network) for network in environment.trusted_proxies],
        static_root=str(layout.static),
        protected_root=str(layout.protected),
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
    texts = {
        "nginx.conf": _text("files/nginx.conf", name=layout.name, main="site.conf" if web else "http.conf"),
        **({name: site.nginx[name] for name in ("site.conf", "proxy.conf")} if web else {}),
        **proxy.host_files(here),
    }
    files = [File(f"{NGINX}/{name}", text) for name, text in texts.items()]
    if web and front.tls:
        files.append(File(f"{NGINX}/tls.crt", site.certificate))
        files.append(File(f"{NGINX}/tls.key", site.key, mode=0o600, secret=True))
    drop_in = _nginx_drop_in(site)
    return Desired(
        packages=("nginx", "logrotate"),
        folders=(Folder(NGINX),),
        groups=(
            Group((File(drop_in, _text("files/nginx.drop-in.conf")),)),
            Group(tuple(files), check="nginx"),
        ),
        absent=tuple(path for path in _nginx_paths() if path not in [file.path for file in files]),
        units=(Unit("nginx.service", restart_for=(drop_in,), reload_for=tuple(file.path for file in files)),),
    )


def _nginx_drop_in(site: Site) -> str:
    return DROP_IN.format("nginx.service", site.layout.name)


def _nginx_paths() -> list[str]:
    return [f"{NGINX}/{name}" for name in _NGINX_FILES]


def _no_nginx(site: Site) -> Desired:
    """An nginx that is not run with our files is another's."""
    drop_in = _nginx_drop_in(site)
    return Desired(absent=(drop_in, *_nginx_paths()), idle=(Idle("nginx.service", drop_in),))


# --- Servers ---


def _no_database(site: Site) -> Desired:
    """A server that the site has left listens no more, and its data stays. One without our password is another's."""
    password = str(site.layout.password("database"))
    return Desired(absent=(password,), idle=(Idle("postgresql.service", password),))


def _no_broker(site: Site) -> Desired:
    password = str(site.layout.password("broker"))
    units = ("rabbitmq-server.service", "epmd.service", "epmd.socket")
    return Desired(absent=(password,), idle=tuple(Idle(unit, password) for unit in units))


def _database(site: Site, host: Host, learned: Learned) -> Desired:
    folder = "/etc/postgresql/%PG%/main"
    own = ("postgres", "postgres")
    configuration = File(f"{folder}/conf.d/{site.layout.name}.conf", _text("files/postgresql.conf"), *own)
    lines = "\n".join(_admitted(site, host, learned))
    rules = File(f"{folder}/pg_hba.conf", _text("files/pg_hba.conf", lines=lines), *own, 0o640)
    memory = _memory(site, host, "database", "postgresql@.service")
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


def _broker(site: Site, host: Host) -> Desired:
    limit = host.max_memory.get("broker", "")
    size = f"total_memory_available_override_value = {limit.replace('M', 'MB').replace('G', 'GB')}" if limit else ""
    own = ("rabbitmq", "rabbitmq")
    files = (
        File("/etc/rabbitmq/rabbitmq.conf", _text("files/rabbitmq.conf", memory=size), *own),
        File("/etc/rabbitmq/rabbitmq-env.conf", _text("files/rabbitmq-env.conf"), *own),
    )
    names = File(DROP_IN.format("epmd.socket", site.layout.name), _text("files/epmd.drop-in.conf"))
    key = File(DROP_IN.format("rabbitmq-server.service", site.layout.name), _text("files/rabbitmq.drop-in.conf"))
    memory = _memory(site, host, "broker", "rabbitmq-server.service")
    watched = [file.path for group in (Group((*files, key)), *memory.groups) for file in group.files]
    return Desired(
        packages=("rabbitmq-server", "ssl-cert"),
        groups=(Group((*files, names, key)), *memory.groups),
        absent=memory.absent,
        units=(
            Unit("epmd.socket", restart_for=(names.path,)),
            Unit("rabbitmq-server.service", restart_for=(*watched, *memory.absent, names.path)),
        ),
        servers=("broker",),
    )


# --- The system ---


def _firewall(site: Site, host: Host, learned: Learned) -> Desired:
    layout = site.layout
    table = layout.name.replace("-", "_")
    unit = f"{layout.name}-firewall.service"
    if site.environment.firewall:
        rules = "\n".join(_rules(site, host, learned))
        text = _text("files/firewall.nft", name=layout.name, table=table, rules=rules)
    else:
        rules = "\n".join(_admitting(site.others(host), BROKER_PORT, learned))
        text = _text("files/broker.nft", name=layout.name, table=table, rules=rules, port=str(BROKER_PORT))
    files = (
        File(str(layout.etc / "firewall.nft"), text),
        File(
            f"/etc/systemd/system/{unit}",
            _text("units/firewall.service", name=layout.name, etc=str(layout.etc), table=table),
        ),
    )
    if not site.environment.firewall and "broker" not in host.roles:
        return Desired(idle=(Idle(unit),), absent=tuple(file.path for file in files))
    return Desired(
        packages=("nftables",),
        groups=(Group(files, check="firewall"),),
        units=(Unit(unit, reload_for=tuple(file.path for file in files)),),
    )


def _rules(site: Site, host: Host, learned: Learned) -> Iterator[str]:
    yield f'        tcp dport {{ {", ".join(map(str, learned.ports))} }} accept comment "SSH"'
    if "web" in host.roles:
        yield f"        tcp dport {{ {'80, 443' if site.environment.tls else '80'} }} accept"
    for protocol in ("tcp", "udp"):
        if ports := sorted({port.number for port in host.open_ports if port.protocol == protocol}):
            yield f'        {protocol} dport {{ {", ".join(map(str, ports))} }} accept comment "open_ports"'
    others = site.others(host)
    if "database" in host.roles:
        yield from _admitting(others, DATABASE_PORT, learned)
    if "broker" in host.roles:
        yield from _admitting(others, BROKER_PORT, learned)
    if has_files(host):
        yield from _admitting([other for other in others if "web" in other.roles], proxy.PEERS_PORT, learned)


def _admitting(hosts: Iterable[Host], port: int, learned: Learned) -> Iterator[str]:
    addresses = dict.fromkeys(address for host in hosts for address in learned.of(host))
    for family, marks in (("ip", False), ("ip6", True)):
        if some := [address for address in addresses if (":" in address) == marks]:
            yield f"        {family} saddr {{ {', '.join(some)} }} tcp dport {port} accept"


def _upgrades(site: Site) -> Desired:
    file = File(f"/etc/apt/apt.conf.d/60{site.layout.name}", _text("files/unattended-upgrades.conf"))
    if not site.environment.unattended_upgrades:
        return Desired(absent=(file.path,))
    return Desired(packages=("unattended-upgrades",), groups=(Group((file,)),))


def need_addresses(site: Site, host: Host, facts: Facts) -> None:
    """Raise `Failure` when a host does not know where another is."""
    for other in site.environment.hosts:
        if other.name != host.name and not facts.addresses.get(other.private_address):
            raise Failure(
                f"{host.name}: does not know where {other.private_address} is: give {other.name} a private_address "
                f"in {site.environment.source}"
            )
