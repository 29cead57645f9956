"""The desired state of a host, its actual state, and the difference: values to show, send and compare.

Nothing here acts. `desired` decides the desired state, `facts` reads the actual one, `converge` applies the difference.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from typing import Literal

from pydantic import SecretStr

from deploy.hosts.environment.owner import Mark
from deploy.hosts.setup.merging import WRITTEN, merged

# --- Desired state ---


@dataclass(frozen=True)
class User:
    """A user with a group of its own and no password; a system user cannot log in."""

    name: str
    system: bool = False

    @property
    def shell(self) -> str:
        return "/usr/sbin/nologin" if self.system else "/bin/bash"


@dataclass(frozen=True)
class Folder:
    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755

    @property
    def rights(self) -> tuple[str, str, str]:
        return self.owner, self.group, f"{self.mode:o}"


@dataclass(frozen=True)
class File:
    """A text file. A secret file is never shown.

    A file not owned by root is in a folder of its owner, is written as that user, and gets that user's own group.
    """

    path: str
    text: str = field(repr=False)
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    secret: bool = False
    #: For a file of a server that was there before: a copy of it is kept, and with `merged` the lines of others.
    shared: Literal["", "copied", "merged"] = ""
    #: Whether the host's sites share it: a site that is not alone there leaves it as it is.
    common: bool = False
    #: Whether an earlier version wrote the whole of a merged file for this site.
    earlier: bool = False

    @property
    def rights(self) -> tuple[str, str, str]:
        return self.owner, self.group, f"{self.mode:o}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Group:
    """Files that belong together; if ``check`` (of `scripts/apply.sh`) rejects them, all are restored."""

    files: tuple[File, ...]
    check: str = ""


@dataclass(frozen=True)
class Unit:
    """A unit that must be enabled and running with its current files."""

    name: str
    #: Files whose change needs a restart of the unit, or only a reload.
    restart_for: tuple[str, ...] = ()
    reload_for: tuple[str, ...] = ()
    #: Whether it must be enabled; if not, another unit starts it.
    enabled: bool = True
    #: Whether it must run now; if not, it starts when the host boots.
    runs: bool = True
    #: If set, it is only reloaded, if it runs.
    optional: bool = False


@dataclass(frozen=True)
class Idle:
    """A unit that must be neither enabled nor running; for a template, all of its instances."""

    name: str
    #: Marker file: without it the unit is not ours and is left alone.
    sign: str = ""


@dataclass(frozen=True)
class Desired:
    """The whole desired state of a host. Paths and names have no spaces; %PG% stands for the cluster of PostgreSQL."""

    packages: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    folders: tuple[Folder, ...] = ()
    groups: tuple[Group, ...] = ()
    absent: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    idle: tuple[Idle, ...] = ()
    #: Whose user and password, or whose repository, this host makes.
    servers: tuple[Made, ...] = ()
    #: Whose site it is, also as earlier versions look for it; written before everything else.
    owner: File | None = None
    first_owner: File | None = None
    #: Files of earlier versions that have another name now: path and new path.
    moved: tuple[tuple[str, str], ...] = ()
    #: Whether the host has other sites (`File.common`).
    others: bool = False
    #: What must go when everything else is there.
    retired: tuple[Idle, ...] = ()
    retired_files: tuple[str, ...] = ()
    #: Written when everything else is done; None while a part of the state is unknown.
    setup: File | None = None


# --- Actual state ---

Server = Literal["database", "broker", "redis"]
#: What a host makes itself: what a server needs, and the repository of backups.
Made = Server | Literal["backup", "certificate"]
#: Servers whose password must be there when they start; and what nginx's files name, which are checked as they come.
BEFORE_ITS_UNIT, BEFORE_FILES = ("redis",), ("certificate",)
Kind = Literal["file", "folder", "link", "other", "absent"]


@dataclass(frozen=True)
class Access:
    """What a client needs to log in to a server and to verify it."""

    password: SecretStr
    #: Its self-signed certificate (PEM).
    certificate: str
    #: The user, and the database or the vhost.
    account: str = ""
    place: str = ""


@dataclass(frozen=True)
class Entry:
    """What is at a path. The text is None if it was not requested."""

    kind: Kind
    owner: str = ""
    group: str = ""
    mode: str = ""
    digest: str = ""
    text: str | None = None

    @property
    def rights(self) -> tuple[str, str, str]:
        return self.owner, self.group, self.mode


ABSENT = Entry("absent")


@dataclass(frozen=True)
class Facts:
    """The actual state of a host, as far as `scripts/facts.sh` was asked."""

    system: tuple[str, str] = ("unknown", "0")
    systemd: bool = True
    python: tuple[int, int] | None = None
    ipv6: bool = False
    #: What is there that setup has not made: kind and name (`scripts/there.sh`).
    there: tuple[tuple[str, str], ...] = ()
    #: PostgreSQL's clusters: version, name, port.
    clusters: tuple[tuple[str, str, int], ...] = ()
    #: Names that nginx serves, each with the file that says so.
    served: tuple[tuple[str, str], ...] = ()
    #: TCP ports, the programs that listen, and whether others may reach them.
    listening: tuple[tuple[int, str, bool], ...] = ()
    #: SSH ports: those that sshd listens on, and the one that this connection used.
    ports: tuple[int, ...] = ()
    packages: frozenset[str] = frozenset()
    #: Shells by user.
    users: Mapping[str, str] = field(default_factory=dict)
    #: Groups by user, each user's own first.
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Users with authorized keys.
    keys: frozenset[str] = frozenset()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    #: Whether units are enabled, and whether they run.
    units: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What a server lacks, such as its user or password; empty if nothing.
    missing: Mapping[Made, str] = field(default_factory=dict)
    access: Mapping[Server, Access] = field(default_factory=dict)
    #: The digest of what a host notes of its certificate (`acme.issued`), and how it is known when one is handed on.
    issued: str = ""
    handover: str = ""
    #: Restarts and reloads that an interrupted setup has not done.
    pending: tuple[tuple[str, str], ...] = ()


# --- The difference ---


@dataclass(frozen=True)
class Change:
    """A change: as a person reads it, and as `scripts/apply.sh` does."""

    title: str
    steps: tuple[str, ...] = field(repr=False)
    #: The diff of a file's text.
    body: str = ""
    #: Whether the file is new.
    new: bool = False
    #: Whether it is only said: nothing is to be done.
    note: bool = False


def diff(desired: Desired, facts: Facts) -> tuple[Change, ...]:
    """The changes, in order, that bring a host to its desired state; empty if it has that state."""
    moves, facts = _moved(desired, facts)
    before = [*_owner(desired, facts), *_packages(desired, facts), *_users(desired, facts), *_folders(desired, facts)]
    files = [change for group in desired.groups for change in _group(_own(desired, group, facts), facts)]
    gone = [
        Change(f"- {path}", (f"absent {path}",))
        for path in desired.absent
        if facts.entries.get(path, ABSENT).kind != "absent"
    ]
    written = {step.split()[1] for change in [*files, *gone] for step in change.steps if " " in step}
    touched = {*written, *(path for pair in desired.moved if moves for path in pair)}
    reread = [Change("systemd reads its units", ("units",))] if any("/systemd/" in path for path in touched) else []
    made = {
        server: Change(f"{server}: make {', '.join(missing.split())}", (server,))
        for server in desired.servers
        if (missing := facts.missing.get(server, "all"))
    }
    before += [made.pop(server) for server in (*made,) if server in BEFORE_FILES]
    first = [made.pop(server) for server in (*made,) if server in BEFORE_ITS_UNIT]
    units = [*_units(desired, facts, written), *_retired(desired, facts)]
    changes = [*before, *_idle(desired.idle, facts), *moves, *files, *gone, *reread, *first, *units, *made.values()]
    if desired.setup and (changes or not _same(desired.setup, facts)):
        changes.append(Change(f"+ {desired.setup.path}", ("group", file_step(desired.setup))))
    return tuple(changes)


def steps(names: str, changes: Iterable[Change]) -> bytes:
    """The input of `scripts/apply.sh`; ``names`` are those of `Layout.names`. It contains secrets."""
    lines = [f"name {names}", *(step for change in changes for step in change.steps), "end"]
    return "".join(f"{line}\n" for line in lines).encode()


def digest(desired: Desired) -> str:
    """A digest of the desired state, files and secrets included."""
    return hashlib.sha256(steps("", diff(desired, Facts()))).hexdigest()


def _owner(desired: Desired, facts: Facts) -> Iterator[Change]:
    for file in (desired.owner, desired.first_owner):
        if file and not _same(file, facts):
            said = f": this host becomes {Mark.parse(file.text).whose}" if file is desired.owner else ""
            yield Change(f"+ {file.path}{said}", ("group", file_step(file)))


def _moved(desired: Desired, facts: Facts) -> tuple[list[Change], Facts]:
    """The files that get another name, and the facts with these names."""
    entries, changes = dict(facts.entries), []
    for path, new in desired.moved:
        if entries.get(path, ABSENT).kind == "file" and entries.get(new, ABSENT).kind == "absent":
            entries[new], entries[path] = entries[path], ABSENT
            changes.append(Change(f"~ {path} → {new}", (f"move {path} {new}",)))
    return changes, replace(facts, entries=entries)


def _own(desired: Desired, group: Group, facts: Facts) -> Group:
    """The files of a group without those that other sites share and have."""

    def theirs(file: File) -> bool:
        entry = facts.entries.get(file.path, ABSENT)
        return file.common and desired.others and WRITTEN in (entry.text or "").partition("\n")[0]

    return replace(group, files=tuple(file for file in group.files if not theirs(file)))


def _retired(desired: Desired, facts: Facts) -> Iterator[Change]:
    there = [path for path in desired.retired_files if facts.entries.get(path, ABSENT).kind != "absent"]
    yield from _idle(desired.retired, facts)
    yield from (Change(f"- {path}", (f"absent {path}",)) for path in there)
    if any("/systemd/" in path for path in there):
        yield Change("systemd reads its units", ("units",))


def _packages(desired: Desired, facts: Facts) -> Iterator[Change]:
    if missing := [name for name in desired.packages if name not in facts.packages]:
        yield Change(f"+ packages: {' '.join(missing)}", (f"install {' '.join(missing)}",))


def _users(desired: Desired, facts: Facts) -> Iterator[Change]:
    for user in desired.users:
        step = (f"user {user.name} {'system' if user.system else 'login'}",)
        if user.name not in facts.users:
            yield Change(f"+ user {user.name}", step)
        elif (shell := facts.users[user.name]) != user.shell:
            yield Change(f"~ user {user.name}: shell {shell} → {user.shell}", step)
        if not user.system and user.name not in facts.keys:
            yield Change(f"+ keys of {user.name}: those of the administrator", (f"keys {user.name}",))


def _folders(desired: Desired, facts: Facts) -> Iterator[Change]:
    for folder in desired.folders:
        entry = facts.entries.get(folder.path, ABSENT)
        step = f"folder {folder.path} {' '.join(folder.rights)}"
        if entry.kind != "folder":
            yield Change(f"+ {folder.path}/ {_rights(folder.rights)}", (step,))
        elif entry.rights != folder.rights:
            yield Change(f"~ {folder.path}/ {_rights(entry.rights)} → {_rights(folder.rights)}", (step,))


def _rights(rights: tuple[str, str, str]) -> str:
    return "{}:{} {}".format(*rights)


def _group(group: Group, facts: Facts) -> Iterator[Change]:
    files = [_merged(file, facts.entries.get(file.path, ABSENT).text or "") for file in group.files]
    changed = [file for file in files if not _same(file, facts)]
    for file in changed:
        first = ("group",) if file is changed[0] else ()
        last = (f"check {group.check}",) if group.check and file is changed[-1] else ()
        entry = facts.entries.get(file.path, ABSENT)
        theirs = file.shared and entry.kind == "file" and WRITTEN not in (entry.text or "").partition("\n")[0]
        if theirs:
            yield Change(f"+ {file.path}.before-portico: a copy", (f"keep {file.path} {file.owner}",))
        step = (*first, file_step(file), *last)
        yield Change(_title(file, entry), step, _difference(file, entry), new=entry.kind != "file")


def _merged(file: File, before: str) -> File:
    return replace(file, text=merged(file.text, before, earlier=file.earlier)) if file.shared == "merged" else file


def _same(file: File, facts: Facts) -> bool:
    entry = facts.entries.get(file.path, ABSENT)
    return entry.kind == "file" and entry.rights == file.rights and entry.digest == file.digest


def file_step(file: File) -> str:
    return f"file {file.path} {' '.join(file.rights)} {base64.b64encode(file.text.encode()).decode()}"


def _title(file: File, entry: Entry) -> str:
    if entry.kind != "file":
        return f"+ {file.path} {_rights(file.rights)}{' (secret)' if file.secret else ''}"
    if entry.digest != file.digest:
        return f"~ {file.path} (secret)" if file.secret else f"~ {file.path}"
    return f"~ {file.path} {_rights(entry.rights)} → {_rights(file.rights)}"


def _difference(file: File, entry: Entry) -> str:
    """The diff of a file's text; empty if it does not change, or if it is secret."""
    if file.secret or entry.digest == file.digest:
        return ""
    before, name = (entry.text or "").splitlines(), file.path if entry.kind == "file" else "/dev/null"
    lines = unified_diff(before, file.text.splitlines(), name, file.path, lineterm="")
    return "\n".join(lines) or _title(file, entry)


def _idle(units: Iterable[Idle], facts: Facts) -> Iterator[Change]:
    for unit in units:
        ours = not unit.sign or facts.entries.get(unit.sign, ABSENT).kind != "absent"
        if ours and any(facts.units.get(unit.name, (False, False))):
            yield Change(f"disable {unit.name}", (f"disable {unit.name}",))


def _units(desired: Desired, facts: Facts, written: set[str]) -> Iterator[Change]:
    for unit in desired.units:
        enabled, active = facts.units.get(unit.name, (False, False))
        if unit.optional and not active:
            continue
        if unit.enabled and not enabled:
            yield Change(f"enable {unit.name}", (f"enable {unit.name}",))
        if not unit.runs:
            continue
        if not active or written.intersection(unit.restart_for) or ("restart", unit.name) in facts.pending:
            yield Change(f"restart {unit.name}", (f"restart {unit.name}",))
        elif written.intersection(unit.reload_for) or ("reload", unit.name) in facts.pending:
            yield Change(f"reload {unit.name}", (f"reload {unit.name}",))
