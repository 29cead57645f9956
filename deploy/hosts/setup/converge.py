"""`remote-setup`: makes bare hosts ready. Inspects all hosts, shows the changes, applies them, and inspects again.

Its last step tries what a deploy and a visitor need.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from pydantic import SecretStr

from deploy.core import text as texts
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm, printable
from deploy.hosts.environment.file import chosen
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import Place, Sites, owner
from deploy.hosts.environment.secrets import read_backup
from deploy.hosts.setup import acme, additions, drift, proof
from deploy.hosts.setup import facts as asking
from deploy.hosts.setup.desired import desired, require_addresses, waits_for
from deploy.hosts.setup.diff import Access, Change, Desired, Facts, Server, diff, steps
from deploy.hosts.setup.plan import render
from deploy.hosts.setup.refusal import (
    TAKEN_OVER,
    in_the_way,
    not_ours,
    problems,
    refusal,
    remarks,
    shares_broker,
    shares_database,
    shares_nginx,
    uploads_apart,
)
from deploy.hosts.setup.site import SERVERS, Learned, Own, Plan, Site
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import Result, run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project import local
from deploy.project.config import Project

#: What facts and apply know of servers.
SERVER_SCRIPTS = ("postgresql.sh", "rabbitmq.sh", "redis.sh", "repository.sh", "certificates.sh")
#: Seconds to inspect a host, and to make it ready: packages come over the network.
FACTS_SECONDS = 120
APPLY_SECONDS = 1800
#: How many times hosts are inspected and changed. The second round gives the site's hosts the passwords generated in
#: the first; what is still left to do afterwards has failed.
ROUNDS = 3


def load(environment: Environment, project: Project) -> Site:
    """The environment with the files for its hosts, without those of `tls`: `with_pair` adds them.

    Raises `Failure` for a file that cannot be read.
    """
    if found := [*problems(environment, project.name), *uploads_apart(environment, project.media)]:
        raise Failure("\n".join(found))
    try:
        nginx = {path.name: texts.read(path) for path in sorted((project.root / "nginx").glob("*.conf"))}
    except OSError as error:
        raise _unreadable(error) from None
    root = project.root
    own = Own(local.nginx(root), local.drop_ins(root), local.services(root))
    site = Site(environment, project, nginx, own=own)
    if found := additions.problems(site):
        raise Failure("\n".join(found))
    return site


def with_pair(site: Site) -> Site:
    """Add the files of `tls`, if the environment has any. Raises `Failure` if one cannot be read."""
    tls = site.environment.tls
    try:
        if tls and tls.acme and tls.acme.ca:
            return replace(site, authority=tls.acme.ca.read_text())
        if not tls or not tls.pair:
            return site
        return replace(site, certificate=tls.pair.certificate.read_text(), key=tls.pair.key.read_text())
    except OSError as error:
        raise _unreadable(error) from None


def with_certificate(site: Site) -> Site:
    """Add the certificate, if it is on this machine, but not the key."""
    if (tls := site.environment.tls) and tls.pair:
        with suppress(OSError, UnicodeDecodeError):
            return replace(site, certificate=tls.pair.certificate.read_text())
    return site


def _unreadable(error: OSError) -> Failure:
    return Failure(f"{error.filename}: {error.strerror}; make it readable")


def setup(
    environment: Environment,
    project: Project,
    only: str,
    notify: Notify,
    *,
    confirmed: bool,
    take_over: Collection[str] = (),
    details: bool = False,
) -> Action:
    """Make the hosts of an environment, or a comma-separated list of them, ready for deploys.

    ``take_over`` names what was there before and may become ours (`refusal.TAKEN_OVER`). A dry run shows the changes,
    with ``details`` each of them. At the end, what a deploy and a visitor do is tried (`proof`). The action raises
    `Failure` with a line for each failed host: it changes nothing if a host cannot be inspected; if a host cannot be
    made ready, the others still are.
    """
    site = _whole(environment, project, take_over)
    hosts = chosen(only, environment.hosts, environment.source)

    def show() -> None:
        with admin(environment) as connections:
            show_plans(_require_all(_plans(connections, site, hosts)), details=details)

    def do() -> None:
        with admin(environment) as connections:
            plans = _require_all(_plans(connections, site, hosts))
            show_plans(plans, details=details)
            if any(plan.changes or plan.later for plan in plans.values()):
                names = ", ".join(name for name, plan in plans.items() if plan.changes or plan.later)
                confirm(f"This changes {names}.", environment.name, confirmed)
            failed = _converge(connections, site, plans, notify)
            left = [host for host in hosts if host.name not in failed]
            called = {name: plan.called for name, plan in plans.items()}
            uncertified = _certify(connections, site, left, plans, notify)
            _prove(connections, site, left, called, failed=failed, uncertified=uncertified, notify=notify)

    return Action(show, do)


def check(environment: Environment, project: Project, only: str) -> Action:
    """Compare the hosts with what `setup` would make, and change nothing.

    The action prints a line for each difference, `HOST: THING: what is, should be …` (`drift`), without secrets, and
    ends with 1 if there is one. It raises `Failure` with a line for each host that cannot be inspected.
    """
    site = _whole(environment, project)
    hosts = chosen(only, environment.hosts, environment.source)

    def do() -> int:
        with admin(environment) as connections:
            plans = _plans(connections, site, hosts)
        found = [
            f"{host.name}: {line}"
            for host in hosts
            if isinstance(plan := plans[host.name], Plan)
            for line in plan.differences
        ]
        for line in found:
            print(printable(line), flush=True)
        if error := failures(plans):
            raise error
        if not found:
            print(f"{environment.name}: no drift on {', '.join(host.name for host in hosts)}", flush=True)
        return 1 if found else 0

    def show() -> None:
        do()

    return Action(show, do)


def _whole(environment: Environment, project: Project, take_over: Collection[str] = ()) -> Site:
    """The site with all that its hosts get. Raises `Failure` for a file or a secret that is missing here."""
    if unknown := sorted(set(take_over) - set(TAKEN_OVER)):
        raise Failure(f"--take-over {unknown[0]}: is not one of: {', '.join(TAKEN_OVER)}")
    mine = owner(project.root, project.name, environment)
    site = replace(with_pair(load(environment, project)), owner=mine, take_over=frozenset(take_over))
    revealed = {name: each.get_secret_value() for name, each in read_backup(environment, os.environ).items()}
    return replace(site, backup_secrets=revealed)


def admin(environment: Environment) -> Connections:
    """Connections as the administrators of an environment's hosts."""
    return Connections(pinning.load(environment.root, environment.name), admin=True)


