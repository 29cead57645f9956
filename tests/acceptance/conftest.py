"""The site under test: the one named by --base-url, else a native one started for the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import support
from tests.rig.visitor import ADMIN, Visitor, create_admin


@pytest.fixture(scope="module")
def base_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := request.config.getoption("--base-url"):
        yield given.rstrip("/")
        return
    folder = tmp_path_factory.mktemp("acceptance") / "run"
    with support.Dev(support.ROOT, folder) as dev:
        create_admin(folder)
        yield dev.url


@pytest.fixture
def visitor(base_url: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    visitor = Visitor(base_url, request.config.getoption("--ca"))
    yield visitor
    visitor.http.close()


@pytest.fixture
def another(base_url: str, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A second browser that shares nothing with the first."""
    visitor = Visitor(base_url, request.config.getoption("--ca"))
    yield visitor
    visitor.http.close()


@pytest.fixture
def admin(request: pytest.FixtureRequest, base_url: str) -> tuple[str, str]:
    """Name and password of an administrator."""
    given = request.config.getoption("--admin")
    if request.config.getoption("--base-url") and not given:
        pytest.skip("--admin NAME:PASSWORD is not given for this site")
    name, _, password = (given or ADMIN).partition(":")
    return name, password
