"""A deploy over 50 ms of round-trip time, beside a plain Fabric script and an Ansible playbook of the same steps.

Needs an engine with the rig's images (`tests/rig/up`). The rivals get our layout, units and helper, and do on the host
what we do: what is compared is the way there. What the site itself takes to boot is measured apart, on the host.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.figures import Figures, shown
from tests.hosts.release import append
from tests.rig.machines import Fleet, Machine, Rack, write_environment
from tests.rig.ports import free_port
from tests.support import TOOLS

#: Seconds of round-trip time, half of it each way.
ROUND_TRIP = 0.05
RUNS = 5
EVERYTHING = ("web", "worker", "beat", "database", "broker")
ANSIBLE = "ansible-core>=2.17,<2.20"


# --- A long way ---


class Proxy:
    """A TCP proxy on 127.0.0.1 that hands everything on half a round trip later, however much it is."""

    def __init__(self, address: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.to = (address, port)
        self.port = free_port()
        asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", self.port), loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(ROUND_TRIP)  # TCP's own handshake
        there, back = await asyncio.open_connection(*self.to)
        await asyncio.gather(self._hand_on(reader, back), self._hand_on(there, writer))

    @staticmethod
    async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, pending = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def write() -> None:
            while True:
                due, data = await pending.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        writing = asyncio.create_task(write())
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                pending.put_nowait((loop.time() + ROUND_TRIP / 2, data))
        pending.put_nowait((loop.time() + ROUND_TRIP / 2, b""))
        with suppress(OSError):
            await writing


@dataclass
class FarFleet(Fleet):
    """A fleet that is reached over proxies once they are there."""

    proxies: dict[str, Proxy] = field(default_factory=dict)

    def configure(self, **more: object) -> None:
        self.more |= more
        hosts = {
            name: {
                **self._way(name),
                "private_address": self[name].address,
                "roles": roles,
            }
            for name, roles in self.roles.items()
        }
        write_environment(self.project, hosts, identity=str(self.rack.identity), **self.more)

    def _way(self, name: str) -> dict[str, object]:
        if name in self.proxies:
            return {"address": "127.0.0.1", "port": self.proxies[name].port}
        return {"address": self[name].address}

    def go_far(self) -> None:
        """Put the proxies before all hosts."""
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        self.proxies = {name: Proxy(self[name].address, 22, loop) for name in self.roles}
        self.configure()
        self.must("remote-trust", "--yes")
        self.commit("far away")


@contextmanager
def fleet(folder: Path, roles: Mapping[str, tuple[str, ...]]) -> Iterator[FarFleet]:
    rack = Rack(folder / "rack")
    rack.start(dict.fromkeys(roles, 13))
    try:
        made = FarFleet(folder / "project", rack, dict(roles))
        made.prepare()
        made.must("remote-setup", "--yes")
        made.must("remote-deploy")
        made.must("remote-manage", "--", "load_sample_polls")
        made.go_far()
        yield made
    finally:
        rack.down()


def change(made: Fleet) -> str:
    append(made, "site/polls/static/polls/style.css", f"\n.x{time.time_ns()} {{ color: red }}\n")
    return made.commit("a change")


# --- What the site itself takes ---


def own_seconds(machine: Machine, release: str) -> float:
    """Seconds of the site's own commands of a deploy, run on the host one after the other as a deploy does."""
    there = f"/srv/portico-test/releases/{release}"
    own = f"set -a; . {there}/env; export DATABASE_URL=postgres://nowhere CELERY_BROKER_URL=memory://"
    collect = f"{own} STATIC_ROOT=/tmp/collected PUBLISHED_STATIC=/srv/portico-test/static"
    step = f"PYTHONPATH={there}/deploy/kit exec ../venv/bin/python -m portico_site.release collect publish"
    script = f"runuser -u deploy -- sh -c 'cd {there}/site; {collect}; {step}'"
    took = timed(lambda: machine.sh(script))
    machine.sh("rm -rf /tmp/collected")
    took += timed(lambda: machine.sh(f"systemctl start portico-test-release@{release}"))
    for kind in ("worker", "beat", "web"):
        machine.sh(f"systemctl stop portico-test-{kind}@{release}")
    took += timed(lambda: machine.sh(f"systemctl start portico-test-worker@{release} portico-test-web@{release}"))
    asked = " ".join(f"http://localhost{path}" for path in ("/readyz", "/"))
    socket = f"/run/portico-test/web-{release}/sock"
    ask = f"curl -s -o /dev/null -o /dev/null -H 'Host: portico.test' --unix-socket {socket}"
    took += timed(lambda: machine.sh(f"{ask} {asked}"))
    return took + timed(lambda: machine.sh(f"systemctl start portico-test-beat@{release}"))


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


# --- The rivals: the same steps ---


