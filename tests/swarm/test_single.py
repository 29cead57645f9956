"""One node, with no registry but its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.nodes import Cluster
from tests.support import one_line
from tests.swarm.conftest import Swarm, accept, fill, new_project


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Swarm]:
    cluster = Cluster(tmp_path / "cluster", ["node1"], with_builder=True)
    cluster.start()
    try:
        made = new_project(tmp_path, cluster)
        made.set_env(IMAGE=made.name, WORKER_REPLICAS="1")
        yield made
    finally:
        cluster.down()


def test_a_single_node_builds_for_itself_and_keeps_its_images_in_a_registry_of_its_own(alone: Swarm) -> None:
    assert "is in no swarm: `invoke swarm-init` creates one" in one_line(alone.invoke("swarm-deploy"))
    alone.must("swarm-init")
    alone.must("swarm-init")  # a repetition changes nothing
    alone.must("swarm-deploy")
    fill(alone)
    accept(alone.url(alone.nodes[0]))
    assert alone.images()["app"].startswith(f"127.0.0.1:5000/{alone.name}:unknown@sha256:")
    published = alone.ask("ps", "--filter", f"name={alone.name}-registry", "--format", "{{.Ports}}")
    assert published.strip() == "127.0.0.1:5000->5000/tcp"
    assert "`invoke swarm-rm` first" in one_line(alone.invoke("swarm-leave", "--yes"))
    alone.must("swarm-rm", "--yes")
    alone.must("swarm-leave", "--yes")
    assert "is in no swarm" in one_line(alone.invoke("swarm-status"))
    assert alone.ask("ps", "-aq").strip() == ""
