"""The record of deployed releases, stored in the swarm: each is a config that contains its stack file.

So any client can roll back to a release without the work tree it was built from. The file names secrets only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.core.running import who
from deploy.core.shell import Run
from deploy.docker.releases import title
from deploy.swarm.manager import Manager
from deploy.swarm.render import StackFile

#: Releases that are kept, with the configs and secrets they name.
KEPT = 8


@dataclass(frozen=True)
class Release:
    """A release: its number, and the number of the release it repeats (its own, unless it was a rollback)."""

    number: int
    of: int
    revision: str
    by: str
    at: str
    file: StackFile

    @property
    def title(self) -> str:
        """The release as messages name it."""
        return title(self)


def name(stack: str, number: int) -> str:
    return f"{stack}_release_{number:05d}"


def read(manager: Manager) -> list[Release]:
    """The releases, oldest first."""
    names = [each for each in manager.names("config") if each.startswith(f"{manager.stack}_release_")]
    entries = [
        Release(
            number=int(labels["portico.release"]),
            of=int(labels["portico.of"]),
            revision=labels["portico.revision"],
            by=labels["portico.by"],
            at=labels["portico.at"],
            file=StackFile.read(text),
        )
        for labels, text in manager.contents(names)
    ]
    return sorted(entries, key=lambda entry: entry.number)


def record(manager: Manager, number: int, of: int, revision: str, file: StackFile) -> Run:
    """The command that records a release that is now serving."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    labels = {"release": str(number), "of": str(of), "revision": revision, "by": who(), "at": at}
    marks = {f"portico.{key}": value for key, value in labels.items()}
    return manager.create("config", name(manager.stack, number), file.text, marks)


def prune(manager: Manager, entries: Sequence[Release], check: Callable[[], None]) -> None:
    """Remove old releases, and the configs and secrets that no kept release names.

    The engine refuses to remove what a service still uses. ``check`` is called before each removal and raises to stop.
    """
    kept = entries[-KEPT:]
    wanted = {
        "config": {name(manager.stack, entry.number) for entry in kept},
        "secret": set[str](),
    }
    for file in (entry.file for entry in kept):
        for kind, names in wanted.items():
            names |= {each["name"] for each in file.sections.get(f"{kind}s", {}).values()}
    for kind, names in wanted.items():
        for each in manager.names(kind):
            if each not in names:
                check()
                manager.try_(kind, "rm", each)
