"""The suites as a whole: a run that is stopped stops everything that it started."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, environment, wait_until

#: A test file whose fixture leaves a mark in its teardown.
SLEEPERS = """
import pathlib, time, pytest

HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="session", autouse=True)
def machines():
    (HERE / f"up-{__name__}").touch()
    yield
    time.sleep(6)
    (HERE / f"down-{__name__}").touch()

def test_sleeps():
    time.sleep(60)
"""


def test_what_a_suite_has_started_ends_with_it_and_takes_no_processor_from_the_next() -> None:
    for path in (ROOT / "tests").glob("*/conftest.py"):
        assert 'scope="session"' not in path.read_text(), f"{path}: use the scope package, or module"


@pytest.mark.parametrize("processes", [1, 2])
def test_term_takes_down_what_each_process_of_a_run_has_started(tmp_path: Path, processes: int) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    for name in ("a", "b")[:processes]:
        (tmp_path / f"test_{name}.py").write_text(SLEEPERS)
    words = ["-n", str(processes), "--dist", "loadfile"] if processes > 1 else []
    options = ["-p", "no:cacheprovider", "-p", "no:django", "--rootdir", str(tmp_path)]
    # As a shell starts background processes: SIGINT is ignored.
    process = subprocess.Popen(
        ["env", "--ignore-signal=INT", sys.executable, "-m", "pytest", *options, *words, str(tmp_path)],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(list(tmp_path.glob("up-*"))) == processes, 60, "each process has begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(75) != 0
    finally:
        process.kill()
    assert len(list(tmp_path.glob("down-*"))) == processes
