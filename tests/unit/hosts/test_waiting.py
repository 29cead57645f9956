"""Plain hosts that do not answer: nothing waits for them one after the other, or at exit."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from deploy.core.errors import Failure
from deploy.core.logs import wanted
from deploy.hosts import logs, operate
from deploy.hosts.environment import file
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.release import fleet, phases
from deploy.hosts.release.fleet import Fleet
from deploy.hosts.release.view import View
from deploy.hosts.ssh import background, hop, known_hosts, pinning
from deploy.hosts.ssh.channel import Result
from deploy.hosts.ssh.connect import Connection, Connections
from deploy.hosts.ssh.hop import Hop
from deploy.project import config
from tests.support import ROOT
from tests.support import environment as users_environment

NAMES = ("web1", "web2", "web3", "web4")
FILE = """\
domain: shop.example
secrets: {SECRET_KEY: env:KEY}
services: {database: env:D, broker: env:B}
hosts:
  web1: {roles: [web]}
  web2: {roles: [web]}
  web3: {roles: [web, worker]}
  web4: {roles: [web, beat]}
"""
#: A client of hosts that do not even answer a connection: a listener whose queue is full.
CLIENT = """
import socket, sys, time
from deploy.hosts.environment.model import Host
from deploy.hosts.ssh import known_hosts
from deploy.hosts.ssh.connect import Connections

listener = socket.create_server(("127.0.0.1", 0), backlog=0)
address, port = listener.getsockname()
full = [socket.socket() for _ in range(3)]
for each in full:
    each.setblocking(False)
    each.connect_ex((address, port))
hosts = [Host.model_construct(None, name=f"web{n}", roles=("web",), address=address, port=port) for n in range(30)]
with Connections(known_hosts.parse("", "x")) as connections:
    if sys.argv[1] == "begin":
        connections.begin(hosts)
        time.sleep(1)
        print("connecting", flush=True)
        sys.exit("the code cannot be packed")
    print("connecting", flush=True)
    connections.on_all(hosts, lambda _: None)
"""


def parsed() -> Environment:
    return file.parse(FILE, "x", ROOT)


def host(name: str = "web1") -> Host:
    return next(each for each in parsed().hosts if each.name == name)


def a_connection(name: str) -> Connection:
    return Connections(known_hosts.parse("", "x")).to(host(name))


# --- The end of a command ---


@pytest.mark.parametrize("how", ["begin", "on_all"])
def test_a_command_that_ends_while_it_connects_waits_for_no_host(how: str) -> None:
    client = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", CLIENT, how],
        cwd=ROOT,
        env=users_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout
        assert client.stdout.readline() == "connecting\n"
        if how == "on_all":
            time.sleep(1)
            client.send_signal(signal.SIGINT)
        begin = time.monotonic()
        said = client.communicate(timeout=60)[1]
        assert client.returncode, said
        assert time.monotonic() - begin < hop.ANSWER_SECONDS / 2, said
        assert "Fatal" not in said
    finally:
        client.kill()


def test_what_is_added_while_connections_are_closed_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    adding, go_on = threading.Event(), threading.Event()

    def hop(_: Connections, label: str, *_more: object) -> Hop:
        adding.set()
        assert go_on.wait(10)
        client = SimpleNamespace(close=lambda: closed.append(label))
        return Hop(label, known_hosts.parse("", "x"), SimpleNamespace(client=client))

    monkeypatch.setattr(Connections, "_hop", hop)
    connections = Connections(known_hosts.parse("", "x"))
    thread = threading.Thread(target=connections.to, args=(host(),))
    thread.start()
    assert adding.wait(10)
    closing = threading.Thread(target=connections.close)
    closing.start()
    closing.join(0.2)
    go_on.set()
    thread.join(10)
    closing.join(10)
    assert closed == ["web1"]
    with pytest.raises(Failure, match="web2: the command was stopped"):
        connections.to(host("web2"))


def test_so_many_tasks_are_done_at_a_time_and_each_has_its_outcome() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.05)
        with lock:
            now -= 1
        if number == 3:
            raise ValueError("three")
        return number

    def task(number: int) -> Callable[[], int]:
        return lambda: work(number)

    futures = background.start([task(number) for number in range(7)], 2)
    assert [each.result(10) for each in futures if each is not futures[3]] == [0, 1, 2, 4, 5, 6]
    with pytest.raises(ValueError, match="three"):
        futures[3].result(10)
    assert most == 2
    assert background.start([], 2) == []


# --- Hosts of a release ---


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Four hosts that have started, and then stop answering."""
    over = threading.Event()

    def run(*_: object, **_more: object) -> Result:
        over.wait(60)
        return Result(1, b"", b"over")

    monkeypatch.setattr(fleet, "run_script", run)
    monkeypatch.setattr(fleet, "FLIP_SECONDS", 0.5)
    monkeypatch.setattr(fleet, "BACK_SECONDS", 0.5)
    made = Fleet(View(NAMES))
    for name in NAMES:
        made.join(a_connection(name), "")
    yield made
    over.set()


