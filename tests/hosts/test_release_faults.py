"""Deploys to plain hosts under load, with faults, and with a client that dies: all hosts, or none."""

import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pytest

from deploy.core.running import complaint
from tests.hosts.release import (
    MIGRATION,
    SITE,
    WEB,
    change,
    ledger,
    load,
    one_release,
    peek,
    shell,
    start,
    wait_settled,
    whole,
)
from tests.rig.machines import Fleet, Machine
from tests.support import wait_until


def answers(url: str) -> bool:
    """Whether a GET of a URL is answered with 200."""
    return not complaint(url)


@contextmanager
def followed_logs(site: Fleet) -> Iterator[list[str]]:
    """What `remote-logs --follow` prints meanwhile: entries as JSON, and what it says of the hosts."""
    child = start(site, "remote-logs", "--follow", "--json", "--lines", "1000")
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(partial(peek, child), "")), daemon=True)
    reader.start()
    try:
        wait_until(lambda: bool(lines), 60, "the logs are followed")
        yield lines
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130, lines[-5:]
        reader.join(10)


def is_followed_by_nobody(machine: Machine) -> bool:
    return not machine.sh("pgrep -fx 'journalctl .* --follow .*' || true").strip()


def test_a_restart_brings_everything_back_by_itself_and_the_logs_show_all_of_it(site: Fleet) -> None:
    """A log that is followed goes on over the restart of each host: no line is missing, and none comes twice."""
    before, began = one_release(site), time.time()
    with followed_logs(site) as lines:
        for name in ("data1", *SITE):
            site[name].restart()
        wait_settled(site)
        for name in WEB:
            url = f"{site[name].url}/readyz"
            wait_until(partial(answers, url), 60, f"{name} serves")
        again = {f"{name}: its log is followed again\n" for name in SITE}
        wait_until(lambda: again <= set(lines), 60, "the log of each host is followed again")
        said = site.must("remote-logs", "--json", "--lines", "1000", "--since", f"{time.time() - began:.0f}s").stdout
        written = said.splitlines()
        wait_until(lambda: f"{written[-1]}\n" in lines, 30, "the last line is shown")
    for name in SITE:
        wait_until(partial(is_followed_by_nobody, site[name]), 30, f"nothing reads the log of {name} any more")
    shown = [line.rstrip("\n") for line in lines if line.startswith("{")]
    assert len(shown) == len(set(shown))
    assert not set(written) - set(shown)
    for name in SITE:
        assert any(f'"{name} ' in line and "Started " in line for line in shown), f"systemd's lines of {name}"
        assert any(line.startswith(f"{name}: ") and "the other hosts' lines go on" in line for line in lines)
    assert one_release(site) == before
    assert site.invoke("remote-status").code == 0


def test_a_restart_loses_no_request_and_no_task(site: Fleet) -> None:
    """A task that is under way ends where it began; a client that is killed leaves whole units."""
    release = one_release(site)
    wait_settled(site)
    before = processes(site, release)
    shell(site, "from polls.tasks import nap; nap.delay('/opt/restarted', 'restarted')")
    begun = "polls.tasks.nap"
    wait_until(lambda: begun in site["jobs1"].journal(f"portico-test-worker@{release}"), 30, "the task has begun")
    with load(site):
        child = start(site, "remote-restart")
        wait_until(lambda: "restarting worker" in peek(child), 120, "the worker restarts")
        child.kill()
        child.wait(10)
        site["jobs1"].sh("touch /opt/restarted")
        wait_until(lambda: "failed: the client disconnected" in ledger(site, "jobs1"), 90, "it has ended")
        wait_settled(site)
        site.must("remote-restart", "--role", "beat")
        now = processes(site, release)
        assert not set(now.values()) & set(before.values()), "each unit has another process"
        assert set(now) == set(before), "and no unit is left that serves in its place"
    asked = "from polls.models import Question; print(Question.objects.filter(text__startswith='restarted ').count())"
    assert shell(site, asked) == "1"
    assert '"action": "restart of beat"' in ledger(site, "jobs1")
    assert one_release(site) == release


def processes(site: Fleet, release: str) -> dict[tuple[str, str], str]:
    """The main processes of a release's units, by host and unit."""
    listing = "systemctl list-units --plain --no-legend 'portico-*@*.service' | cut -d ' ' -f 1"
    show = "while read unit; do echo $unit $(systemctl show -P MainPID $unit); done"
    return {
        (name, unit): pid
        for name in SITE
        for unit, pid in map(str.split, site[name].sh(f"{listing} | {show}").splitlines())
        if release in unit
    }


def layer(site: Fleet, machine: Machine, release: str) -> str:
    """The folder of a release's packages."""
    return machine.ssh("readlink", "-f", f"/srv/portico-test/releases/{release}/venv").strip()


