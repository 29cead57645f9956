"""Options of every suite: suites that must not skip, the site of the acceptance suite; and the order of test files."""

import signal
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling
from xdist.workermanage import NodeManager, WorkerController

HERE = Path(__file__).parent
# Assertions in modules that suites import must show their values too.
pytest.register_assert_rewrite("tests.contract.promises", "tests.support")
# No test fails because a machine is slow.
settings.register_profile("portico", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("portico")
#: Seconds for each of several test processes to remove its machines; execnet's default is 15.
EXIT_SECONDS = 45
#: The files that take minutes. With several processes (`-n`) they are started in this order: the longest first.
LONGEST = (
    "hosts/test_release.py",
    "swarm/test_swarm.py",
    "docker/test_rollout.py",
    "hosts/test_setup.py",
    "adopt/test_on_servers_in_containers.py",
    "hosts/test_messy.py",
    "hosts/test_machines.py",
    "native/test_environments.py",
    "native/test_dev.py",
    "docker/test_dev.py",
    "docker/test_prod.py",
    "adopt/test_adopt.py",
    "native/test_fresh_clone.py",
    "native/test_million.py",
    "hosts/test_connect.py",
)
#: Those that run a site on several machines, which uses all processors: one at a time beside other suites, and
#: `MOST_FLEETS` when nothing else is left.
FLEETS = frozenset(
    (
        *("hosts/test_release.py", "hosts/test_setup.py", "hosts/test_messy.py", "hosts/test_machines.py"),
        *("swarm/test_swarm.py", "adopt/test_on_servers_in_containers.py"),
    )
)
#: With three on two processors, a node of a swarm learned too late that a replica had gone, and a request was lost.
MOST_FLEETS = 2
#: Suites whose files take seconds: they come last, and fill the processes evenly to the end.
QUICK = ("unit", "kit", "site")
#: Files that use a set-up of minutes that another file has, and so run in its process, beside it.
TOGETHER = dict.fromkeys(
    (
        *("hosts/test_release_faults.py", "hosts/test_rotation.py", "hosts/test_owner.py", "hosts/test_backup.py"),
        "hosts/test_certificate.py",
    ),
    "hosts/test_release.py",
)


def unit_of(nodeid: str) -> str:
    """What is given to one process as a whole: a test's file, or the one that this file belongs to."""
    name = nodeid.split("::", 1)[0].removeprefix(f"{HERE.name}/")
    return TOGETHER.get(name, name)


class Files(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Shares units among processes, the one that takes longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        # It is called after each test; a node gets more when two are left.
        needs_more = not node.shutting_down and self._pending_of(self.assigned_work[node]) <= 2
        if needs_more and self.workqueue and next_unit(self.workqueue, self._fleets_beside(node)) is None:
            node.shutdown()  # when it has run what is left
        else:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        unit = next_unit(self.workqueue, self._fleets_beside(node))
        self.workqueue.move_to_end(unit or next(iter(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _fleets_beside(self, node: WorkerController) -> int:
        """How many other processes have one of `FLEETS`; one that ends its last may have its next already."""
        others = [work for other, work in self.assigned_work.items() if other is not node]
        return sum(any(unit in FLEETS and not all(tests.values()) for unit, tests in work.items()) for work in others)


def next_unit(waiting: Iterable[str], fleets: int) -> str | None:
    """What a process gets next while ``fleets`` others have one of `FLEETS`; None if it must not get what waits."""
    first, *more = waiting
    if not fleets:
        return first
    other = next((unit for unit in (first, *more) if unit not in FLEETS), None)
    return first if other is None and fleets < MOST_FLEETS else other


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return Files(config, log) if config.getoption("dist") == "loadfile" else None


def position(path: Path) -> int:
    """The position of a test file: in `LONGEST`, after it, or last if its suite is in `QUICK`."""
    name = unit_of(str(path.relative_to(HERE)))
    if name in LONGEST:
        return LONGEST.index(name)
    return len(LONGEST) + (Path(name).parts[0] in QUICK)


def pytest_configure(config: pytest.Config) -> None:
    """Make TERM stop a run as Ctrl-C does: with everything that it and its processes have started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        # execnet stops a process with SIGINT, which is ignored if a shell started us in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    NodeManager.EXIT_TIMEOUT = EXIT_SECONDS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="comma-separated suites in which a skipped test is a failure")
    parser.addoption("--base-url", default="", help="acceptance: the site to test, instead of a native one")
    parser.addoption("--ca", default="", help="acceptance: the certificate authority of the site's certificate")
    parser.addoption("--admin", default="", help="acceptance: NAME:PASSWORD of an administrator of that site")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Sort the tests, after all other hooks: in each file, those marked `first` come first.

    With several processes, the files that take longest come first.
    """
    yield
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    several = hasattr(config, "workerinput")
    items.sort(
        key=lambda item: (
            position(item.path) if several else 0,
            files[item.path],
            item.get_closest_marker("first") is None,
        )
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In a required suite, report a skipped test as failed."""
    report = yield
    suite = item.path.relative_to(HERE).parts[0]
    if report.skipped and not hasattr(report, "wasxfail") and suite in item.config.getoption("--require").split(","):
        report.outcome = "failed"
        report.longrepr = f"skipped, but suite {suite} is required: {report.longrepr}"
    return report
