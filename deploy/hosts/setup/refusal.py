"""Why a host or an environment cannot be set up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from deploy import OLDEST
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import Mark
from deploy.hosts.layout import (
    BROKER_PORT,
    DATABASE_PORT,
    EARLIER_USER,
    FIREWALL_UNIT,
    NGINX_GROUP,
    NGINX_MAIN,
    REDIS_PORT,
    Layout,
)
from deploy.hosts.setup import names
from deploy.hosts.setup.diff import ABSENT, Facts
from deploy.hosts.setup.site import Learned, Site, has_files, is_site
from deploy.project.config import Media
from deploy.project.proxy import PEERS_PORT

#: Users that cannot be the deploy user: it must have no rights except those that the helper gives.
RESERVED = {"root", EARLIER_USER, NGINX_GROUP, "postgres", "rabbitmq"}
#: What `--take-over` names.
TAKEN_OVER = ("owner", "files", "users", "nginx", "database", "broker")
#: The program of our Redis (units/redis.service). Debian's own, which others may use, is called redis-server.
OUR_REDIS = "redis-check-rdb"
#: The letters of a database's name that the names of its copies begin with (`scripts/restore.sh`).
COPIED_LETTERS = 46
#: Groups whose members have root's rights, or may read what root may.
POWERFUL = {"root", "sudo", "wheel", "adm", "disk", "docker", "lxd", "systemd-journal"}


def refusal(host: Host, facts: Facts, lowest: tuple[int, int] = OLDEST) -> str:
    """Why a host cannot be set up; empty if it can. ``lowest``: the oldest Python that the site's locks are for."""
    system, version = facts.system
    number = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if system not in ("debian", "ubuntu") or number < ((12,) if system == "debian" else (22, 4)):
        return f"is {system} {version}; install Debian 12 or newer, or Ubuntu 22.04 LTS or newer"
    if system == "ubuntu" and (number[0] % 2 or number[1:2] != (4,)):
        return f"is ubuntu {version}, which has no long-term support; install an LTS release"
    if not facts.systemd:
        return "does not run systemd, which the site's units need"
    python = facts.python or ((3, 10) if (system, number) == ("ubuntu", (22, 4)) else OLDEST)
    if is_site(host) and python < lowest:
        have, need = (".".join(map(str, each)) for each in (python, lowest))
        system = (
            "Debian 12 or Ubuntu 24.04"
            if lowest <= OLDEST
            else "Debian 13 or Ubuntu 24.04"
            if lowest <= (3, 12)
            else "Debian 13"
        )
        return f"has Python {have}, but the site needs {need}: install {system}"
    return next(_too_many_rights(facts), "")


def not_ours(site: Site, facts: Facts) -> str:
    """Why a site of an earlier version without marks is another environment's; empty if it is ours, or handed over.

    The names that nginx serves tell two environments of a project apart.
    """
    text = facts.entries.get(str(NGINX_MAIN.parent / "server.conf"), ABSENT).text or ""
    served, domain = re.search(r"server_name ([^;]+);", text), site.environment.domain
    if not site.owner or not site.layout.earlier or not served or domain in served[1].split():
        return ""
    if "owner" in site.take_over:
        return ""
    return (
        f"an earlier version has set this host up for {served[1].split()[0]}; yours is {site.owner.whose}, {domain}: "
        f"run `remote-setup` of that environment first; {site.owner.hand_over}"
    )


def _too_many_rights(facts: Facts) -> Iterator[str]:
    """Problems of users that existed before setup: they must have no rights except those that setup gives."""
    for user, groups in facts.groups.items():
        for group in sorted(POWERFUL & {*groups}):
            yield f"{user} is in the group {group}, which may do more than deploy: gpasswd -d {user} {group}"
        if groups[:1] != (user,):
            yield f"{user} has no group of its own: groupadd -f {user} && usermod -g {user} {user}"


def problems(environment: Environment, project: str) -> list[str]:
    """The problems of an environment that are visible without its hosts, a line each."""
    site = Layout.of(project, environment.name)
    named = names.refused(project) or names.is_system(site.name)
    users = [
        f"{environment.source}: {host.name}: {host.user} cannot be the deploy user; name another with user"
        for host in environment.hosts
        if host.user in {*RESERVED, site.user} or host.user == host.admin
    ]
    return [*([f"project.name is {project}, which {named}: choose another in invoke.yaml"] if named else []), *users]


def uploads_apart(environment: Environment, media: Media) -> list[str]:
    """Why uploads cannot be on the hosts that write them; empty if they can."""
    writers = [host.name for host in environment.hosts if {"web", "worker"} & set(host.roles)]
    if media != "local" or len(writers) < 2:
        return []
    why = (
        f"{environment.source}: media: true, but each of {', '.join(writers)} would keep uploads of its own: mount one"
        " folder on all of them and write `media: shared` in invoke.yaml, or keep uploads in an object store"
        " (django-storages) and write `media: false`, or give one host the roles web and worker"
    )
    return [why]


