"""The pages of the project: what of them is written by a program, and what can be checked in them.

`python3 -m tests.pages` writes the table of tasks (between `<!-- tasks -->` and `<!-- end tasks -->`) and the tables of
figures (`<!-- figures: NAME -->` to `<!-- end figures -->`). With `--check`, as `invoke lint` runs it, it names the
pages that differ from what it would write.
"""

from __future__ import annotations

import importlib
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import bootstrap
from tests import figures
from tests.support import project_files

ROOT = Path(__file__).resolve().parent.parent
FIGURES = re.compile(r"<!-- figures: (?P<name>\w+) -->\n.*?(?=<!-- end figures -->)", re.DOTALL)
TASKS = re.compile(r"<!-- tasks -->\n.*?(?=<!-- end tasks -->)", re.DOTALL)
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
#: Options that many tasks have; they are explained once, above the table.
COMMON = ("dry-run", "yes", "on", "stack", "host", "context")
#: The tasks whose `--env` is a virtual environment; elsewhere it is one of this machine's, unless it is one of hosts.
LAYERS = ("venv", "venv-check", "venv-remove")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else its first line says, its text."""

    language: str
    remark: str
    body: str

    @property
    def commands(self) -> list[str]:
        """What a reader would type."""
        return [line.removeprefix("$ ") for line in self.body.splitlines() if line.startswith("$ ")]


def pages() -> list[Path]:
    """The pages of the project."""
    return sorted(ROOT / name for name in project_files() if name.endswith(".md"))


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    for found in FENCE.finditer(text):
        language, _, remark = found["info"].strip().partition(" ")
        yield Block(language, remark.strip(), found["body"])


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """What `#…` may name in a page: its headings, as GitHub makes anchors of them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        base = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        names = (base, *(f"{base}-{number}" for number in range(1, 100)))
        found.add(next(name for name in names if name not in found))
    return found


def links(text: str) -> list[str]:
    """What a page links to, pictures among it."""
    without_code = re.sub(r"`[^`\n]*`", "", prose(text))
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


def tasks() -> Mapping[str, Any]:
    """The tasks by name, without going over to the tools environment."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    enter, bootstrap.enter = bootstrap.enter, lambda **_: None
    try:
        sys.path.insert(0, str(ROOT))
        found = importlib.import_module("tasks").ns
    finally:
        sys.path.remove(str(ROOT))
        bootstrap.enter = enter
        for number, handler in before.items():
            signal.signal(number, handler)
    return {name: found[name] for name in found.task_names}


def options(task: Any) -> dict[str, bool]:
    """The options of a task, and whether each takes a value."""
    return {argument.names[0].strip("_").replace("_", "-"): argument.takes_value for argument in task.get_arguments()}


def required(task: Any) -> set[str]:
    """The options that a task cannot do without."""
    return {argument.names[0].replace("_", "-") for argument in task.get_arguments() if argument.positional}


def usage(name: str, task: Any) -> str:
    """A task with its own options."""
    common = (*COMMON, *([] if name.startswith("remote-") else ["env"] * (name not in LAYERS)))
    own = {option: valued for option, valued in options(task).items() if option not in common}
    words = {option: f"--{option}{f' {option.upper()}' if valued else ''}" for option, valued in own.items()}
    needed = required(task)
    return " ".join([name, *(word if option in needed else f"[{word}]" for option, word in words.items())])


def table_of_tasks() -> str:
    """Each task, its options, and the first line of its help."""
    lines = ["| task | what it does |", "|---|---|"]
    for name, task in tasks().items():
        summary = " ".join((task.__doc__ or "").split("\n\n")[0].split()).replace("|", r"\|")
        lines.append(f"| `{usage(name, task)}` | {summary} |")
    return "\n".join([*lines, ""])


def rendered(text: str) -> str:
    """A page with the tables that the tasks and the results of the benches make."""
    text = FIGURES.sub(lambda found: f"<!-- figures: {found['name']} -->\n{figures.table(found['name'])}", text)
    return TASKS.sub(lambda _: f"<!-- tasks -->\n{table_of_tasks()}", text)


def main() -> None:
    """Write the tables into the pages, or with `--check` name the pages that differ."""
    differ = []
    for page in pages():
        old = page.read_text()
        new = rendered(old)
        if new != old:
            differ.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(new)
    if differ and "--check" in sys.argv:
        sys.exit(
            f"{', '.join(differ)}: out of date: `python3 -m tests.pages` in the test environment writes the tables"
        )


if __name__ == "__main__":
    main()
