"""`remote-restore`: bring data and code of a backup back together. The steps on a host are in `scripts/restore.sh`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from deploy.core import shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm, printable, quote, who
from deploy.core.shell import Run
from deploy.hosts.backup import make
from deploy.hosts.environment.model import Host
from deploy.hosts.release import deploy, phases, state
from deploy.hosts.release.phases import Operation, Target
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection, Connections
from deploy.project import limits
from deploy.project.backups import Backup

#: Seconds to stop the site, beyond what tasks have; to switch.
STOP_SECONDS, SWITCH_SECONDS = 60, 600


@dataclass(frozen=True)
class Plan:
    """What a restore does."""

    backup: Backup
    #: Files of hosts without the database.
    parts: tuple[Backup, ...]
    #: The release that serves afterwards; empty if the hosts do not have it: then it is deployed.
    release: str
    #: The commit of that release.
    commit: str
    #: Whether later migrations follow, with the release that serves.
    keep_code: bool

    @property
    def deploys(self) -> bool:
        return not self.release


# --- What to do. Pure. ---


def plan(backup: Backup, parts: Sequence[Backup], states: Mapping[str, HostState], *, keep_code: bool) -> Plan:
    """What follows from a backup and what the hosts have. Raises `Failure` if no code could serve with it."""
    currents = {each.current for each in states.values()}
    commits = {kept.release.id: kept.release.commit for each in states.values() for kept in each.kept}
    if keep_code:
        current = next(iter(currents)) if len(currents) == 1 else ""
        if not current and currents != {""}:
            raise Failure("--keep-code: the hosts serve different releases: deploy to all of them first")
        return Plan(backup, tuple(parts), current, commits.get(current, ""), keep_code)
    everywhere = set.intersection(*(each.served | {each.current} for each in states.values()))
    kept = backup.release if backup.release in everywhere else ""
    if not kept and backup.revision in ("none", "?"):
        raise Failure(f"{backup.title()} does not say which release it is of: --keep-code brings it to the present one")
    return Plan(backup, tuple(parts), kept, commits.get(kept, backup.revision), keep_code)


def described(plan: Plan, target: Target, states: Mapping[str, HostState]) -> list[str]:
    """A line for each step."""
    database, sites = target.environment.with_role("database")[0].name, ", ".join(target.names)
    code = f"release {plan.release}" if plan.release else f"the commit {plan.commit[:12] or 'that is checked out'}"
    then = f"then migrations forward, with {code}" if plan.keep_code else f"then {code} serves"
    has = sorted({each.current or "none" for each in states.values()})
    return [
        f"{plan.backup.title()}, made by {plan.backup.why}",
        f"1. {database}: fetch and check it, load it beside the database in use, compare the rows of each table",
        *(f"   {each.part}: fetch the files of backup {each.id} ({each.at:%Y-%m-%d %H:%M} UTC)" for each in plan.parts),
        f"2. {sites}: stop {', '.join(has)}",
        f"3. {database}: switch databases by name; the one in use is kept, and so are files that are replaced",
        f"4. {sites}: {then}",
        f"What was written since {plan.backup.at:%Y-%m-%d %H:%M} UTC is not in it.",
    ]


# --- Doing it ---


def restore(target: Target, to: str, notify: Notify, *, keep_code: bool, confirmed: bool) -> Action:
    """Restore a backup, by its identifier or ``latest``, with the release of its time, or with the present one.

    Everything is checked before anything is touched. A failure before the switch leaves the site as it was, and one
    after it puts everything back. Raises `Failure`.
    """
    hosts = make.parts(target)

    def show() -> None:
        with _connected(target) as (admin, connections):
            found, states = _look(target, admin, connections, hosts, to, keep_code=keep_code)
        print("\n".join(described(found, target, states)))
        print(f"\n# --- restore.sh, as root\n{script('restore.sh')}", end="")

    def do() -> None:
        with _connected(target) as (admin, connections):
            found, states = _look(target, admin, connections, hosts, to, keep_code=keep_code)
            print("\n".join(described(found, target, states)), flush=True)
            confirm(f"This replaces the data of {target.environment.name}.", target.environment.name, confirmed)
            site = states[target.names[0]].site
            with (
                View(target.names) as view,
                _locked(Operation(target, connections, view), found, states) as operation,
                _put_back_on_failure(operation, admin, found, states),
            ):
                _restore(operation, admin, found, states)
            data = _data_hosts(target, found)
            # The deploy holds the lock itself.
            if found.deploys and _serves(states):
                with _put_back_on_failure(Operation(target, connections, View([])), admin, found, states):
                    deploy.deploy(target, "" if keep_code else found.commit, notify)
            _on(admin, data, "restore finish", SWITCH_SECONDS)
            if found.deploys and not _serves(states):
                _deploy_first(target, found, notify)
        notify(f"{found.backup.title()} is restored; {_kept(found, [host.name for host in data], site)}")

    return Action(show, do)


@contextmanager
def _locked(operation: Operation, found: Plan, states: Mapping[str, HostState]) -> Iterator[Operation]:
    """Hold the deploy lock; raises `Failure` if the hosts serve something else than when the plan was made."""
    with phases.locked(operation, f"restore of {found.backup.id}", who()):
        now = phases.look(operation)
        if {name: each.current for name, each in now.items()} != {name: each.current for name, each in states.items()}:
            raise Failure("another release serves by now; nothing was done: run the command again")
        yield operation


def _serves(states: Mapping[str, HostState]) -> bool:
    return any(each.current for each in states.values())


def _deploy_first(target: Target, found: Plan, notify: Notify) -> None:
    """Deploy to hosts without a release. Data that was restored stays if that fails: there is nothing to go back to."""
    ref = "" if found.keep_code else found.commit
    try:
        deploy.deploy(target, ref, notify)
    except Failure as failure:
        again = f"`invoke remote-deploy --env {target.environment.name}{f' --ref {ref[:12]}' if ref else ''}`"
        raise Failure(f"{failure.message}; the data is restored, but no release serves yet: {again}") from None


def _kept(found: Plan, names: Sequence[str], site: str) -> str:
    """How what a restore has replaced is removed: only there, and by hand."""
    remove = f"`sudo /usr/local/lib/{site}/restore drop {found.backup.id}` on {' and '.join(names)}"
    return f"what it replaced is kept until {remove}"


@contextmanager
def _connected(target: Target) -> Iterator[tuple[Connections, Connections]]:
    """Connections as the administrator, for the data, and as the deploy user, for the release."""
    with (
        make.connections(target.environment, target, admin=True) as admin,
        make.connections(target.environment, target) as connections,
    ):
        yield admin, connections


def _look(
    target: Target, admin: Connections, connections: Connections, hosts: Sequence[Host], to: str, *, keep_code: bool
) -> tuple[Plan, dict[str, HostState]]:
    with View([]) as view:
        states = phases.look(Operation(target, connections, view))
        for line in state.require_ready(
            states, deploy.roles(target), deploy.setup_marks(target, states), target.environment.name
        ):
            view.notify(line)
    chosen, parts = make.choose(make.listed(connections, hosts), to, target)
    found = plan(chosen, parts, states, keep_code=keep_code)
    if found.deploys and found.commit:
        git = ["git", "-C", str(target.project.root), "cat-file", "-e", f"{found.commit}^{{commit}}"]
        if shell.run(Run(git), capture=True, check=False).code:
            why = f"release {chosen.release} is not kept on the hosts, and its commit {found.commit[:12]} is not here"
            raise Failure(f"{why}: `git fetch`, or --keep-code for the release that serves")
    data = _data_hosts(target, found)
    _on(admin, [*data, *(each for each in target.hosts if each not in data)], "restore ask", 60)
    return found, states


def _data_hosts(target: Target, found: Plan) -> list[Host]:
    """The database's host, and those that get files back."""
    names = [each.part for each in found.parts]
    others = [host for host in target.environment.hosts if host.name in names]
    first = target.environment.with_role("database")
    return [*first, *(each for each in others if each not in first)]


