"""Adopted without a change, on servers: a swarm of one node, and plain hosts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.core.shell import Result
from tests import support
from tests.adopt import uploads
from tests.adopt.projects import EXAMPLES, Example
from tests.adopt.repository import Adopted, adopt, declare, give_values, serves, upgraded
from tests.adopt.test_adopt import REDIS
from tests.rig import visitors
from tests.rig.engine import together
from tests.rig.machines import Fleet, Rack
from tests.rig.nodes import Cluster
from tests.support import one_line

#: The hosts: Debian's version, the project that is deployed to it, and its roles.
HOSTS = {
    "shop1": (12, "config", ("web", "worker", "beat", "database", "broker", "redis")),
    "blog1": (13, "plain", ("web", "database")),
}


# --- A swarm of one node, which builds for itself and has a registry of its own ---


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", ["node1"], with_builder=True)
    made.start()
    try:
        yield made
    finally:
        made.down()


def on(cluster: Cluster, root: Path, *words: str) -> Result:
    """A task of the project in a folder, sent to the node."""
    more = cluster.environment()
    more["PATH"] = f"{support.TOOLS}:{more['PATH']}"
    host = ["--host", "ssh://node1"]
    return support.invoke(root, words[0], *host, *words[1:], env=more, uv=False, seconds=900)


def another_repository(this: Adopted, folder: Path) -> Path:
    """The same files with the same names, in a repository that has no commit of the first."""
    shutil.copytree(this.root, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venvs"))
    git = ["git", "-C", str(folder), "-c", "user.name=b", "-c", "user.email=b@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "another"]):
        subprocess.run([*git, *words], check=True)
    return folder


def test_a_single_node_builds_and_serves_it_and_keeps_its_images_in_a_registry_of_its_own(
    cluster: Cluster, tmp_path: Path
) -> None:
    this = adopt(tmp_path, "notesconfig", EXAMPLES["config"])
    give_values(this, WORKER_REPLICAS="1", REDIS_PASSWORD="h" * 24)
    declare(this, REDIS)
    node = cluster.node("node1")

    def must(*words: str) -> None:
        done = on(cluster, this.root, *words)
        assert done.code == 0, done.stdout + done.stderr

    assert "is in no swarm: `invoke swarm-init` creates one" in one_line(on(cluster, this.root, "swarm-deploy"))
    must("swarm-init")
    must("swarm-init")  # a repetition changes nothing
    must("swarm-deploy")
    serves(this, f"http://127.0.0.1:{node.http_port}")
    # The old worker of a kind that must be alone has ended before the new one starts.
    began, there = time.time(), visitors.hold(node.http_port, 5)
    (this.root / "notes/static/notes/style.css").write_text("body { color: navy }\n")
    must("swarm-deploy")
    visitors.met_the_new_release(there)
    only = f"label=com.docker.swarm.service.name={this.name}_celery_worker_billing"
    words = ["--since", f"{began:.6f}", "--until", f"{time.time():.6f}", "--filter", only, "--format", "{{.Action}}"]
    assert [each for each in node.docker("events", *words).split() if each in ("start", "die")] == ["die", "start"]
    words = ["scale", "--on", "swarm", "--service", "celery_worker_billing", "--replicas", "2"]
    assert one_line(on(cluster, this.root, *words)).endswith("project.workers.billing.alone in invoke.yaml")
    form = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
    image = node.docker("service", "inspect", f"{this.name}_app", "--format", form).strip()
    assert image.startswith(f"127.0.0.1:5000/{this.name}:")
    assert "@sha256:" in image
    published = node.docker("ps", "--filter", f"name={this.name}-registry", "--format", "{{.Ports}}")
    assert published.strip() == "127.0.0.1:5000->5000/tcp"
    other = another_repository(this, tmp_path / "other")
    for words in (["swarm-deploy"], ["swarm-rm", "--yes"]):
        assert "notesconfig on this swarm is another project's" in one_line(on(cluster, other, *words))
    assert "`invoke swarm-rm` first" in one_line(on(cluster, this.root, "swarm-leave", "--yes"))
    must("swarm-rm", "--yes")
    must("swarm-leave", "--yes")
    assert "is in no swarm" in one_line(on(cluster, this.root, "swarm-status"))
    assert node.docker("ps", "-aq").strip() == ""


# --- Plain hosts ---


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path / "rack")
    made.start({name: version for name, (version, _, _) in HOSTS.items()})
    try:
        yield made
    finally:
        made.down()


def more_keys(example: Example) -> dict[str, object]:
    """The keys of the environment file for the project's own variables."""
    if not example.values:
        return {}
    secrets = {"SECRET_KEY": "env:SITE_SECRET_KEY", "SHOP_TOKEN": "env:SHOP_TOKEN"}
    return {"secrets": secrets, "settings": {"SHOP_MAIL_HOST": example.values["SHOP_MAIL_HOST"]}}


def keeps_uploads(fleet: Fleet, url: str) -> None:
    """What is uploaded is there after a deploy and after a rollback."""
    with httpx.Client(base_url=url, headers={"Host": "localhost"}, trust_env=False) as client:
        address = uploads.kept(client)
        for task in ("remote-deploy", "remote-rollback"):
            fleet.must(task)
            assert client.get(address).content == uploads.PNG


def test_bare_hosts_serve_it(rack: Rack, tmp_path: Path) -> None:
    def serve(host: str) -> None:
        _, name, roles = HOSTS[host]
        this = adopt(tmp_path / host, f"notes{name}", EXAMPLES[name])
        if "redis" in roles:
            declare(this, REDIS)
        fleet = Fleet(this.root, rack, {host: roles}, more_keys(this.example))
        fleet.describe()
        token = {"SHOP_TOKEN": this.example.values.get("SHOP_TOKEN", "")}
        for task, *words in (["remote-setup", "--yes"], ["remote-deploy"], ["remote-status"]):
            fleet.must(task, *words, env=token)
        serves(this, fleet[host].url)
        if "redis" not in roles:
            upgraded(this, tmp_path / host)
            fleet.must("remote-setup", "--yes")
            keeps_uploads(fleet, fleet[host].url)
            serves(this, fleet[host].url)
        else:
            there = visitors.hold(fleet[host].http_port, 5)
            fleet.must("remote-deploy", env=token)
            visitors.met_the_new_release(there)

    together(*(lambda host=host: serve(host) for host in HOSTS))