REPLACED = "for _ in $(seq 12); do systemctl daemon-reexec; sleep 1; done"


def test_deploys_and_rollbacks_lose_no_request(site: Fleet) -> None:
    with load(site):
        served = [one_release(site)]
        for number in range(3):
            change(site, number)
            if number == 1:  # as an upgrade of systemd does; more often
                for name in SITE:
                    site[name].sh(f"nohup sh -c '{REPLACED}' >/dev/null 2>&1 &")
            site.must("remote-deploy")
            served.append(one_release(site))
        assert len(set(served)) == 4
        assert layer(site, site["web1"], served[-1]) == layer(site, site["web1"], served[-2])
        for _ in range(2):
            site.must("remote-rollback")
        assert one_release(site) == served[-3]
        site.must("remote-rollback", "--to", served[-1])
        assert one_release(site) == served[-1]
    wait_settled(site)


class Mistake(NamedTuple):
    """A mistake in a release, and the expected messages: including the last lines of the journal if a unit ran."""

    path: str
    right: str  # nothing: the file is new
    wrong: str
    words: tuple[str, ...]


WSGI = "site/mysite/wsgi.py"
MISTAKES = {
    "cannot import": Mistake(
        path="site/polls/views.py",
        right="from http import",
        wrong="import nowhere\nfrom http import",
        words=("nowhere",),
    ),
    "answers 500": Mistake(
        path="site/polls/views.py",
        right="    words = ",
        wrong='    raise RuntimeError("ill")\n    words = ',
        words=("its own socket: / answers 500", "web1 | ", "RuntimeError: ill"),
    ),
    "ends at its start": Mistake(
        path=WSGI,
        right="import os",
        wrong='import os\nraise RuntimeError("not today")',
        words=("does not start", "Error: not today"),
    ),
    "hangs at its start": Mistake(
        path=WSGI,
        right="import os",
        wrong="import os, time\ntime.sleep(600)",
        words=("does not start",),
    ),
    "migration fails": Mistake(
        path="site/polls/migrations/0003_broken.py",
        right="",
        wrong=MIGRATION,
        words=("polls.0003_broken",),
    ),
    "never becomes ready": Mistake(
        path="deploy/kit/portico_site/health.py",
        right="    states: dict",
        wrong='    return JsonResponse({"never": "ready"}, status=503)\n    states: dict',
        words=("/readyz answers 503", '{"never": "ready"}'),
    ),
}


@contextmanager
def broken(site: Fleet, mistake: Mistake) -> Iterator[None]:
    """A commit with a mistake, which the next commit reverts."""
    file = site.project / mistake.path
    before = file.read_text() if file.exists() else ""
    assert mistake.right in before
    file.write_text(before.replace(mistake.right, mistake.wrong, 1) if mistake.right else mistake.wrong)
    site.commit(f"a mistake in {mistake.path}")
    try:
        yield
    finally:
        if before:
            file.write_text(before)
        else:
            file.unlink()
        site.commit(f"no mistake in {mistake.path}")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_release_loses_no_request_and_the_old_one_serves_on(site: Fleet, name: str) -> None:
    mistake = MISTAKES[name]
    before = one_release(site)
    with load(site):
        with broken(site, mistake):
            said = site.invoke("remote-deploy")
        assert said.code
        for word in mistake.words:
            assert word in said.stderr, said.stderr
        assert one_release(site) == before
    wait_settled(site)


# --- Faults while some hosts are flipped already ---


def end_nginx(machine: Machine) -> None:
    machine.sh("systemctl kill -s KILL nginx; systemctl stop nginx")


def begin_nginx(machine: Machine) -> None:
    machine.sh("systemctl start nginx")


def cut(machine: Machine) -> None:
    machine.sh(
        "nft add table inet cut; nft 'add chain inet cut in { type filter hook input priority -300; }';"
        "nft add rule inet cut in tcp dport 22 drop"
    )


def join(machine: Machine) -> None:
    machine.sh("nft delete table inet cut")


def refuse(machine: Machine) -> None:
    machine.sh("mv /etc/sudoers.d/portico-test /root/sudoers")


def allow(machine: Machine) -> None:
    machine.sh("mv /root/sudoers /etc/sudoers.d/portico-test")


def kill_script(machine: Machine) -> None:
    """Kill a deploy's processes there at once, so that they restore nothing."""
    machine.sh("pkill -KILL -f 'sh /dev/fd/9'")


def nothing(machine: Machine) -> None:
    pass


def small_disk(machine: Machine) -> None:
    """Put the folder with the current release's link on its own small disk."""
    small = "mount -t tmpfs -o size=256k,nr_inodes=40 none"
    machine.sh(
        f"cd /srv/portico-test; cp -a state /root/state; {small} /srv/portico-test/state; cp -a /root/state/. state/."
    )