def _restore(operation: Operation, admin: Connections, found: Plan, states: Mapping[str, HostState]) -> None:
    target, view, identifier = operation.target, operation.view, found.backup.id
    hosts = _data_hosts(target, found)
    _on(admin, hosts[:1], f"restore prepare {identifier}", limits.BACKUP)
    view.show(hosts[0].name, "backup loaded beside")
    for host in hosts[1:]:
        part = next(each.id for each in found.parts if each.part == host.name)
        _on(admin, [host], f"restore files {part}", limits.BACKUP)
    _on(admin, target.hosts, "restore stop", STOP_SECONDS + target.environment.drain)
    for host in target.hosts:
        view.show(host.name, "stopped")
    _on(admin, hosts, f"restore switch {identifier}", SWITCH_SECONDS)
    view.show(hosts[0].name, "switched")
    if found.deploys:
        return
    if found.keep_code:
        phases.migrate(operation, found.release, copies=False)
    back = state.going_back(states, found.release)
    written = deploy.entry(found.release, f"restore of {identifier}", found.commit)
    phases.activate(operation, found.release, written, lambda: None, back=back)
    phases.tell_serving(operation, found.release, found.commit)


@contextmanager
def _put_back_on_failure(
    operation: Operation, admin: Connections, found: Plan, states: Mapping[str, HostState]
) -> Iterator[None]:
    """The data as it was, and the release that served: whatever fails meanwhile is said, and the rest is done."""
    try:
        yield
    except BaseException:
        target, view = operation.target, operation.view
        steps: list[tuple[Sequence[Host], str]] = [(_data_hosts(target, found), "restore back")]
        if _serves(states):
            steps.append((target.hosts, "restore start"))
        for some, words in steps:
            try:
                _on(admin, some, words, SWITCH_SECONDS)
            except Failure as failure:
                view.notify(failure.message)
        view.notify("the restore failed: the data is as it was, and what served before serves")
        raise


def _on(admin: Connections, hosts: Sequence[Host], words: str, seconds: int) -> None:
    """Run a program of the site as root on hosts. Raises `Failure` with a line for each that failed."""

    def run(connection: Connection) -> None:
        result = run_script(connection, script("as_program.sh"), f"{words}\n".encode(), seconds=seconds)
        said = (result.stdout + result.stderr).decode(errors="replace").splitlines()
        if result.code:
            *before, why = said or [f"exit code {result.code}"]
            quote(connection.name, "\n".join(before))
            raise Failure(f"{connection.name}: {printable(why)}")
        quote(connection.name, "\n".join(said))

    phases.require_all(admin.on_all(hosts, run))
