"""`remote-backup` and `remote-backups`: make a backup now, prove the last one, list what the repositories have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.report import Report
from deploy.core.running import Notify, printable, quote
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.layout import site_name
from deploy.hosts.release.phases import Target, require_all
from deploy.hosts.setup import backup as settings
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection, Connections
from deploy.project import backups, limits
from deploy.project.backups import Backup

#: Seconds for a list of backups.
LIST_SECONDS = 400


def parts(target: Target) -> tuple[Host, ...]:
    """The hosts that make backups, the one with the database first. Raises `Failure` if no repository is named."""
    if not target.environment.backup:
        raise Failure(
            f"{target.environment.source}: backup is not set: name a repository there, then"
            f" `invoke remote-setup --env {target.environment.name}`"
        )
    return settings.parts(target.environment, target.project.media)


def site_of(target: Target) -> str:
    """What the tags of backups call the site."""
    return site_name(target.project.name, target.environment.name)


def listed(connections: Connections, hosts: Iterable[Host]) -> tuple[Backup, ...]:
    """The backups in the repositories of these hosts, oldest first. Raises `Failure` naming hosts that cannot tell."""

    def ask(connection: Connection) -> tuple[Backup, ...]:
        try:
            return backups.read(_ask(connection, "list", LIST_SECONDS))
        except Failure as failure:
            raise Failure(f"{connection.name}: {failure.message.removeprefix(f'{connection.name}: ')}") from None

    found = require_all(connections.on_all(hosts, ask))
    # Hosts may have one repository between them.
    known = {each.id: each for every in found.values() for each in every}
    return tuple(sorted(known.values(), key=lambda each: each.at))


def _ask(connection: Connection, what: str, seconds: int) -> str:
    result = run_script(connection, script("snapshot.sh"), f"{what}\n".encode(), seconds=seconds)
    if result.code:
        lines = (result.stdout + result.stderr).decode(errors="replace").splitlines()
        # The reason is the program's; systemd's lines about its unit come before and after it.
        *said, why = [line for line in lines if "-backup@" not in line] or lines or ["it says nothing"]
        quote(connection.name, "\n".join(said))
        raise Failure(f"{connection.name}: {printable(why)}")
    return result.text


def connections(environment: Environment, target: Target, *, admin: bool = False) -> Connections:
    return Connections(pinning.load(environment.root, environment.name), admin=admin, owner=target.owner)


def report(target: Target) -> Report:
    """The backups of the site, newest first."""
    with connections(target.environment, target) as found:
        known = listed(found, parts(target)[:1])
    data = {
        "environment": target.environment.name,
        "backups": [
            {"id": each.id, "at": each.at.isoformat(), "release": each.release, "revision": each.revision}
            for each in reversed(backups.whole(known))
        ],
    }
    return Report(
        [backups.grid(backups.whole(known))],
        [] if known else ["there is no backup yet: `invoke remote-backup`"],
        [],
        data,
    )


def backup(target: Target, notify: Notify, *, verify: bool) -> Action:
    """Make a backup now, or prove the last one. Both as the hosts' timers do it."""
    hosts = parts(target)[:1] if verify else parts(target)

    def show() -> None:
        for host in hosts:
            print(f"snapshot.sh on {host.name}: {'verify' if verify else 'asked'}")
        print(f"\n# --- snapshot.sh\n{script('snapshot.sh')}", end="")

    def do() -> None:
        with connections(target.environment, target) as found:
            word = "verify" if verify else "asked"
            # The database first: files that come later than its rows do no harm.
            for some in (hosts[:1], hosts[1:]):
                made = require_all(found.on_all(some, lambda each: _ask(each, word, limits.BACKUP)))
                for name, said in made.items():
                    notify(f"{name}: {_said(said, verify=verify)}")

    return Action(show, do)


def _said(answer: str, *, verify: bool) -> str:
    identifier = printable(answer.strip())
    return f"backup {identifier} was restored beside, and is whole" if verify else f"backup {identifier}"


def choose(known: Sequence[Backup], to: str, target: Target) -> tuple[Backup, tuple[Backup, ...]]:
    """The backup ``to``, and the files of other hosts that belong to it."""
    chosen = backups.choose(known, to, site_of(target))
    return chosen, backups.parts(known, chosen)
