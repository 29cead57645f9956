"""The small commands on a compose stack that runs: stop, logs, manage.py, status."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from deploy.compose.containers import replicas
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import confirm
from deploy.core.shell import Run
from deploy.docker.stack import DEV, PROD, Stack, load
from deploy.project.config import Project


def running_stack(project: Project, kind: str = "", *, stopped: bool = False) -> Stack | None:
    """The stack of this project that runs: the one of that kind, else whichever; None where none does.

    With ``stopped``, one whose containers have all ended will do where none runs. Raises `Failure` when it would be
    both, and none is named.
    """
    if not (project.root / ".env").exists() or shutil.which("docker") is None:
        return None
    stacks = [load(project, each) for each in ([kind] if kind else [PROD, DEV])]
    for which in ("-q", "-aq") if stopped else ("-q",):
        found = [stack for stack in stacks if _has_containers(stack, which)]
        if len(found) > 1:
            raise Failure("both stacks of this project run: say --stack prod or --stack dev")
        if found:
            return found[0]
    return None


def _has_containers(stack: Stack, which: str) -> bool:
    mine = ["--filter", f"label=com.docker.compose.project={stack.name}"]
    asked = shell.run(Run(["docker", "ps", which, *mine]), capture=True, check=False)
    return asked.code == 0 and bool(asked.stdout.strip())


def known_stack(project: Project, kind: str = "") -> Stack:
    """The stack named, or the one that has containers, running or not."""
    return load(project, _kind(kind)) if kind else need_stack(project)


def _kind(text: str) -> str:
    if text not in (DEV, PROD):
        raise Failure(f"--stack is {text!r}, but must be dev, prod or swarm")
    return text


def need_stack(project: Project, kind: str = "", *, stopped: bool = True) -> Stack:
    """The stack that runs, or with ``stopped`` has run. Raises `Failure` when there is none."""
    stack = running_stack(project, _kind(kind) if kind else "", stopped=stopped)
    if stack is None:
        raise Failure("no stack of this project runs: `invoke dev` or `invoke prod` starts one")
    return stack


# --- Commands on a running stack ---


def down(stack: Stack, *, volumes: bool, confirmed: bool, dry_run: bool) -> None:
    """Stop and remove a stack; its data only when that was confirmed. Raises `Failure` when it was not."""
    if volumes and not dry_run:
        confirm(f"This deletes the database, queues and files of {stack.name}.", stack.name, confirmed)
    more = ["--volumes"] if volumes else []
    shell.perform([stack.compose("down", "--remove-orphans", *more)], dry_run=dry_run)


def logs(stack: Stack, service: str, *, follow: bool) -> Run:
    """The log of a service, or of all. Raises `Failure` for a service that there is not."""
    known = sorted({replica.service for replica in replicas(stack.name)})
    if service and service not in known:
        raise Failure(f"--service is {service!r}; there are: {', '.join(known)}")
    words = ["--tail", "200", *(["--follow"] if follow else []), *([service] if service else [])]
    return stack.compose("logs", *words)


def manage(stack: Stack, arguments: Sequence[str]) -> Run:
    """manage.py in a container of the site; as this user in development, where it writes into the work tree."""
    terminal = [] if sys.stdin.isatty() else ["-T"]
    user = ["--user", f"{os.getuid()}:{os.getgid()}"] if stack.kind == DEV else []
    return stack.compose("exec", *terminal, *user, "app", "python", "manage.py", *arguments)


def show(stack: Stack) -> None:
    """Print a line for each container: state, health, release, since when."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("container", "service", "state", "restarts", "release", "since"):
        table.add_column(heading, no_wrap=True)
    for each in replicas(stack.name):
        ended = "" if each.running else f" ({each.exit_code})"
        state = f"{each.state}{ended}" if not each.health else f"{each.state}, {each.health}"
        since = each.started[:19].replace("T", " ")
        table.add_row(each.name, each.service, state, str(each.restarts or ""), each.revision[:12], since)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
