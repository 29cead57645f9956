"""What of a host is not as setup would make it: a line for each difference, with what is and what should be. Pure.

The lines are made from the steps of the changes, which `scripts/apply.sh` carries out. So what is named is healed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

from deploy.hosts.layout import DATABASE_PORT, FIREWALL_UNIT
from deploy.hosts.setup.diff import ABSENT, Change, Entry, Facts, User

#: Letters of a line of a file that are shown.
SHOWN = 80


def lines(changes: Iterable[Change], facts: Facts) -> tuple[str, ...]:
    """A line for each difference: `THING: what is, should be …`. Empty if the host is as it should be."""
    # Some changes have no line: they are consequences, such as the restart of a unit whose file differs.
    cluster = next((f"{version}/{name}" for version, name, port in facts.clusters if port == DATABASE_PORT), "*")
    return tuple(
        line.replace("@%PG%", f"@{cluster.replace('/', '-')}").replace("%PG%", cluster)
        for change in changes
        if not change.note
        for line in _of(change, facts)
    )


def _of(change: Change, facts: Facts) -> Iterator[str]:
    if not change.steps:
        path, _, condition = change.title.removeprefix("+ ").partition(", ")
        yield f"{path}: not there, should be, {condition}"
    for step in change.steps:
        yield from _step(step.split(" "), change.body, facts)


def _step(words: list[str], body: str, facts: Facts) -> Iterator[str]:
    missing = {str(server): lacks for server, lacks in facts.missing.items()}
    match words:
        case ["install", *packages]:
            yield from (f"package {name}: not installed, should be" for name in packages)
        case ["user", name, kind]:
            yield _user(User(name, system=kind == "system"), facts.users.get(name))
        case ["keys", name]:
            is_now = "none, or others may write it"
            yield f"authorized_keys of {name}: {is_now}; should be there, and only the user's to write"
        case ["folder", path, *rights]:
            yield f"{path}/: {_found(facts.entries.get(path, ABSENT), 'folder')}, should be {_rights(*rights)}"
        case ["file", path, owner, group, mode, content]:
            yield from _file(path, (owner, group, mode), content, body, facts.entries.get(path, ABSENT))
        case ["absent", path]:
            yield f"{path}: there, should not be"
        case ["move", path, new]:
            yield f"{path}: has its former name, should be {new}"
        case ["enable", unit]:
            yield f"{unit}: disabled, should be enabled"
        case ["disable", unit]:
            states = zip(("enabled", "running"), facts.units.get(unit, (False, False)), strict=True)
            yield f"{unit}: {' and '.join(name for name, holds in states if holds)}, should be neither"
        case ["restart", unit] if not facts.units.get(unit, (False, False))[1]:
            rules = unit == FIREWALL_UNIT
            is_now = "stopped, or its rules were changed since" if rules else "stopped"
            yield f"{unit}: {is_now}, should be running{' with the rules of its files' if rules else ''}"
        case ["restart" | "reload" as verb, unit] if (verb, unit) in facts.pending:
            yield f"{unit}: runs with its former files after an interrupted setup, should be {verb}ed"
        case [server] if server in missing:
            yield f"{server}: lacks {', '.join(missing[server].split())}, should have it"


def _user(user: User, shell: str | None) -> str:
    if shell is None:
        return f"user {user.name}: not there, should be"
    return f"user {user.name}: shell {shell}, should be {user.shell}"


def _file(path: str, rights: tuple[str, str, str], content: str, body: str, entry: Entry) -> Iterator[str]:
    if entry.kind != "file":
        yield f"{path}: {_found(entry, 'file')}, should be a file of {_rights(*rights)}"
        return
    if entry.rights != rights:
        yield f"{path}: {_rights(*entry.rights)}, should be {_rights(*rights)}"
    if entry.digest != hashlib.sha256(base64.b64decode(content)).hexdigest():
        yield f"{path}: {_first_difference(body)}"


def _rights(owner: str, group: str, mode: str) -> str:
    return f"{owner}:{group} {mode}"


def _found(entry: Entry, wanted: str) -> str:
    if entry.kind == "absent":
        return "not there"
    return _rights(*entry.rights) if entry.kind == wanted else f"a {entry.kind}" if entry.kind != "other" else "no file"


def _first_difference(body: str) -> str:
    """The first line that differs, by the diff of a file; of a secret file, whose diff is empty, only that it does."""
    before = next((line[1:] for line in body.splitlines()[2:] if line.startswith("-")), None)
    after = next((line[1:] for line in body.splitlines()[2:] if line.startswith("+")), None)
    if before is None and after is None:
        return "has another content, should have that of setup"
    is_now = f"has {_short(before)}" if before is not None else "lacks a line"
    return f"{is_now}, should {f'have {_short(after)}' if after is not None else 'not'}"


def _short(line: str) -> str:
    text = " ".join(line.split())
    return f'"{text if len(text) <= SHOWN else f"{text[:SHOWN]}…"}"'
