"""Log lines of several machines: which are wanted, and in which order they are shown."""

import io
import json
import queue
import time
from datetime import datetime

import pytest

from deploy.core import logs
from deploy.core.errors import Failure
from deploy.core.logs import Entry, Put, chosen, moment, shown, wanted

NOW = datetime(2026, 3, 1, 2, 30).timestamp()  # this machine's time


def entries(*texts: str, source: str = "web1 web") -> list[Entry]:
    return [Entry(float(number), source, text) for number, text in enumerate(texts)]


def texts(found: list[Entry]) -> list[str]:
    return [each.text for each in found]


def test_lines_of_several_machines_are_shown_in_order_of_time_and_the_last_ones_of_all() -> None:
    read = [Entry(3, "web2 web", "c"), Entry(1, "web2 web", "a"), Entry(2, "web1 web", "b"), Entry(2, "web1 web", "b2")]
    assert texts(chosen(read, wanted(3))) == ["b", "b2", "c"], "lines of one moment stay as they came"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", NOW - 90),
        ("10m", NOW - 600),
        ("2h", NOW - 7200),
        ("3d", NOW - 259_200),
        ("02:10", NOW - 1200),
        ("02:29:30", NOW - 30),
        ("23:30", NOW - 10_800),  # of yesterday
        ("2026-03-01", NOW - 9000),
        ("2026-02-28T02:30", NOW - 86_400),
        ("2026-02-28 02:30:00", NOW - 86_400),
    ],
)
def test_a_time_is_said_as_people_say_it(text: str, meant: float) -> None:
    assert moment(text, NOW) == meant


def test_a_time_with_a_zone_is_of_that_zone() -> None:
    assert moment("2026-01-01T00:00Z", NOW) == 1767225600


@pytest.mark.parametrize(
    "text", ["yesterday", "10", "-5m", "25:00", "10 m", "2026-13-01", "9" * 30 + "s", "@5", "0x5s"]
)
def test_a_time_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(Failure, match=r"--since .*: write 90s, 10m, 2h or 3d"):
        moment(text, NOW)


def test_a_time_to_come_and_a_pattern_that_is_none_are_refused() -> None:
    with pytest.raises(Failure, match="is still to come"):
        moment("2026-03-02", NOW)
    with pytest.raises(Failure, match=r"--grep '\(': is not a regular expression"):
        wanted(10, grep="(")


def test_a_pattern_in_small_letters_finds_capitals_too() -> None:
    read = entries("Vote 1", "vote 2", "poll")
    assert texts(chosen(read, wanted(10, grep="vote"))) == ["Vote 1", "vote 2"]
    assert texts(chosen(read, wanted(10, grep="Vote"))) == ["Vote 1"]