def show_plans(plans: Mapping[str, Plan], *, details: bool) -> None:
    """Print the changes of each host; with ``details``, each of them with the texts of files."""
    for name, plan in plans.items():
        print(render(name, (*plan.changes, *plan.later), details=details), flush=True)


def _certify(
    connections: Connections, site: Site, hosts: list[Host], plans: Mapping[str, Plan], notify: Notify
) -> dict[str, Failure]:
    """Order the certificate of `tls: acme` if a host lacks it; returns failures by host."""
    if not any(plans[host.name].later for host in hosts):
        return {}
    notify("ordering the certificate")

    def ask(connection: Connection, text: str, data: bytes) -> Result:
        return as_root(connection, text, data, acme.SECONDS)

    return acme.obtain(site, hosts, plans, connections, ask)


def _prove(
    connections: Connections,
    site: Site,
    hosts: list[Host],
    called: Mapping[str, str],
    *,
    failed: dict[str, Failure],
    uncertified: Mapping[str, Failure],
    notify: Notify,
) -> None:
    """Try what a deploy and a visitor need. Raises `Failure` with a line for each host that is not ready."""

    def ask(connection: Connection, text: str, data: bytes) -> str:
        return as_root(connection, text, data, proof.SECONDS).text

    found, remarks = proof.prove(site, hosts, connections, ask, called=called, without=failed)
    for name, each in uncertified.items():
        found[name] = Failure("\n".join(failure.message for failure in (found.get(name), each) if failure))
    for host in hosts:
        if host.name not in found:
            notify(f"{host.name}: ready")
    for line in remarks:
        notify(line)
    if error := failures({**failed, **found}):
        raise error


def _converge(connections: Connections, site: Site, plans: Mapping[str, Plan], notify: Notify) -> dict[str, Failure]:
    """Apply the changes; returns the failures by host."""
    failed: dict[str, Failure] = {}
    hosts = [host for host in site.environment.hosts if host.name in plans]
    for _ in range(ROUNDS):
        todo = [
            host for host in hosts if host.name not in failed and any(each.steps for each in plans[host.name].changes)
        ]
        if not todo:
            break
        done = connections.on_all(todo, partial(apply, plans=plans, notify=notify))
        failed |= {name: result for name, result in done.items() if isinstance(result, Failure)}
        found = _plans(connections, site, [host for host in hosts if host.name not in failed])
        failed = {name: each for name, each in found.items() if isinstance(each, Failure)} | failed
        plans = {name: each for name, each in found.items() if not isinstance(each, Failure)}
    for host in hosts:
        if host.name in failed:
            continue
        if changes := plans[host.name].changes:
            left = "; ".join(change.title for change in changes if not change.note)
            failed[host.name] = Failure(f"{host.name}: is not ready; still to do: {left}")
    return failed


# --- Inspecting ---


@dataclass(frozen=True)
class Seen:
    """A host: the site as the host calls it, where it has its place among others, and the actual state."""

    site: Site
    place: Place
    facts: Facts


