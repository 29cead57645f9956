"""What a command would do, decided and not done yet: the front door shows it or carries it out.

So a dry run, a confirmation, and being told to stop are written once, for every task and every runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.core import shell
from deploy.core.running import confirm, exit_when_told
from deploy.core.shell import Run, Step


@dataclass(frozen=True)
class Question:
    """What a person is asked first: what will happen, and the name that they must type."""

    what: str
    name: str


@dataclass(frozen=True)
class Action:
    """Something to do. ``show`` prints it and changes nothing; ``do`` does it.

    What ``do`` returns is how it goes on: a command that takes this process's place, an exit code, or nothing.
    """

    show: Callable[[], None]
    do: Callable[[], Run | int | None]
    question: Question | None = None


def command(run: Run) -> Action:
    """A command that takes this process's place: its terminal, signals and exit code are its own."""
    return steps([], run)


def steps(some: Sequence[Step], last: Run | None = None, question: Question | None = None) -> Action:
    """Steps in order, and a command that goes on after them."""

    def do() -> Run | None:
        shell.perform(some)
        return last

    return Action(lambda: shell.perform([*some, *([last] if last else [])], dry_run=True), do, question)


def carry_out(action: Action, *, dry_run: bool = False, confirmed: bool = False) -> int:
    """Show an action, or do it; returns its exit code. Raises `Failure` when it fails, or nobody confirms it.

    TERM and a closed terminal end it as Ctrl-C does, so that what was begun is taken back.
    """
    if dry_run:
        action.show()
        return 0
    exit_when_told()
    if action.question:
        confirm(action.question.what, action.question.name, confirmed)
    ended = action.do()
    if isinstance(ended, Run):
        shell.exec_command(ended)
    return ended if isinstance(ended, int) else 0
