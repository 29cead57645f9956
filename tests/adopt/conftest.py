from pathlib import Path

import pytest

from tests.rig.engine import engine_or_skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that run containers, with the reason, if there is no engine."""
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    engine_or_skip([item for item in ours if "in_containers" in item.nodeid])
