"""`remote-remove`: takes a site off its hosts. Its data stays unless it is asked for by name; other sites go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm
from deploy.hosts.environment.file import chosen
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import Mark, owner
from deploy.hosts.layout import FIREWALL, FIREWALL_UNIT, LOCK, NGINX_MAIN, OWNER, UNIT_KINDS
from deploy.hosts.setup import converge
from deploy.hosts.setup.converge import Seen
from deploy.hosts.setup.diff import ABSENT, Change, Desired, Facts, File, Folder, Group, Idle, file_step
from deploy.hosts.setup.merging import without
from deploy.hosts.setup.servers import POSTGRESQL, admission, nginx_paths
from deploy.hosts.setup.site import DROP_IN, Plan, Site, is_site, shared_drop_in
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project.config import Project

#: What `--data` names.
DATA = ("database", "broker", "redis", "files")
_NGINX_DROP_IN = shared_drop_in("nginx.service")
#: What takes rights from servers that stay when the last site goes.
_CONFINED = (shared_drop_in("postgresql@.service"), shared_drop_in("rabbitmq-server.service", "confined"))
_FIREWALL_FILES = (str(FIREWALL / "main.nft"), f"/etc/systemd/system/{FIREWALL_UNIT}")


# --- What to do. Pure. ---


def removal(seen: Seen, host: Host, data: Collection[str]) -> Iterator[Change]:
    """The changes that take a site off a host, in order. They can be repeated after a failure half-way."""
    site, facts = seen.site, seen.facts
    layout = site.layout
    yield Change(f"stop {layout.name}: web, workers, beat", tuple(_stopping(site)))
    yield from _files(seen, (str(layout.nginx_site), *nginx_paths(site)))
    alone = not seen.place.others
    if alone and _there(facts, _NGINX_DROP_IN):
        yield Change("disable nginx.service: no site is left", ("disable nginx.service",))
        yield from _files(seen, (_NGINX_DROP_IN, str(NGINX_MAIN)))
    elif facts.units.get("nginx.service", (False, False))[1]:
        yield Change("reload nginx.service", ("reload nginx.service",))
    yield from _firewall(seen)
    if "database" in host.roles:
        yield from _database(seen, data)
    if "broker" in host.roles:
        what = "its user and its vhost with all messages" if "broker" in data else "its user; the vhost stays"
        yield Change(f"- broker {layout.account}: {what}", (f"nobroker {'all' if 'broker' in data else 'user'}",))
    if "redis" in host.roles and "redis" in data:
        folder = f"/var/lib/private/{layout.name}-redis"
        yield Change(f"- {folder}/", (f"erase {folder}",))
    yield from _files(seen, (*_own_files(site), *(_CONFINED if alone else ())))
    yield Change("systemd reads its units", ("units",))
    yield from _folders(seen, data)
    users = f"{layout.user} {host.user}"
    yield Change(f"- users that setup has made, if no other site has them: {users}", (f"nousers {users}",))
    yield from _marks(seen)


def _stopping(site: Site) -> Iterator[str]:
    layout = site.layout
    yield f"free {layout.root}/{LOCK}"
    yield f"quit {layout.boot_unit}"
    yield from (f"quit {unit.replace('@.', '@*.')}" for unit in _own_units(site))
    yield from (f"quit {layout.name}-{kind}@*.service" for kind in (*UNIT_KINDS, "manage"))


def _own_units(site: Site) -> list[str]:
    template, *timers = site.layout.backup_units
    own = (f"{site.layout.name}-{name}.service" for name in site.own.services)
    return [*own, site.layout.redis_unit, *timers, template, *reversed(site.layout.certificate_units)]


def _own_files(site: Site) -> tuple[str, ...]:
    layout = site.layout
    units = (layout.boot_unit, *map(layout.template, UNIT_KINDS), *_own_units(site))
    drop_ins = [DROP_IN.format(layout.template(kind), f"{layout.name}-local") for kind in UNIT_KINDS]
    servers = ("postgresql@.service", "rabbitmq-server.service")
    memory = [DROP_IN.format(unit, f"{layout.name}-memory") for unit in servers]
    return (
        *(f"/etc/systemd/system/{unit}" for unit in units),
        *(*drop_ins, *memory, str(layout.sudoers), str(layout.helper)),
    )


def _there(facts: Facts, path: str) -> bool:
    return facts.entries.get(path, ABSENT).kind != "absent"


def _files(seen: Seen, paths: Collection[str]) -> Iterator[Change]:
    yield from (Change(f"- {path}", (f"absent {path}",)) for path in dict.fromkeys(paths) if _there(seen.facts, path))


def _firewall(seen: Seen) -> Iterator[Change]:
    layout = seen.site.layout
    own = (str(layout.firewall("open")), str(layout.firewall("close")))
    if not any(_there(seen.facts, path) for path in own):
        return
    yield from _files(seen, own)
    if seen.place.others:
        yield Change(f"reload {FIREWALL_UNIT}", (f"reload {FIREWALL_UNIT}",))
        return
    yield Change(f"disable {FIREWALL_UNIT}: no site is left", (f"disable {FIREWALL_UNIT}",))
    yield from _files(seen, _FIREWALL_FILES)


def _database(seen: Seen, data: Collection[str]) -> Iterator[Change]:
    layout, rules = seen.site.layout, admission(seen.site, ())
    entry = seen.facts.entries.get(rules.path, ABSENT)
    left = without(rules.text, entry.text or "")
    if entry.kind == "file" and left != entry.text:
        step = file_step(replace(rules, text=left))
        yield Change(f"~ {rules.path}: without the lines of {layout.name}", ("group", step, f"reload {POSTGRESQL}"))
    if "database" in data:
        yield Change(f"- database {layout.database} and its role, with all data", ("nodatabase all",))
    else:
        yield Change(f"~ role {layout.database}: may not log in; the database stays", ("nodatabase role",))


def _folders(seen: Seen, data: Collection[str]) -> Iterator[Change]:
    layout = seen.site.layout
    gone = [layout.releases, layout.layers, layout.static, layout.state, layout.library, layout.backup_record]
    gone += [PurePosixPath(f"/var/cache/{layout.name}-backup"), layout.challenges, layout.handover]
    # With it goes what certbot has of this site; it has nothing of others there.
    gone.append(layout.certificate_record)
    kept = [layout.protected, layout.media, layout.before, layout.backups]
    for folder in map(str, gone):
        yield Change(f"- {folder}/", (f"erase {folder}",))
    verb = "erase" if "files" in data else "seal"
    said = "-" if "files" in data else "~ only root reads, if there is anything in it:"
    for folder in map(str, kept):
        if _there(seen.facts, folder):
            yield Change(f"{said} {folder}/", (f"{verb} {folder}",))
    yield Change(f"- {layout.root}/, if it is empty", (f"empty {layout.root}", f"empty {layout.nginx}"))


def _marks(seen: Seen) -> Iterator[Change]:
    layout, others = seen.site.layout, list(seen.place.others.values())
    text = seen.facts.entries.get(str(OWNER), ABSENT).text or ""
    if not others:
        yield from _files(seen, (str(OWNER),))
    elif text and _is_of(text, seen.place.mark):
        yield Change(f"~ {OWNER}: {others[0].whose}", ("group", file_step(File(str(OWNER), others[0].text))))
    # The mark goes last: without it, this could not be repeated.
    yield Change(f"- {layout.etc}/ and {layout.mark}", (f"erase {layout.etc}", f"absent {layout.mark}"))


def _is_of(text: str, mark: Mark | None) -> bool:
    return bool(mark) and text.splitlines()[-1].split()[:2] == str(mark).split()[:2]


def in_order(hosts: Sequence[Host]) -> tuple[list[Host], list[Host]]:
    """The hosts that run the site, and then the others: no data goes while something may still use it."""
    return [host for host in hosts if is_site(host)], [host for host in hosts if not is_site(host)]


def wanted(site: Site, host: Host) -> Desired:
    """What facts are asked for."""
    layout = site.layout
    paths = (str(layout.nginx_site), *nginx_paths(site), _NGINX_DROP_IN, str(NGINX_MAIN), *_CONFINED, *_FIREWALL_FILES)
    parts = (str(layout.firewall("open")), str(layout.firewall("close")))
    rules = (Group((admission(site, ()),)),) if "database" in host.roles else ()
    folders = tuple(Folder(str(each)) for each in (layout.protected, layout.media, layout.before, layout.backups))
    return Desired(
        absent=(*paths, *parts, *_own_files(site)),
        folders=folders,
        groups=rules,
        idle=(Idle("nginx.service"),),
        first_owner=File(str(OWNER), ""),
    )


# --- Doing it ---


def remove(
    environment: Environment, project: Project, only: str, notify: Notify, *, confirmed: bool, data: Collection[str]
) -> Action:
    """Take the site off the hosts of an environment, or off some; ``data`` names what goes with it (`DATA`, or all).

    A dry run shows the changes. Raises `Failure` if a host cannot be inspected, and then changes nothing.
    """
    if unknown := sorted(set(data) - {*DATA, "all"}):
        raise Failure(f"--data {unknown[0]}: is not one of: {', '.join(DATA)}, all")
    gone = set(DATA) if "all" in data else set(data)
    site = replace(converge.load(environment, project), owner=owner(project.root, project.name, environment))
    hosts = chosen(only, environment.hosts, environment.source)

    def show() -> None:
        with converge.admin(environment) as connections:
            converge.show_plans(_plans(connections, site, hosts, gone), details=True)

    def do() -> None:
        with converge.admin(environment) as connections:
            plans = _plans(connections, site, hosts, gone)
            converge.show_plans(plans, details=True)
            left = [each for each in DATA if each not in gone]
            what = f"with {', '.join(sorted(gone))}" if gone else "without its data"
            stays = f"; {', '.join(left)} stay" if left else ""
            confirm(f"This removes {environment.name} of {project.name} {what}{stays}.", environment.name, confirmed)
            for part in in_order(hosts):
                done = connections.on_all(part, lambda each: converge.apply(each, plans, notify))
                if error := failures(done):
                    raise error
            for host in hosts:
                notify(f"{host.name}: removed")

    return Action(show, do)


def _plans(connections: Connections, site: Site, hosts: Collection[Host], data: Collection[str]) -> Mapping[str, Plan]:
    found = connections.on_all(hosts, lambda connection: _look(connection, site))
    if error := failures(found):
        raise error
    seen = {name: each for name, each in found.items() if isinstance(each, Seen)}
    return {
        host.name: Plan(tuple(removal(seen[host.name], host, data)), seen[host.name].site.layout.names)
        for host in hosts
    }


def _look(connection: Connection, site: Site) -> Seen:
    assert site.owner
    sites = converge.sites_of(connection)
    try:
        place = site.owner.place(sites)
    except Failure as failure:
        raise Failure(f"{connection.name}: {failure.message}") from None
    if place.name not in (*sites.marks, *sites.earlier):
        has = " and ".join(mark.whose for mark in sites.marks.values()) or "nothing of ours"
        raise Failure(f"{connection.name}: has {has}, but not {site.owner.whose}: leave it out with --only")
    here = site.on(place.name)
    return Seen(here, place, converge.inspect(connection, here, wanted(here, connection.host)))
