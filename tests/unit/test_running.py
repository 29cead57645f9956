"""What all runtimes share: who somebody is, what may be shown of another's words, questions, locks, actions."""

import builtins
import getpass
import os
import signal
from pathlib import Path

import pytest

from deploy.core import action, running, shell
from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.shell import Run


def test_a_user_id_without_a_name_is_somebody_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert running.who().startswith("4242@")


def test_what_somebody_else_said_is_shown_with_its_name_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running.quote("web-1", "\x1b[2Jone\n\x07two\x9b\n")
    assert capsys.readouterr().err == "web-1 | [2Jone\nweb-1 | two\n"


@pytest.mark.parametrize("typed", ["", "other", None])
def test_nothing_is_done_unless_the_name_is_typed(monkeypatch: pytest.MonkeyPatch, typed: str | None) -> None:
    def answer(_: str) -> str:
        if typed is None:
            raise EOFError  # Ctrl-D
        return typed

    monkeypatch.setattr(builtins, "input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(Failure, match="nothing was done"):
        running.confirm("This ends it.", "shop", confirmed=False)


def test_a_second_command_is_told_who_holds_the_lock_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not running.is_held(path)
    with running.alone(path, "a deploy", "{holder}: busy"):
        assert running.is_held(path)
        told = r"^a deploy by \S+@\S+, started \d{4}-\d\d-\d\d \d\d:\d\d: busy$"
        with pytest.raises(Failure, match=told), running.alone(path, "another", "{holder}: busy"):
            pass
    assert not running.is_held(path)


def test_a_dry_run_shows_and_neither_asks_nor_does(capsys: pytest.CaptureFixture[str]) -> None:
    def do() -> None:
        raise AssertionError("it was done")

    assert action.carry_out(Action(lambda: print("would"), do, Question("Really?", "x")), dry_run=True) == 0
    assert capsys.readouterr().out == "would\n"


def test_what_changes_something_ends_as_by_ctrl_c_when_it_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    put_back = []

    def do() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            put_back.append(True)

    try:
        with pytest.raises(SystemExit):
            action.carry_out(Action(lambda: None, do))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert put_back


def test_an_action_goes_on_as_the_command_that_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Run] = []
    monkeypatch.setattr(shell, "become", became.append)
    monkeypatch.setattr(action, "exit_when_told", lambda: None)
    action.carry_out(action.command(Run(["true"])))
    assert became == [Run(["true"])]
    assert action.carry_out(Action(lambda: None, lambda: 7)) == 7