def test_all_hosts_together_have_the_time_to_put_themselves_back(
    silent: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()
    with pytest.raises(Failure, match="no more"), silent:
        raise Failure("no more")
    assert time.monotonic() - begin < 1.5
    said = capsys.readouterr().err
    for name in NAMES:
        assert f"{name}: does not answer within " in said


def test_all_hosts_that_no_longer_hold_are_named_after_one_wait(silent: Fleet) -> None:
    begin = time.monotonic()
    with pytest.raises(Failure) as raised:
        silent.hold()
    assert time.monotonic() - begin < 1.5
    assert [line.split(":")[0] for line in raised.value.message.splitlines()] == list(NAMES)


# --- Questions ---


def test_all_hosts_are_asked_for_their_keys_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(len(NAMES))

    def look(hop: Hop) -> pinning.Shown:
        together.wait(10)
        raise Failure(f"{hop.label}: nothing answers")

    monkeypatch.setattr(pinning, "look", look)
    with pytest.raises(Failure) as raised:
        pinning.pin(parsed(), (), print, confirmed=True).do()
    assert raised.value.message.splitlines() == [f"{name}: nothing answers" for name in NAMES]


def test_all_hosts_are_asked_for_their_logs_at_once_and_one_that_fails_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    together = threading.Barrier(len(NAMES))

    def run(connection: Connection, *_: object, **_more: object) -> Result:
        together.wait(10)
        if connection.name == "web2":
            raise Failure("web2: the connection was lost")
        return Result(0, b"".join(line(connection.name, number) for number in (2, 1)), b"")

    def line(name: str, number: int) -> bytes:
        moment = number * 1_000_000_000 + NAMES.index(name)
        said = {"__CURSOR": f"{name}{number}", "__REALTIME_TIMESTAMP": str(moment), "MESSAGE": f"{name}-{number}"}
        return json.dumps({**said, "_SYSTEMD_UNIT": "shop-web@20260101-120000-abcdef1.service"}).encode() + b"\n"

    values = {"name": "portico", "site": "site", "port": "8000", "samples": "", "run": ".run"}
    project = config.load(ROOT, {**values, "probes": "/", "free_gigabytes": "3"})
    monkeypatch.setattr(Connection, "open", lambda self: self)
    monkeypatch.setattr(logs, "run_script", run)
    with pytest.raises(Failure, match="web2: the connection was lost"):
        operate.Hosts(phases.choose(project, parsed()), print).logs("web", wanted(100)).do()
    lines = capsys.readouterr().out.splitlines()
    order = [f"{name}-{number}" for number in (1, 2) for name in ("web1", "web3", "web4")]
    assert [each.rpartition(" | ")[2] for each in lines] == order, "the first lines of all, then the second ones"