def test_that_there_is_no_such_line_is_said_and_how_far_was_looked(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[Entry] = []
    logs.show_last(entries("a", "b"), wanted(10, grep="x"), found.append)
    assert capsys.readouterr().err == "no such line among the last 10000 of each\n"
    logs.show_last([], wanted(10), found.append)
    assert capsys.readouterr().err == "no lines\n"
    logs.show_last([], wanted(10, follow=True), found.append)
    logs.show_last(entries("a"), wanted(10), found.append)
    assert (texts(found), capsys.readouterr().err) == (["a"], "")


TRACEBACK = (
    "ERROR django.request [1f] Internal Server Error: /",
    "Traceback (most recent call last):",
    '  File "/app/polls/views.py", line 7, in index',
    "    1 / 0",
    "ZeroDivisionError: division by zero",
    "",
    "During handling of the above exception, another exception occurred:",
    "Traceback (most recent call last):",
    '  File "/app/x.py", line 1',
    "KeyError: 'x'",
)


def test_errors_are_shown_with_their_whole_traceback_and_nothing_else() -> None:
    read = entries("INFO polls [-] a vote", *TRACEBACK, "INFO polls [-] another", "  and its second line")
    assert texts(chosen(read, wanted(100, errors=True))) == list(TRACEBACK)


def test_a_traceback_goes_on_after_a_line_of_another_machine() -> None:
    read = [Entry(number * 2, "web1 web", text) for number, text in enumerate(TRACEBACK)]
    read += [Entry(number * 2 + 1, "web2 web", "INFO fine") for number in range(len(TRACEBACK))]
    assert texts(chosen(read, wanted(100, errors=True))) == list(TRACEBACK)


@pytest.mark.parametrize(
    "line",
    [
        "[2026-01-01 00:00:00 +0000] [7] [ERROR] Worker (pid:8) was sent SIGKILL!",
        "[2026-01-01 00:00:00,000: CRITICAL/MainProcess] Unrecoverable error",
        "2026-01-01 00:00:00.000 UTC [9] FATAL:  password authentication failed for user",
        "2026/01/01 00:00:00 [error] 1#1: *1 connect() failed",
        "2026-01-01 00:00:00.000000+00:00 [error] <0.1.0> closing AMQP connection",
        '{"timestamp": "x", "level": "ERROR", "message": "m"}',
        '{"level":"critical","msg":"m"}',
        '{"request":"GET / HTTP/1.1","status":"502"}',
        '{"request":"GET / HTTP/1.1","status":500}',
        "Traceback (most recent call last):",
    ],
)
def test_an_error_is_known_by_its_level_whoever_wrote_it(line: str) -> None:
    assert logs.is_error(line)


@pytest.mark.parametrize(
    "line",
    [
        "INFO polls [-] no error at all",
        '{"level": "INFO", "message": "ERROR is only quoted"}',
        '{"request":"GET / HTTP/1.1","status":"404"}',
        "GET /errors/ 200",
        "{not JSON",
        "[1, 2]",
        "",
    ],
)
def test_what_only_speaks_of_errors_is_none(line: str) -> None:
    assert not logs.is_error(line)


def test_what_a_log_says_cannot_control_a_terminal_and_keeps_its_indentation() -> None:
    line = shown(Entry(1767225600.1234, "web1 web", "    \x1b[2J\x07x = 1\r"))
    assert line == "2026-01-01 00:00:00.123Z web1 web |     [2J x = 1"


def test_with_json_each_line_is_an_object_with_its_text_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logs.Printer(wanted(1, json=True)).show(Entry(1.5, "web1 web", "\x1b[2J ü"))
    assert json.loads(capsys.readouterr().out) == {"at": 1.5, "source": "web1 web", "text": "\x1b[2J ü"}


def test_on_a_terminal_each_machine_has_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    printer = logs.Printer(wanted(1))
    for source in ("web1 web", "web2 web", "web1 worker"):
        printer.show(Entry(1.0, source, "x"))
    colours = [line[: line.index("m") + 1] for line in out.getvalue().splitlines()]
    assert colours[0] == colours[2] != colours[1]


def test_lines_that_are_followed_come_in_order_of_time_though_one_machine_is_slower(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "HOLD_SECONDS", 0.3)
    shown_: list[str] = []

    def quick(put: Put) -> None:
        put(Entry(1, "web1", "a"))
        put(Entry(3, "web1", "c"))

    def slow(put: Put) -> None:
        time.sleep(0.1)
        put(Entry(2, "web2", "b"))
        time.sleep(0.6)
        put(Entry(4, "web2", "d"))
        put(Entry(5, "web2", "left out"))

    logs.follow([quick, slow], wanted(1, grep="^.$"), lambda entry: shown_.append(entry.text))
    assert shown_ == ["a", "b", "c", "d"]


def test_a_line_is_shown_soon_though_nothing_else_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "HOLD_SECONDS", 0.05)
    arrived: queue.SimpleQueue[tuple[float, Entry] | None] = queue.SimpleQueue()
    arrived.put((time.monotonic(), Entry(1, "web1", "a")))
    assert next(logs.in_order(arrived, 1)).text == "a"


def test_a_source_that_fails_is_told_when_the_others_have_ended() -> None:
    def failing(put: Put) -> None:
        raise Failure("web1: is gone")

    found: list[Entry] = []
    with pytest.raises(Failure, match="web1: is gone"):
        logs.follow([failing, lambda put: put(Entry(1, "web2", "x"))], wanted(1), found.append)
    assert texts(found) == ["x"]