def fill(machine: Machine) -> None:
    takes_all = "n=0; while touch full-$n; do n=$((n + 1)); done; cat /dev/zero >full-0"
    machine.sh(f"cd /srv/portico-test/state; {takes_all}", check=False)


def empty(machine: Machine) -> None:
    machine.sh("umount /srv/portico-test/state; rm -r /root/state")


class Fault(NamedTuple):
    """A fault of a host while the other is flipped, and the expected message."""

    prepare: Callable[[Machine], None]
    strike: Callable[[Machine], None]
    fix: Callable[[Machine], None]
    words: str


FAULTS = {
    "nginx killed": Fault(nothing, strike=end_nginx, fix=begin_nginx, words="through nginx"),
    "script killed": Fault(nothing, strike=kill_script, fix=nothing, words="web2: "),
    "network cut": Fault(nothing, strike=cut, fix=join, words="web2: "),
    "sudo refused": Fault(nothing, strike=refuse, fix=allow, words="web2: its helper cannot be run"),
    "disk full": Fault(small_disk, strike=fill, fix=empty, words="No space left on device"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_on_one_host_puts_back_the_other_that_was_flipped(site: Fleet, name: str) -> None:
    fault = FAULTS[name]
    site.configure(wait=5)
    change(site, random.randrange(10**6))
    before = one_release(site)
    fault.prepare(site["web2"])

    def strike() -> None:
        wait_until(lambda: site.current(site["web1"]) != before, 120, "web1 is flipped")
        fault.strike(site["web2"])

    striker = threading.Thread(target=strike)
    striker.start()
    said = site.invoke("remote-deploy")
    striker.join(150)
    try:
        assert said.code
        assert fault.words in said.stderr, said.stderr
        assert "Traceback" not in said.stderr
        # A host that is cut off detects that by itself.
        wait_until(lambda: one_release_or_none(site) == before, 90, "both are on the old release")
    finally:
        fault.fix(site["web2"])
        site.configure(wait=0)
    for each in WEB:
        wait_until(partial(answers, f"{site[each].url}/readyz"), 30, f"{each} serves")
    change(site, random.randrange(10**6))
    # A host that is cut off holds its lock until the heartbeats time out; the others release theirs at once.
    patience = 90 if name == "network cut" else 5
    wait_until(lambda: free(site), patience, "nobody holds the lock")
    site.must("remote-deploy")
    assert one_release(site) != before
    # It has also ended what a script that was killed had started.
    wait_settled(site)


def free(site: Fleet) -> bool:
    return site.must("remote-unlock", "--dry-run").stderr.count("nobody holds the lock") == len(SITE)


def test_a_host_that_loses_its_power_after_its_flip_boots_what_the_others_serve(site: Fleet) -> None:
    site.configure(wait=20)
    change(site, random.randrange(10**6))
    before = one_release(site)
    client = start(site)
    try:
        wait_until(lambda: site.current(site["web1"]) != before, 120, "web1 is flipped")
        site["web1"].kill()
        site["web1"].start_again()
        assert "web1: " in client.communicate(timeout=120)[0]
        assert client.returncode
    finally:
        site.configure(wait=0)
        site.commit("no wait")
    assert one_release(site) == before
    wait_settled(site)
    for name in WEB:
        wait_until(partial(answers, f"{site[name].url}/readyz"), 30, f"{name} serves")


def one_release_or_none(site: Fleet) -> str:
    found = {site.current(site[name]) for name in SITE}
    return found.pop() if len(found) == 1 else ""


# --- The client dies ---

#: What a deploy comes to; it is killed some time after each of these.
STEPS = ("", "receiving", "received", "migrating", "starting", "started", "workers", "flipped", "web2: flipped", "beat")


def test_whenever_the_client_is_killed_each_host_serves_one_whole_release(site: Fleet) -> None:
    seed = random.randrange(10**6)
    print(f"seed: {seed}")  # each run draws other moments
    chance = random.Random(seed)
    reached: Counter[str] = Counter()
    with load(site):
        for number, step in enumerate(STEPS):
            change(site, 1000 + number)
            client = start(site)
            said = ""
            # Some time after it has reached one of its steps; at first, none.
            while step not in said and (line := peek(client)):
                said += line
            time.sleep(chance.uniform(0, 1))
            client.send_signal(signal.SIGKILL)
            said += client.communicate(timeout=10)[0]
            assert step in said, said
            assert client.returncode in (0, -signal.SIGKILL), said
            reached[(re.findall(r"^\w+: ([a-z ]+) \(", said, re.MULTILINE) or ["nothing"])[-1]] += 1
            for name in SITE:
                wait_until(partial(whole, site, name), 20, f"{name} is on one whole release")
        change(site, 2000)
        site.must("remote-deploy")
    one_release(site)
    print(f"killed after: {dict(reached)}")
    wait_settled(site)
