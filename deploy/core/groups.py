"""Options that several tasks have in common, or that belong together: a task gets each group as one value."""

from __future__ import annotations

import dataclasses

from deploy.core.help import HERE


def _option(default: str, meaning: str) -> str:
    """An option of a group, and what it means."""
    return dataclasses.field(default=default, metadata={"help": meaning})


def _flag(meaning: str) -> bool:
    """An option without a value."""
    return dataclasses.field(default=False, metadata={"help": meaning})


@dataclasses.dataclass(frozen=True)
class Manager:
    """The options that name a manager of the swarm, and the environment there."""

    host: str = ""
    context: str = ""
    env: str = _option("", HERE)


@dataclasses.dataclass(frozen=True)
class Where:
    """The options that name a place; `--stack` is an older name of `--on`."""

    on: str = ""
    env: str = _option("", HERE)
    host: str = ""
    context: str = ""
    stack: str = ""


@dataclasses.dataclass(frozen=True)
class Lines:
    """The options that choose lines of a log."""

    lines: str = _option("200", "The last lines of all, 1 to 1000.")
    since: str = _option("", "Only lines since then: 90s, 10m, 2h, 3d, 14:30 or 2026-01-31T14:30.")
    grep: str = _option("", "Only lines that match a regular expression; capitals count if it has any.")
    errors: bool = _flag("Only errors, with their tracebacks.")
    follow: bool = _flag("Go on with each line as it comes, until Ctrl-C.")
    json: bool = _flag("Print each line as a JSON object, for a program.")


@dataclasses.dataclass(frozen=True)
class Maintenance:
    """The options of a maintenance."""

    start: bool = _flag("Answer 503 with a page, or change what a maintenance says that is on.")
    stop: bool = _flag("End it, and start what was held.")
    message: str = _option("", "What the page says, one line of at most 300 characters.")
    allow: str = _option("", "Comma-separated addresses and networks that see the site meanwhile.")
    hold: str = _option("", "workers, beat or workers,beat: stop them meanwhile; tasks wait in their queues.")


@dataclasses.dataclass(frozen=True)
class Adoption:
    """The options of `adopt`."""

    path: str = dataclasses.field(metadata={"help": "The top of the repository."})
    name: str = _option("", "The project's short name (default: the folder's).")
    set_aside: bool = _flag("Rename what is in the way.")


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """The options of `upgrade`."""

    to: str = _option("", "A branch, tag or commit of Portico (default: the newest of its default branch).")
    from_: str = _option("", "Portico's repository, a URL or a folder (default: where the installed one came from).")
    replace: str = _option("", "Comma-separated files of Portico's that were edited here and may be replaced.")
    path: str = _option("", "Another repository, adopted by a version without this task.")


@dataclasses.dataclass(frozen=True)
class Setup:
    """The options of `remote-setup`."""

    only: str = _option("", "Comma-separated hosts (default: all).")
    take_over: str = _option("", "Comma-separated: what was there before and may become ours, as the refusal names it.")
    details: bool = _flag("Show each change, with the texts of files; without it, a summary.")
    check: bool = _flag("Name each difference from the files, change nothing, and exit with 1 if there is one.")
