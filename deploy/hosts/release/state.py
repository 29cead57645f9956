"""What hosts said of themselves (`scripts/look.sh`), and what follows from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.core.errors import Failure
from deploy.hosts.release import release
from deploy.hosts.release.release import Release

#: Kinds of units that run until they are told to stop.
_LASTING = ("web", "worker", "beat")


@dataclass(frozen=True)
class Kept:
    """A release that is on a host."""

    release: Release
    #: When it was put into service there last, in seconds of the epoch by the host's own clock; 0 for never.
    served: int
    #: Whether it was rolled back from since.
    left: bool = False
    #: When it arrived there, likewise.
    arrived: int = 0


@dataclass(frozen=True)
class Unit:
    """A unit that is not at rest."""

    kind: str
    release: str
    state: str


@dataclass
class HostState:
    """What a host has."""

    name: str
    #: A digest of what setup laid down there, but for the certificate; empty when it did not.
    setup: str = ""
    #: A digest of the certificate; empty where there is none, or an earlier version set the host up.
    certificate: str = ""
    #: What it was set up for.
    roles: tuple[str, ...] = ()
    cores: int = 1
    #: The id of the release that serves; empty for none.
    current: str = ""
    #: Kilobytes; None where the host could not tell.
    free: int | None = None
    kept: list[Kept] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    ledger: list[dict[str, str]] = field(default_factory=list)

    @property
    def served(self) -> set[str]:
        """The ids of the releases that it can go back to."""
        return {each.release.id for each in self.kept if each.served}


def parse(name: str, text: str) -> HostState:
    """The state of a host from its facts. What is not understood, such as a torn line of the ledger, is left out."""
    state = HostState(name)
    for line in text.splitlines():
        # A line is one fact: a torn one, or one of a disk that does not answer, takes no other with it.
        with suppress(ValueError, TypeError, AttributeError):
            _take(state, *line.partition(" ")[::2])
    return state


def _take(state: HostState, key: str, value: str) -> None:
    """Add a fact. Raises `ValueError`, `TypeError` or `AttributeError` for one that is not understood."""
    match key:
        case "setup":
            state.setup, _, state.certificate = value.strip("-").partition(" ")
        case "cores" | "free":
            setattr(state, key, int(value))
        case "current":
            state.current = value
        case "unit":
            kind, release_id, unit_state = value.split()[:3]
            state.units.append(Unit(kind, release_id, unit_state))
        case "roles":
            state.roles = tuple(value.split())
        case "release":
            _, served, left, arrived, record = value.split(" ", 4)
            state.kept.append(Kept(release.parse(record), int(served), left == "left", int(arrived)))
        case "ledger":
            state.ledger.append({name: str(each) for name, each in json.loads(value).items()})


@dataclass(frozen=True)
class Digest:
    """What setup leaves on a host that it has made as the files say now."""

    setup: str
    #: Of the certificate; empty where this machine has no file of it to compare.
    certificate: str = ""

    def differs(self, state: HostState) -> bool:
        """Whether the host was set up with other files."""
        known = bool(self.certificate and state.certificate)
        return self.setup != state.setup or (known and self.certificate != state.certificate)


def need_ready(
    states: Mapping[str, HostState], roles: Mapping[str, Sequence[str]], digests: Mapping[str, Digest], environment: str
) -> list[str]:
    """Raise `Failure` for hosts that no release can be put on; returns lines on what had better be done.

    ``roles`` are those that the file gives a host; ``digests`` what setup leaves on a host that it has made as the
    files say now.
    """
    remedy = f"`invoke remote-setup --env {environment}`"
    wrong, lines = [], []
    for name, state in states.items():
        if not state.setup:
            wrong.append(f"{name}: {unready(state)}: run {remedy}")
        elif set(state.roles) != set(roles.get(name, state.roles)):
            now, then = " ".join(roles[name]), " ".join(state.roles)
            wrong.append(f"{name}: was set up as {then}, but must be {now}: run {remedy}")
        elif name in digests and digests[name].differs(state):
            lines.append(f"{name}: its setup is out of date: {remedy}")
    if wrong:
        raise Failure("\n".join(wrong))
    return lines


def unready(state: HostState) -> str:
    """What to say of a host that has no mark of a setup."""
    return "its last setup did not come to its end" if state.roles else "is not set up"


def missing(state: HostState, roles: Sequence[str]) -> list[str]:
    """The roles of a host that the release which serves there should run, and does not."""
    running = {unit.kind for unit in state.units if unit.release == state.current and unit.state == "active"}
    return [role for role in roles if role in _LASTING and state.current and role not in running]


def logging(state: HostState, roles: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and release of the units of a host whose logs matter: those that run, and those that should."""
    running = [(unit.kind, unit.release) for unit in state.units if unit.kind in (*_LASTING, "release")]
    due = [(role, state.current) for role in roles if role in _LASTING and state.current]
    return list(dict.fromkeys([*running, *due]))


