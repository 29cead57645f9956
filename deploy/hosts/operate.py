"""What people ask of running hosts: which releases there are, who holds the lock."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from deploy.errors import Failure
from deploy.hosts import phases, pinning, state
from deploy.hosts.channel import printable, run_script, script
from deploy.hosts.connect import Connection, Connections, failures
from deploy.hosts.deploy import Say
from deploy.hosts.phases import Session, Site
from deploy.hosts.view import View
from deploy.running import confirm

#: Entries of the ledger that are shown.
_ENTRIES = 10


def releases(site: Site) -> None:
    """Print the releases that the hosts have, and the last entries of their ledgers. Raises `Failure`."""
    with Connections(pinning.load(site.environment.root, site.environment.name)) as connections, View([]) as view:
        states = list(phases.look(Session(site, connections, view)).values())
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("release", "serves on", "kept on", "made", "by", "what"):
        shown.add_column(heading, no_wrap=heading in ("release", "made"))
    for release, serves, kept in state.rows(states):
        words = (release.id, ", ".join(serves), ", ".join(kept), release.at[:16], release.who, release.subject)
        shown.add_row(*map(printable, words))
    console = Console(soft_wrap=True)
    console.print(shown)
    ledger = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("when", "what", "release", "by", "hosts", "how it ended"):
        ledger.add_column(heading)
    for entry in state.ledger(states, _ENTRIES):
        ledger.add_row(
            *(printable(entry.get(key, "")) for key in ("at", "action", "release", "who", "hosts", "outcome"))
        )
    console.print()
    console.print(ledger)


def unlock(site: Site, say: Say, *, confirmed: bool) -> None:
    """End whoever holds the lock. It is only needed for one that lives and hangs: who died holds none."""
    confirm("This ends a deploy that is under way.", site.environment.name, confirmed)

    def end(connection: Connection) -> str:
        result = run_script(connection, script("unlock.sh"), f"{site.layout.lock}\n".encode(), seconds=60)
        if result.code:
            raise Failure(f"{connection.name}: {result.last_line}")
        return printable(result.text)

    with Connections(pinning.load(site.environment.root, site.environment.name)) as connections:
        results = connections.on_all(site.hosts, end)
    for name, said in results.items():
        if isinstance(said, str):
            say(f"{name}: {'nobody held the lock' if said == 'free' else 'the one who held it is ended'}")
    if failed := failures(results):
        raise failed
