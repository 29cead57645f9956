"""What the tasks of `tasks.py` share: carrying out an action, printing a report, the project's environments.

Everything is imported late, so that `invoke --list` stays as quick as with an empty file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.core.errors import Failure

if TYPE_CHECKING:
    from deploy.core.action import Action
    from deploy.core.groups import Lines, Maintenance
    from deploy.core.logs import Query
    from deploy.core.report import Report
    from deploy.project import maintenance
    from deploy.project.config import Project
    from deploy.venvs.store import Store

ROOT = Path(__file__).resolve().parent.parent


def notify(line: str) -> None:
    """Print a line of progress on standard error."""
    from deploy.core.running import tell

    tell(line)


def printable(message: str) -> str:
    """A message without what would control a terminal: it may quote another program."""
    from deploy.core import running

    return "\n".join(map(running.printable, message.splitlines()))


def system_said(error: OSError) -> str:
    """What the system refused, such as to write to a full disk, in one line.

    Raises the error itself with --debug, and for a reader of our output that has ended, as in `… | head`.
    """
    import os

    if isinstance(error, BrokenPipeError) or {"-d", "--debug"} & set(sys.argv):
        raise error
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again when it ends, and print that too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    name = error.filename or "the output"
    return printable(f"{name}: {error.strerror or error}; fix that and repeat the command")


def carry_out(action: Action, *, dry_run: bool = False, yes: bool = False) -> None:
    """Show an action or carry it out. Every task that changes something goes through here.

    Raises `Failure`, without a message, for an exit code that is not zero.
    """
    from deploy.core import action as actions

    if code := actions.carry_out(action, dry_run=dry_run, confirmed=yes):
        raise Failure("", code)


def tell(report: Report, *, json: bool = False) -> None:
    """Print a report, or with ``json`` its data. Raises `Failure` if the report says that something is wrong."""
    from deploy.core import screen

    screen.show_data(report.data) if json else screen.show(*report.grids)
    for line in report.remarks:
        notify(line)
    if report.wrong:
        raise Failure("\n".join(report.wrong))


def wanted_lines(asked: Lines) -> Query:
    """Which lines of a log the options of a task ask for. Raises `Failure` for an option that cannot be meant."""
    from deploy.core import logs

    count = number(asked.lines, "--lines", 1000)
    return logs.wanted(
        count, since=asked.since, grep=asked.grep, errors=asked.errors, follow=asked.follow, json=asked.json
    )


def wanted_maintenance(asked: Maintenance) -> maintenance.Wanted | None:
    """The maintenance that the options of a task ask for, None for its end. Raises `Failure` for a wrong option."""
    from deploy.project import maintenance as decided

    return decided.asked(
        start=asked.start,
        stop=asked.stop,
        message=asked.message,
        allow=comma_separated(asked.allow),
        hold=comma_separated(asked.hold),
    )


def store() -> Store:
    """The environments of this project."""
    from deploy.venvs.store import Store

    return Store.of(ROOT)


def checked(values: Mapping[str, object], runtime: str, environment: str) -> Project:
    """The validated configuration; with a runtime, only if `invoke check` finds nothing that keeps it from there.

    ``environment``: which one of this machine's is meant; empty for that of `.env`.
    """
    import os
    from dataclasses import replace

    from deploy.project import check, config

    this = replace(config.load(ROOT, values), environment=config.environment_name(environment))
    if runtime:
        check.require(ROOT, values, runtime, os.environ, this.env_path.name)
    return this


def make(env: str, *, python: str = "", rebuild: bool = False, dry_run: bool = False) -> bool:
    """Build an environment if it is not current; returns whether it was built."""
    from deploy.venvs import build

    return build.ensure(store(), env, python=python, rebuild=rebuild, dry_run=dry_run, notify=notify)


def number(text: str, option: str, most: int) -> int:
    """The value of an option, a number from 1 to ``most``. Raises `Failure` naming the option."""
    from deploy.project import config

    return config.whole_number(text, option, 1, most)


def arguments_after_dashes() -> list[str]:
    """The arguments after `--`, exactly as the shell passed them."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def comma_separated(text: str) -> list[str]:
    """The items of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]
