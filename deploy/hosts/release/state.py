"""What hosts said of themselves (`scripts/look.sh`), and what follows from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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


@dataclass(frozen=True)
class RunningUnit:
    """A unit that is not at rest."""

    kind: str
    release: str
    state: str


@dataclass
class HostState:
    """What a host has."""

    name: str
    #: The mark that setup left there (`desired.setup_mark`); empty when it did not come to its end.
    setup: str = ""
    #: What it was set up for.
    roles: tuple[str, ...] = ()
    cores: int = 1
    #: The id of the release that serves; empty for none.
    current: str = ""
    #: Kilobytes; None where the host could not tell.
    free: int | None = None
    #: In the order in which the releases arrived, by the host's own clock. Ids are from the clocks of clients, any of
    #: which may be wrong: they say nothing of what came first. Nor do the clocks of two hosts, compared.
    kept: list[Kept] = field(default_factory=list)
    units: list[RunningUnit] = field(default_factory=list)
    ledger: list[dict[str, str]] = field(default_factory=list)

    @property
    def served(self) -> set[str]:
        """The ids of the releases that it can go back to."""
        return {each.release.id for each in self.kept if each.served}

    @property
    def arrived(self) -> list[str]:
        """The ids of all its releases, the one that arrived last at the end."""
        return [each.release.id for each in self.kept]

    @property
    def last_served(self) -> list[str]:
        """The ids of the releases that it can go back to, the one that was put into service last first."""
        in_order = sorted((each for each in self.kept if each.served), key=lambda each: each.served)
        return [each.release.id for each in reversed(in_order)]


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
            state.setup = value.strip("-")
        case "cores" | "free":
            setattr(state, key, int(value))
        case "current":
            state.current = value
        case "unit":
            kind, release_id, unit_state = value.split()[:3]
            state.units.append(RunningUnit(kind, release_id, unit_state))
        case "roles":
            state.roles = tuple(value.split())
        case "release":
            _, served, left, record = value.split(" ", 3)
            state.kept.append(Kept(release.parse(record), int(served), left == "left"))
        case "ledger":
            state.ledger.append({name: str(each) for name, each in json.loads(value).items()})


def require_ready(
    states: Mapping[str, HostState], roles: Mapping[str, Sequence[str]], marks: Mapping[str, str], environment: str
) -> list[str]:
    """Raise `Failure` for hosts that no release can be put on; returns lines on what had better be done.

    ``roles`` are those that the file gives a host; ``marks`` what setup leaves on a host that it has made as the files
    say now, without the certificate's where that is not here.
    """
    remedy = f"`invoke remote-setup --env {environment}`"
    wrong, lines = [], []
    for name, state in states.items():
        if not state.setup:
            wrong.append(f"{name}: {unready(state)}: run {remedy}")
        elif set(state.roles) != set(roles.get(name, state.roles)):
            now, then = " ".join(roles[name]), " ".join(state.roles)
            wrong.append(f"{name}: was set up as {then}, but must be {now}: run {remedy}")
        elif differs := _differs(state.setup, marks.get(name, state.setup)):
            lines.append(f"{name}: {differs}: {remedy}")
    if wrong:
        raise Failure("\n".join(wrong))
    return lines


def _differs(mark: str, wanted: str) -> str:
    """In what the mark of a setup is not the one wanted; empty where it is, as far as that says."""
    (digest, _, certificate), (wanted_digest, _, wanted_certificate) = mark.partition(" "), wanted.partition(" ")
    if digest != wanted_digest:
        return "its setup is out of date"
    other = wanted_certificate and certificate != wanted_certificate
    return "has another certificate than the file of tls" if other else ""


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
        before = common - left - everywhere
        if not before:
            but = ", but for what was rolled back from, which --to can name" if left - everywhere else ""
            raise Failure(f"{_nothing_before(states)}{but}: `invoke remote-releases`")
        return _served_last(states, before)
    found = sorted({each.release.id for each in kept if _is_called(each.release, asked)})
    if len(found) != 1:
        why = "is no release" if not found else "may be " + " or ".join(found) + ", but is no single release"
        raise Failure(f"--to {asked}: {why} that has served on all of these hosts: `invoke remote-releases`")
    if found[0] in everywhere:
        raise Failure(f"--to {asked}: {found[0]} serves on all of these hosts already")
    return found[0]


def _served_last(states: Mapping[str, HostState], ids: Collection[str]) -> str:
    """What was put into service last of some releases that all hosts have served, by what most of them say."""
    orders = [[each for each in state.last_served if each in ids] for state in states.values()]
    return min(orders[0], key=lambda each: sum(order.index(each) for order in orders))


def _is_called(release: Release, asked: str) -> bool:
    return release.id.startswith(asked) or release.commit.startswith(asked)


def _nothing_before(states: Mapping[str, HostState]) -> str:
    """Why there is nothing to go back to; hosts that could if it were not for others are a remedy."""
    able = [name for name, state in states.items() if len(state.served) > 1]
    if able and len(able) < len(states):
        others = ", ".join(name for name in states if name not in able)
        return f"{others}: nothing to go back to; the others have: --only {','.join(able)}"
    return "there is no earlier release that has served on all of these hosts"


def going_back(states: Mapping[str, HostState], chosen: str) -> set[str]:
    """The hosts on which a release arrived before the one that serves there: these roll back from that one."""
    return {name for name, state in states.items() if _arrived_before(state, chosen)}


def _arrived_before(state: HostState, chosen: str) -> bool:
    if state.current in ("", chosen):
        return False
    # What serves and has lost its record cannot be told from the newest.
    return state.current not in state.arrived or chosen in state.arrived[: state.arrived.index(state.current)]


def rows(states: Sequence[HostState]) -> list[tuple[Release, list[str], list[str]]]:
    """The releases of all hosts, the last to arrive first: where each serves, where else it is kept to go back to."""
    known = {kept.release.id: kept.release for state in states for kept in state.kept}
    return [
        (
            known[each],
            [state.name for state in states if state.current == each],
            [state.name for state in states if each in state.served and state.current != each],
        )
        for each in reversed(_merged([state.arrived for state in states]))
    ]


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All that is in some lists, in an order that suits them; what is only in a later one is right after its like."""
    merged: list[str] = []
    for order in orders:
        place = 0
        for each in order:
            if each not in merged:
                merged.insert(place, each)
            place = max(place, merged.index(each) + 1)
    return merged


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
