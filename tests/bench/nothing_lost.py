"""What the suites lost: requests that were sent during updates, failures and kills, and those that failed.

    python3 -m tests.bench.nothing_lost [REPORT.xml]

Reads a report of the suites docker, swarm and hosts, as pytest writes it with `--junitxml` and
`-o junit_logging=system-out`; without one, it runs them. Needs an engine with the rig's images.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from tests.figures import Figures
from tests.support import ROOT

COUNTED = re.compile(r"(\d+) requests, (\d+) failed")
PLACES = {"compose": "tests.docker", "swarm": "tests.swarm", "hosts": "tests.hosts"}
#: Tests that kill what requests are on, a node, nginx, a server: what fails there is not an update's.
LOST = ("killed_and_comes_back", "killed_replica_or_nginx", "restart_of_a_server")


def counted(report: Path, package: str) -> dict[str, tuple[int, int]]:
    """Requests sent and failed, by test, of those that put a load on the site."""
    found: dict[str, tuple[int, int]] = {}
    for case in ET.parse(report).iter("testcase"):  # our own report
        text = "".join(each.text or "" for each in case.iter("system-out"))
        pairs = [(int(sent), int(failed)) for sent, failed in COUNTED.findall(text)]
        if pairs and str(case.get("classname")).startswith(package):
            found[str(case.get("name"))] = (sum(sent for sent, _ in pairs), sum(failed for _, failed in pairs))
    return found


#: Parts of the names of tests whose release fails, or whose servers do.
FAULTS = ("broken", "cannot_boot", "errors", "not_start", "never_gets_well", "fails", "fault")


def kind(test: str) -> str:
    """What a test does to the site, for a reader."""
    if "client_is_killed" in test or "killed_half_way" in test:
        return "deploys whose client is killed"
    if any(word in test for word in FAULTS):
        return "releases that fail, and faults"
    return "updates and rollbacks"


def run(report: Path) -> None:
    words = ["-q", f"--junitxml={report}", "-o", "junit_logging=system-out"]
    folders = [f"tests/{name}" for name in ("docker", "swarm", "hosts")]
    subprocess.run([sys.executable, "-m", "pytest", *folders, *words], cwd=ROOT, check=False)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report.xml"
        if len(sys.argv) < 2:
            run(report)
        for place, package in PLACES.items():
            sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
            for test, (sent, failed) in counted(report, package).items():
                if not any(word in test for word in LOST):
                    row = sums[kind(test)]
                    row[0], row[1], row[2] = row[0] + sent, row[1] + failed, row[2] + 1
            figures = Figures(f"nothing_lost_{place}", ".venvs/test/bin/python -m tests.bench.nothing_lost")
            for name, (sent, failed, tests) in sorted(sums.items()):
                what = f"{name}, {tests} test{'' if tests == 1 else 's'}"
                figures.note(what, f"{failed} of {sent} requests failed")
            if figures.rows:
                figures.save()


if __name__ == "__main__":
    main()
