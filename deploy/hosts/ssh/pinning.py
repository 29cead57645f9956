"""`remote-trust`: show the keys of an environment's hosts, and pin those that a person has compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.core import shell
from deploy.core import text as texts
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm
from deploy.core.shell import WriteSecret
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.ssh import background, known_hosts
from deploy.hosts.ssh.connect import AT_A_TIME, Connections
from deploy.hosts.ssh.hop import Hop
from deploy.hosts.ssh.known_hosts import HostKey, KnownHosts, Verdict


@dataclass(frozen=True)
class Shown:
    """The key that a host shows, compared with the pinned keys."""

    label: str
    #: The host's name in the file of keys.
    name: str
    key: HostKey
    verdict: Verdict

    def __str__(self) -> str:
        mark = "CHANGED" if self.verdict == "changed" else self.verdict
        return f"{self.label}  {self.name}  {self.key.kind}  {self.key.fingerprint}  {mark}"


def load(root: Path, environment: str) -> KnownHosts:
    """The keys that an environment trusts; none if its file is missing. Raises `Failure` for an invalid file."""
    path = root / known_hosts.source(environment)
    try:
        return known_hosts.parse(texts.read(path) if path.exists() else "", environment)
    except OSError as error:
        raise Failure(f"{known_hosts.source(environment)}: cannot be read ({error}); fix it") from None


def pin(environment: Environment, replace: Collection[str], notify: Notify, *, confirmed: bool = False) -> Action:
    """Show the keys of the hosts, and pin those that are new or in ``replace``; a dry run pins none."""
    return Action(
        lambda: _show_and_pin(environment, replace, notify, confirmed=confirmed, dry_run=True),
        lambda: _show_and_pin(environment, replace, notify, confirmed=confirmed, dry_run=False),
    )


def _show_and_pin(
    environment: Environment, replace: Collection[str], notify: Notify, *, confirmed: bool, dry_run: bool
) -> None:
    """Show the key of each host and jump host, and pin those that are new, or changed and in ``replace``.

    Jump hosts come first: the hosts behind one are reached through it, which needs a login there. Raises `Failure` for
    a changed key that ``replace`` does not name, without writing any key of that round; and at the end for hosts that
    did not answer.
    """
    known, failed, depth = load(environment.root, environment.name), dict[str, str](), 0
    unused = set(replace)
    while True:
        with Connections(known) as connections:
            hops = _at(connections, environment.hosts, depth)
            if not hops:
                break
            looking = background.start([partial(look, hop) for hop in hops], AT_A_TIME)
            shown = []
            for hop, found in zip(hops, looking, strict=True):
                try:
                    shown.append(found.result())
                except Failure as failure:
                    failed[hop.name] = failure.message
        for each in shown:
            print(each)
        unused -= {name for each in shown for name in (each.label, each.name)}
        known = _pin(known, environment, shown, replace, notify, confirmed=confirmed, dry_run=dry_run)
        depth += 1
    if unused:
        failed["--replace"] = f"--replace {', '.join(sorted(unused))}: no host of that name has shown a key"
    if failed:
        raise Failure("\n".join(failed.values()))


def look(hop: Hop) -> Shown:
    """Ask a host for its key. Raises `Failure`."""
    found = hop.key()
    return Shown(hop.label, hop.name, found, known_hosts.compare(hop.known.keys(hop.name), found))


def _at(connections: Connections, hosts: Sequence[Host], depth: int) -> list[Hop]:
    """The hops at this position of the ways to the hosts, each address once."""
    ways = (connections.way(host) for host in hosts)
    return list({way[depth].name: way[depth] for way in ways if depth < len(way)}.values())


def wanted(shown: Sequence[Shown], replace: Collection[str]) -> list[Shown]:
    """The keys to pin. Raises `Failure` if a key has changed and ``replace`` does not name its host."""
    refused = [
        each for each in shown if each.verdict == "changed" and each.label not in replace and each.name not in replace
    ]
    if refused:
        raise Failure("\n".join(_refusals(refused)))
    return [each for each in shown if each.verdict != "same"]


def _refusals(refused: Sequence[Shown]) -> Iterator[str]:
    for each in refused:
        yield (
            f"{each.label}: its host key is not the pinned one: find out why before anything else; "
            f"if the host was reinstalled, add --replace {each.name}"
        )


def _pin(
    known: KnownHosts,
    environment: Environment,
    shown: Sequence[Shown],
    replace: Collection[str],
    notify: Notify,
    *,
    confirmed: bool,
    dry_run: bool,
) -> KnownHosts:
    fresh = wanted(shown, replace)
    if not fresh or dry_run:
        return known
    names = ", ".join(each.label for each in fresh)
    confirm(f"This pins the keys of {names}: compare them with the keys on the hosts.", environment.name, confirmed)
    for each in fresh:
        known = known.with_key(each.name, each.key)
    shell.perform([WriteSecret(environment.root / known.source, known.text, 0o644)])
    notify(f"{known.source}: {len(fresh)} pinned; commit it")
    return known
