"""Logs of containers, as docker prints them."""

import sys
from collections.abc import Sequence

import pytest

from deploy.core.errors import Failure
from deploy.core.logs import Entry, wanted
from deploy.core.shell import Run
from deploy.docker import logs

COMPOSE = "shop-app-1  | 2026-01-01T00:00:00.123456789Z   two | bars"
SERVICE = "2026-01-01T00:00:00.123456789Z shop_app.1.abc@node1    |   two | bars"


@pytest.mark.parametrize(
    ("line", "name"),
    [(COMPOSE, "shop-app-1"), (f"\x1b[2K\x1b[2K{COMPOSE}", "shop-app-1"), (SERVICE, "shop_app.1.abc@node1")],
)
def test_a_line_of_compose_or_of_a_service_has_its_time_its_container_and_its_text(line: str, name: str) -> None:
    assert logs.entry(line) == Entry(1767225600.123456, name, "  two | bars")


@pytest.mark.parametrize(
    "line", ["", "time=now level=warning", "shop-app-1 exited with code 0", "a | 2026-99-01T00Z x"]
)
def test_what_docker_itself_says_is_no_line_of_a_log(line: str) -> None:
    assert logs.entry(line) is None


def printing(text: str, code: int = 0) -> logs.Command:
    """A command that prints, on both of its outputs, and knows the options."""
    script = f"import sys; print({text!r}); print({text.replace('app', 'job')!r}, file=sys.stderr); sys.exit({code})"

    def command(words: Sequence[str]) -> Run:
        assert words[0] == "--timestamps"
        return Run([sys.executable, "-c", script])

    return command


def test_both_outputs_of_all_containers_are_shown_in_order_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    later = COMPOSE.replace("00:00:00", "00:00:01").replace("shop", "site")
    logs.show([printing(later), printing(COMPOSE)], wanted(10))
    found = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert found == ["shop-app-1", "shop-job-1", "site-app-1", "site-job-1"]


def test_what_is_followed_shows_no_line_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.show([printing(COMPOSE)], wanted(10, follow=True))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(Failure, match="exit code 3"):
        logs.show([printing("no such service", 3)], wanted(10))
