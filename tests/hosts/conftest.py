"""Four bare machines, and a copy of the project with an environment for them."""

from collections.abc import Iterator

import pytest

from tests.hosts.release import first_release
from tests.rig.engine import engine_or_skip
from tests.rig.machines import IMAGE, Fleet, Rack

VERSIONS = {"web1": 12, "web2": 13, "jobs1": 12, "data1": 13}
ROLES = {"web1": ("web",), "web2": ("web",), "jobs1": ("worker", "beat"), "data1": ("database", "broker")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an engine and the rig's images, skip the tests that need machines, with the reason."""
    needing = [item for item in items if {"rack", "fleet", "bare", "solo"} & set(getattr(item, "fixturenames", ()))]
    for version in sorted(set(VERSIONS.values())):
        engine_or_skip(needing, f"{IMAGE}:{version}")


@pytest.fixture(scope="package")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """The machines."""
    made = Rack(tmp_path_factory.mktemp("rack"))
    made.start(VERSIONS)
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="package")
def fleet(rack: Rack, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The machines and the project; the keys are pinned, but nothing is set up yet."""
    made = Fleet(tmp_path_factory.mktemp("fleet") / "project", rack, dict(ROLES))
    made.prepare()
    return made


@pytest.fixture(scope="package")
def site(fleet: Fleet) -> Fleet:
    """The fleet after setup, with a first release, sample polls and an administrator."""
    first_release(fleet)
    return fleet
