"""Nothing frozen: a server that is there and takes nothing leaves the others served, on every runtime."""

import random
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from tests import support
from tests.rig.visitor import Visitor

#: How many requests, and how many at once; of three, one is a form that starts a task.
REQUESTS, AT_ONCE = 200, 10
#: Seconds, the limits of the contract. Ours are a tenth of these, so that a busy machine breaks none.
PAGE_SECONDS, FORM_SECONDS = 1.0, 3.0


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


__all__ = [name for name in globals() if name.startswith("test_")]