def steps(commit: str, release: str, old: str) -> list[str]:
    """What a deploy does on a host, a command for each step. `@ARCHIVE` and `@ENV` are files that are there by then."""
    srv, helper = "/srv/portico-test", "sudo -n /usr/local/sbin/portico-test-helper"
    there, socket = f"{srv}/releases/{release}", f"/run/portico-test/web-{release}/sock"
    own = f"set -a; . {there}/env; export DATABASE_URL=postgres://nowhere CELERY_BROKER_URL=memory://"
    own += f" STATIC_ROOT={there}/static PUBLISHED_STATIC={srv}/static"
    probe, kit = "curl -sf -o /dev/null -H 'Host: portico.test'", f"PYTHONPATH={there}/deploy/kit"
    return [
        f"mkdir {srv}/state/rival-lock",
        f"readlink {srv}/state/current",
        f"df -Pk {srv}/releases",
        f"ls {srv}/releases",
        f"mkdir {there}",
        f"tar -xzf /tmp/archive.tar.gz -C {there}",
        "rm /tmp/archive.tar.gz",
        f"install -m 640 /tmp/env {there}/env && rm /tmp/env",
        f"ln -s {socket} {there}/web.sock",
        f"cd {there} && PYTHONDONTWRITEBYTECODE=1 python3 -m deploy.hosts.store {srv}/layers {release}",
        f"ln -s {srv}/layers/{release} {there}/venv",
        f"cd {there}/site && {own} && {kit} ../venv/bin/python -m portico_site.release collect publish",
        f"{helper} migrate {release}",
        f"{helper} start worker {release} later",
        f"{helper} start web {release}",
        f"{probe} --unix-socket {socket} http://localhost/readyz",
        f"{probe} --unix-socket {socket} http://localhost/",
        f"{helper} start worker {release}",
        f"ln -sfn ../releases/{release} {srv}/state/.current",
        f"mv -T {srv}/state/.current {srv}/state/current",
        f"{probe} http://127.0.0.1/readyz",
        f"{probe} http://127.0.0.1/",
        f"{helper} stop beat {old}",
        f"{helper} start beat {release}",
        f"{helper} stop worker {old} later",
        f"{helper} stop web {old} later",
        f"touch {there}/served",
        f"echo '{json.dumps({'release': release, 'commit': commit})}' > {there}/release.json",
        f"rmdir {srv}/state/rival-lock",
    ]


def files(made: Fleet, folder: Path, commit: str, release: str, old: str) -> tuple[Path, Path]:
    archive, env = folder / "archive.tar.gz", folder / "env"
    made.git("archive", "--format=tar.gz", "-o", str(archive), commit)
    [machine] = made.rack.machines.values()
    env.write_text(machine.ssh("cat", f"/srv/portico-test/releases/{old}/env").replace(old, release))
    return archive, env


def new_release(commit: str) -> str:
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + commit[:7]


#: What one writes at first: a connection, the files, one `run` a step. Started as a program, as ours is.
SCRIPT = """
import json, sys
import fabric

port, identity, files, steps = json.load(sys.stdin)
with fabric.Connection("127.0.0.1", "deploy", port, connect_kwargs={"key_filename": identity}) as connection:
    for file, to in files:
        connection.put(file, to)
    for step in steps:
        connection.run(step, hide=True)
"""


def by_fabric(made: FarFleet, folder: Path) -> None:
    """One `run` a step."""
    [(name, machine)] = made.rack.machines.items()
    commit, old = change(made), made.current(machine)
    release = new_release(commit)
    archive, env = files(made, folder, commit, release, old)
    sent = [(str(archive), "/tmp/archive.tar.gz"), (str(env), "/tmp/env")]
    told = json.dumps([made.proxies[name].port, str(made.rack.identity), sent, steps(commit, release, old)])
    subprocess.run([str(TOOLS / "python"), "-c", SCRIPT], input=told, text=True, check=True, capture_output=True)


def ansible(folder: Path) -> Path:
    """ansible-core in an environment of its own."""
    venv = folder / "ansible"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/pip"), "install", "--quiet", ANSIBLE], check=True)
    return venv / "bin/ansible-playbook"


def by_ansible(made: FarFleet, folder: Path, program: Path) -> None:
    """A playbook with pipelining and a connection that is kept, facts not gathered."""
    [(name, machine)] = made.rack.machines.items()
    commit, old = change(made), made.current(machine)
    release = new_release(commit)
    archive, env = files(made, folder, commit, release, old)
    tasks: list[dict[str, object]] = [
        {"ansible.builtin.copy": {"src": str(archive), "dest": "/tmp/archive.tar.gz"}},
        {"ansible.builtin.copy": {"src": str(env), "dest": "/tmp/env", "mode": "0600"}},
    ]
    tasks += [{"ansible.builtin.shell": step} for step in steps(commit, release, old)]
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    (folder / "play.json").write_text(json.dumps(play))
    (folder / "hosts").write_text(
        f"web1 ansible_host=127.0.0.1 ansible_port={made.proxies[name].port} ansible_user=deploy "
        f"ansible_ssh_private_key_file={made.rack.identity} ansible_python_interpreter=/usr/bin/python3\n"
    )
    known = made.project / "deploy/environments/test.known_hosts"
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile={known}",
        "HOME": str(folder),
    }
    words = [str(program), "-i", str(folder / "hosts"), str(folder / "play.json")]
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


