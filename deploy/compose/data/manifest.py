"""What a backup has: how its dump is recognized, and how many rows it has to bring back. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from deploy.core.errors import Failure


@dataclass(frozen=True)
class Contents:
    """What PostgreSQL said of a dump: its version, its roles, and the rows of each table."""

    server: str
    roles: tuple[str, ...]
    rows: Mapping[str, int]

    def title(self) -> str:
        """The contents in words."""
        return f"{sum(self.rows.values())} rows in {len(self.rows)} tables"


@dataclass(frozen=True)
class Manifest:
    """The file beside the dump in a backup."""

    site: str
    release: str
    revision: str
    #: The id of the image of the release.
    image: str
    sha256: str
    #: The size of the dump.
    bytes: int
    #: The folders of files in the backup.
    folders: tuple[str, ...]
    contents: Contents

    def text(self) -> str:
        """The file."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def parse(text: str) -> Manifest:
    """The manifest in a file. Raises `Failure` for a text that is none."""
    try:
        said = json.loads(text)
        inner = said.pop("contents")
        rows = {str(name): int(count) for name, count in inner["rows"].items()}
        contents = Contents(str(inner["server"]), tuple(inner["roles"]), rows)
        folders, size = tuple(map(str, said.pop("folders"))), int(said.pop("bytes"))
        return Manifest(
            **{key: str(value) for key, value in said.items()}, bytes=size, folders=folders, contents=contents
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure("its manifest cannot be read; choose another") from None


def contents(said: str) -> Contents | None:
    """What the lines of `dump.sql` say; None unless they say that the dump is whole."""
    lines = [line.strip() for line in said.splitlines()]
    if "whole" not in lines:
        return None
    found = dict(line.split(" ", 1) for line in lines if line.startswith("server "))
    roles = tuple(line.split(" ", 1)[1] for line in lines if line.startswith("role "))
    return Contents(found.get("server", "?"), roles, rows(said))


def rows(said: str) -> dict[str, int]:
    """The rows of each table, from the lines that count them."""
    found = {}
    for line in said.splitlines():
        word, _, rest = line.strip().partition(" ")
        name, _, count = rest.rpartition(" ")
        if word == "rows" and count.isdecimal():
            found[name] = int(count)
    return found


def difference(wanted: Mapping[str, int], found: Mapping[str, int]) -> str:
    """How the rows of a restored database differ from those of the backup; empty if they do not."""
    wrong = [
        f"{name}: {found.get(name, 'no table')} instead of {count}"
        for name, count in sorted(wanted.items())
        if found.get(name) != count
    ]
    more = sorted(set(found) - set(wanted))
    return ", ".join([*_some(wrong), *_some([f"{name}: not in the backup" for name in more])])


def _some(lines: Sequence[str]) -> list[str]:
    return [*lines[:3], *([f"and {len(lines) - 3} more"] if len(lines) > 3 else [])]
