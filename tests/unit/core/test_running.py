"""What all runtimes share: the name of the user, output of other programs, confirmation, locks, actions."""

import builtins
import getpass
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deploy.core import action, running, shell
from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.shell import Run
from tests.rig.ports import free_port
from tests.support import ROOT, wait_until


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
    undone = []

    def do() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            undone.append(True)

    try:
        with pytest.raises(SystemExit):
            action.carry_out(Action(lambda: None, do))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert undone


def test_an_action_goes_on_as_the_command_that_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Run] = []
    monkeypatch.setattr(shell, "exec_command", became.append)
    monkeypatch.setattr(action, "exit_on_signal", lambda: None)
    action.carry_out(action.command(Run(["true"])))
    assert became == [Run(["true"])]
    assert action.carry_out(Action(lambda: None, lambda: 7)) == 7


# --- Signals ---

PROGRAM = """
import pathlib, sys, time
from deploy.core.running import exit_on_signal
exit_on_signal()
folder = pathlib.Path(sys.argv[1])
try:
    (folder / "begun").touch()
    time.sleep(30)
finally:
    (folder / "cleaning").touch()
    time.sleep(1)
    (folder / "clean").touch()
"""


def begin(folder: Path, *before: str) -> subprocess.Popen[bytes]:
    command = [*before, sys.executable, "-c", PROGRAM, str(folder)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until((folder / "begun").exists, 20, "the program has begun")
    return child


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_session_lets_the_clean_up_come_to_its_end(tmp_path: Path, number: signal.Signals) -> None:
    child = begin(tmp_path)
    child.send_signal(number)
    wait_until((tmp_path / "cleaning").exists, 20, "it cleans up")
    for again in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):  # as the kernel, the shell and sshd do
        child.send_signal(again)
    assert child.wait(20) == 128 + number
    assert (tmp_path / "clean").exists()


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    child = begin(tmp_path, "nohup")
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 128 + signal.SIGTERM


def test_a_connection_that_is_gone_does_not_stop_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    running.tell("drain and stop app-1")
    running.quote("app-1", "ended")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "ok", ""),
        (503, '{"broker": "failed: OperationalError"}', '/readyz answers 503: {"broker": "failed: OperationalError"}'),
        (404, "<!DOCTYPE html><html>…", "/readyz answers 404"),
        (500, "\x1b[2J", "/readyz answers 500: [2J"),
    ],
)
def test_what_a_site_that_is_not_ready_answers_is_said(status: int, body: str, said: str) -> None:
    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert running.complaint(f"http://127.0.0.1:{server.server_port}/readyz") == said


def test_a_site_that_does_not_listen_is_said() -> None:
    assert "refused" in running.complaint(f"http://127.0.0.1:{free_port()}/readyz")
