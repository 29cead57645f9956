"""Work in threads that no exit waits for: what still connects when a command fails does not hold it up."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start(tasks: Iterable[Callable[[], T]], limit: int) -> list[Future[T]]:
    """Begin tasks, no more than ``limit`` at a time; a future for each, which can be cancelled until it begins.

    Python waits at its exit for the threads of a `ThreadPoolExecutor`, whatever they wait for; these are daemons.
    """
    waiting = deque((Future[T](), task) for task in tasks)
    futures = [future for future, _ in waiting]

    def work() -> None:
        while waiting:
            try:
                future, task = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            _do(future, task)

    for _ in range(min(limit, len(futures))):
        threading.Thread(target=work, daemon=True).start()
    return futures


def _do(future: Future[T], task: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = task()
    except BaseException as error:  # it is for the one who asks for the result
        future.set_exception(error)
    else:
        future.set_result(result)
