"""SSH: hosts without a pinned key are refused, nothing blocks, nothing is left behind."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment import file, model
from deploy.hosts.ssh import known_hosts, pinning
from deploy.hosts.ssh.channel import LIMIT_SECONDS, Result, hold_lock, run_script, script
from deploy.hosts.ssh.connect import Connection, Connections, connect
from deploy.hosts.ssh.known_hosts import KnownHosts
from tests.hosts.server import ENVIRONMENT, Server, make_key, needs_sshd, public, trusting
from tests.rig.ports import free_port
from tests.support import ROOT, processes_of, wait_until

pytestmark = needs_sshd


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tester's keys, SSH configuration and agent."""
    (tmp_path / "home/.ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("client") / "id")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("ssh") / "server", key) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path, key: Path) -> Iterator[Server]:
    """A server with its own log."""
    with Server(tmp_path / "fresh", key) as running:
        yield running


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with Connections(trusting(server)) as connections:
        yield connections.to(server.host()).open()


def refusal(server: Server, known: KnownHosts, **host: object) -> str:
    """The line with which a connection is refused."""
    with pytest.raises(Failure) as raised:
        connect(server.host(**host), known)
    assert "\n" not in raised.value.message
    return raised.value.message


def nobody_logged_in(server: Server) -> bool:
    """Whether the server has seen the connection, but no login attempt."""
    wait_until(lambda: "Connection from" in server.log, 5, "the server saw us")
    time.sleep(0.3)
    return not any(word in server.log for word in ("Accepted", "Failed", "publickey", "authenticating user"))


# --- Host keys ---


def test_an_unknown_key_is_refused_before_any_login(fresh: Server) -> None:
    said = refusal(fresh, trusting())
    assert said == f"web1: its host key is not known yet: run `invoke remote-trust --env {ENVIRONMENT}`"
    assert nobody_logged_in(fresh)


def test_a_changed_key_is_refused_before_any_login(fresh: Server, tmp_path: Path) -> None:
    other = public(make_key(tmp_path / "other"))
    said = refusal(fresh, trusting().with_key(fresh.name, other))
    assert fresh.key.fingerprint in said
    assert said.endswith("find out why before anything else; nothing was sent")
    assert nobody_logged_in(fresh)


def test_a_key_of_another_kind_than_the_pinned_is_a_changed_one(fresh: Server, tmp_path: Path) -> None:
    other = public(make_key(tmp_path / "other", "ecdsa"))
    assert "find out why" in refusal(fresh, trusting().with_key(fresh.name, other))
    assert nobody_logged_in(fresh)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_the_kind_that_is_pinned_is_asked_for(tmp_path: Path, key: Path, kind: str) -> None:
    with Server(tmp_path / "all", key, kinds=("rsa", "ecdsa", "ed25519")) as server:
        known = trusting().with_key(server.name, public(server.folder / f"host_{kind}"))
        with Connections(known) as connections:
            assert run_script(connections.to(server.host()), "echo yes").text == "yes\n"
            assert pinning.look(connections.way(server.host())[0]).verdict == "same"


def test_what_the_user_trusts_elsewhere_does_not_count(fresh: Server, tmp_path: Path) -> None:
    line = f"{fresh.name} {fresh.key.kind} {fresh.key.text}\n"
    (tmp_path / "home/.ssh/known_hosts").write_text(line)
    (tmp_path / "home/.ssh/config").write_text("Host *\n  StrictHostKeyChecking no\n")
    assert "not known yet" in refusal(fresh, trusting())
    assert nobody_logged_in(fresh)


# --- Logging in ---


def test_a_wrong_client_key_is_one_line_with_the_user(server: Server, tmp_path: Path) -> None:
    for kind in ("ed25519", "rsa"):
        said = refusal(server, trusting(server), identity=make_key(tmp_path / kind, kind))
        assert said.startswith("web1: rejects all of your keys for root: `ssh-add -l`")
        assert "; `invoke remote-setup --env " in said


def test_without_any_key_the_line_is_the_same(server: Server) -> None:
    assert "rejects all of your keys for root" in refusal(server, trusting(server), identity=None)


@pytest.mark.parametrize("where", ["identity", "home"])
def test_a_key_with_a_passphrase_asks_for_ssh_add(server: Server, tmp_path: Path, where: str) -> None:
    locked = make_key(tmp_path / "home/.ssh/id_ed25519", passphrase="secret")
    said = refusal(server, trusting(server), identity=locked if where == "identity" else None)
    assert "has a passphrase" in said
    assert "`ssh-add" in said


def test_an_agent_and_the_configuration_of_the_user_are_asked(server: Server, tmp_path: Path, key: Path) -> None:
    (tmp_path / "home/.ssh/config").write_text(f"Host 127.0.0.1\n  IdentityFile {key}\n")
    connect(server.host(identity=None), trusting(server)).close()
    (tmp_path / "home/.ssh/config").unlink()
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, 5, "the agent is there")
        os.environ["SSH_AUTH_SOCK"] = str(socket)  # the fixture restores it
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        connect(server.host(identity=None), trusting(server)).close()
    finally:
        os.environ.pop("SSH_AUTH_SOCK", None)
        agent.terminate()
        agent.wait()


