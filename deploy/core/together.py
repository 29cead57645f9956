"""Work that need not wait for each other, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def side_by_side(first: Callable[[], T], *others: Callable[[], object]) -> T:
    """Carry out all of them at the same time; returns what the first one returns, when all have ended.

    The first runs in this thread, which alone is interrupted by a signal: it should be the one that takes longest. The
    others have limits of their own. Raises the error of the first, else that of the first of the others that failed;
    in both cases when all have ended, so that whoever undoes them meets none that still runs.
    """
    errors: list[BaseException] = []

    def carried_out(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # it is raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=carried_out, args=(each,)) for each in others]
    for each in threads:
        each.start()
    try:
        result = first()
    finally:
        _await(threads)
    if errors:
        raise errors[0]
    return result


def _await(threads: Iterable[threading.Thread]) -> None:
    """Return when all have ended. An interruption meanwhile, such as Ctrl-C, is raised then."""
    interrupted: BaseException | None = None
    for each in threads:
        while each.is_alive():
            try:
                each.join()
            except BaseException as error:
                interrupted = interrupted or error
    if interrupted:
        raise interrupted
