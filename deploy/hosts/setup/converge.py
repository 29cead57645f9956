"""`remote-setup`: makes bare hosts ready. Inspects all hosts, shows the changes, applies them, and inspects again.

Its last step tries what a deploy and a visitor need.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pydantic import SecretStr

from deploy.core import text as texts
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm, printable
from deploy.hosts.environment.file import chosen
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import owner
from deploy.hosts.setup import additions, proof
from deploy.hosts.setup import facts as asking
from deploy.hosts.setup.desired import desired, require_addresses, waits_for
from deploy.hosts.setup.diff import Access, Change, Facts, Server, diff, steps
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
from deploy.hosts.setup.site import SERVERS, Learned, Own, Site
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import Result, run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, failures
from deploy.project import local
from deploy.project.config import Project

Changes = tuple[Change, ...]
#: Seconds to inspect a host, and to make it ready: packages come over the network.
FACTS_SECONDS = 120
APPLY_SECONDS = 1800
#: How many times hosts are inspected and changed. The second round gives the site's hosts the passwords generated in
#: the first; what is still left to do afterwards has failed.
ROUNDS = 3


def load(environment: Environment, project: Project) -> Site:
    """The environment with the files for its hosts, without certificate and key: `with_pair` adds those.

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
    """Add certificate and key, if the environment has `tls`. Raises `Failure` if one cannot be read."""
    if not (tls := site.environment.tls):
        return site
    try:
        return replace(site, certificate=tls.certificate.read_text(), key=tls.key.read_text())
    except OSError as error:
        raise _unreadable(error) from None


def with_certificate(site: Site) -> Site:
    """Add the certificate, if it is on this machine, but not the key."""
    if tls := site.environment.tls:
        with suppress(OSError, UnicodeDecodeError):
            return replace(site, certificate=tls.certificate.read_text())
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
    if unknown := sorted(set(take_over) - set(TAKEN_OVER)):
        raise Failure(f"--take-over {unknown[0]}: is not one of: {', '.join(TAKEN_OVER)}")
    mine = owner(project.root, project.name, environment)
    site = replace(with_pair(load(environment, project)), owner=mine, take_over=frozenset(take_over))
    hosts = chosen(only, environment.hosts, environment.source)

    def show() -> None:
        with _admin(environment) as connections:
            _print(_require_all(_plans(connections, site, hosts)), details=details)

    def do() -> None:
        with _admin(environment) as connections:
            plans = _require_all(_plans(connections, site, hosts))
            _print(plans, details=details)
            if any(plans.values()):
                names = ", ".join(name for name, changes in plans.items() if changes)
                confirm(f"This changes {names}.", environment.name, confirmed)
            failed = _converge(connections, site, plans, notify)
            _prove(connections, site, [host for host in hosts if host.name not in failed], failed, notify)

    return Action(show, do)


def _admin(environment: Environment) -> Connections:
    return Connections(pinning.load(environment.root, environment.name), admin=True)


def _print(plans: Mapping[str, Changes], *, details: bool) -> None:
    for name, changes in plans.items():
        print(render(name, changes, details=details), flush=True)


def _prove(connections: Connections, site: Site, hosts: list[Host], failed: dict[str, Failure], notify: Notify) -> None:
    """Try what a deploy and a visitor need. Raises `Failure` with a line for each host that is not ready."""

    def as_root(connection: Connection, text: str, data: bytes) -> str:
        return _as_root(connection, text, data, proof.SECONDS).text

    found, remarks = proof.prove(site, hosts, connections, as_root, without=failed)
    for host in hosts:
        if host.name not in found:
            notify(f"{host.name}: ready")
    for line in remarks:
        notify(line)
    if error := failures({**failed, **found}):
        raise error


