"""Nothing frozen: a server that is there and says nothing, or one greedy client, leaves the others served."""

import json
import random
import re
import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http import HTTPStatus
from pathlib import Path

import pytest

from tests import support
from tests.rig.visitor import Visitor

#: How many requests, and how many at once; of three, one is a form that starts a task.
REQUESTS, AT_ONCE = 200, 10
#: Seconds, the limits of the contract. Ours are a tenth of these, so that a busy machine breaks none.
PAGE_SECONDS, FORM_SECONDS = 1.0, 3.0


#: Seconds for which a client is greedy, and for which others are watched before.
GREEDY_SECONDS, QUIET_SECONDS = 20, 4
#: What a greedy client may add to the disk.
DISK_BYTES = 100_000_000
#: What the greedy client runs, with an address of its own: the host, the port and the seconds follow.
GREEDY = (Path(__file__).parent / "greedy.py").read_text()


class Frozen(ABC):
    """A running site whose servers can be stopped."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def alarm(self) -> AbstractContextManager[object]:
        """RabbitMQ takes no messages: its alarm is on."""

    @abstractmethod
    def stopped(self, server: str) -> AbstractContextManager[object]:
        """All processes of a server are stopped (SIGSTOP): it accepts connections and says nothing."""

    @abstractmethod
    def stranger(self, script: str, *words: str) -> subprocess.Popen[str]:
        """Run Python elsewhere, as a client with an address of its own; ``words`` follow the site's host and port."""

    @abstractmethod
    def disk(self) -> int:
        """The bytes of files that clients have caused."""

    @abstractmethod
    def lives(self) -> dict[str, str]:
        """What changes when a process of the site or of a server is killed, by its name."""


def ready(url: str) -> tuple[int, dict[str, str]]:
    answer = Visitor(url).get("/readyz")
    return answer.status_code, answer.json()


def mixed(url: str) -> tuple[dict[str, list[float]], list[tuple[Visitor, str]]]:
    """The seconds of many requests by kind, and who has asked for which export. None may fail."""
    seconds: dict[str, list[float]] = defaultdict(list)
    asked: list[tuple[Visitor, str]] = []

    def one(kind: str) -> None:
        visitor = Visitor(url)
        begun = time.monotonic()
        answer = visitor.post("/exports/") if kind == "POST" else visitor.get(kind)
        seconds[kind].append(time.monotonic() - begun)
        assert answer.status_code < 400, (kind, answer.status_code)
        if kind == "POST":
            asked.append((visitor, answer.headers["Location"]))

    kinds = [*("/", "/healthz", "POST") * (REQUESTS // 3), "/", "/"]
    random.Random(1).shuffle(kinds)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, kinds))
    return seconds, asked


def p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100 - 1]


@pytest.mark.parametrize("how", ["alarm", "stopped"])
def test_a_broker_that_takes_nothing_freezes_nothing_and_each_task_that_was_accepted_is_done(
    frozen: Frozen, how: str
) -> None:
    hold: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "alarm": frozen.alarm,
        "stopped": lambda: frozen.stopped("rabbitmq"),
    }
    with hold[how]():
        support.wait_until(lambda: ready(frozen.url)[0] == 503, 30, "readiness tells")
        states = ready(frozen.url)[1]
        assert {name for name, state in states.items() if state != "ok"} == {"broker"}, states
        if how == "alarm":
            assert states["broker"].startswith("blocked")
        seconds, asked = mixed(frozen.url)
    assert p99(seconds["/"]) < PAGE_SECONDS, sorted(seconds["/"])[-5:]
    assert p99(seconds["/healthz"]) < PAGE_SECONDS, sorted(seconds["/healthz"])[-5:]
    assert max(seconds["POST"]) < FORM_SECONDS, sorted(seconds["POST"])[-5:]
    support.wait_until(lambda: ready(frozen.url)[0] == 200, 30, "the site is ready again")
    for visitor, page in asked:
        support.wait_until(lambda visitor=visitor, page=page: "Ready:" in visitor.get(page).text, 60, f"{page} is done")  # type: ignore[misc]