def test_what_openssh_understands_of_the_configuration_holds_here_too(
    server: Server, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Include` and `IdentityAgent`, which paramiko does not know; the usual agent does not have the key."""
    there = tmp_path / "own agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(there)], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_until(there.exists, 5, "the agent is there")
            subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(there)})
            more = tmp_path / "home/.ssh/more"
            (tmp_path / "home/.ssh/config").write_text(f"Include {more}\n")
            more.write_text(f'Host 127.0.0.1\n  IdentityAgent "{there}"\n')
            connect(server.host(identity=None), trusting(server)).close()
            more.write_text("Host 127.0.0.1\n  IdentityAgent none\n")
            monkeypatch.setenv("SSH_AUTH_SOCK", str(there))
            assert "rejects all of your keys" in refusal(server, trusting(server), identity=None)
            more.write_text("Host 127.0.0.1\n  Nonsense yes\n")
            assert "configuration option: nonsense; fix it" in refusal(server, trusting(server), identity=None)
        finally:
            agent.terminate()


def test_an_address_where_nothing_answers_is_one_line(server: Server) -> None:
    port = free_port()
    assert f"no SSH at 127.0.0.1:{port} (Connection refused)" in refusal(server, trusting(), port=port)


def test_a_name_that_is_unknown_is_one_line(server: Server) -> None:
    assert "check its address" in refusal(server, trusting(), address="nowhere.invalid")


@pytest.mark.parametrize("name", ["a b", "x;touch pwned", "$(touch pwned)", "-oProxyCommand=touch", "a\nb", "a,b", ""])
def test_an_odd_address_is_refused_by_itself(server: Server, name: str, tmp_path: Path, monkeypatch: object) -> None:
    assert "is not the address of a host" in refusal(server, trusting(), address=name)
    assert not list(tmp_path.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


# --- Jump hosts ---


def test_a_chain_of_jump_hosts_leads_to_the_host(tmp_path: Path, key: Path, server: Server, fresh: Server) -> None:
    with Server(tmp_path / "second", key) as second, Connections(trusting(server, fresh, second)) as connections:
        host = server.host(jump=(fresh.jump, second.jump))
        assert run_script(connections.to(host), "echo there").text == "there\n"
        assert "Accepted publickey" in fresh.log
        assert "Accepted publickey" in second.log


def test_jump_hosts_are_shared_by_the_hosts_behind_them(server: Server, fresh: Server) -> None:
    hosts = [server.host(f"web{number}", jump=(fresh.jump,)) for number in range(4)]
    with Connections(trusting(server, fresh)) as connections:
        found = connections.on_all(hosts, lambda connection: run_script(connection, "echo hi").text)
    assert set(found.values()) == {"hi\n"}
    assert fresh.log.count("Accepted publickey") == 1


def test_an_untrusted_jump_host_is_named_and_refused(server: Server, fresh: Server) -> None:
    said = refusal(server, trusting(server), jump=(fresh.jump,))
    assert said.startswith(f"web1: jump host root@127.0.0.1:{fresh.port}: its host key is not known yet")
    assert nobody_logged_in(fresh)


def test_a_jump_host_of_the_users_configuration_is_checked_too(server: Server, fresh: Server, tmp_path: Path) -> None:
    jump = f"root@localhost:{fresh.port}"
    (tmp_path / "home/.ssh/config").write_text(f"Host inner\n  ProxyJump {jump}\n  HostName 127.0.0.1\n")
    known = trusting().with_key(f"[inner]:{server.port}", server.key)
    said = refusal(server, known, address="inner")
    assert said.startswith(f"web1: jump host {jump} of ~/.ssh/config: its host key is not known yet")
    assert nobody_logged_in(fresh)
    known = known.with_key(f"[localhost]:{fresh.port}", fresh.key)
    (tmp_path / "home/.ssh/config").open("a").write(f"Host *\n  IdentityFile {server.client_key}\n")
    connect(server.host(address="inner"), known).close()
    assert "Accepted publickey" in fresh.log


def test_a_host_that_its_jump_host_does_not_reach_names_both(server: Server, fresh: Server) -> None:
    said = refusal(server, trusting(fresh), port=free_port(), jump=(fresh.jump,))
    assert said.startswith(f"web1: jump host root@127.0.0.1:{fresh.port} cannot reach 127.0.0.1:")


# --- Scripts ---


def test_much_goes_in_and_out_at_once_and_arrives_whole(connection: Connection) -> None:
    data = os.urandom(20 << 20)
    begin = time.monotonic()
    result = run_script(
        connection, "tee /dev/stderr | cat", (data[at : at + 99999] for at in range(0, len(data), 99999))
    )
    print(f"20 MB in, 40 MB out: {time.monotonic() - begin:.1f} s")
    assert result.code == 0
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert hashlib.sha256(result.stderr).digest() == hashlib.sha256(data).digest()


def test_a_script_that_reads_nothing_ends_all_the_same(connection: Connection) -> None:
    assert run_script(connection, "exit 3", bytes(20 << 20)).code == 3


@pytest.mark.parametrize("code", [0, 1, 7, 124, 255])
def test_a_scripts_exit_code_is_ours(connection: Connection, code: int) -> None:
    assert run_script(connection, f"echo out\necho bad >&2\nexit {code}") == Result(code, b"out\n", b"bad\n")


def test_a_long_script_with_every_kind_of_quote_is_run_as_it_is(connection: Connection) -> None:
    text = (
        "#!/bin/sh\nset -eu\ncat <<'EOF'\n'\"`$x`\\\\ ä\nEOF\n" + ": 'a comment'\n" * 20000 + "printf '%s' \"$(cat)\"\n"
    )
    assert run_script(connection, text, b"in \\n").text == "'\"`$x`\\\\ ä\nin \\n"


def test_lines_come_while_the_script_runs(connection: Connection) -> None:
    seen: list[tuple[str, float]] = []
    run_script(
        connection, "echo eins; sleep 1; printf 'zw\\303\\266lf'", line=lambda x: seen.append((x, time.monotonic()))
    )
    assert [line for line, _ in seen] == ["eins", "zwölf"]
    assert seen[1][1] - seen[0][1] > 0.5


def test_neither_script_nor_input_is_in_an_argument_list_or_environment(connection: Connection) -> None:
    secret, word = f"s3cret-{os.urandom(8).hex()}", f"w0rd-{os.urandom(8).hex()}"
    found: list[str] = []
    saw: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            found.extend([*processes_of(secret).values(), *processes_of(word).values()])
            saw.update(line for line in processes_of("/dev/fd/9").values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = run_script(connection, f"x={word}\nread -r y\nsleep 1\necho $x $y", f"{secret}\n".encode())
    over.set()
    watcher.join()
    assert result.text == f"{word} {secret}\n"
    assert any("timeout" in line for line in saw), "the watch saw nothing"
    assert not found


def test_a_script_that_takes_too_long_is_ended_with_all_it_started(connection: Connection) -> None:
    with pytest.raises(Failure, match="web1: a script was not done within 1 s and was stopped"):
        run_script(connection, "sleep 4321 & sleep 4322", seconds=1)
    wait_until(lambda: not processes_of("sleep 432"), 3, "nothing is left")


def test_what_a_script_leaves_running_does_not_hold_us_for_ever(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.hosts.ssh.channel.GRACE_SECONDS", 1)
    with pytest.raises(Failure, match="left something running"):
        run_script(connection, "setsid sleep 20 & exit 0", seconds=5)


def test_a_source_that_breaks_ends_the_script(server: Server) -> None:
    def source() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("git archive failed")

    with Connections(trusting(server)) as connections:
        with pytest.raises(RuntimeError, match="git archive failed"):
            run_script(connections.to(server.host()), "cat; sleep 5432", source())
        wait_until(lambda: not processes_of("sleep 5432"), 8, "the script is ended")
        assert run_script(connections.to(server.host()), "echo again").text == "again\n"


# --- Shells that wait ---


def test_shells_that_wait_are_the_ones_that_are_used(fresh: Server) -> None:
    with Connections(trusting(fresh), ahead=3).begin([fresh.host()]) as connections:
        connections.opened()
        for number in range(3):
            assert run_script(connections.to(fresh.host()), f"echo {number}").text == f"{number}\n"
    wait_until(lambda: fresh.log.count("Starting session") == 3, 5, "three sessions")


def test_a_host_that_allows_fewer_sessions_is_worked_on_all_the_same(tmp_path: Path, key: Path) -> None:
    with Server(tmp_path / "few", key, "MaxSessions 3") as server, Connections(trusting(server), ahead=5) as found:
        for number in range(6):
            assert run_script(found.to(server.host()), f"echo {number}").text == f"{number}\n"


@pytest.mark.parametrize("number", [1, 2])
def test_a_deploy_s_lock_and_its_scripts_need_no_more_sessions_than_a_host_allows(
    tmp_path: Path, key: Path, number: int
) -> None:
    with (
        Server(tmp_path / "one", key, f"MaxSessions {number}") as server,
        Connections(trusting(server), ahead=5) as found,
        hold_lock(found.to(server.host()), str(tmp_path / "lock"), "me") as lock,
    ):
        for word in ("one", "two", "three"):
            assert run_script(found.to(server.host()), f"echo {word}").text == f"{word}\n"
        lock.check()
        assert server.log.count("Accepted publickey") <= 2


def test_hosts_that_cannot_be_reached_are_all_named_before_anything_is_done(server: Server) -> None:
    gone = [server.host(name, port=free_port()) for name in ("web2", "web3")]
    hosts = [server.host(), *gone]
    with Connections(trusting(server), ahead=1).begin(hosts) as connections, pytest.raises(Failure) as raised:
        connections.opened()
    assert [line.split(":")[0] for line in raised.value.message.splitlines()] == ["web2", "web3"]


#: In the command lines of the shell that gets a script, and of the one that watches it.
FRAME, WATCHER = 'printf %s "$frame"', 'kill -s TERM -- "-$2"'


def client(do: str, server: Server, folder: Path, *words: str) -> "subprocess.Popen[str]":
    known = folder / "known"
    known.write_text(trusting(server).text)
    # A shell that starts this in the background ignores Ctrl-C, and children inherit that.
    program = ["env", "--default-signal=INT", sys.executable, "-m", "tests.hosts.client"]
    command = [*program, do, str(server.port), str(server.client_key), str(known)]
    return subprocess.Popen([*command, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_script_ends_within_seconds_of_its_client(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "script").write_text("trap '' HUP PIPE\nsleep 9753\necho not reached\n")
    with client("run", server, tmp_path, str(tmp_path / "script")) as process:
        wait_until(lambda: bool(processes_of("sleep 9753")), 20, "the script runs")
        process.send_signal(number)
        begin = time.monotonic()
        wait_until(lambda: not processes_of("sleep 9753"), 8, "the script is ended")
        print(f"ended {time.monotonic() - begin:.1f} s after {number.name}")
    wait_until(lambda: not {**processes_of(WATCHER), **processes_of(FRAME)}, 8, "nothing of ours is left")


def test_a_script_that_ignores_its_end_is_killed_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = script("frame.sh").replace("seq 120", "seq 2")
    monkeypatch.setattr("deploy.hosts.ssh.channel._frame", lambda: base64.b64encode(frame.encode()))
    with ThreadPoolExecutor(1) as pool:
        with Connections(trusting(server)) as connections:
            connection = connections.to(server.host()).open()
            pool.submit(run_script, connection, "trap '' TERM HUP PIPE; sleep 9754")
            wait_until(lambda: bool(processes_of("sleep 9754")), 20, "the script runs")
        wait_until(lambda: not processes_of("sleep 9754"), 10, "it is killed")
    wait_until(lambda: not {**processes_of(WATCHER), **processes_of(FRAME)}, 4, "nothing of ours is left")


def test_a_script_whose_client_dies_while_it_begins_is_ended(tmp_path: Path) -> None:
    """The session's process is killed while the frame reads the script, before anything watches."""
    (tmp_path / "frame.sh").write_text(script("frame.sh"))
    (tmp_path / "base64").write_text('#!/bin/sh\nsleep 1\nexec /usr/bin/base64 "$@"\n')
    (tmp_path / "base64").chmod(0o755)
    begun = tmp_path / "begun"
    asked = base64.b64encode(f"echo >{begun}; sleep 9756".encode()).decode()
    session = subprocess.Popen(
        ["sh", "-c", 'sh "$0"; :', str(tmp_path / "frame.sh")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdin
    assert session.stdout
    session.stdin.write(f"600\n-\n{asked}\n")
    session.stdin.flush()
    assert session.stdout.readline() == "portico: begin\n"
    session.kill()
    session.wait()
    wait_until(lambda: begun.exists() or not processes_of(str(tmp_path)), 10, "it has begun, or will not")
    wait_until(lambda: not processes_of("sleep 9756"), 8, "it is ended")


# --- Locks ---


def test_who_comes_second_is_told_who_holds_the_lock_and_kill_9_frees_it(
    server: Server, connection: Connection, tmp_path: Path
) -> None:
    path = str(tmp_path / "a lock 'with' $odd name")
    with client("lock", server, tmp_path, path, "alice@laptop since 19:40\x1b[31m") as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(Failure, match=r"web1: busy: alice@laptop since 19:40 \[31m;"),
            hold_lock(connection, path, "bob"),
        ):
            pytest.fail("two hold it")
        process.kill()
        begin = time.monotonic()
        free = False
        while not free and time.monotonic() - begin < 5:
            try:
                with hold_lock(connection, path, "bob") as lock:
                    free = True
                    lock.check()
            except Failure:
                time.sleep(0.05)
        print(f"free {time.monotonic() - begin:.2f} s after kill -9")
        assert free


def test_a_lock_is_free_when_its_context_is_left(connection: Connection, tmp_path: Path) -> None:
    for _ in range(3):
        with hold_lock(connection, str(tmp_path / "lock"), "me") as lock:
            lock.check()
    assert Path(tmp_path / "lock").read_text() == ""


def test_a_lock_whose_connection_is_lost_says_so(connection: Connection, tmp_path: Path) -> None:
    with hold_lock(connection, str(tmp_path / "lock"), "me") as lock:
        connection.close()
        with pytest.raises(Failure, match="the lock was lost"):
            lock.check()


def test_a_lock_that_cannot_be_made_says_why(connection: Connection) -> None:
    with pytest.raises(Failure, match=r"cannot take the lock .*nowhere"), hold_lock(connection, "/nowhere/lock", "me"):
        pytest.fail("it is held")


# --- Many hosts ---


def test_one_host_that_fails_does_not_stop_the_others(server: Server, fresh: Server) -> None:
    hosts = [
        server.host("web1"),
        fresh.host("web2"),
        server.host("web3", port=free_port()),
        server.host("web4", address="x;y"),
        server.host("web5"),
    ]

    def work(connection: Connection) -> str:
        if connection.name == "web5":
            raise Failure("web5: the check failed")
        return run_script(connection, "echo done").text

    with Connections(trusting(server)) as connections:
        found = connections.on_all(hosts, work)
    said = {name: each.message if isinstance(each, Failure) else each for name, each in found.items()}
    assert list(said) == ["web1", "web2", "web3", "web4", "web5"]
    assert said["web1"] == "done\n"
    assert "not known yet" in said["web2"]
    assert "no SSH at" in said["web3"]
    assert "is not the address of a host" in said["web4"]
    assert said["web5"] == "web5: the check failed"


def test_so_many_hosts_are_worked_on_at_a_time(server: Server) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def work(_: Connection) -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.3)
        with lock:
            now -= 1

    with Connections(trusting(server)) as connections:
        connections.on_all([server.host(f"web{number}") for number in range(7)], work, limit=3)
    assert most == 3


# --- remote-trust ---

FILE = """
domain: example.org
hosts:
  web1: {{address: 127.0.0.1, port: {port}, roles: [web, worker, beat]{jump}}}
user: root
identity: {key}
services: {{database: "env:D", broker: "env:B"}}
secrets: {{SECRET_KEY: "env:S"}}
"""


def described(server: Server, root: Path, jump: str = "") -> model.Environment:
    (root / known_hosts.FOLDER).mkdir(parents=True, exist_ok=True)
    jump = f", jump: '{jump}'" if jump else ""
    return file.parse(FILE.format(port=server.port, key=server.client_key, jump=jump), ENVIRONMENT, root)


def test_new_keys_are_shown_and_pinned_jump_hosts_first(
    server: Server, fresh: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = described(server, tmp_path, f"root@127.0.0.1:{fresh.port}")
    said: list[str] = []
    pinning.pin(there, (), said.append, confirmed=True).do()
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        f"jump host root@127.0.0.1:{fresh.port}  {fresh.name}  ssh-ed25519  {fresh.key.fingerprint}  new",
        f"web1  {server.name}  ssh-ed25519  {server.key.fingerprint}  new",
    ]
    known = pinning.load(tmp_path, ENVIRONMENT)
    assert run_script(connect(there.hosts[0], known), "echo yes").text == "yes\n"
    listed = subprocess.run(["ssh-keygen", "-lf", str(server.keys[0])], capture_output=True, text=True, check=True)
    assert server.key.fingerprint in listed.stdout
    pinning.pin(there, (), said.append).do()
    assert all(line.endswith("  same") for line in capsys.readouterr().out.splitlines())
    assert len(said) == 2


def test_nothing_is_pinned_when_nobody_confirms_or_in_a_dry_run(server: Server, tmp_path: Path) -> None:
    there = described(server, tmp_path)
    with pytest.raises(Failure, match="add --yes"):
        pinning.pin(there, (), print).do()
    pinning.pin(there, (), print).show()
    assert not (tmp_path / known_hosts.source(ENVIRONMENT)).exists()


def test_a_changed_key_is_replaced_only_when_its_host_is_named(server: Server, tmp_path: Path) -> None:
    there = described(server, tmp_path)
    path = tmp_path / known_hosts.source(ENVIRONMENT)
    other = public(make_key(tmp_path / "other"))
    before = f"# ours\n{server.name} {other.kind} {other.text}\nelsewhere {other.kind} {other.text} # kept\n"
    path.write_text(before)
    with pytest.raises(Failure, match="find out why before anything else"):
        pinning.pin(there, (), print, confirmed=True).do()
    with pytest.raises(Failure):
        pinning.pin(there, ("elsewhere",), print, confirmed=True).do()
    assert path.read_text() == before
    pinning.pin(there, ("web1",), print, confirmed=True).do()
    after = path.read_text().splitlines()
    assert after[:2] == [before.splitlines()[0], before.splitlines()[2]]
    assert pinning.load(tmp_path, ENVIRONMENT).keys(server.name) == (server.key,)


def test_a_line_of_the_file_that_is_not_understood_is_refused(server: Server) -> None:
    good = f"{server.key.kind} {server.key.text}"
    for line in (f"@revoked x {good}", "x ssh-dss AAAA", f"*.example.org {good}", f"x {server.key.kind} AAAA", "x y"):
        with pytest.raises(Failure, match=r"production\.known_hosts:2: "):
            known_hosts.parse(f"# keys\n{line}\n", ENVIRONMENT)


def test_a_hashed_name_is_found(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text(trusting(server).text)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    assert server.name not in path.read_text()
    hashed = known_hosts.parse(path.read_text(), ENVIRONMENT)
    assert hashed.keys(server.name) == (server.key,)
    assert len(hashed.with_key(server.name, server.key).entries) == 1


def test_a_script_over_a_warm_connection_takes_little(connection: Connection) -> None:
    begin = time.monotonic()
    for _ in range(20):
        assert run_script(connection, "true", seconds=LIMIT_SECONDS).code == 0
    print(f"a script: {(time.monotonic() - begin) / 20:.3f} s")
    assert time.monotonic() - begin < 20
