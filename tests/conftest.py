"""Options of every suite: what may not be skipped, and which site the acceptance suite asks; the order of files."""

import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.workermanage import NodeManager

HERE = Path(__file__).parent
# Tests that suites import say what differed, too.
pytest.register_assert_rewrite("tests.contract.promises", "tests.support")
#: Seconds for each process of several to take down its machines: more than the 15 after which execnet gives up.
EXIT_SECONDS = 20
#: The files that take minutes: with several processes (`-n`) they are begun in this order, the longest first, but no
#: two at once that set up a fleet of bare hosts, which takes all processors.
LONGEST = (
    "hosts/test_release_faults.py",
    "swarm/test_swarm.py",
    "docker/test_rollout.py",
    "hosts/test_release.py",
    "hosts/test_setup.py",
    "native/test_environments.py",
    "native/test_dev.py",
    "docker/test_dev.py",
    "docker/test_prod.py",
    "swarm/test_single.py",
    "native/test_fresh_clone.py",
    "native/test_million.py",
    "hosts/test_connect.py",
)


def turn(path: Path) -> int:
    """The place of a test file in the order of `LONGEST`; those that it does not name come after it."""
    name = str(path.relative_to(HERE))
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_configure(config: pytest.Config) -> None:
    """TERM ends a run as Ctrl-C does: with all that it, and each process of several, has started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        # What execnet ends a process with. It is ignored where a shell started us in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    NodeManager.EXIT_TIMEOUT = EXIT_SECONDS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="comma-separated suites in which a skipped test is a failure")
    parser.addoption("--base-url", default="", help="acceptance: the site to ask, instead of a native one")
    parser.addoption("--ca", default="", help="acceptance: the certificate authority that the site's was made with")
    parser.addoption("--admin", default="", help="acceptance: NAME:PASSWORD of an administrator of that site")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """After all else that sorts the tests: in each file, those that are marked `first` come first.

    In one process of several, so do the files that take longest.
    """
    yield
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    several = hasattr(config, "workerinput")
    items.sort(
        key=lambda item: (
            turn(item.path) if several else 0,
            files[item.path],
            item.get_closest_marker("first") is None,
        )
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a suite is required, a test that cannot run has failed."""
    report = yield
    suite = item.path.relative_to(HERE).parts[0]
    if report.skipped and not hasattr(report, "wasxfail") and suite in item.config.getoption("--require").split(","):
        report.outcome = "failed"
        report.longrepr = f"skipped, but suite {suite} is required: {report.longrepr}"
    return report