def target(states: Mapping[str, HostState], asked: str) -> str:
    """The release to go back to: the one asked for (by the beginning of its id or commit), else the one before.

    Before is what was put into service last of what all hosts have served, none has rolled back from, and not all serve
    now: after a deploy that was killed half-way, that is what the others still serve. Raises `Failure` when there is
    none.
    """
    common = set.intersection(*(state.served for state in states.values()))
    everywhere = {each for each in common if all(state.current == each for state in states.values())}
    kept = [kept for state in states.values() for kept in state.kept if kept.release.id in common]
    if not asked:
        left = {each.release.id for each in kept if each.left}
        before = [each for each in kept if each.release.id not in left | everywhere]
        if not before:
            but = ", but for what was rolled back from, which --to can name" if left - everywhere else ""
            raise Failure(f"{_nothing_before(states)}{but}: `invoke remote-releases`")
        return max(before, key=lambda each: (each.served, each.release.id)).release.id
    found = sorted({each.release.id for each in kept if _is_called(each.release, asked)})
    if len(found) != 1:
        why = "is no release" if not found else "may be " + " or ".join(found) + ", but is no single release"
        raise Failure(f"--to {asked}: {why} that has served on all of these hosts: `invoke remote-releases`")
    if found[0] in everywhere:
        raise Failure(f"--to {asked}: {found[0]} serves on all of these hosts already")
    return found[0]


def _is_called(release: Release, asked: str) -> bool:
    return release.id.startswith(asked) or release.commit.startswith(asked)


def _nothing_before(states: Mapping[str, HostState]) -> str:
    """Why there is nothing to go back to; hosts that could if it were not for others are a remedy."""
    able = [name for name, state in states.items() if len(state.served) > 1]
    if able and len(able) < len(states):
        others = ", ".join(name for name in states if name not in able)
        return f"{others}: nothing to go back to; the others have: --only {','.join(able)}"
    return "there is no earlier release that has served on all of these hosts"


def is_earlier(states: Mapping[str, HostState], chosen: str) -> bool:
    """Whether going to a release is going back on some host: it arrived there before the one that serves now.

    By the hosts' own clocks: ids have those of the clients that made them, of which one may be behind.
    """
    for state in states.values():
        arrived = {each.release.id: each.arrived for each in state.kept}
        if chosen != state.current and arrived.get(chosen, 0) < arrived.get(state.current, 0):
            return True
    return False


def rows(states: Sequence[HostState]) -> list[tuple[Release, list[str], list[str]]]:
    """The releases of all hosts: where each serves, and where else it is kept to go back to.

    What arrived last is first, by the hosts' own clocks.
    """
    known = {kept.release.id: kept.release for state in states for kept in state.kept}
    arrived: dict[str, int] = {}
    for state in states:
        for kept in state.kept:
            arrived[kept.release.id] = max(arrived.get(kept.release.id, 0), kept.arrived)
    return [
        (
            each,
            [state.name for state in states if state.current == each.id],
            [state.name for state in states if each.id in state.served and state.current != each.id],
        )
        for each in sorted(known.values(), key=lambda each: (arrived[each.id], each.id), reverse=True)
    ]


def ledger(states: Sequence[HostState], last: int) -> list[dict[str, str]]:
    """The last entries of all ledgers, oldest first; what several hosts have alike is one, with their names."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for state in states:
        for entry in state.ledger:
            key = tuple(entry.get(each, "") for each in ("release", "action", "who", "outcome", "run"))
            known = found.setdefault(key, {**entry, "hosts": ""})
            known["hosts"] = " ".join([*known["hosts"].split(), state.name])
            known["at"] = max(known.get("at", ""), entry.get("at", ""))
    return sorted(found.values(), key=lambda entry: entry.get("at", ""))[-last:]
