"""Invoke's own options, those that `invoke --help` lists, as our tasks treat them. `tasks.py` says which were given.

Our tasks do not start commands through Invoke, so an option about such commands is honored here or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from deploy.core.errors import Failure

#: Where Invoke's configuration has the options that only concern commands which Invoke itself starts.
WITHOUT_EFFECT = {
    ("run", "echo"): "--echo",
    ("run", "hide"): "--hide",
    ("run", "pty"): "--pty",
    ("run", "warn"): "--warn-only",
    ("sudo", "password"): "--prompt-for-sudo-password",
    ("timeouts", "command"): "--command-timeout",
}
#: The tasks that change nothing, and so need no dry run.
READING = frozenset(
    [
        "status",
        "logs",
        "releases",
        "doctor",
        "check",
        "swarm-render",
        "swarm-status",
        "venv-list",
        "venv-tree",
        "venv-check",
        "remote-releases",
        "remote-status",
        "remote-logs",
    ]
)
#: What to use in their place.
INSTEAD = {"--echo": "; --dry-run prints the commands of a task that has it"}


def dry_run(
    body: Callable[..., object], given: Mapping[str, Mapping[str, object]], *, dry: bool
) -> dict[str, Literal[True]]:
    """The arguments that a task gets because of Invoke's `--dry` (``dry``): that of its own dry run.

    ``given``: the options of Invoke's on the command line, by section and key of its configuration. Raises `Failure`
    for an option that the task cannot honor.
    """
    task = body.__name__.replace("_", "-")
    for (section, key), option in WITHOUT_EFFECT.items():
        if given.get(section, {}).get(key):
            instead = INSTEAD.get(option, "")
            raise Failure(f"{option}: Invoke's option has no effect on {task}; leave it out{instead}")
    if not dry:
        return {}
    if "dry_run" in body.__annotations__:
        return {"dry_run": True}
    if task not in READING:
        raise Failure(f"--dry: {task} has no dry run; nothing was done")
    return {}
