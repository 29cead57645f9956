"""An export of a million votes: bounded memory, every row, and complete after a kill."""

import csv
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import support
from tests.rig.visitor import Visitor
from tests.support import Dev, wait_until

MILLION = 1_000_000
#: The megabytes by which a worker may grow.
GROWTH_MB = 50

FILL = f"""
from django.db import connection
from polls.models import Choice
choice = Choice.objects.first()
with connection.cursor() as cursor:
    cursor.execute('''
        INSERT INTO polls_vote (question_id, choice_id, visitor, cast_at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MILLION})
        SELECT {{0}}, {{1}}, printf('%032x', i), '2026-01-01 00:00:00' FROM n
    '''.format(choice.question_id, choice.pk))
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("million") / "run"
    with Dev(support.ROOT, folder, env={"EXPORTS_SHARE_SECONDS": "0"}) as dev:  # the second is to be written too
        env = {"INVOKE_PROJECT_RUN": str(folder)}
        filled = support.invoke(support.ROOT, "manage", "--", "shell", "-v0", "-c", FILL, env=env)
        assert filled.code == 0, filled.stderr
        yield dev


def peak_mb(pid: int) -> float:
    """The maximum resident memory of a process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def pool(dev: Dev) -> set[int]:
    """The processes of the worker, including its main process."""
    return dev.processes(r"bin/celery --quiet -A \S+ worker").keys() - dev.processes("reloader").keys()


def ask(visitor: Visitor) -> tuple[str, str]:
    """Request an export; returns its key and the address of its state."""
    key = visitor.post("/exports/").headers["Location"].rstrip("/").rsplit("/", 1)[1]
    return key, f"/exports/check/{key}"


def rows_of(dev: Dev, key: str) -> Iterator[list[str]]:
    with (dev.run_folder / "protected" / f"{key}.csv").open(encoding="utf-8", newline="") as file:
        yield from csv.reader(file)


def assert_whole(dev: Dev, key: str) -> None:
    numbers = (int(row[0]) for number, row in enumerate(rows_of(dev, key)) if number)
    assert all(number == expected for expected, number in enumerate(numbers, start=1))
    assert sum(1 for _ in rows_of(dev, key)) == MILLION + 1


def test_a_million_votes_are_exported_in_bounded_memory_and_match_the_table(million: Dev) -> None:
    visitor = Visitor(million.url)
    before = {pid: peak_mb(pid) for pid in pool(million)}
    key, address = ask(visitor)
    wait_until(lambda: visitor.get(address).json()["state"] == "done", 180, "the export is done")
    growth = max(peak_mb(pid) - before[pid] for pid in before)
    print(f"the worker grew by {growth:.1f} MB")
    assert growth <= GROWTH_MB
    assert_whole(million, key)
    with httpx.stream(
        "GET", f"{million.url}/exports/{key}/download", cookies=visitor.http.cookies, trust_env=False
    ) as got:
        assert sum(len(part) for part in got.iter_bytes()) == int(got.headers["Content-Length"])


def test_a_worker_killed_half_way_yields_one_whole_file_in_the_end(million: Dev) -> None:
    visitor = Visitor(million.url)
    key, address = ask(visitor)
    wait_until(lambda: visitor.get(address).json()["done"] > MILLION / 4, 60, "a quarter is written")
    main = min(pool(million))
    os.kill(main, signal.SIGKILL)
    files = million.run_folder / "protected"

    def done() -> bool:
        there = (files / f"{key}.csv").exists()  # asked first: it appears before it is said to be done
        state = str(visitor.get(address).json()["state"])
        assert state in ("running", "done")
        if there:
            assert_whole(million, key)
        return state == "done"

    wait_until(done, 180, "the export is done after all")
    assert_whole(million, key)
