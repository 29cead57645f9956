"""The containers of a stack, as the engine shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import HOST, taken
from deploy.core.shell import Run


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

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def well(self) -> bool:
        return self.running and self.health in ("healthy", "")

    def failed(self, restarts: int) -> str:
        """How it has failed, and not merely is not ready yet; empty when it has not. ``restarts``: of earlier."""
        if self.state in ("exited", "dead", "restarting"):
            return f"ended with exit code {self.exit_code}"
        if self.restarts > restarts:
            return "ended, and was started again"
        return "is unhealthy" if self.health == "unhealthy" else ""


def need_ports(wanted: dict[str, tuple[str, int]], running: Sequence[Replica]) -> None:
    """Raise `Failure` for a port that another program has. ``wanted``: key in `.env`, the service and the port."""
    ours = {replica.service for replica in running if replica.running}
    for key, (service, port) in wanted.items():
        if service in ours:
            continue
        try:
            used = taken(port, "0.0.0.0" if service == "nginx" else HOST)
        except OSError:  # not ours to try, as a low port is: the engine will
            continue
        if used:
            raise Failure(f"port {port} is in use by another program: end that, or set {key} in .env")


def parse_replicas(text: str) -> list[Replica]:
    """The containers in what `docker inspect` says, the one-shot ones of `run` left out."""
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
            )
        )
    return sorted(found, key=lambda replica: (replica.service, _number(replica.name), replica.name))


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def replicas(stack_name: str, *services: str) -> list[Replica]:
    """The containers of a stack, or of some of its services, as they are now."""
    mine = ["--filter", f"label=com.docker.compose.project={stack_name}"]
    listed = shell.run(Run(["docker", "ps", "-aq", "--no-trunc", *mine]), capture=True).stdout.split()
    if not listed:
        return []
    # One may go between the two questions, and is then not in the answer.
    said = shell.run(Run(["docker", "inspect", *listed]), capture=True, check=False).stdout
    return [replica for replica in parse_replicas(said) if not services or replica.service in services]


def inspect(some: Sequence[Replica]) -> list[Replica]:
    """The same containers as they are now, in the same order; one that is gone has ended."""
    if not some:
        return []
    said = shell.run(Run(["docker", "inspect", *(each.name for each in some)]), capture=True, check=False).stdout
    now = {each.name: each for each in parse_replicas(said)}
    return [now.get(each.name, replace(each, state="dead")) for each in some]
