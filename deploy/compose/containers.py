"""The containers of a stack: listing them, starting them, waiting for them, stopping them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import HOST, QUOTED_LINES, port_in_use, quote
from deploy.core.shell import Run
from deploy.core.together import side_by_side
from deploy.docker.engine import ANSWER_SECONDS, NO_RIGHT, is_stopped
from deploy.docker.stack import Stack
from deploy.project import limits
from deploy.project.site import HEALTHCHECK

#: States of a container that does not run and that the engine will not restart.
ENDED = ("created", "exited", "dead")
#: Arguments that start services without their dependencies, from existing images.
START = ("up", "-d", "--no-deps", "--no-build")


@dataclass(frozen=True)
class Replica:
    """A container of a stack."""

    name: str
    service: str
    state: str
    health: str
    exit_code: int
    restarts: int
    started: str
    revision: str
    image: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def ready(self) -> bool:
        return self.running and self.health in ("healthy", "")

    def failed(self, restarts: int) -> str:
        """How it has failed; empty if it has not, even if it is not ready yet. ``restarts``: its earlier count."""
        if self.state in ("exited", "dead", "restarting"):
            return f"ended with exit code {self.exit_code}"
        if self.restarts > restarts:
            return "ended and was restarted"
        return "is unhealthy" if self.health == "unhealthy" else ""


def require_ports(wanted: dict[str, tuple[str, int]], running: Sequence[Replica], file: str = ".env") -> None:
    """Raise `Failure` for a port that another program uses. ``wanted``: key in the ``file``, then service and port."""
    ours = {replica.service for replica in running if replica.running}
    for key, (service, port) in wanted.items():
        if service in ours:
            continue
        try:
            used = port_in_use(port, "0.0.0.0" if service == "nginx" else HOST)
        except OSError:  # this user may not test it, as with a low port; the engine will
            continue
        if used:
            raise Failure(f"port {port} is in use by another program: stop it, or set {key} in {file}")


def parse_replicas(text: str) -> list[Replica]:
    """The containers in the output of `docker inspect`, without the one-shot containers of `run`."""
    found = []
    for each in json.loads(text or "[]"):
        labels, state = each["Config"]["Labels"], each["State"]
        if labels.get("com.docker.compose.oneoff") == "True":
            continue
        found.append(
            Replica(
                name=each["Name"].lstrip("/"),
                service=labels["com.docker.compose.service"],
                state=state["Status"],
                health=state.get("Health", {}).get("Status", ""),
                exit_code=state["ExitCode"],
                restarts=each["RestartCount"],
                started=state["StartedAt"],
                revision=labels.get("org.opencontainers.image.revision", ""),
                image=each["Image"],
            )
        )
    return sorted(found, key=lambda replica: (replica.service, _number(replica.name), replica.name))


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def replicas(stack_name: str, *services: str) -> list[Replica]:
    """The current containers of a stack, or of some of its services.

    Raises `Failure` if the engine does not answer.
    """
    mine = ["--filter", f"label=com.docker.compose.project={stack_name}"]
    listed = shell.run(Run(["docker", "ps", "-aq", "--no-trunc", *mine]), capture=True).stdout.split()
    return [replica for replica in _inspected(listed) if not services or replica.service in services]


def inspect(some: Sequence[Replica]) -> list[Replica]:
    """The current state of the same containers, in the same order. A removed container counts as ended."""
    now = {each.name: each for each in _inspected([each.name for each in some])}
    return [now.get(each.name, replace(each, state="dead")) for each in some]


def _inspected(names: Sequence[str]) -> list[Replica]:
    """The engine's data on these containers, without those that were removed in the meantime."""
    if not names:
        return []
    said = shell.run(Run(["docker", "inspect", *names]), capture=True, check=False)
    if said.code and not is_gone(said.stderr):
        raise Failure(f"cannot list the containers: {shell.last_line(said.stderr)}")
    return parse_replicas(said.stdout)


def is_gone(said: str) -> bool:
    """Whether docker failed only because an object no longer exists."""
    lines = [line for line in said.splitlines() if line.strip()]
    return bool(lines) and all("no such" in line.lower() for line in lines)


#: The label in which Compose keeps the folder of the first file, and that folder in a checkout.
_FOLDER_LABEL, _FOLDER = "com.docker.compose.project.working_dir", Path("deploy", "compose")


def another_owner(stack: Stack) -> Path | None:
    """Another checkout whose containers have the names of this stack; None if they are ours, or if it is gone.

    Raises `Failure` if the engine does not answer.
    """
    form = f'{{{{.Label "{_FOLDER_LABEL}"}}}}'
    mine = ["--filter", f"label=com.docker.compose.project={stack.name}", "--format", form]
    asked = shell.run(Run(["docker", "ps", "-a", *mine], seconds=ANSWER_SECONDS), capture=True)
    for folder in sorted(set(asked.stdout.split("\n")) - {""}):
        root = Path(folder.removesuffix(str(_FOLDER))).resolve()
        if root != stack.project.root.resolve() and (root / "tasks.py").exists():
            return root
    return None


def require_own(stack: Stack) -> None:
    """Raise `Failure` if the stack's containers belong to another checkout, whose data and containers they are."""
    if other := another_owner(stack):
        raise Failure(
            f"{stack.name} runs from {other}, and this is {stack.project.root}: run the command there, or give this"
            f" project another name (STACK and IMAGE in {stack.project.env_path.name}, project.name in invoke.yaml)"
        )