# --- What is there already ---

_OTHERWISE = "name the project otherwise in invoke.yaml"


def in_the_way(site: Site, host: Host, facts: Facts) -> list[str]:
    """What setup would harm on a host, or what would stop it, a line each: that, and the remedy."""
    taken = (_names_taken, _domain_taken, _servers_taken, _ports_taken)
    return [line for found in taken for line in found(site, host, facts)]


def _of(facts: Facts, *kinds: str) -> list[str]:
    return [name for kind, name in facts.there if kind in kinds]


def _take_over(site: Site, what: str) -> str:
    return f"take it over: `invoke remote-setup --env {site.environment.name} --take-over {what}`"


def _names_taken(site: Site, host: Host, facts: Facts) -> Iterator[str]:
    for unit in _of(facts, "unit"):
        yield f"{unit} is there already, and is not of remote-setup: {_OTHERWISE}"
    if (paths := _of(facts, "path")) and "files" not in site.take_over:
        be = "is" if len(paths) == 1 else "are"
        what = f"{' and '.join(paths)} {be} there already, and not of remote-setup"
        yield f"{what}: {_OTHERWISE}, move it away, or {_take_over(site, 'files')}"
    for user in _of(facts, "user"):
        if is_site(host) and "users" not in site.take_over:
            what = f"the user {user} is there already, perhaps a person's: the site would run as it"
            yield f"{what}; rename it (`usermod -l`), or {_take_over(site, 'users')}"
    for group in _of(facts, "group"):
        if is_site(host) or group != site.layout.user:
            yield f"the group {group} is there without a user of that name: `groupdel {group}`, or rename it"


def _domain_taken(site: Site, host: Host, facts: Facts) -> Iterator[str]:
    domain, folders = site.environment.domain, _folders(site)
    for name, file in facts.served:
        if "web" in host.roles and name == domain and not file.startswith(folders):
            yield (
                f"nginx serves {domain} already ({file}); yours is {site.layout.name}: check name in invoke.yaml, "
                f"--env, and domain in {site.environment.source}"
            )


def _folders(site: Site) -> tuple[str, ...]:
    """The folders of the site's own files of nginx."""
    return tuple(f"{each}/" for each in (site.layout.nginx, *([NGINX_MAIN.parent] if site.layout.earlier else [])))


def _servers_taken(site: Site, host: Host, facts: Facts) -> Iterator[str]:
    if shares_nginx(site, facts) and _of(facts, "nginx-main"):
        what = "nginx serves something else here, and /etc/nginx/nginx.conf does not include sites-enabled/*"
        yield f"{what}: add `include /etc/nginx/sites-enabled/*;` to its http block, or {_take_over(site, 'nginx')}"
    wanted = site.layout.database
    ours = [f"{kind} {name}" for kind, name in facts.there if kind in ("database", "role") and name == wanted]
    if ours and "database" not in site.take_over:
        what = f"PostgreSQL has the {' and the '.join(ours)}, not of remote-setup"
        yield f"{what}: rename it there (ALTER … RENAME), or {_take_over(site, 'database')}"
    if "database" in host.roles and facts.clusters and DATABASE_PORT not in [port for *_, port in facts.clusters]:
        have = ", ".join(f"{version}/{name} on {port}" for version, name, port in facts.clusters)
        version = facts.clusters[-1][0]
        make = f"pg_createcluster {version} {site.layout.name.replace('-', '_')} --port {DATABASE_PORT} --start"
        yield f"PostgreSQL's clusters ({have}) are not on port {DATABASE_PORT}: `{make}` makes one that is"
    if (nodes := _of(facts, "node")) and "broker" not in site.take_over:
        what = f"RabbitMQ does not run, but has data here ({', '.join(nodes)}); for the site it would start empty"
        yield f"{what}: start it (`systemctl start rabbitmq-server`), or {_take_over(site, 'broker')}"
    taken = (BROKER_PORT, "beam.smp") in [(port, program) for port, program, _ in facts.listening]
    if shares_broker(site, facts) and taken and not _of(facts, "broker-beside"):
        what = f"RabbitMQ is used by others here, and over TLS on port {BROKER_PORT} with a certificate of theirs"
        yield f"{what}: name it in services.broker instead of the role broker, or {_take_over(site, 'broker')}"
    if site.environment.firewall:
        for program in _of(facts, "firewall"):
            disable = "ufw disable" if program == "ufw" else "systemctl disable --now firewalld"
            yield (
                f"{program} is active, and closes what setup's own firewall opens: `{disable}`; or set firewall: false "
                f"in {site.environment.source}, and open the site's ports in {program}"
            )


