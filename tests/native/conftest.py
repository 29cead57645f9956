import sys

import pytest


@pytest.fixture(autouse=True)
def _linux_only() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("this suite reads /proc, which only Linux has")
