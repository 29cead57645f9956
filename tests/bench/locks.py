"""Requests while a release waits for a lock: a transaction that stays open for a minute, and a dump.

`python -m tests.bench.locks`: needs an engine (`tests/rig/up`). Prints a line for each. Fails if a request failed, or
if one took longer than two seconds.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.containers import stack
from tests.docker.conftest import Stack
from tests.rig import database, held
from tests.rig.load import Load

MOST_SECONDS = 2.0


def measure(made: Stack, what: str, holds: Callable[[str], AbstractContextManager[None]], seconds: float) -> bool:
    """Deploy a release with a migration while the lock is held so long; returns whether no request suffered."""
    [postgres] = made.containers("postgres")
    database.psql(postgres, "ALTER TABLE polls_question DROP COLUMN IF EXISTS spare")
    (made.project / f"site/polls/migrations/0003_{what}.py").write_text(held.MIGRATION)
    ended: list[int] = []
    with Load(made.port, most_seconds=600) as load:
        with holds(postgres):
            deploy = threading.Thread(target=lambda: ended.append(made.invoke("prod", "--detach").code))
            deploy.start()
            time.sleep(seconds)
        deploy.join()
        time.sleep(2)
    print(f"{what}, held for {seconds:.0f} s: {load.report()}; the release ended with {ended[0]}", flush=True)
    (made.project / f"site/polls/migrations/0003_{what}.py").unlink()
    return not load.failures and load.slowest <= MOST_SECONDS


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder)) as made:
        cases = ("transaction", held.transaction), ("dump", held.dump)
        well = [measure(made, what, holds, 60) for what, holds in cases]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
