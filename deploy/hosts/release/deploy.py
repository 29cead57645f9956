"""Deploy a commit to all hosts, or to none, and roll back to a release that they keep."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import Notify, printable, who
from deploy.core.shell import Run
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.secrets import read_secrets
from deploy.hosts.release import archive, kept, phases, state
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.release import Release, new_id, site_environment
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.setup import converge, desired
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import script
from deploy.hosts.ssh.connect import Connections
from deploy.project import assets, hooks
from deploy.project.config import Project

#: The number of scripts in a deploy, and in a rollback; a shell for each is opened ahead on each host.
PHASES, ROLLBACK_PHASES = 5, 4


# --- What is deployed ---


def committed(root: Path, ref: str, now: datetime | None = None) -> Release:
    """The release of a ref, or of what is checked out.

    Raises `Failure` if the ref is not a commit, and if there is no ref but the work tree has uncommitted changes.
    """
    git = ["git", "-C", str(root)]
    found = shell.run(Run([*git, "log", "-1", "--format=%H %s", ref or "HEAD", "--"]), capture=True, check=False)
    if found.code:
        why = f"--ref {ref}: is not a commit here" if ref else "there is no commit here to deploy"
        raise Failure(f"{why}: `git log` lists the commits")
    if not ref:
        require_clean(shell.run(Run([*git, "status", "--porcelain"]), capture=True).stdout)
    commit, _, subject = found.stdout.strip().partition(" ")
    time_of_it = now or datetime.now(UTC)
    return Release(
        id=new_id(commit, time_of_it),
        commit=commit,
        ref=ref or "HEAD",
        subject=printable(subject)[:80],
        who=who(),
        at=time_of_it.isoformat(timespec="seconds"),
    )


def require_clean(status: str) -> None:
    """Raise `Failure` naming the changed files in `git status --porcelain`: only a commit can be deployed."""
    changed = [line[3:] for line in status.splitlines() if line]
    if changed:
        named = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise Failure(f"not committed: {named}. Commit it, or leave it out with --ref HEAD")


def _front_end(project: Project, commit: str, notify: Notify) -> dict[str, Path]:
    """The built front end by its place, for a project that has one."""
    this = project.assets
    return {this.output: assets.built(this, project.root, project.run_folder, commit, notify)} if this else {}


# --- Deploy and rollback ---


def deploy(target: Target, ref: str, notify: Notify) -> None:
    """Deploy a commit to all hosts, or to none. Raises `Failure` that names the host and the reason."""
    environment = target.environment
    if environment.backup_before_migrate and not environment.with_role("database"):
        raise Failure(
            f"{environment.source}: backup_before_migrate: the database is elsewhere; back it up in hooks.before"
        )
    release = committed(target.project.root, ref)
    revealed = {name: value.get_secret_value() for name, value in read_secrets(environment, os.environ).items()}
    known = pinning.load(environment.root, environment.name)
    front = _front_end(target.project, release.commit, notify)
    _local_hook(environment, "before", release.id)
    written = entry(release.id, "deploy", release.commit)
    with (
        # Connect while the code is being packed.
        Connections(known, ahead=PHASES, owner=target.owner).begin(target.hosts) as connections,
        archive.packed(target.project.root, release.commit, front) as code,
        View(target.names) as view,
        phases.locked(
            operation := Operation(target, connections, view), f"deploy of {release.commit[:12]}", who(), written
        ) as check,
    ):
        states = phases.look(operation)
        for line in state.require_ready(states, roles(target), setup_marks(target, states), environment.name):
            view.notify(line)
        require_alone(operation)
        headers = {
            host.name: phases.ship_header(
                target, release, {**variables(target, host, release.id, states[host.name]), **revealed}
            )
            for host in target.hosts
        }
        with phases.recorded(operation, written):
            phases.ship(operation, headers, code)
            check()
            phases.migrate(operation, release.id)
            check()
        phases.activate(operation, release.id, written, check)
        phases.tell_serving(operation, release.id, release.commit)
        figures = f"{code[1] / 1e6:.1f} MB sent to each, {view.seconds:.1f} s"
        notify(f"{release.title} serves on {', '.join(target.names)} ({figures})")
    _local_hook(environment, "after", release.id)


def roles(target: Target) -> dict[str, tuple[str, ...]]:
    """The roles of each host, from the environment file."""
    return {host.name: host.roles for host in target.hosts}


def require_alone(operation: Operation) -> None:
    """Raise `Failure` if an excluded host runs beat, or a worker that must be alone, and an included host must run it.

    Hosts that do not answer are reported and ignored: a host that is down runs neither.
    """
    target = operation.target
    due = {kind: name for kind, name in target.alone.items() if name in target.names}
    others = [host for host in target.environment.site_hosts if host not in target.hosts]
    if not due or not others:
        return
    for name, found in phases.ask_each(operation, others).items():
        if isinstance(found, Failure):
            operation.view.notify(f"{found.message}; it is unknown whether {' or '.join(due)} runs there")
            continue
        for kind in sorted({unit.kind for unit in found.units} & set(due)):
            raise Failure(f"{name}: runs {kind}, but {kind} must run on {due[kind]} now: include both hosts in --only")


def setup_marks(target: Target, states: Mapping[str, HostState]) -> dict[str, str]:
    """The mark that `remote-setup` leaves on each host with the current files, as far as this machine has them."""
    wanted = converge.with_certificate(converge.load(target.environment, target.project))
    return {host.name: desired.setup_mark(wanted.on(states[host.name].site), host) for host in target.hosts}


def variables(target: Target, host: Host, release: str, has: HostState) -> dict[str, str]:
    """The environment of the site on a host, without its secrets."""
    return site_environment(target.project, target.environment, host, release, has.cores, name=has.site)


def entry(release: str, action: str, commit: str) -> dict[str, str]:
    """The ledger entry of this run, without its end time and outcome."""
    return {"release": release, "action": action, "commit": commit, "who": who(), "run": f"{time.time():.0f}"}


def rollback(target: Target, to: str, notify: Notify) -> None:
    """Roll back to an earlier release, with the environment it had. Raises `Failure`.

    The database is not changed: migrations are not reverted.
    """
    known = pinning.load(target.environment.root, target.environment.name)
    with (
        Connections(known, ahead=ROLLBACK_PHASES, owner=target.owner).begin(target.hosts) as connections,
        View(target.names) as view,
        phases.locked(
            operation := Operation(target, connections, view), f"rollback to {to or 'the previous release'}", who()
        ) as check,
    ):
        states = phases.look(operation)
        chosen = state.target(states, to)
        commit = next(kept.release.commit for kept in states[target.names[0]].kept if kept.release.id == chosen)
        back = state.going_back(states, chosen)
        for line in other_secrets(operation, states, chosen):
            view.notify(line)
        phases.activate(operation, chosen, entry(chosen, "rollback", commit), check, back=back)
        phases.tell_serving(operation, chosen, commit)
        notify(f"{chosen} serves on {', '.join(target.names)} again ({view.seconds:.1f} s)")


def other_secrets(operation: Operation, states: Mapping[str, HostState], chosen: str) -> list[str]:
    """A line for each host on which a release has other secrets than what serves; a rollback brings those back."""
    target = operation.target
    current = {name: each.current for name, each in states.items()}
    try:
        found = kept.look(operation, kept.secret_names(target.environment), kept.new_salt())
    except Failure as failure:
        return [failure.message]
    return kept.differing(found, current, chosen, target.hosts)


def _local_hook(environment: Environment, when: str, release: str) -> None:
    words, after = getattr(environment.hooks, when), when == "after"
    hooks.run(words, environment.root, environment.name, release, key=f"hooks.{when}", after=after)


# --- Dry run ---


def looked(target: Target) -> dict[str, HostState]:
    """The state of the hosts, for a dry run."""
    known = pinning.load(target.environment.root, target.environment.name)
    with Connections(known, owner=target.owner) as connections, View([]) as view:
        return phases.look(Operation(target, connections, view))


def _serving(states: Mapping[str, HostState]) -> str:
    return "serving now: " + "; ".join(f"{name}: {each.current or 'none'}" for name, each in states.items())


def show(target: Target, ref: str) -> None:
    """Print the steps of a deploy and its scripts, after inspecting the hosts."""
    release = committed(target.project.root, ref)
    states = looked(target)
    for line in state.require_ready(states, roles(target), setup_marks(target, states), target.environment.name):
        print(line)
    print("\n".join(plan(target, release, states)))
    for name in ("lock.sh", "look.sh", "ship.sh", "migrate.sh", "activate.sh"):
        print(f"\n# --- {name}\n{script(name)}", end="")


def show_rollback(target: Target, to: str) -> None:
    """Print the target release of a rollback and its script, after inspecting the hosts."""
    states = looked(target)
    print(f"{_serving(states)}\nback to: {state.target(states, to)}")
    print(f"\n# --- activate.sh\n{script('activate.sh')}", end="")


def plan(target: Target, release: Release, states: Mapping[str, HostState]) -> list[str]:
    """A description of a deploy, a line for each step. Pure."""
    every = ", ".join(target.names)
    environment = target.environment
    lines = [
        f"release {release.id}: {release.commit} {release.subject}",
        _serving(states),
        f"1. lock.sh, look.sh on {every}: one deploy at a time",
        f"2. ship.sh on {every}: code, environment, layers, checks, static files",
        f"3. migrate.sh on {target.batches[0][0]}" + (", a backup before" if environment.backup_before_migrate else ""),
        f"4. activate.sh on {every}: start the new units beside the old, check {' '.join(target.project.probes)}",
        *(f"   then requests move on {', '.join(batch)}" for batch in target.batches),
        *(f"   then {kind} on {name}" for kind, name in target.alone.items() if name in target.names),
        f"   then the old units stop: requests and tasks have {environment.drain} s to finish",
    ]
    plain = variables(target, target.hosts[0], release.id, HostState(target.hosts[0].name))
    secret = [*environment.secrets, *(name for name in ("database", "broker") if getattr(environment.services, name))]
    return [*lines, f"environment: {' '.join(sorted(plain))}; secret: {' '.join(sorted(secret))}"]