def test_a_database_that_says_nothing_is_named_and_keeps_nobody_once_that_is_known(frozen: Frozen) -> None:
    asked = Visitor(frozen.url)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', asked.get("/exports/").text)
    assert token
    headers = {"Referer": f"{frozen.url}/exports/"}
    seconds: dict[str, list[float]] = defaultdict(list)
    statuses: dict[str, set[int]] = defaultdict(set)

    def one(kind: str) -> None:
        visitor = Visitor(frozen.url)
        begun = time.monotonic()
        if kind == "POST":
            visitor.http.cookies.update(asked.http.cookies)
            answer = visitor.http.post("/exports/", data={"csrfmiddlewaretoken": token[1]}, headers=headers)
        else:
            answer = visitor.get(kind)
        seconds[kind].append(time.monotonic() - begun)
        statuses[kind].add(answer.status_code)

    def known() -> bool:
        """Whether each process has noticed: several answers in a row are quick."""
        begun = time.monotonic()
        return all(Visitor(frozen.url).get("/").status_code == 503 for _ in range(6)) and time.monotonic() - begun < 2

    with frozen.stopped("postgres"):
        support.wait_until(lambda: ready(frozen.url)[0] == 503, 30, "readiness tells")
        states = ready(frozen.url)[1]
        assert {name for name, state in states.items() if state != "ok"} == {"database", "migrations"}, states
        support.wait_until(known, 60, "each process has cut its connections")
        kinds = ["/", "/healthz", "POST"] * (REQUESTS // 3)
        random.Random(1).shuffle(kinds)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, kinds))
    assert statuses == {"/": {503}, "/healthz": {200}, "POST": {503}}
    # Half of them within a second: the slowest depend on what else this machine does.
    for kind, found in seconds.items():
        assert statistics.median(found) < PAGE_SECONDS, (kind, sorted(found)[-5:])
        assert max(found) < FORM_SECONDS, (kind, sorted(found)[-5:])
    print(f"p99 {p99(seconds['/']):.2f} s, {p99(seconds['/healthz']):.2f} s for /healthz, with the database frozen")
    support.wait_until(lambda: ready(frozen.url)[0] == 200, 15, "the site is ready again")
    support.wait_until(
        lambda: all(Visitor(frozen.url).get("/").status_code == 200 for _ in range(6)), 15, "each process serves again"
    )
    Visitor(frozen.url).vote()


def test_one_greedy_client_leaves_others_served_and_neither_kills_nor_fills_anything(frozen: Frozen) -> None:
    """1000 connections, 100 unfinished bodies, slow headers, exports and votes as fast as it can."""
    support.wait_until(lambda: ready(frozen.url)[0] == 200, 30, "the site is ready")
    lives, disk = frozen.lives(), frozen.disk()
    quiet = watched(frozen.url, QUIET_SECONDS)
    greedy = frozen.stranger(GREEDY, str(GREEDY_SECONDS))
    try:
        time.sleep(2)  # it has opened its connections
        busy = watched(frozen.url, GREEDY_SECONDS - 4)
        said, _ = greedy.communicate(timeout=GREEDY_SECONDS + 60)
    finally:
        greedy.kill()
    counts = json.loads(said.splitlines()[-1])
    print(f"p99 {p99(quiet):.2f} s quiet, {p99(busy):.2f} s beside a greedy client, which got {counts}")
    assert counts["held"] > 500, "it did what it is for"
    assert counts["statuses"].get("429", 0) > 0, counts
    assert len(busy) > 20
    assert frozen.lives() == lives, "nothing was killed"
    assert frozen.disk() - disk < DISK_BYTES
    support.wait_until(lambda: ready(frozen.url)[0] == 200, 30, "the site is ready")


def watched(url: str, seconds: float) -> list[float]:
    """The seconds of another client's requests, one after the other. None may fail."""
    end, found = time.monotonic() + seconds, []
    visitor = Visitor(url)
    while time.monotonic() < end:
        begun = time.monotonic()
        assert visitor.get("/").status_code == HTTPStatus.OK
        found.append(time.monotonic() - begun)
        time.sleep(0.05)
    return found


__all__ = [name for name in globals() if name.startswith("test_")]
