"""The state of the hosts as reported by `scripts/look.sh`, and decisions based on it. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from deploy.core.errors import Failure
from deploy.hosts.release import release
from deploy.hosts.release.release import Release
from deploy.project.workers import PROCESS

#: What is said of a host without the mark of its owner.
UNMARKED = "an earlier version has set it up, without a mark that says whose host it is"
#: Roles whose units run until they are stopped.
_LASTING = ("web", PROCESS, "beat")


@dataclass(frozen=True)
class Kept:
    """A release that a host keeps."""

    release: Release
    #: When it was last activated there, in seconds since the epoch by the host's clock; 0 for never.
    served: int
    #: Whether it was rolled back since then.
    left: bool = False


@dataclass(frozen=True)
class RunningUnit:
    """A unit that is not inactive."""

    kind: str
    release: str
    state: str


@dataclass
class HostState:
    """The state of a host."""

    name: str
    #: What the host calls the site; empty if it did not say so.
    site: str = ""
    #: The mark that setup left there (`desired.setup_mark`); empty if the last setup did not finish.
    setup: str = ""
    #: Whether it says whose host it is.
    marked: bool = True
    #: The roles it was set up for.
    roles: tuple[str, ...] = ()
    cores: int = 1
    #: The kinds of units of the workers that the release which serves has there.
    workers: tuple[str, ...] = (PROCESS,)
    #: What `remote-scale` has changed: the number of processes, and that of the environment file, by the kind of units.
    scaled: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Secrets of which two are valid at this moment.
    rotating: list[str] = field(default_factory=list)
    #: The id of the release that serves; empty for none.
    current: str = ""
    #: Kilobytes; None if the host could not tell.
    free: int | None = None
    #: In order of arrival, by the host's clock. Ids come from the clocks of clients, any of which may be wrong: they do
    #: not tell which release came first. Nor does a comparison of the clocks of two hosts.
    kept: list[Kept] = field(default_factory=list)
    units: list[RunningUnit] = field(default_factory=list)
    ledger: list[dict[str, str]] = field(default_factory=list)

    @property
    def served(self) -> set[str]:
        """The ids of the releases that it can roll back to."""
        return {each.release.id for each in self.kept if each.served}

    @property
    def arrived(self) -> list[str]:
        """The ids of all its releases, in order of arrival."""
        return [each.release.id for each in self.kept]

    @property
    def last_served(self) -> list[str]:
        """The ids of the releases that it can roll back to, the most recently activated first."""
        in_order = sorted((each for each in self.kept if each.served), key=lambda each: each.served)
        return [each.release.id for each in reversed(in_order)]


def parse(name: str, text: str) -> HostState:
    """Parse the facts of a host. Skips lines that it cannot parse, such as a torn line of the ledger."""
    state = HostState(name)
    for line in text.splitlines():
        # Each line is one fact: a torn line, or one from a disk that does not answer, does not affect the others.
        with suppress(ValueError, TypeError, AttributeError):
            _take(state, *line.partition(" ")[::2])
    return state


def _take(state: HostState, key: str, value: str) -> None:
    """Add a fact. Raises `ValueError`, `TypeError` or `AttributeError` for one that it cannot parse."""
    match key:
        case "setup":
            state.setup = value.strip("-")
        case "unmarked":
            state.marked = False
        case "cores" | "free":
            setattr(state, key, int(value))
        case "current" | "site":
            setattr(state, key, value)
        case "unit":
            kind, release_id, unit_state = value.split()[:3]
            state.units.append(RunningUnit(kind, release_id, unit_state))
        case "rotating":
            state.rotating.append(value)
        case "scaled":
            kind, number, own = value.split()
            state.scaled[kind] = int(number), int(own)
        case "roles" | "workers":
            setattr(state, key, tuple(value.split()))
        case "release":
            _, served, left, record = value.split(" ", 3)
            state.kept.append(Kept(release.parse(record), int(served), left == "left"))
        case "ledger":
            state.ledger.append({name: str(each) for name, each in json.loads(value).items()})


def require_ready(
    states: Mapping[str, HostState], roles: Mapping[str, Sequence[str]], marks: Mapping[str, str], environment: str
) -> list[str]:
    """Raise `Failure` for hosts that cannot take a release; returns lines that recommend a new setup.

    ``roles`` are the roles in the environment file; ``marks`` the marks that setup leaves with the current files,
    without the certificate's digest if this machine does not have the certificate.
    """
    remedy = f"`invoke remote-setup --env {environment}`"
    wrong, lines = [], []
    for name, state in states.items():
        if not state.setup:
            wrong.append(f"{name}: {unready(state)}: run {remedy}")
        elif not state.marked:
            wrong.append(f"{name}: {UNMARKED}: run {remedy}")
        elif set(state.roles) != set(roles.get(name, state.roles)):
            now, then = " ".join(roles[name]), " ".join(state.roles)
            wrong.append(f"{name}: was set up as {then}, but must be {now}: run {remedy}")
        elif differs := _differs(state.setup, marks.get(name, state.setup)):
            lines.append(f"{name}: {differs}: {remedy}")
    if wrong:
        raise Failure("\n".join(wrong))
    return lines


def _differs(mark: str, wanted: str) -> str:
    """How the mark of a setup differs from the desired one; empty if it does not, as far as the marks tell."""
    (digest, _, certificate), (wanted_digest, _, wanted_certificate) = mark.partition(" "), wanted.partition(" ")
    if digest != wanted_digest:
        return "its setup is out of date"
    other = wanted_certificate and certificate != wanted_certificate
    return "its certificate differs from the file in tls" if other else ""


def unready(state: HostState) -> str:
    """The message for a host without the mark of a setup."""
    return "its last setup did not finish" if state.roles else "is not set up"


def missing(state: HostState, roles: Sequence[str]) -> list[str]:
    """The kinds of units of a host that its current release should run but does not."""
    running = {unit.kind for unit in state.units if unit.release == state.current and unit.state == "active"}
    return [kind for kind in due(state, roles) if kind not in running]


def due(state: HostState, roles: Sequence[str]) -> list[str]:
    """The kinds of units that the current release of a host should run."""
    lasting = [role for role in roles if role in _LASTING] if state.current else []
    return [kind for role in lasting for kind in (state.workers if role == PROCESS else (role,))]


def target(states: Mapping[str, HostState], asked: str) -> str:
    """The release to roll back to: the one asked for (by a prefix of its id or commit), else the previous one.

    The previous one is the most recently activated release that all hosts have served, that no host has rolled back,
    and that not all hosts serve now: after a deploy that was killed half-way, it is what some hosts still serve. Raises
    `Failure` if there is none.
    """
    common = set.intersection(*(state.served for state in states.values()))
    everywhere = {each for each in common if all(state.current == each for state in states.values())}
    kept = [kept for state in states.values() for kept in state.kept if kept.release.id in common]
    if not asked:
        left = {each.release.id for each in kept if each.left}
        before = common - left - everywhere
        if not before:
            but = ", except releases that were rolled back, which --to can name" if left - everywhere else ""
            raise Failure(f"{_nothing_before(states)}{but}: `invoke remote-releases`")
        return _served_last(states, before)
    found = sorted({each.release.id for each in kept if _is_called(each.release, asked)})
    if len(found) != 1:
        why = "matches no release" if not found else "matches more than one release (" + ", ".join(found) + ")"
        raise Failure(f"--to {asked}: {why} that has served on all of these hosts: see `invoke remote-releases`")
    if found[0] in everywhere:
        raise Failure(f"--to {asked}: {found[0]} serves on all of these hosts already")
    return found[0]


def _served_last(states: Mapping[str, HostState], ids: Collection[str]) -> str:
    """The most recently activated of these releases, which all hosts have served, by the order on most hosts."""
    orders = [[each for each in state.last_served if each in ids] for state in states.values()]
    return min(orders[0], key=lambda each: sum(order.index(each) for order in orders))


def _is_called(release: Release, asked: str) -> bool:
    return release.id.startswith(asked) or release.commit.startswith(asked)


def _nothing_before(states: Mapping[str, HostState]) -> str:
    """Why there is no release to roll back to; names hosts that could roll back without the others."""
    able = [name for name, state in states.items() if len(state.served) > 1]
    if able and len(able) < len(states):
        others = ", ".join(name for name in states if name not in able)
        return f"{others}: no release to roll back to; to roll back the others: --only {','.join(able)}"
    return "there is no earlier release that has served on all of these hosts"


def going_back(states: Mapping[str, HostState], chosen: str) -> set[str]:
    """The hosts on which a release arrived before the one that serves there: these roll their current release back."""
    return {name for name, state in states.items() if _arrived_before(state, chosen)}


def _arrived_before(state: HostState, chosen: str) -> bool:
    if state.current in ("", chosen):
        return False
    # A current release that has lost its record is treated as the newest.
    return state.current not in state.arrived or chosen in state.arrived[: state.arrived.index(state.current)]


def rows(states: Sequence[HostState]) -> list[tuple[Release, list[str], list[str]]]:
    """The releases of all hosts, newest arrival first: where each serves, and where else it is kept for a rollback."""
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
    """Merge lists into one that keeps their orders; an item only in a later list follows its predecessor there."""
    merged: list[str] = []
    for order in orders:
        place = 0
        for each in order:
            if each not in merged:
                merged.insert(place, each)
            place = max(place, merged.index(each) + 1)
    return merged


def ledger(states: Sequence[HostState], last: int) -> list[dict[str, str]]:
    """The last entries of all ledgers, oldest first; equal entries of several hosts become one with their names."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for state in states:
        for entry in state.ledger:
            key = tuple(entry.get(each, "") for each in ("release", "action", "who", "outcome", "run"))
            known = found.setdefault(key, {**entry, "hosts": ""})
            known["hosts"] = " ".join([*known["hosts"].split(), state.name])
            known["at"] = max(known.get("at", ""), entry.get("at", ""))
    return sorted(found.values(), key=lambda entry: entry.get("at", ""))[-last:]
