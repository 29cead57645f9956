"""A deploy to fifty hosts, which one process plays: what the client needs grows with the hosts, and stays small."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.machines import ENVIRONMENT, Fleet, Rack, write_environment
from tests.support import ROOT, TOOLS, environment

HOSTS = 50
#: Of the client: a connection's own, its lock's, and those of the two scripts that a host may run at a time.
THREADS_PER_HOST = 6
MEGABYTES = 200


@pytest.fixture
def fifty(tmp_path: Path) -> Iterator[Fleet]:
    """A project with fifty hosts whose keys are pinned."""
    rack = Rack(tmp_path / "rack")
    rack.folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(rack.identity)], check=True)
    words = [sys.executable, "-m", "tests.rig.played", str(HOSTS), rack.identity.with_suffix(".pub").read_text()]
    played = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert played.stdout
    try:
        ports = [int(played.stdout.readline()) for _ in range(HOSTS)]
        fleet = Played(tmp_path / "project", rack, {}, ports=ports)
        fleet.prepare()
        yield fleet
    finally:
        played.kill()
        played.wait(10)


class Played(Fleet):
    """Hosts on ports of this machine."""

    def __init__(self, project: Path, rack: Rack, roles: dict[str, tuple[str, ...]], *, ports: list[int]) -> None:
        super().__init__(project, rack, roles)
        self.ports = ports

    def configure(self, **more: object) -> None:
        hosts = {
            f"host{number}": {
                "address": "127.0.0.1",
                "port": port,
                "private_address": f"10.0.0.{number + 1}",
                "roles": ["web"] if number else ["worker", "beat"],
            }
            for number, port in enumerate(self.ports)
        }
        servers = {"database": "env:PLAYED_DATABASE", "broker": "env:PLAYED_BROKER"}
        write_environment(self.project, hosts, identity=str(self.rack.identity), services=servers, **more)


def test_a_deploy_to_fifty_hosts_needs_few_threads_and_little_memory(fifty: Fleet) -> None:
    words = ["python3", str(fifty.project / "tasks.py"), "remote-deploy", "--env", ENVIRONMENT]
    urls = {"PLAYED_DATABASE": "postgres://a:b@db.test:5432/a", "PLAYED_BROKER": "amqps://a:b@mq.test:5671/a"}
    env = {**environment(**fifty.environment()), **urls, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    began = time.monotonic()
    client = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    most = dict.fromkeys(("Threads", "VmHWM"), 0)
    watcher = threading.Thread(target=watch, args=(client.pid, most))
    watcher.start()
    assert client.stdout
    said = client.stdout.read()
    _, status, used = os.wait4(client.pid, 0)
    client.returncode = os.waitstatus_to_exitcode(status)
    watcher.join(10)
    seconds, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
    print(
        f"{HOSTS} hosts: {seconds:.1f} s, {cpu / HOSTS * 1000:.0f} ms of the client's processor for each,"
        f" {most['Threads']} threads, {most['VmHWM'] / 1000:.0f} MB"
    )
    assert client.returncode == 0, said
    assert f"host{HOSTS - 1}: serves" in said
    assert most["Threads"] <= THREADS_PER_HOST * HOSTS
    assert most["VmHWM"] / 1000 <= MEGABYTES


def watch(pid: int, most: dict[str, int]) -> None:
    """Keep the highest of these facts of a process, until it has ended."""
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        if any(line.startswith("State:\tZ") for line in lines):
            return
        for line in lines:
            key, _, value = line.partition(":")
            if key in most:
                most[key] = max(most[key], int(value.split()[0]))
        time.sleep(0.05)
