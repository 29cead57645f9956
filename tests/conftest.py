"""Options of every suite: what may not be skipped, and which site the acceptance suite asks."""

from collections.abc import Generator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="suites, by comma, in which a skipped test is a failure")
    parser.addoption("--base-url", default="", help="acceptance: the site to ask, instead of a native one")
    parser.addoption("--ca", default="", help="acceptance: the certificate authority that the site's was made with")
    parser.addoption("--admin", default="", help="acceptance: NAME:PASSWORD of an administrator of that site")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a suite is required, a test that cannot run has failed."""
    report = yield
    suite = item.path.relative_to(HERE).parts[0]
    if report.skipped and not hasattr(report, "wasxfail") and suite in item.config.getoption("--require").split(","):
        report.outcome = "failed"
        report.longrepr = f"skipped, but suite {suite} is required: {report.longrepr}"
    return report
