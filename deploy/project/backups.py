"""Backups as every runtime has them: what restic is told, what a repository's answer means, which one is chosen. Pure.

A backup is one restic snapshot: a dump of the database, uploads, exports, and a manifest. restic writes a snapshot's
record last, so a backup that was interrupted is none, and cannot replace a good one. What a person must know to choose
one stands in its tags; what a restore checks stands in the manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from deploy.core import git
from deploy.core.errors import Failure
from deploy.core.report import Grid

#: Files of a snapshot, in its folder.
DUMP, MANIFEST = "database.dump", "manifest.json"
#: Backups of the last two days are all kept, whatever the counts: who can only ask for more backups cannot push the
#: good ones out before somebody notices.
WITHIN = "2d"
_PERIODS = ("daily", "weekly", "monthly", "yearly")
_REPOSITORY = re.compile(
    r"/[^\s:]+|sftp:(//)?[^\s/]+:?/?\S+|s3:https?://\S+|s3:[\w.-]+/\S+|rest:https?://\S+|b2:\S+|azure:\S+|gs:\S+|swift:\S+"
)


def repository(text: str, source: str) -> str:
    """The address of a repository, as restic has it. ``source`` names the line that has it, in the `Failure`."""
    if not _REPOSITORY.fullmatch(text):
        raise Failure(
            f"{source}: {text!r} is not a repository; it is a folder (/srv/backups/shop),"
            " sftp:user@host:/folder, s3:https://host/bucket, or another address that restic knows"
        )
    if re.match(r"\w+:https?://[^/\s]*:[^/\s]*@", text):
        raise Failure(f"{source}: the address has a password; give it by variables that restic reads")
    return text


@dataclass(frozen=True)
class Keep:
    """How many backups stay: the last one of so many days, weeks, months, years; and all of `WITHIN`."""

    daily: int = 7
    weekly: int = 5
    monthly: int = 12
    yearly: int = 0

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Read ``daily:7,weekly:5``. What is not named is not kept. ``source`` names the line, in the `Failure`."""
        found: dict[str, int] = {}
        for part in text.split(","):
            period, _, number = part.strip().partition(":")
            if period not in _PERIODS or not number.isdecimal() or period in found:
                raise Failure(f"{source}: {text!r} must be like daily:7,weekly:5,monthly:12,yearly:2")
            found[period] = int(number)
        if not any(found.values()):
            raise Failure(f"{source}: {text!r} keeps no backup")
        return cls(**{period: found.get(period, 0) for period in _PERIODS})

    def arguments(self) -> tuple[str, ...]:
        """The same for ``restic forget``."""
        counts = [(period, getattr(self, period)) for period in _PERIODS]
        return (
            *("--keep-within", WITHIN),
            *(word for period, number in counts if number for word in (f"--keep-{period}", str(number))),
        )


def tags(*, site: str, release: str, revision: str, why: str, database: str, part: str = "") -> tuple[str, ...]:
    """The tags of a snapshot. ``why`` is asked, timer, or migration; ``database`` names the server: postgresql-17.

    ``part`` names the machine whose files a snapshot has, if these are not where the database is.
    """
    found = {"site": site, "release": release, "revision": revision, "why": why, "database": database}
    found |= {"part": part} if part else {}
    return ("portico", *(f"{key}={value}" for key, value in found.items()))


@dataclass(frozen=True)
class Backup:
    """A backup in a repository."""

    #: restic's short identifier, eight hexadecimal digits.
    id: str
    at: datetime
    #: NAME or NAME-ENVIRONMENT.
    site: str
    #: As its runtime names a release.
    release: str
    revision: str
    why: str
    #: The server that made the dump, with its major version: postgresql-17.
    database: str
    #: The folder that has the files of the snapshot.
    folders: tuple[str, ...]
    #: The machine whose files these are: a part, without a database. Empty for a backup itself.
    part: str = ""

    def title(self) -> str:
        """The backup in words."""
        return f"backup {self.id} ({self.at:%Y-%m-%d %H:%M} UTC, release {self.release}, {git.short(self.revision)})"


def read(answer: str) -> tuple[Backup, ...]:
    """The backups in the answer of ``restic snapshots --json``, oldest first. Snapshots of others are left out.

    Raises `Failure` if the answer is not restic's.
    """
    try:
        found = [_backup(each) for each in json.loads(answer) or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"restic's answer is not a list of snapshots: {answer[:80]!r}") from error
    return tuple(sorted((each for each in found if each), key=lambda each: each.at))


def _backup(snapshot: dict[str, Any]) -> Backup | None:
    marks = snapshot.get("tags") or []
    if "portico" not in marks:
        return None
    known = dict(mark.split("=", 1) for mark in marks if "=" in mark)
    # Nanoseconds are more than Python reads.
    at = datetime.fromisoformat(re.sub(r"\.\d+", "", snapshot["time"])).astimezone(UTC)
    site, release, revision, why, database = (
        known.get(key, "?") for key in ("site", "release", "revision", "why", "database")
    )
    part = known.get("part", "")
    return Backup(snapshot["id"][:8], at, site, release, revision, why, database, tuple(snapshot["paths"]), part)


def whole(known: Sequence[Backup]) -> tuple[Backup, ...]:
    """Those that have a database: the backups that `choose` knows. The others are parts of theirs."""
    return tuple(each for each in known if not each.part)


def parts(known: Sequence[Backup], backup: Backup) -> tuple[Backup, ...]:
    """What belongs to a backup of the files of other machines, one for each: the first that was made after it began.

    Files that came later do no harm; those that rows name and that are gone would. Without one after it: the last
    before it. ``known`` is sorted oldest first.
    """
    found: dict[str, Backup] = {}
    for each in known:
        if not each.part or each.site != backup.site:
            continue
        last = found.get(each.part)
        if last is None or last.at < backup.at:
            found[each.part] = each
    return tuple(found.values())


def choose(known: Sequence[Backup], to: str, site: str) -> Backup:
    """The backup ``to``: its identifier or the beginning of it, or ``latest``. ``known`` is sorted oldest first.

    Raises `Failure` if there is none, or several, or it is another site's.
    """
    known = whole(known)
    ours = [each for each in known if each.site == site]
    found = ours[-1:] if to == "latest" else [each for each in known if to and each.id.startswith(to[:8])]
    if not found:
        there = ", ".join(each.id for each in ours[-5:]) or "none"
        raise Failure(f"--to {to}: there is no such backup of {site}; the latest are: {there}")
    if len(found) > 1:
        raise Failure(f"--to {to}: several backups begin so: {', '.join(each.id for each in found)}")
    if found[0].site != site:
        raise Failure(f"--to {to}: this is a backup of {found[0].site}, not of {site}")
    return found[0]


def grid(known: Sequence[Backup]) -> Grid:
    """A table of the backups, newest first."""
    rows = [
        (each.id, f"{each.at:%Y-%m-%d %H:%M}", each.site, each.release, git.short(each.revision), each.why)
        for each in reversed(known)
    ]
    return Grid(("backup", "at (UTC)", "site", "release", "revision", "why"), rows)
