"""The state of a stack on a swarm, as values, and what it means for a deploy: pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Failed replicas after which a new service counts as failed: the first ones may have started before what they need.
FAILURES = 3
NAMESPACE = "com.docker.stack.namespace"
RELEASE = "portico.release"
JOBS = ("replicated-job", "global-job")
#: Parts of a definition that the engine fills in for a service and omits for a task.
DEFAULTS = {"StopGracePeriod", "DNSConfig", "Isolation"}
#: States of a task that did not end well (https://docs.docker.com/engine/swarm/how-swarm-mode-works/swarm-task-states/).
FAILED = ("failed", "rejected", "orphaned")


@dataclass(frozen=True)
class Node:
    """A machine of the swarm."""

    id: str
    name: str
    state: str
    availability: str
    manager: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return self.state == "ready" and self.availability == "active"


@dataclass(frozen=True)
class Task:
    """One replica of a service on one node, running or ended."""

    id: str
    service: str
    node: str
    state: str
    desired: str
    message: str
    created: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Service:
    """A service. ``wanted`` is the desired number of replicas: for a global service, of nodes that it must run on."""

    id: str
    name: str
    mode: str
    wanted: int
    update: str
    message: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    ports: Sequence[int] = ()
    version: int = 0

    @property
    def image(self) -> str:
        return str(self.spec.get("Image", ""))

    @property
    def job(self) -> bool:
        return self.mode in JOBS

    @property
    def release(self) -> int:
        """The number of the release that deployed it last; 0 if unknown."""
        return int(self.labels.get(RELEASE, "0"))


@dataclass(frozen=True)
class Snapshot:
    """A stack at one moment."""

    nodes: Sequence[Node] = ()
    services: Sequence[Service] = ()
    tasks: Sequence[Task] = ()

    def service(self, name: str) -> Service | None:
        return next((each for each in self.services if each.name == name), None)

    def of(self, service: Service) -> list[Task]:
        return [task for task in self.tasks if task.service == service.id]

    def node(self, task: Task) -> str:
        """The name of the node that a task runs on."""
        return next((node.name for node in self.nodes if node.id == task.node), "no node")


@dataclass(frozen=True)
class Standing:
    """The progress of a service: done, failed (with the reason), or neither yet."""

    service: str
    running: int
    wanted: int
    note: str
    done: bool = False
    failed: bool = False
    culprit: Task | None = None


def parse_nodes(text: str) -> list[Node]:
    """Parse the output of `docker node inspect`."""
    nodes = []
    for each in json.loads(text or "[]"):
        manager = each.get("ManagerStatus") or {}
        role = ("leader" if manager.get("Leader") else manager.get("Reachability", "")) if manager else ""
        spec, status = each["Spec"], each["Status"]
        name = each["Description"]["Hostname"]
        nodes.append(Node(each["ID"], name, status["State"], spec["Availability"], role, spec.get("Labels") or {}))
    return nodes


def parse_services(text: str, stack: str, nodes: Sequence[Node]) -> list[Service]:
    """Parse the output of `docker service inspect`."""
    services = []
    for each in json.loads(text or "[]"):
        spec, update = each["Spec"], each.get("UpdateStatus") or {}
        template = spec["TaskTemplate"]
        mode, wanted = _mode(spec["Mode"], (template.get("Placement") or {}).get("Constraints") or [], nodes)
        services.append(
            Service(
                id=each["ID"],
                name=spec["Name"].removeprefix(f"{stack}_"),
                mode=mode,
                wanted=wanted,
                update=update.get("State", ""),
                message=update.get("Message", ""),
                labels=spec.get("Labels") or {},
                spec=template["ContainerSpec"],
                ports=[port["PublishedPort"] for port in (spec.get("EndpointSpec") or {}).get("Ports") or []],
                version=each["Version"]["Index"],
            )
        )
    return sorted(services, key=lambda service: service.name)


def _mode(mode: Mapping[str, Any], constraints: Sequence[str], nodes: Sequence[Node]) -> tuple[str, int]:
    if "Global" in mode or "GlobalJob" in mode:
        name = "global" if "Global" in mode else "global-job"
        return name, sum(1 for node in nodes if node.works and all(fits(node, each) for each in constraints))
    if "ReplicatedJob" in mode:
        return "replicated-job", int(mode["ReplicatedJob"].get("TotalCompletions") or 1)
    return "replicated", int(mode["Replicated"].get("Replicas", 1))


def fits(node: Node, constraint: str) -> bool:
    """Whether a node satisfies a placement constraint; an unknown constraint counts as satisfied."""
    found = re.fullmatch(r"\s*(\S+?)\s*(==|!=)\s*(\S+)\s*", constraint)
    if not found:
        return True
    key, operator, value = found.groups()
    known = {
        "node.id": node.id,
        "node.hostname": node.name,
        "node.role": "manager" if node.manager else "worker",
        **{f"node.labels.{name}": text for name, text in node.labels.items()},
    }
    if key not in known and not key.startswith("node.labels."):
        return True
    return (known.get(key, "").lower() == value.lower()) == (operator == "==")


def parse_tasks(text: str) -> list[Task]:
    """Parse the output of `docker inspect --type task`, newest task first."""
    tasks = [
        Task(
            id=each["ID"],
            service=each["ServiceID"],
            node=each.get("NodeID", ""),
            state=each["Status"]["State"],
            desired=each["DesiredState"],
            message=each["Status"].get("Err") or each["Status"].get("Message", ""),
            created=each["CreatedAt"],
            spec=each["Spec"]["ContainerSpec"],
        )
        for each in json.loads(text or "[]")
    ]
    return sorted(tasks, key=lambda task: task.created, reverse=True)


def standing(service: Service, snapshot: Snapshot, known: Iterable[str] = ()) -> Standing:
    """The progress of a service. ``known``: ids of the tasks from before the deploy, whose failures do not count.

    `docker stack deploy` reports success even after a rollback (docker/cli#6752); only the service's own update state
    shows it.
    """
    tasks, before = snapshot.of(service), set(known)
    up = {node.id for node in snapshot.nodes if node.state != "down"}
    ours = [task for task in tasks if current(task, service) and task.node in up]
    if service.job:
        complete = sum(1 for task in ours if task.state == "complete")
        broken = next((task for task in ours if task.state in FAILED), None)
        note = broken.message if broken else _waiting(ours)
        return Standing(
            service.name, complete, service.wanted, note, complete >= service.wanted, broken is not None, broken
        )

    # A replica that exits with 0 has failed too: so does one that its health check has stopped.
    failed = [task for task in tasks if task.id not in before and task.state in (*FAILED, "complete")]
    last = next((task for task in tasks if task.id in service.message), failed[0] if failed else None)
    running = sum(1 for task in ours if task.state == "running" and task.desired == "running")
    so_far = Standing(service.name, running, service.wanted, _waiting(tasks), culprit=last)
    if service.update.startswith("rollback") or service.update == "paused":
        why = "was rolled back" if "rollback" in service.update else "was paused"
        return _failed(so_far, f"{why}: {ended(last) if last else service.message}")
    if service.update == "updating":
        return so_far
    if running == service.wanted:
        return Standing(service.name, running, service.wanted, "", done=True)
    if len(failed) >= FAILURES:
        return _failed(so_far, f"does not stay up: {ended(failed[0])}")
    return so_far


def current(task: Task, service: Service) -> bool:
    """Whether a task has the service's current definition."""
    more = set(service.spec) - set(task.spec)
    return more <= DEFAULTS and all(service.spec.get(key) == value for key, value in task.spec.items())


def ended(task: Task) -> str:
    """Why a replica ended that should have kept running."""
    if task.state in FAILED:
        return task.message
    return "a replica was unhealthy, or exited by itself"


def _failed(standing: Standing, note: str) -> Standing:
    return Standing(standing.service, standing.running, standing.wanted, note, failed=True, culprit=standing.culprit)


def _waiting(tasks: Sequence[Task]) -> str:
    """The state of the newest task that does not run yet."""
    for task in tasks:
        if task.desired in ("running", "complete") and task.state not in ("running", "complete"):
            return f"{task.state}: {task.message}" if task.message and task.message != task.state else task.state
    return ""


def unplaceable(snapshot: Snapshot) -> list[str]:
    """The services with a replica that fits on no node, each with the swarm's message."""
    return [
        f"{service.name}: {task.message}"
        for service in snapshot.services
        for task in snapshot.of(service)[:1]
        if task.state == "pending" and "no suitable node" in task.message
    ]


def lost(
    snapshot: Snapshot, services: Mapping[str, Mapping[str, Any]], secrets: Collection[str], data: Collection[str]
) -> list[str]:
    """What runs now and would be lost by deploying these services: whole services, volume mounts, ports.

    For the services named in ``data`` also their passwords, as their data was created with them. ``secrets`` are the
    names of the new secrets in the swarm. Each result is a name for `--remove`: `app`,
    `postgres:/var/lib/postgresql/data`, `nginx:443`, `postgres:shop_postgres_password_0123456789ab`.
    """
    gone = []
    for service in snapshot.services:
        if service.job:
            continue
        new = services.get(service.name)
        if new is None:
            gone.append(service.name)
            continue
        volumes = {each["target"] for each in new.get("volumes") or [] if each["type"] == "volume"}
        gone += [
            f"{service.name}:{mount['Target']}"
            for mount in service.spec.get("Mounts") or []
            if mount["Type"] == "volume" and mount["Target"] not in volumes
        ]
        ports = {each.get("published") for each in new.get("ports") or []}
        gone += [f"{service.name}:{port}" for port in service.ports if port and port not in ports]
        if service.name in data:
            theirs = [each["SecretName"] for each in service.spec.get("Secrets") or []]
            gone += [f"{service.name}:{name}" for name in theirs if name not in secrets]
    return gone
