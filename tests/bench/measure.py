"""Two things in turn, several times; medians and their ratio."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.figures import Figures


@dataclass(frozen=True)
class Contest:
    """Seconds of ours and of the rival's, pair by pair. The name is that of both: `OURS / RIVAL`."""

    name: str
    ours: list[float]
    rival: list[float]

    @property
    def ratio(self) -> float:
        """The median of the ratios of each pair, which holds when the machine's speed drifts."""
        return statistics.median(a / b for a, b in zip(self.ours, self.rival, strict=True))

    def into(self, figures: Figures, goal: str) -> None:
        """Note it, with its goal."""
        ours, rival = self.name.split(" / ")
        figures.add(ours, self.ours, "s", rival=rival, theirs=self.rival, ratio=self.ratio, goal=goal)


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
