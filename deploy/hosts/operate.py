"""What people ask of running hosts: their state, logs, a command of the site's, releases, who holds the lock."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from deploy.core.errors import Failure
from deploy.core.running import confirm
from deploy.hosts.release import phases, state
from deploy.hosts.release.deploy import Say
from deploy.hosts.release.phases import Session, Site
from deploy.hosts.release.state import HostState
from deploy.hosts.release.view import View
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import printable, run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, failures

#: Entries of the ledger that are shown.
_ENTRIES = 10


def _table(*headings: str) -> Table:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        shown.add_column(heading, no_wrap=heading in ("release", "when", "made"))
    return shown


def _console() -> Console:
    """One that cuts nothing off where nobody looks at a screen."""
    console = Console()
    return console if console.is_terminal else Console(width=240)


def _look(site: Site, connections: Connections) -> list[HostState]:
    with View([]) as view:
        return list(phases.look(Session(site, connections, view)).values())


def _connections(site: Site) -> Connections:
    return Connections(pinning.load(site.environment.root, site.environment.name))


def status(site: Site, say: Say) -> None:
    """Print what runs on each host. Raises `Failure` when a unit that should run does not, or a setup failed."""
    with _connections(site) as connections:
        states = _look(site, connections)
    shown, wrong = _table("host", "roles", "release", "units", "free"), []
    for host, has in zip(site.hosts, states, strict=True):
        units = ", ".join(f"{unit.kind} {unit.state}{_other(unit, has)}" for unit in has.units)
        words = (host.name, " ".join(host.roles), has.current or "none", units, f"{has.free / 1e6:.1f} GB")
        shown.add_row(*map(printable, words))
        if not has.setup:
            wrong.append(f"{host.name}: {state.unready(has)}: `invoke remote-setup --env {site.environment.name}`")
        due = state.missing(has, host.roles)
        wrong += [f"{host.name}: {role} does not run: `invoke remote-logs` says why" for role in due]
    _console().print(shown)
    if len({has.current for has in states}) > 1:
        say("the hosts serve different releases: a deploy to all of them brings them to one")
    if wrong:
        raise Failure("\n".join(wrong))


def _other(unit: state.Unit, has: HostState) -> str:
    return "" if unit.release == has.current else f" ({unit.release})"


def releases(site: Site) -> None:
    """Print the releases that the hosts have, and the last entries of their ledgers. Raises `Failure`."""
    with _connections(site) as connections:
        states = _look(site, connections)
    shown = _table("release", "serves on", "kept on", "made", "by", "what")
    for release, serves, kept in state.rows(states):
        words = (release.id, ", ".join(serves), ", ".join(kept), release.at[:16], release.who, release.subject)
        shown.add_row(*map(printable, words))
    ledger = _table("when", "what", "release", "by", "hosts", "how it ended")
    for entry in state.ledger(states, _ENTRIES):
        keys = ("at", "action", "release", "who", "hosts", "outcome")
        ledger.add_row(*(printable(entry.get(key, "")) for key in keys))
    console = _console()
    console.print(shown)
    console.print()
    console.print(ledger)


def logs(site: Site, kind: str, lines: int) -> None:
    """Print the last lines of the units of a kind, or of all, each with its host. Raises `Failure`.

    Of those that run, and of those that should.
    """
    with _connections(site) as connections:
        for host, has in zip(site.hosts, _look(site, connections), strict=True):
            for role, release in state.logging(has, host.roles):
                if kind not in ("", role):
                    continue
                text = "".join(f"{word}\n" for word in (site.project.name, role, release, str(lines)))
                result = run_script(connections.to(host), script("journal.sh"), text.encode(), seconds=60)
                for line in result.text.splitlines():
                    print(f"{host.name} {role} | {printable(line)}")


def manage(site: Site, arguments: Sequence[str], *, dry_run: bool = False) -> int:
    """Run manage.py on the first host that has a release, in that release; returns its exit code."""
    with _connections(site) as connections:
        found = [(host, has) for host, has in zip(site.hosts, _look(site, connections), strict=True) if has.current]
        if not found:
            raise Failure(f"no release serves yet: `invoke remote-deploy --env {site.environment.name}`")
        host, has = found[0]
        words = ["sudo", "-n", str(site.layout.helper), "manage", has.current, *arguments]
        if dry_run:
            print(f"{host.name}: {shlex.join(words)}")
            return 0
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        fabric = connections.to(host).open().end.fabric
        if terminal:
            return int(fabric.run(shlex.join(words), pty=True, warn=True).exited)
        # What asks and gets no answer is to end, not to wait.
        return int(fabric.run(f"{shlex.join(words)} </dev/null", warn=True, in_stream=False).exited)


def unlock(site: Site, say: Say, *, confirmed: bool, dry_run: bool = False) -> None:
    """End whoever holds the lock, or say who that is.

    It is only needed for one that lives and hangs: who died holds none.
    """
    if not dry_run:
        confirm("This ends a deploy that is under way.", site.environment.name, confirmed)
    text = f"{site.layout.lock}\n{'tell' if dry_run else 'end'}\n".encode()

    def end(connection: Connection) -> str:
        result = run_script(connection, script("unlock.sh"), text, seconds=60)
        if result.code:
            raise Failure(f"{connection.name}: {result.last_line}")
        return printable(result.text)

    with _connections(site) as connections:
        results = connections.on_all(site.hosts, end)
    for name, said in results.items():
        if isinstance(said, str):
            say(f"{name}: {said}")
    if failed := failures(results):
        raise failed
