"""The whole suite again, on production's database."""

import subprocess
import sys

import pytest

from tests import support
from tests.rig import postgres

#: Suites that ask no database, and this one.
WITHOUT_DATABASE = ("on_postgresql", "filesystem_broker", "test_settings", "test_release", "unknown_task", "celery_app")


def test_the_whole_suite_passes_on_postgresql() -> None:
    if postgres.programs() is None:
        pytest.skip("there is no PostgreSQL server here: `sudo apt install postgresql`")
    with postgres.server("fsync=off") as url:
        command = [sys.executable, "-m", "pytest", "tests/site", "-q", "-p", "no:cacheprovider", "--deselect", __file__]
        done = subprocess.run(
            [*command, "-k", " and ".join(f"not {name}" for name in WITHOUT_DATABASE)],
            cwd=support.ROOT,
            env=support.environment(DATABASE_URL=url),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
