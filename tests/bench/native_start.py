"""The native runtime: seconds from the command to the ready line, and memory of the whole tree when idle.

There is no rival that starts the same; beside it stand the parts alone, started by hand one after the other.
"""

import tempfile
import time
from pathlib import Path

from tests import support
from tests.figures import Figures
from tests.support import Dev


def memory(pids: list[int]) -> tuple[float, float]:
    """Megabytes of some processes: the sum of their resident sizes, and of their proportional shares."""
    resident = shared = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Rss":
                resident += int(rest.split()[0])
            elif name == "Pss":
                shared += int(rest.split()[0])
    return resident / 1000, shared / 1000


def main() -> None:
    figures = Figures("native_start", ".venvs/test/bin/python -m tests.bench.native_start")
    again = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(6):
            began = time.perf_counter()
            with Dev(support.ROOT, Path(folder) / "run") as dev:
                seconds = time.perf_counter() - began
                if number == 0:
                    figures.add("ready, with an empty database", seconds, "s")
                    continue
                again.append(seconds)
                if number == 5:
                    time.sleep(3)
                    processes = dev.processes()
                    resident, proportional = memory(list(processes))
    figures.add("ready, next starts", again, "s", goal="at most 5")
    figures.add(f"memory when idle, {len(processes)} processes, by proportional share", proportional, "MB")
    figures.add("the same, resident", resident, "MB")
    figures.save()


if __name__ == "__main__":
    main()
