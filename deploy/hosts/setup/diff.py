"""The desired state of a host, its actual state, and the difference: values to show, send and compare.

Nothing here acts. `desired` decides the desired state, `facts` reads the actual one, `converge` applies the difference.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from typing import Literal

from pydantic import SecretStr

from deploy.hosts.environment.owner import Mark
from deploy.hosts.layout import OWNER

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
    #: For a file of a server that may have been there before: a copy of that is kept beside it, and with `merged` its
    #: lines stay, below ours.
    shared: Literal["", "copied", "merged"] = ""

    @property
    def rights(self) -> tuple[str, str, str]:
        return self.owner, self.group, f"{self.mode:o}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


#: In the first line of each file that setup writes.
WRITTEN = "Written by remote-setup"
#: Between our lines and those of a file that was there before.
REST = "# --- End of remote-setup's lines. Those below were there before.\n"


def merged(file: File, before: str) -> File:
    """The file with the lines of what was there before below ours; they are kept when ours change later."""
    _, mark, rest = before.partition(REST)
    if not mark:
        rest = "" if WRITTEN in before.partition("\n")[0] else before
    return replace(file, text=file.text + REST + rest) if rest else file


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
    #: Servers whose user and password this host generates.
    servers: tuple[Server, ...] = ()
    #: Whose host it is; written before everything else.
    owner: File | None = None
    #: Written when everything else is done; None while a part of the state is unknown.
    setup: File | None = None


# --- Actual state ---

Server = Literal["database", "broker", "redis"]
#: Servers whose password must be there when they start: it is a part of their configuration.
BEFORE_ITS_UNIT: tuple[Server, ...] = ("redis",)
Kind = Literal["file", "folder", "link", "other", "absent"]


@dataclass(frozen=True)
class Access:
    """What a client needs to log in to a server and to verify it."""

    password: SecretStr
    #: Its self-signed certificate (PEM).
    certificate: str
    #: The user and the vhost in a broker that others use too; empty for `site` in `/`.
    account: str = ""


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
    #: TCP ports, the programs that listen, and whether others may reach them.
    listening: tuple[tuple[int, str, bool], ...] = ()
    #: Projects whose files of setup are there.
    sites: frozenset[str] = frozenset()
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
    missing: Mapping[Server, str] = field(default_factory=dict)
    access: Mapping[Server, Access] = field(default_factory=dict)
    #: Restarts and reloads that an interrupted setup has not done.
    pending: tuple[tuple[str, str], ...] = ()

    @property
    def mark(self) -> Mark | None:
        """Whose host it is; None if no mark says that."""
        with suppress(ValueError):
            return Mark.parse(self.entries.get(str(OWNER), ABSENT).text or "")
        return None


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
    before = [*_owner(desired, facts), *_packages(desired, facts), *_users(desired, facts), *_folders(desired, facts)]
    files = [change for group in desired.groups for change in _group(group, facts)]
    gone = [
        Change(f"- {path}", (f"absent {path}",))
        for path in desired.absent
        if facts.entries.get(path, ABSENT).kind != "absent"
    ]
    written = {step.split()[1] for change in [*files, *gone] for step in change.steps if " " in step}
    reread = [Change("systemd reads its units", ("units",))] if any("/systemd/" in path for path in written) else []
    made = {
        server: Change(f"{server}: make {', '.join(missing.split())}", (server,))
        for server in desired.servers
        if (missing := facts.missing.get(server, "all"))
    }
    first = [made.pop(server) for server in BEFORE_ITS_UNIT if server in made]
    units = _units(desired, facts, written)
    changes = [*before, *_idle(desired, facts), *files, *gone, *reread, *first, *units, *made.values()]
    if desired.setup and (changes or not _same(desired.setup, facts)):
        changes.append(Change(f"+ {desired.setup.path}", ("group", _file(desired.setup))))
    return tuple(changes)


def steps(name: str, changes: Iterable[Change]) -> bytes:
    """The input of `scripts/apply.sh`. It contains secrets."""
    lines = [f"name {name}", *(step for change in changes for step in change.steps), "end"]
    return "".join(f"{line}\n" for line in lines).encode()


def digest(desired: Desired) -> str:
    """A digest of the desired state, files and secrets included."""
    return hashlib.sha256(steps("", diff(desired, Facts()))).hexdigest()


def _owner(desired: Desired, facts: Facts) -> Iterator[Change]:
    if not desired.owner or _same(desired.owner, facts):
        return
    wanted = Mark.parse(desired.owner.text)
    said = f"+ {desired.owner.path}: this host becomes {wanted.whose}"
    if facts.mark:
        said = f"~ {desired.owner.path}: {facts.mark.whose} → {wanted.whose}"
    elif wanted.project in facts.sites:
        said += ", set up by an earlier version without this mark"
    yield Change(said, ("group", _file(desired.owner)))


def _packages(desired: Desired, facts: Facts) -> Iterator[Change]:
    if missing := [name for name in desired.packages if name not in facts.packages]:
        yield Change(f"+ packages: {' '.join(missing)}", (f"install {' '.join(missing)}",))


def _users(desired: Desired, facts: Facts) -> Iterator[Change]:
    for user in desired.users:
        kind = "system" if user.system else "login"
        if user.name not in facts.users:
            yield Change(f"+ user {user.name}", (f"user {user.name} {kind}",))
        elif facts.users[user.name] != user.shell:
            yield Change(
                f"~ user {user.name}: shell {facts.users[user.name]} → {user.shell}", (f"user {user.name} {kind}",)
            )
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
    files = [
        merged(file, facts.entries.get(file.path, ABSENT).text or "") if file.shared == "merged" else file
        for file in group.files
    ]
    changed = [file for file in files if not _same(file, facts)]
    for number, file in enumerate(changed):
        first = ("group",) if number == 0 else ()
        last = (f"check {group.check}",) if group.check and number == len(changed) - 1 else ()
        entry = facts.entries.get(file.path, ABSENT)
        theirs = file.shared and entry.kind == "file" and WRITTEN not in (entry.text or "").partition("\n")[0]
        if theirs:
            yield Change(f"+ {file.path}.before-portico: a copy", (f"keep {file.path} {file.owner}",))
        step = (*first, _file(file), *last)
        yield Change(_title(file, entry), step, _difference(file, entry), new=entry.kind != "file")


def _same(file: File, facts: Facts) -> bool:
    entry = facts.entries.get(file.path, ABSENT)
    return entry.kind == "file" and entry.rights == file.rights and entry.digest == file.digest


def _file(file: File) -> str:
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
    before = (entry.text or "").splitlines()
    lines = unified_diff(
        before, file.text.splitlines(), file.path if entry.kind == "file" else "/dev/null", file.path, lineterm=""
    )
    return "\n".join(lines) or _title(file, entry)


def _idle(desired: Desired, facts: Facts) -> Iterator[Change]:
    for unit in desired.idle:
        ours = not unit.sign or facts.entries.get(unit.sign, ABSENT).kind != "absent"
        if ours and any(facts.units.get(unit.name, (False, False))):
            yield Change(f"disable {unit.name}", (f"disable {unit.name}",))


def _units(desired: Desired, facts: Facts, written: set[str]) -> Iterator[Change]:
    for unit in desired.units:
        enabled, active = facts.units.get(unit.name, (False, False))
        if unit.enabled and not enabled:
            yield Change(f"enable {unit.name}", (f"enable {unit.name}",))
        if not unit.runs:
            continue
        if not active or written.intersection(unit.restart_for) or ("restart", unit.name) in facts.pending:
            yield Change(f"restart {unit.name}", (f"restart {unit.name}",))
        elif written.intersection(unit.reload_for) or ("reload", unit.name) in facts.pending:
            yield Change(f"reload {unit.name}", (f"reload {unit.name}",))