# --- The parts ---


def one_host(folder: Path) -> None:
    figures = Figures("hosts_one", ".venvs/test/bin/python -m tests.bench.hosts one")
    with fleet(folder, {"web1": EVERYTHING}) as made:
        machine = made["web1"]
        machine.sh("echo LogLevel VERBOSE > /etc/ssh/sshd_config.d/verbose.conf; systemctl reload ssh")
        program = ansible(folder)
        ways: dict[str, Callable[[], object]] = {
            "`remote-deploy`": lambda: (change(made), made.must("remote-deploy")),
            "Fabric, one run a step": lambda: by_fabric(made, folder),
            "Ansible, pipelining": lambda: by_ansible(made, folder, program),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        sessions = opened(machine)
        made.must("remote-deploy")
        figures.note("SSH channels of a deploy to one host", str(opened(machine) - sessions), goal="at most 5")
        figures.note("a second release, no lock changed", second(made))
        for _ in range(RUNS):
            for name, way in ways.items():
                times[name].append(timed(way))
        own = statistics.median(own_seconds(machine, made.current(machine)) for _ in range(3))
        report(figures, times, own)
        back = []
        for _ in range(RUNS):
            change(made)
            made.must("remote-deploy")
            old = sorted(machine.ssh("ls", "/srv/portico-test/releases").split())[-2]
            machine.sh(f"systemctl stop portico-test-web@{old} portico-test-worker@{old}", check=False)
            back.append(timed(lambda: made.must("remote-rollback")))
        boot = boots(machine, made.current(machine))
        figures.add("`remote-rollback`", back, "s")
        figures.add("the same, without the boots of the units", statistics.median(back) - boot, "s", goal="at most 1.5")
        figures.save()


def boots(machine: Machine, release: str) -> float:
    machine.sh(f"systemctl stop portico-test-web@{release} portico-test-worker@{release} portico-test-beat@{release}")
    first = timed(lambda: machine.sh(f"systemctl start portico-test-web@{release} portico-test-worker@{release}"))
    return first + timed(lambda: machine.sh(f"systemctl start portico-test-beat@{release}"))


def opened(machine: Machine) -> int:
    """Channels that sshd has opened so far."""
    return len(re.findall("Starting session", machine.ssh("journalctl", "-u", "ssh", "--no-pager", "-o", "cat")))


def second(made: Fleet) -> str:
    [machine] = made.rack.machines.values()
    sizes = "cd /srv/portico-test; du -sk --total releases layers static | awk 'END { print $1 }'"
    before = int(machine.sh(sizes))
    change(made)
    said = made.must("remote-deploy").stderr
    sent = re.search(r"([\d.]+) MB sent", said)
    assert sent
    return f"{sent[1]} MB sent, {(int(machine.sh(sizes)) - before) / 1000:.1f} MB on the disk"


def report(figures: Figures, times: Mapping[str, Sequence[float]], own: float) -> None:
    figures.add("the site's own commands on the host", own, "s")
    ours = statistics.median(times["`remote-deploy`"])
    for name, each in times.items():
        middle = statistics.median(each)
        ratio = f"{middle / ours:.1f}, without the site's own {(middle - own) / (ours - own):.1f}"
        figures.note(name, shown(each, "s"), f"without the site's own {middle - own:.1f} s", ratio)


def ten_hosts(folder: Path) -> None:
    figures = Figures("hosts_ten", ".venvs/test/bin/python -m tests.bench.hosts ten")
    roles: dict[str, tuple[str, ...]] = {"web1": EVERYTHING, **{f"web{n}": ("web",) for n in range(2, 11)}}
    with fleet(folder, roles) as made:
        made.configure(batch="100%")
        made.commit("all at once")
        for name, only in (("one host", ["--only", "web1"]), ("ten hosts", [])):
            took, used = [], []
            for _ in range(3):
                change(made)
                before = processor_seconds()
                took.append(timed(lambda only=only: made.must("remote-deploy", *only)))  # type: ignore[misc]
                used.append(processor_seconds() - before)
            work = statistics.median(used)
            least = work / (os.cpu_count() or 1)
            least_shown = f"the processors worked {work:.1f} s: no deploy takes less than {least:.1f} s"
            figures.note(f"a deploy to {name}", shown(took, "s"), least_shown)
        figures.save()


def processor_seconds() -> float:
    """Seconds that all processors of this machine have worked: shared by them, no deploy takes less (proc(5), stat)."""
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """All of it, or the parts named: one, ten."""
    parts = sys.argv[1:] or ["one", "ten"]
    for name, part in {"one": one_host, "ten": ten_hosts}.items():
        if name in parts:
            with tempfile.TemporaryDirectory() as folder:
                part(Path(folder))


if __name__ == "__main__":
    main()
