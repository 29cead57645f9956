"""Actions: what a task would do, decided but not yet done. `tasks.py` shows an action or carries it out.

Dry runs, confirmation and signals are therefore implemented once, for every task and every runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deploy.core import shell
from deploy.core.running import confirm, exit_on_signal
from deploy.core.shell import Run, Step


@dataclass(frozen=True)
class Question:
    """A confirmation: what will happen, and the name that the user must type."""

    what: str
    name: str


@dataclass(frozen=True)
class Action:
    """Something to do. ``show`` prints it and changes nothing; ``do`` does it.

    ``do`` returns a command to replace this process with, an exit code, or None.
    """

    show: Callable[[], None]
    do: Callable[[], Run | int | None]
    question: Question | None = None


def command(run: Run) -> Action:
    """A command that replaces this process, and so has its terminal, signals and exit code."""
    return steps([], run)


def steps(some: Sequence[Step], last: Run | None = None, question: Question | None = None) -> Action:
    """Steps in order, then a command that replaces this process."""

    def do() -> Run | None:
        shell.perform(some)
        return last

    return Action(lambda: shell.perform([*some, *([last] if last else [])], dry_run=True), do, question)


def carry_out(action: Action, *, dry_run: bool = False, confirmed: bool = False) -> int:
    """Show an action or carry it out; returns its exit code. Raises `Failure` if it fails or is not confirmed.

    TERM and a closed terminal have the effect of Ctrl-C: the action undoes what it has begun.
    """
    if dry_run:
        action.show()
        return 0
    exit_on_signal()
    if action.question:
        confirm(action.question.what, action.question.name, confirmed)
    ended = action.do()
    if isinstance(ended, Run):
        shell.exec_command(ended)
    return ended if isinstance(ended, int) else 0
