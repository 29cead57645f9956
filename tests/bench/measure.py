"""Two things in turn, several times; medians and their ratio."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Contest:
    """Seconds of ours and of the rival's, pair by pair."""

    name: str
    ours: list[float]
    rival: list[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios of each pair, which holds when the machine's speed drifts."""
        return statistics.median(a / b for a, b in zip(self.ours, self.rival, strict=True))

    def line(self, goal: str) -> str:
        ours, rival = statistics.median(self.ours), statistics.median(self.rival)
        return f"{self.name:<58} {ours:8.3f} s {rival:8.3f} s   {self.ratio:6.3f}   {goal}"


HEADER = f"{'':<58} {'ours':>10} {'rival':>10}   {'ratio':>6}   goal"


def contest(
    name: str,
    ours: Callable[[], None],
    rival: Callable[[], None],
    *,
    runs: int = 7,
    before: Callable[[], None] = lambda: None,
) -> Contest:
    """Run both in turn after one uncounted run of each; ``before`` each run is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for which, action in enumerate((ours, rival)):
            before()
            began = time.perf_counter()
            action()
            if number:
                times[which].append(time.perf_counter() - began)
    return Contest(name, *times)
