"""Figures: each bench writes what it measured to `results/NAME.json`, and `tests/pages.py` writes that into pages."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "bench" / "results"


@dataclass(frozen=True)
class Row:
    """One thing that was measured; beside it what the rival took in the same run."""

    what: str
    #: Medians with the lowest and the highest value, and their unit: ready to be shown.
    ours: str
    beside: str = ""
    ratio: str = ""
    goal: str = ""


@dataclass
class Figures:
    """What a bench measured. ``command``: what runs it again."""

    name: str
    command: str
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        what: str,
        ours: Sequence[float] | float,
        unit: str,
        *,
        rival: str = "",
        theirs: Sequence[float] = (),
        ratio: float | None = None,
        goal: str = "",
    ) -> Row:
        """Note values of ours, and those of a rival from the same run with their ratio; print them."""
        mine = [ours] if isinstance(ours, (int, float)) else list(ours)
        if theirs and ratio is None:
            ratio = statistics.median(mine) / statistics.median(theirs)
        beside = f"{rival}: {shown(theirs, unit)}" if theirs else rival
        return self.note(what, shown(mine, unit), beside, f"{ratio:.2g}" if ratio is not None else "", goal)

    def note(self, what: str, ours: str, beside: str = "", ratio: str = "", goal: str = "") -> Row:
        """Note a row as it is, and print it."""
        row = Row(what, ours, beside, ratio, goal)
        self.rows.append(row)
        print(" · ".join(part for part in (what, ours, beside, ratio and f"ratio {ratio}", goal) if part), flush=True)
        return row

    def save(self) -> None:
        """Write them, with the machine, the commit and the date, to the results."""
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
        document = {
            "command": self.command,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "commit": commit,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
            "rows": [asdict(row) for row in self.rows],
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def shown(values: Sequence[float], unit: str) -> str:
    """A median; for several values, with the lowest and the highest."""
    middle = f"{number(statistics.median(values))} {unit}".strip()
    return middle if len(values) < 2 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """A number with two or three digits that mean something."""
    return (
        f"{value:.0f}"
        if abs(value) >= 100 or value == int(value)
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
    )


def table(name: str) -> str:
    """The table of a bench as pages show it, or that there are no results yet."""
    results = RESULTS / f"{name}.json"
    if not results.exists():
        return "Not measured yet.\n"
    document = json.loads(results.read_text())
    rows = [Row(**each) for each in document["rows"]]
    titles = {"what": "", "ours": "measured", "beside": "beside", "ratio": "ratio", "goal": "goal"}
    used = [key for key in titles if any(getattr(row, key) for row in rows)]
    lines = [
        "| " + " | ".join(titles[key] for key in used) + " |",
        "|" + "---|" * len(used),
        *("| " + " | ".join(getattr(row, key) for key in used) + " |" for row in rows),
    ]
    source = f"`{document['command']}`, {document['date']}, commit {document['commit']}, {document['machine']}"
    return "\n".join([*lines, "", f"Written by {source}.", ""])