def has_containers(stack_name: str, *, stopped: bool = False) -> bool:
    """Whether containers of a stack run; with ``stopped``, whether there are any.

    Without an engine, none run. Raises `Failure` if an engine does not answer: that does not mean that none run.
    """
    mine = ["--filter", f"label=com.docker.compose.project={stack_name}"]
    question = Run(["docker", "ps", "-aq" if stopped else "-q", *mine], seconds=ANSWER_SECONDS)
    asked = shell.run(question, capture=True, check=False)
    if asked.code and "permission denied" in asked.stderr.lower():
        raise Failure(
            "cannot tell whether the stack runs, because this user may not use the container engine:"
            f" {NO_RIGHT}; --on native does not need it"
        )
    if asked.code and not is_stopped(asked.stderr):
        reason = shell.last_line(asked.stderr) or f"exit code {asked.code}"
        raise Failure(
            f"cannot tell whether the stack runs, because the container engine failed: {reason};"
            " --on native does not need it"
        )
    return asked.code == 0 and bool(asked.stdout.strip())


# --- Starting, waiting, stopping ---


def scales(counts: Mapping[str, int]) -> list[str]:
    """The arguments that set the number of replicas."""
    return [word for service, number in counts.items() for word in ("--scale", f"{service}={number}")]


def names(some: Sequence[Replica], service: str) -> list[str]:
    """The names of the replicas of a service."""
    return [each.name for each in some if each.service == service]


def create_replicas(stack: Stack, more: Mapping[str, int]) -> list[Replica]:
    """Create more replicas of each service, beside those that there are; returns the new ones, none of which runs.

    After any error or interruption, the new ones are removed.
    """
    known = {each.name for each in replicas(stack.name, *more)}
    totals = {
        service: number + sum(1 for each in replicas(stack.name, service) if each.name in known)
        for service, number in more.items()
    }
    try:
        command = stack.compose("up", "--no-start", *START[2:], "--no-recreate", *scales(totals), *more)
        shell.run(command, capture=True)
        return [each for each in replicas(stack.name, *more) if each.name not in known]
    except BaseException:
        remove([each for each in replicas(stack.name, *more) if each.name not in known])
        raise


def start_replicas(stack: Stack, fresh: Sequence[Replica]) -> None:
    """Start replicas that were created, and wait until they are ready.

    Raises `Failure` if they do not become ready. After any error or interruption, they are removed.
    """
    try:
        _at_once([partial(start, each.name) for each in fresh])
        await_healthy(fresh)
        probes = stack.project.probes
        _at_once([partial(await_ready, each, probes) for each in fresh if each.service == "app"])
    except BaseException:
        remove(fresh)
        raise


def _at_once(calls: Sequence[Callable[[], object]]) -> None:
    if calls:
        side_by_side(*calls)


def start(name: str) -> None:
    """Start a container that exists. Raises `Failure` if the engine does not."""
    shell.run(Run(["docker", "start", name]), capture=True)


def await_healthy(some: Sequence[Replica]) -> None:
    """Return once all of them are healthy.

    Raises `Failure` if one ends, restarts or takes too long, after showing its last lines.
    """
    deadline = time.monotonic() + limits.HEALTHY
    while True:
        now = inspect(some)
        for each, before in zip(now, some, strict=True):
            if how := each.failed(before.restarts):
                tell_last_lines([each])
                raise Failure(f"{each.name} {how}; its last lines are above")
        missing = [each for each in now if not each.ready]
        if not missing:
            return
        if time.monotonic() > deadline:
            tell_last_lines(missing)
            raise Failure(f"not healthy within {limits.HEALTHY} s: {', '.join(each.name for each in missing)}")
        time.sleep(0.3)


def await_ready(replica: Replica, probes: Sequence[str]) -> None:
    """Return once a replica answers all of these paths without an error.

    Raises `Failure` with its answer, after showing its last lines.
    """
    deadline = time.monotonic() + limits.READY
    for path in probes:
        asked = Run(["docker", "exec", replica.name, *HEALTHCHECK, f"http://127.0.0.1:8000{path}"])
        while (result := shell.run(asked, capture=True, check=False)).code:
            if time.monotonic() > deadline:
                tell_last_lines([replica])
                raise Failure(f"{replica.name} is not ready: {shell.last_line(result.stderr)}{hint(path)}")
            time.sleep(0.5)


def hint(path: str) -> str:
    """What to do about a probe that fails, where it is an address of the project's own."""
    health = path in ("/readyz", "/healthz")
    return "" if health else "; project.probes in invoke.yaml says which addresses a release must answer"


def stop_replicas(some: Sequence[Replica]) -> None:
    """Stop replicas that get no more requests, each with its `stop_grace_period`; then remove them.

    Raises `Failure` if the engine does not stop them. They may still be working, so they are not removed.
    """
    if some:
        stop(some)
        remove(some)


def stop(some: Sequence[Replica]) -> None:
    """Stop containers, each with its `stop_grace_period`. Raises `Failure` if the engine does not."""
    result = shell.run(Run(["docker", "stop", *(each.name for each in some)]), capture=True, check=False)
    if result.code and not is_gone(result.stderr):
        raise Failure(f"the container engine did not stop the containers: {shell.last_line(result.stderr)}")


def remove(some: Sequence[Replica]) -> None:
    """Remove containers at once."""
    if some:
        shell.run(Run(["docker", "rm", "--force", *(each.name for each in some)]), capture=True, check=False)


def tell_last_lines(some: Sequence[Replica]) -> None:
    """Print the last lines of the logs on standard error."""
    for each in some:
        result = shell.run(Run(["docker", "logs", "--tail", str(QUOTED_LINES), each.name]), capture=True, check=False)
        quote(each.name, result.stdout + result.stderr)
