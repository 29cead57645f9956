"""One stack on a swarm of three nodes, deployed over SSH from a copy of the project as from a laptop."""

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from deploy.core.shell import Result, Run, run
from deploy.docker import env as server_env
from deploy.docker.stack import DATASTORES
from tests import support
from tests.rig.engine import accept, docker, engine_or_skip
from tests.rig.nodes import Cluster, Node
from tests.rig.visitor import ADMIN, Visitor

#: Seconds for a swarm to take a node that is killed as down, and start elsewhere what was on it.
HEAL_SECONDS = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an engine and the rig's images, skip everything here, with the reason."""
    engine_or_skip([item for item in items if item.path.is_relative_to(Path(__file__).parent)], "portico-rig/node")


@dataclass
class Swarm:
    """A copy of the project, and the swarm it is deployed to."""

    project: Path
    name: str
    cluster: Cluster
    #: The manager to which commands are sent.
    manager: str = "node1"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Node]:
        return self.cluster.nodes

    def host(self, name: str = "") -> list[str]:
        return ["--host", f"ssh://{name or self.manager}"]

    def invoke(self, *words: str, host: str = "", env: dict[str, str] | None = None) -> Result:
        """A task, sent to a manager."""
        more = {**self.cluster.environment(), **(env or {})}
        more["PATH"] = f"{support.TOOLS}:{more['PATH']}"
        return support.invoke(self.project, words[0], *self.host(host), *words[1:], env=more, uv=False, seconds=900)

    def must(self, *words: str, host: str = "") -> Result:
        result = self.invoke(*words, host=host)
        assert result.code == 0, result.stdout + result.stderr
        return result

    def ask(self, *words: str) -> str:
        """The output of a docker command on a manager."""
        return self.cluster.node(self.manager).docker(*words)

    def url(self, node: Node) -> str:
        return f"http://127.0.0.1:{node.http_port}"

    def service(self, name: str, shown: str) -> str:
        return self.ask("service", "inspect", f"{self.name}_{name}", "--format", shown).strip()

    def images(self) -> dict[str, str]:
        """The image of each of the site's services."""
        names = ("app", "celery_worker", "celery_beat")
        return {name: self.service(name, "{{.Spec.TaskTemplate.ContainerSpec.Image}}") for name in names}

    def tasks(self, name: str) -> list[tuple[str, str]]:
        """Id and node of each running task of a service."""
        words = ["service", "ps", "--no-trunc", "--filter", "desired-state=running", "--format"]
        lines = self.ask(*words, "{{.ID}} {{.Node}} {{.CurrentState}}", f"{self.name}_{name}").splitlines()
        return [(line.split()[0], line.split()[1]) for line in lines if " Running" in line]

    def container(self, name: str) -> tuple[Node, str]:
        """A running container of a service, and its node."""
        for node in self.nodes:
            label = f"label=com.docker.swarm.service.name={self.name}_{name}"
            if found := node.docker("ps", "-q", "--filter", label, check=False).split():
                return node, found[0]
        raise AssertionError(f"no container of {name} on any node")

    def manage(self, *words: str, env: dict[str, str] | None = None) -> str:
        node, container = self.container("app")
        more = [word for key, value in (env or {}).items() for word in ("-e", f"{key}={value}")]
        return node.docker("exec", *more, container, "python", "manage.py", *words)

    def shell(self, code: str) -> str:
        return self.manage("shell", "-v0", "-c", code).strip()

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.project / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def set_env(self, **values: str) -> None:
        path = self.project / ".env"
        lines = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in values]
        path.write_text("\n".join([*lines, *(f"{k}={v}" for k, v in values.items() if v)]) + "\n")

    def serves(self, node: Node) -> bool:
        try:
            return Visitor(self.url(node)).get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_healed(self, seconds: float = HEAL_SECONDS) -> float:
        """Seconds until every node serves and every service has all its replicas."""
        began = time.monotonic()
        support.wait_until(lambda: all(self.serves(node) for node in self.nodes), seconds, "every node serves")
        support.wait_until(self._whole, seconds, "every service has its replicas")
        return time.monotonic() - began

    def _whole(self) -> bool:
        words = ["service", "ls", "--filter", f"label=com.docker.stack.namespace={self.name}", "--format"]
        lines = self.ask(*words, "{{.Mode}} {{.Replicas}}").splitlines()
        return all(
            line.split()[1].partition("/")[0] == line.split()[1].partition("/")[2]
            for line in lines
            if "job" not in line
        )


def new_project(folder: Path, cluster: Cluster) -> Swarm:
    """A copy of the project whose `.env` names the private registry."""
    project = support.copy_project(folder / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    run(Run(["git", "-C", str(project), "init", "-q"]))
    name = f"s{secrets.token_hex(3)}"
    os.umask(0o022)
    (project / ".env").write_text(
        server_env.fresh((project / ".env.example").read_text(), stack=name, development=False)
    )
    (project / ".env").chmod(0o600)
    swarm = Swarm(project, name, cluster)
    swarm.set_env(IMAGE=f"{cluster.registry.address}/{name}", WORKER_REPLICAS="3")
    # A release that stays unhealthy must be detected within a test's time limit.
    swarm.edit("deploy/compose/swarm.yaml", "start_period: 60s", "start_period: 20s")
    return swarm


def join(swarm: Swarm) -> None:
    """All nodes are managers of one swarm."""
    first, *others = swarm.nodes
    swarm.must("swarm-init", "--advertise", first.ip)
    token = first.docker("swarm", "join-token", "-q", "manager").strip()
    for node in others:
        node.docker("swarm", "join", "--token", token, first.ip)
    # The data is not on the leader, so that the cost of losing each can be measured separately.
    for node, word in ((first, "--label-rm={0}"), (others[0], "--label-add={0}=true")):
        labels = [word.format(name) for name in DATASTORES]
        first.docker("node", "update", *labels, node.name)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers with the stack on them, sample polls and an administrator."""
    folder = tmp_path_factory.mktemp("swarm")
    cluster = Cluster(folder / "cluster", shared_ssh=True)
    cluster.start()
    try:
        made = new_project(folder, cluster)
        join(made)
        made.must("swarm-deploy")
        fill(made)
        yield made
    finally:
        cluster.down()
        docker("image", "prune", "-f", check=False)


def fill(swarm: Swarm) -> None:
    """Sample polls and an administrator."""
    name, password = ADMIN.split(":")
    swarm.manage("load_sample_polls")
    more = {"DJANGO_SUPERUSER_PASSWORD": password}
    swarm.manage("createsuperuser", "--noinput", "--username", name, "--email", "a@example.org", env=more)


__all__ = ["Swarm", "accept", "swarm"]
