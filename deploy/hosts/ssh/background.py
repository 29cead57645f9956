"""Daemon threads: a connection attempt that is still pending does not delay the exit of a failed command."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start(tasks: Iterable[Callable[[], T]], limit: int) -> list[Future[T]]:
    """Start tasks, at most ``limit`` at a time. Returns a future for each, which can be cancelled until it begins.

    At exit Python waits for the threads of a `ThreadPoolExecutor`, whatever they do; these threads are daemons.
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
    except BaseException as error:  # the future's result() raises it
        future.set_exception(error)
    else:
        future.set_result(result)