def _converge(connections: Connections, site: Site, plans: Mapping[str, Changes], notify: Notify) -> dict[str, Failure]:
    """Apply the changes; returns the failures by host."""
    failed: dict[str, Failure] = {}
    hosts = [host for host in site.environment.hosts if host.name in plans]
    for _ in range(ROUNDS):
        todo = [host for host in hosts if host.name not in failed and any(each.steps for each in plans[host.name])]
        if not todo:
            break
        done = connections.on_all(todo, partial(_apply, site=site, plans=plans, notify=notify))
        failed |= {name: result for name, result in done.items() if isinstance(result, Failure)}
        found = _plans(connections, site, [host for host in hosts if host.name not in failed])
        failed = {name: each for name, each in found.items() if isinstance(each, Failure)} | failed
        plans = {name: each for name, each in found.items() if not isinstance(each, Failure)}
    for host in hosts:
        if host.name in failed:
            continue
        if changes := plans[host.name]:
            left = "; ".join(change.title for change in changes if not change.note)
            failed[host.name] = Failure(f"{host.name}: is not ready; still to do: {left}")
    return failed


# --- Inspecting ---


def _plans(connections: Connections, site: Site, chosen: Collection[Host]) -> dict[str, Changes | Failure]:
    """The changes for each host, or why it cannot be inspected."""
    keepers = [host for host in site.environment.hosts if set(SERVERS) & set(host.roles)]
    asked = {host.name: host for host in (*chosen, *keepers)}
    found = connections.on_all(asked.values(), lambda connection: _look(connection, site))
    facts = {name: each for name, each in found.items() if isinstance(each, Facts)}
    access = {server: found for each in facts.values() for server, found in each.access.items()}
    plans: dict[str, Changes | Failure] = {name: each for name, each in found.items() if isinstance(each, Failure)}
    for host in chosen:
        if host.name in facts:
            plans[host.name] = _plan(site, host, facts[host.name], access)
    return plans


def _require_all(plans: Mapping[str, Changes | Failure]) -> dict[str, Changes]:
    if error := failures(plans):
        raise error
    return {name: plan for name, plan in plans.items() if not isinstance(plan, Failure)}


def _plan(site: Site, host: Host, facts: Facts, access: Mapping[Server, Access]) -> Changes:
    shared = {"shares_nginx": shares_nginx, "shares_database": shares_database, "shares_broker": shares_broker}
    known = {name: shares(site, facts) for name, shares in shared.items()}
    learned = Learned(facts.ports, facts.ipv6, facts.addresses, access, facts.mark, **known)
    changes = diff(desired(site, host, learned), facts)
    if others := waits_for(site, host, learned):
        title = f"+ {site.layout.services} (secret), once {' and '.join(others)} has generated its password"
        changes = (*changes, Change(title, ()))
    notes = (Change(f"! {line}", (), note=True) for line in remarks(site, host, facts))
    return (*notes, *changes) if changes else ()


def _look(connection: Connection, site: Site) -> Facts:
    host = connection.host
    plan = desired(site, host, Learned(access=dict.fromkeys(SERVERS, Access(SecretStr(""), ""))))
    text = "".join(map(script, ("postgresql.sh", "rabbitmq.sh", "redis.sh", "there.sh", "facts.sh")))
    result = _as_root(connection, text, asking.questions(site.project.name, host, plan, site.addresses), FACTS_SECONDS)
    try:
        facts = asking.parse(result.text)
    except Failure as failure:
        raise Failure(f"{connection.name}: {failure.message}") from None
    whose = not_ours(site.owner, site.environment.domain, facts, site.take_over) if site.owner else ""
    if said := whose or refusal(host, facts, site.project.python):
        raise Failure(f"{connection.name}: {said}")
    if lines := in_the_way(site, host, facts):
        raise Failure("\n".join(f"{connection.name}: {line}" for line in lines))
    require_addresses(site, host, facts)
    return facts


# --- Applying ---


def _apply(connection: Connection, site: Site, plans: Mapping[str, Changes], notify: Notify) -> None:
    text = "".join(map(script, ("postgresql.sh", "rabbitmq.sh", "redis.sh", "apply.sh")))
    _as_root(
        connection,
        text,
        steps(site.project.name, plans[connection.name]),
        APPLY_SECONDS,
        lambda line: notify(f"{connection.name}: {printable(line)}"),
    )


def _as_root(
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
