"""The promises of a deploy, kept by a swarm."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import support
from tests.contract.promises import *  # noqa: F403
from tests.contract.promises import Runtime
from tests.swarm.conftest import Swarm
from tests.swarm.test_swarm import load_on, unhurt


class OnSwarm(Runtime):
    under_way = "app: 0/"

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        host = swarm.host()
        self.deploying = ["swarm-deploy", *host]
        self.changing = [
            *(["swarm-deploy", *host], ["swarm-rollback", *host], ["swarm-rm", *host]),
            ["scale", "--on", "swarm", *host, "--service", "app", "--replicas", "3"],
            *(["manage", "--on", "swarm", *host, "--", "flush"], ["shell", "--on", "swarm", *host]),
            ["rollback", "--on", "swarm", *host],
        ]

    @property
    def project(self) -> Path:
        return self.swarm.project

    def environment(self) -> dict[str, str]:
        return {**self.swarm.cluster.environment()}

    def commit(self) -> None:
        """The work tree itself is built."""

    def serving(self) -> object:
        support.wait_until(lambda: all(map(self.swarm.serves, self.swarm.nodes)), 60, "every node serves")
        return self.swarm.images()

    @contextmanager
    def load(self) -> Iterator[None]:
        with load_on(self.swarm.nodes) as loads:
            yield
        unhurt(loads)

    def history(self) -> str:
        return self.swarm.must("releases", "--on", "swarm").stdout


@pytest.fixture(scope="module")
def runtime(swarm: Swarm) -> OnSwarm:
    return OnSwarm(swarm)
