"""What is found wrong with a project, as values: where, what, and the line that fixes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.core import text as texts
from deploy.project.source.tree import Location


@dataclass(frozen=True)
class Edit:
    """A line that fixes something: added to a file, put in place of another line, or written into `invoke.yaml`."""

    file: str
    text: str
    #: The line that it replaces; 0 for a line that is added at the end, or at the ``top``.
    line: int = 0
    top: bool = False
    #: Where in `invoke.yaml` it stands.
    under: tuple[str, ...] = ()
    #: What is told of it, where the rest of the line is nobody's business: it may hold a password.
    part: str = ""

    def __str__(self) -> str:
        if not self.text:
            return f"remove {self.file}:{self.line}" if self.line else f"add {self.file}"
        if self.under:
            return f"{self.file}, under {'.'.join(self.under)}: `{self.text}`"
        place = (
            f"{self.file}:{self.line}, instead" if self.line else f"{self.file}, at the top" if self.top else self.file
        )
        return f"{place}: `{self.part or self.text}`"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could be better."""

    at: Location
    what: str
    remedy: Sequence[Edit] = ()
    #: A command that is run after the remedy, or instead.
    command: str = ""
    #: Whether the site runs all the same.
    advice: bool = False

    def __str__(self) -> str:
        remedies = [str(each) for each in self.remedy] + ([f"run `{self.command}`"] if self.command else [])
        kind = "advice: " if self.advice else ""
        return f"{self.at}: {kind}{self.what}; {', and '.join(remedies)}"


def apply(edits: Sequence[Edit], root: Path) -> None:
    """Write the lines. `invoke.yaml` keeps its comments: a key goes right below the one that it belongs to."""
    for edit in sorted(edits, key=lambda each: -each.line):  # a line that is added must not move one that is replaced
        path = root / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = texts.read(path).splitlines() if path.exists() else []
        if edit.under:
            _write_below(lines, edit.under, edit.text)
        elif edit.line:
            before = lines[edit.line - 1]
            lines[edit.line - 1] = before[: len(before) - len(before.lstrip())] + edit.text
        elif edit.top:
            lines.insert(0, edit.text)
        else:
            lines.append(edit.text)
        path.write_text("\n".join(lines) + "\n")


def _write_below(lines: list[str], under: Sequence[str], text: str) -> None:
    """Write a key into YAML text below its parents, which are made where they are missing; the last may be `{…}`."""
    at, indent = 0, ""
    for depth, key in enumerate([*under, text.partition(":")[0]]):
        indent = "  " * depth
        end = next((n for n in range(at, len(lines)) if _shallower(lines[n], indent)), len(lines))
        found = next((n for n in range(at, end) if lines[n].startswith(f"{indent}{key}:")), None)
        if depth == len(under):
            if found is not None:
                lines[found] = indent + text
            else:
                lines.insert(at, indent + text)
            return
        if found is not None and (flow := re.fullmatch(r"(\s*\S+:\s*)\{(.*)\}\s*", lines[found])):
            lines[found] = f"{flow[1]}{{{text}{', ' if flow[2].strip() else ''}{flow[2]}}}"
            return
        if found is None:
            lines.insert(at, f"{indent}{key}:")
            found = at
        at = found + 1


def _shallower(line: str, indent: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#") and not line.startswith(indent)
