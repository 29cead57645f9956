"""Work side by side: an error is raised when all have ended."""

import threading

import pytest

from deploy.core.errors import Failure
from deploy.core.together import side_by_side


def failing(error: BaseException) -> None:
    raise error


def test_they_run_at_the_same_time_and_the_first_one_has_the_answer() -> None:
    met = threading.Barrier(3, timeout=10)

    def first() -> str:
        met.wait()
        return "ready"

    assert side_by_side(first, met.wait, met.wait) == "ready"


@pytest.mark.parametrize("interrupted", [KeyboardInterrupt(), SystemExit(143), Failure("the migration failed")])
def test_an_error_is_raised_when_all_have_ended(interrupted: BaseException) -> None:
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        begun.set()
        threading.Event().wait(0.2)
        ended.set()

    def first() -> None:
        begun.wait(10)
        raise interrupted

    with pytest.raises(type(interrupted)):
        side_by_side(first, other)
    assert ended.is_set(), "whoever undoes it meets nothing that still runs"


def test_the_error_of_another_is_raised_and_the_first_ones_before_it() -> None:
    with pytest.raises(Failure, match="nginx"):
        side_by_side(lambda: None, lambda: failing(Failure("nginx")))
    with pytest.raises(Failure, match="release"):
        side_by_side(lambda: failing(Failure("release")), lambda: failing(Failure("nginx")))
