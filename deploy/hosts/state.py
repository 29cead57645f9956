"""What hosts said of themselves (`scripts/look.sh`), and what follows from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.errors import Failure
from deploy.hosts import release
from deploy.hosts.release import Release

#: Kilobytes that a host must have free for a release to be begun.
LEAST_FREE = 200 * 1024
#: Kinds of units that run until they are told to stop.
_LASTING = ("web", "worker", "beat")


@dataclass(frozen=True)
class Kept:
    """A release that is on a host."""

    release: Release
    #: Whether it was ever in service there.
    served: bool


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
    #: A digest of what setup laid down there; empty when it did not.
    setup: str = ""
    cores: int = 1
    #: The id of the release that serves; empty for none.
    current: str = ""
    #: Kilobytes.
    free: int = 0
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
        key, _, value = line.partition(" ")
        match key:
            case "setup":
                state.setup = value.strip("-")
            case "cores" | "free":
                setattr(state, key, int(value))
            case "current":
                state.current = value
            case "unit":
                state.units.append(Unit(*value.split()[:3]))
            case "release":
                _, served, record = value.split(" ", 2)
                try:
                    state.kept.append(Kept(release.parse(record), served == "served"))
                except ValueError:
                    continue
            case "ledger":
                try:
                    state.ledger.append({key: str(each) for key, each in json.loads(value).items()})
                except (ValueError, AttributeError):
                    continue
    return state


def need_ready(states: Mapping[str, HostState], digests: Mapping[str, str], environment: str) -> list[str]:
    """Raise `Failure` for hosts that no release can be put on; returns lines on what had better be done.

    ``digests``: what setup leaves on a host that it has made as the files say now.
    """
    need_setup(states, environment)
    wrong, lines = [], []
    for name, state in states.items():
        if state.free < LEAST_FREE:
            wrong.append(f"{name}: only {state.free // 1024} MB are free for releases: make room, or lower keep")
        elif digests.get(name, state.setup) != state.setup:
            lines.append(
                f"{name}: was set up otherwise than the files say now: `invoke remote-setup --env {environment}`"
            )
    if wrong:
        raise Failure("\n".join(wrong))
    return lines


def need_setup(states: Mapping[str, HostState], environment: str) -> None:
    """Raise `Failure` for hosts that were never set up."""
    if bare := [name for name, state in states.items() if not state.setup]:
        lines = (f"{name}: is not set up: run `invoke remote-setup --env {environment}`" for name in bare)
        raise Failure("\n".join(lines))


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

    Before is what all hosts have served and is older than the newest that serves anywhere: after a deploy that was
    killed half-way, that is what the others still serve. Raises `Failure` when there is none.
    """
    common = set.intersection(*(state.served for state in states.values()))
    if not asked:
        newest = max(state.current for state in states.values())
        older = sorted(each for each in common if each < newest)
        if not older:
            raise Failure("there is no earlier release that has served on all of these hosts: `invoke remote-releases`")
        return older[-1]
    commits = {kept.release.id: kept.release.commit for each in states.values() for kept in each.kept}
    found = sorted(each for each in common if each.startswith(asked) or commits[each].startswith(asked))
    if len(found) != 1:
        why = "is no release" if not found else "may be " + " or ".join(found) + ", but is no single release"
        raise Failure(f"--to {asked}: {why} that has served on all of these hosts: `invoke remote-releases`")
    if all(state.current == found[0] for state in states.values()):
        raise Failure(f"--to {asked}: {found[0]} serves on all of these hosts already")
    return found[0]


def rows(states: Sequence[HostState]) -> list[tuple[Release, list[str], list[str]]]:
    """The releases of all hosts, newest first: where each serves, and where else it is kept to go back to."""
    known = {kept.release.id: kept.release for state in states for kept in state.kept}
    return [
        (
            each,
            [state.name for state in states if state.current == each.id],
            [state.name for state in states if each.id in state.served and state.current != each.id],
        )
        for each in sorted(known.values(), key=lambda each: each.id, reverse=True)
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
