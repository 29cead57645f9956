"""The promises of a deploy, kept by compose in production."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.promises import *  # noqa: F403
from tests.contract.promises import Runtime
from tests.docker.conftest import Stack
from tests.load import Load


class Compose(Runtime):
    under_way = "start beside the old ones"
    deploying = ["prod", "--detach"]  # noqa: RUF012
    changing = [  # noqa: RUF012
        *(["prod"], ["build"], ["push"], ["rollback"], ["down", "--volumes"]),
        *(["scale", "--service", "app", "--replicas", "3"], ["manage", "--", "flush"], ["shell"]),
    ]

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @property
    def project(self) -> Path:
        return self.stack.project

    def environment(self) -> dict[str, str]:
        return {}

    def commit(self) -> None:
        """The work tree itself is built."""

    def serving(self) -> object:
        return self.stack.containers()

    @contextmanager
    def load(self) -> Iterator[Load]:
        with Load(self.stack.port) as load:
            yield load
        assert not load.failures, load.failures[:5]
        assert load.accepted > 50

    def history(self) -> str:
        return self.stack.must("releases", "--on", "prod").stdout


@pytest.fixture(scope="module")
def runtime(prod: Stack) -> Compose:
    prod.must("prod", "--detach")  # so that there is a release to go back to
    return Compose(prod)