def _ports_needed(site: Site, host: Host) -> dict[int, str]:
    """The ports of a host's servers, and the program that may listen there."""
    web = {80: "nginx", **({443: "nginx"} if site.environment.tls else {})} if "web" in host.roles else {}
    database = {DATABASE_PORT: "postgres"} if "database" in host.roles else {}
    broker = {BROKER_PORT: "beam.smp"} if "broker" in host.roles else {}
    redis = {REDIS_PORT: OUR_REDIS} if "redis" in host.roles else {}
    return {**web, **({PEERS_PORT: "nginx"} if has_files(host) else {}), **database, **broker, **redis}


def _ports_taken(site: Site, host: Host, facts: Facts) -> Iterator[str]:
    needed = _ports_needed(site, host)
    runs = facts.units.get(site.layout.redis_unit, (False, False))[1]
    if "redis" in host.roles and not runs and (REDIS_PORT, OUR_REDIS) in [each[:2] for each in facts.listening]:
        what = f"the Redis of another site listens on port {REDIS_PORT}"
        yield f"{what}: give the role redis to another host, or name a server in services.redis"
    for port, program in dict.fromkeys((port, program) for port, program, _ in facts.listening):
        if port in needed and program != needed[port]:
            stop = f"`systemctl disable --now {program}`"
            wants = "the site's Redis" if needed[port] == OUR_REDIS else needed[port]
            yield f"{program} listens on port {port}, which {wants} needs: stop it ({stop}), or use another host"


def shares_nginx(site: Site, facts: Facts) -> bool:
    """Whether nginx serves others too, and is to go on with that."""
    return bool(_of(facts, "nginx-beside")) or bool(_of(facts, "nginx") and "nginx" not in site.take_over)


def shares_database(site: Site, facts: Facts, others: Mapping[str, Mark]) -> bool:
    """Whether others than the host's sites (``others`` and ours) use the database's server."""
    ours = {site.layout.database, *(Layout(name, name == mark.project).database for name, mark in others.items())}
    # A restore keeps the database of before, and fills one beside.
    copies = "|".join(re.escape(name[:COPIED_LETTERS]) for name in ours)
    own = re.compile(f"(?:{copies})_(?:restored|before_[0-9a-f]{{8}}(?:_[0-9]+)?)")
    return any(name not in ours and not own.fullmatch(name) for name in _of(facts, "database"))


def shares_broker(site: Site, facts: Facts) -> bool:
    """Whether others use the broker, and are to go on with that."""
    others = [
        name
        for name in _of(facts, "vhost", "broker-user", "queue")
        if name not in (site.layout.vhost, site.layout.account)
    ]
    return bool(_of(facts, "broker-beside")) or bool(others and "broker" not in site.take_over)


def remarks(site: Site, host: Host, facts: Facts, learned: Learned) -> list[str]:
    """What else a person should know before setup: what it changes for other programs of a host."""
    lines = list(_neighbours(site, host, facts, learned))
    if sites := _of(facts, "nginx"):
        stays = "which it serves on" if shares_nginx(site, facts) else "which it will no longer read"
        lines.append(f"nginx has other sites ({', '.join(sites)}), {stays}")
    others = [name for name in _of(facts, "database") if name != site.layout.database]
    # With another site of ours, the server has what ours needs.
    restarts = "" if learned.others else "; it restarts"
    if "database" in host.roles and others:
        lines.append(f"PostgreSQL has other databases ({', '.join(others)}), which stay{restarts}")
    used = [f"{kind} {name}" for kind, name in facts.there if kind in ("vhost", "broker-user", "queue")]
    if "broker" in host.roles and used:
        stays = f"which stay{restarts}" if shares_broker(site, facts) else "which will not be there"
        lines.append(f"RabbitMQ is used by others ({', '.join(used[:5])}), {stays}")
    if site.environment.firewall and not facts.units.get(FIREWALL_UNIT, (False, False))[1]:
        kept = {*facts.ports, *_ports_needed(site, host), *(each.number for each in host.open_ports)}
        for port, program in sorted({(port, program) for port, program, reach in facts.listening if reach}):
            if port not in kept and program not in ("systemd", "epmd", "beam.smp", "nginx"):
                lines.append(f"the firewall closes port {port} ({program}) to others; open_ports keeps it open")
    return lines


def _neighbours(site: Site, host: Host, facts: Facts, learned: Learned) -> Iterator[str]:
    """What the host's other sites share with ours."""
    if learned.others:
        also = ", ".join(mark.whose for mark in learned.others.values())
        yield f"this host also serves {also}, which goes on as it is"
    for name in _of(facts, "deployer"):
        whose = learned.others[name].whose if name in learned.others else name
        yield f"{host.user} deploys {whose} too: who has its keys changes both, unless user in the file names another"
    for name, file in facts.served:
        if "web" in host.roles and name in site.environment.names and not file.startswith(_folders(site)):
            yield f"{name} is served already ({file}), and requests for it stay there"