def _plans(connections: Connections, site: Site, chosen: Collection[Host]) -> dict[str, Plan | Failure]:
    """The changes for each host, or why it cannot be inspected."""
    shared = {*SERVERS, *(("web",) if site.environment.acme else ())}
    keepers = [host for host in site.environment.hosts if shared & set(host.roles)]
    asked = {host.name: host for host in (*chosen, *keepers)}
    found = connections.on_all(asked.values(), lambda connection: _look(connection, site))
    seen = {name: each for name, each in found.items() if isinstance(each, Seen)}
    access = {server: found for each in seen.values() for server, found in each.facts.access.items()}
    plans: dict[str, Plan | Failure] = {name: each for name, each in found.items() if isinstance(each, Failure)}
    for host in chosen:
        if host.name in seen:
            handover = {name: each.facts.handover for name, each in seen.items()}
            plans[host.name] = _plan(seen[host.name], host, access, handover)
    return plans


def _require_all(plans: Mapping[str, Plan | Failure]) -> dict[str, Plan]:
    if error := failures(plans):
        raise error
    return {name: plan for name, plan in plans.items() if not isinstance(plan, Failure)}


def _plan(seen: Seen, host: Host, access: Mapping[Server, Access], handover: Mapping[str, str]) -> Plan:
    site, facts = seen.site, seen.facts
    learned = Learned(
        facts.ports,
        facts.ipv6,
        facts.addresses,
        access,
        seen.place.mark,
        shares_nginx(site, facts),
        shares_database(site, facts, seen.place.others),
        shares_broker(site, facts),
        handover,
        seen.place.others,
    )
    changes = diff(desired(site, host, learned), facts)
    if others := waits_for(site, host, learned):
        title = f"+ {site.layout.services} (secret), once {' and '.join(others)} has generated its password"
        changes = (*changes, Change(title, ()))
    notes = (Change(f"! {line}", (), note=True) for line in remarks(site, host, facts, learned))
    shown = (*notes, *changes) if changes else ()
    return Plan(shown, site.layout.names, drift.lines(changes, facts), acme.later(site, host, facts))


def sites_of(connection: Connection) -> Sites:
    """The sites that a host has."""
    return Sites.parse(run_script(connection, script("sites.sh"), seconds=FACTS_SECONDS).text)


def inspect(connection: Connection, site: Site, wanted: Desired, addresses: Sequence[str] = ()) -> Facts:
    """The actual state of what is wanted on a host, and of what else is there."""
    text = "".join(map(script, (*SERVER_SCRIPTS, "there.sh", "facts.sh")))
    asked = asking.questions(site.layout.names, connection.host, wanted, addresses)
    return asking.parse(as_root(connection, text, asked, FACTS_SECONDS).text)


def _look(connection: Connection, site: Site) -> Seen:
    host, sites = connection.host, sites_of(connection)
    try:
        place = (site.owner or owner(site.project.root, site.project.name, site.environment)).place(
            sites, handed="owner" in site.take_over
        )
        here = site.on(place.name)
        access = dict.fromkeys(SERVERS, Access(SecretStr(""), ""))
        handover = {each.name: "unknown" for each in site.environment.hosts}
        unknown = Learned(access=access, handover=handover, others=place.others)
        facts = inspect(connection, here, desired(here, host, unknown), here.addresses)
    except Failure as failure:
        named = f"{connection.name}: "
        raise Failure(named + failure.message.removeprefix(named)) from None
    if said := not_ours(here, facts) or refusal(host, facts, site.project.python):
        raise Failure(f"{connection.name}: {said}")
    if lines := in_the_way(here, host, facts):
        raise Failure("\n".join(f"{connection.name}: {line}" for line in lines))
    require_addresses(here, host, facts)
    return Seen(here, place, facts)


# --- Applying ---


def apply(connection: Connection, plans: Mapping[str, Plan], notify: Notify) -> None:
    """Apply the plan of a host. Raises `Failure` that names it."""
    text = "".join(map(script, (*SERVER_SCRIPTS, "apply.sh")))
    as_root(
        connection,
        text,
        steps(plans[connection.name].names, plans[connection.name].changes),
        APPLY_SECONDS,
        lambda line: notify(f"{connection.name}: {printable(line)}"),
    )


def as_root(
    connection: Connection, text: str, data: bytes, seconds: int, line: Callable[[str], None] | None = None
) -> Result:
    """Run a script as root. Raises `Failure` that names the host if it fails."""
    first = base64.b64encode(text.encode()) + b"\n"
    result = run_script(connection, script("as_root.sh"), [first + data], seconds=seconds, line=line)
    if result.code == 77:
        raise Failure(f"{connection.name}: {result.last_line}; allow it there, or set another admin in the environment")
    if result.code:
        last = local.nginx_line(result.last_line)
        raise Failure(f"{connection.name}: {last or f'its setup failed with exit code {result.code}'}")
    return result
