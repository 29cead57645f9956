"""Deploys to plain hosts: no request and no task is lost, whatever goes wrong; all hosts, or none."""

import hashlib
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from deploy.running import answers
from tests.acceptance.conftest import ADMIN
from tests.docker.conftest import accept
from tests.hosts.machines import Fleet, Machine
from tests.load import Load
from tests.support import TOOLS, environment, one_line, wait_until

WEB = ("web1", "web2")
SITE = (*WEB, "jobs1")
#: What is appended to the site so that it has a task that takes its time.
NAP = '''

@shared_task
def nap(seconds: float, mark: str) -> None:
    """Sleep, and then leave a mark."""
    import time

    from polls.services import create_poll

    time.sleep(seconds)
    create_poll(mark, ["yes", "no"])
'''


@pytest.fixture(scope="module")
def site(fleet: Fleet) -> Fleet:
    """The fleet set up, with a first release, sample polls and an administrator."""
    fleet.must("remote-setup", "--yes")
    append(fleet, "site/polls/tasks.py", NAP)
    fleet.commit("a task that takes its time")
    fleet.must("remote-deploy")
    name, password = ADMIN.split(":")
    python = (
        "from django.contrib.auth import get_user_model as users; "
        f"users().objects.create_superuser({name!r}, 'a@example.org', {password!r})"
    )
    fleet.must("remote-manage", "--", "load_sample_polls")
    fleet.must("remote-manage", "--", "shell", "-c", python)
    return fleet


def append(site: Fleet, path: str, text: str) -> None:
    file = site.project / path
    file.write_text(file.read_text() + text)


def one_release(site: Fleet, names: Sequence[str] = SITE) -> str:
    """The release that serves on all of these."""
    [found] = {site.current(site[name]) for name in names}
    assert found
    return found


def units(machine: Machine) -> set[tuple[str, str]]:
    """The units that are not at rest: kind and release."""
    said = machine.sh("/usr/local/sbin/portico-helper units").splitlines()
    return {(kind, release) for kind, release, _ in map(str.split, said)}


def settled(site: Fleet) -> bool:
    """Whether each host runs the units of its release, and nothing else."""
    roles = {"web1": {"web"}, "web2": {"web"}, "jobs1": {"worker", "beat"}}
    return all(
        units(site[name]) == {(kind, site.current(site[name])) for kind in kinds} for name, kinds in roles.items()
    )


@contextmanager
def load(site: Fleet, seconds: float = 900) -> Iterator[list[Load]]:
    """A steady load on both web hosts, half POST. Fails the test when a request failed."""
    loads = [Load(site[name].http_port, clients=4, rest=0.05, most_seconds=seconds) for name in WEB]
    with ExitStack() as stack:
        for each in loads:
            stack.enter_context(each)
        yield loads
    for each in loads:
        print(each.report())
        assert not each.failures, each.failures[:10]
        assert each.total > 0


def change(site: Fleet, number: int) -> None:
    """A commit that changes a page and a static file."""
    append(site, "site/polls/static/polls/style.css", f"\n.change-{number} {{ color: #{number:06d}; }}\n")
    site.commit(f"change {number}")


# --- What it is for ---


def test_the_acceptance_suite_passes_on_each_web_host(site: Fleet) -> None:
    for name in WEB:
        accept(site[name].url)


def test_a_restart_brings_everything_back_by_itself(site: Fleet) -> None:
    before = one_release(site)
    for name in ("data1", *SITE):
        site[name].restart()
    wait_until(lambda: settled(site), 120, "the units run again")
    for name in WEB:
        url = f"{site[name].url}/readyz"
        wait_until(partial(answers, url), 60, f"{name} serves")
    assert one_release(site) == before
    assert site.invoke("remote-status").code == 0


def test_deploys_rollbacks_and_broken_releases_lose_no_request(site: Fleet) -> None:
    with load(site):
        served = [one_release(site)]
        for number in range(10):
            change(site, number)
            site.must("remote-deploy")
            served.append(one_release(site))
        assert len(set(served)) == 11
        for _ in range(2):
            site.must("remote-rollback")
        assert one_release(site) == served[-3]
        site.must("remote-rollback", "--to", served[-1])
        assert one_release(site) == served[-1]
        for name, (path, old, new, why) in BROKEN.items():
            with broken(site, path, old, new):
                said = site.invoke("remote-deploy")
            assert said.code, name
            assert why in said.stderr, said.stderr
            assert one_release(site) == served[-1], name
    wait_until(lambda: settled(site), 120, "only the units of the release run")


MIGRATION = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("polls", "0002_schedule")]
    operations = [migrations.RunSQL("SELECT nothing FROM nowhere")]
"""
#: File, what is replaced by what (nothing: the file is new), and what is then to be read.
BROKEN = {
    "cannot import": ("site/polls/views.py", "from http import", "import nowhere\nfrom http import", "nowhere"),
    "answers 500": ("site/polls/views.py", "    words = ", "    raise RuntimeError\n    words = ", "/ answers 500"),
    "migration fails": (
        "site/polls/migrations/0003_broken.py",
        "",
        MIGRATION,
        "polls.0003_broken",
    ),
    "never becomes ready": (
        "site/mysite/health.py",
        "    states = ",
        '    return JsonResponse({"never": "ready"}, status=503)\n    states = ',
        "/readyz answers 503",
    ),
}


@contextmanager
def broken(site: Fleet, path: str, old: str, new: str) -> Iterator[None]:
    """A commit with a mistake, which the next one takes back."""
    file = site.project / path
    before = file.read_text() if file.exists() else ""
    assert old in before
    file.write_text(before.replace(old, new, 1) if old else new)
    site.commit(f"a mistake in {path}")
    try:
        yield
    finally:
        if before:
            file.write_text(before)
        else:
            file.unlink()
        site.commit(f"no mistake in {path}")


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
    machine.sh("mv /etc/sudoers.d/portico /root/sudoers; systemctl stop nginx")


def allow(machine: Machine) -> None:
    machine.sh("mv /root/sudoers /etc/sudoers.d/portico; systemctl start nginx")


def fill(machine: Machine) -> None:
    """The disk takes nothing any more, not even a link."""
    machine.sh("mount --bind /srv/portico/state /srv/portico/state && mount -o remount,bind,ro /srv/portico/state")


def empty(machine: Machine) -> None:
    machine.sh("umount /srv/portico/state")


FAULTS = {
    "process killed": (end_nginx, begin_nginx, "through nginx"),
    "network cut": (cut, join, "web2: "),
    "sudo refused": (refuse, allow, "through nginx"),
    "disk": (fill, empty, "cannot be written"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_on_one_host_puts_back_the_other_that_was_flipped(site: Fleet, name: str) -> None:
    break_it, mend, why = FAULTS[name]
    site.configure(wait=5)
    change(site, random.randrange(10**6))
    before = one_release(site)

    def strike() -> None:
        wait_until(lambda: site.current(site["web1"]) != before, 120, "web1 is flipped")
        break_it(site["web2"])

    striker = threading.Thread(target=strike)
    striker.start()
    said = site.invoke("remote-deploy")
    striker.join(150)
    try:
        assert said.code
        assert why in said.stderr, said.stderr
        assert "Traceback" not in said.stderr
        # One that was cut off finds out by itself.
        wait_until(lambda: one_release_or_none(site) == before, 90, "both are on the old release")
    finally:
        mend(site["web2"])
        site.configure(wait=0)
    change(site, random.randrange(10**6))
    wait_until(lambda: site.invoke("remote-deploy").code == 0, 180, "the next deploy goes through")
    assert one_release(site) != before


def one_release_or_none(site: Fleet) -> str:
    found = {site.current(site[name]) for name in SITE}
    return found.pop() if len(found) == 1 else ""


def test_a_full_disk_is_said_and_changes_nothing(site: Fleet) -> None:
    before = one_release(site)
    machine = site["web2"]
    machine.sh("mount -t tmpfs -o size=210m,mode=2755 none /mnt && cp -a /srv/portico/releases/. /mnt && umount /mnt")
    machine.sh("mount -t tmpfs -o size=1m,mode=2777 none /srv/portico/layers")
    try:
        change(site, random.randrange(10**6))
        said = site.invoke("remote-deploy")
    finally:
        machine.sh("umount /srv/portico/layers")
    assert "web2: " in one_line(said)
    assert one_release(site) == before


# --- The client dies ---


def test_whenever_the_client_is_killed_each_host_serves_one_whole_release(site: Fleet) -> None:
    chance = random.Random(6)
    with load(site):
        for number in range(KILLS):
            change(site, 1000 + number)
            client = start(site)
            time.sleep(chance.uniform(0.3, 9))
            client.send_signal(signal.SIGKILL)
            client.wait(10)
            for name in SITE:
                wait_until(partial(whole, site, name), 20, f"{name} is on one whole release")
        change(site, 2000)
        site.must("remote-deploy")
    one_release(site)
    wait_until(lambda: settled(site), 120, "only the units of the release run")


KILLS = 30


def start(site: Fleet, task: str = "remote-deploy", *more: str) -> "subprocess.Popen[str]":
    """A deploy, or another task, that goes on beside us."""
    words = ["python3", str(site.project / "tasks.py"), task, "--env", "test", *more]
    path = f"{TOOLS}:{os.environ['PATH']}"
    env = {**environment(**site.environment()), "PATH": path}
    # In a session of its own, so that it is ended as a whole.
    return subprocess.Popen(
        words, env=env, cwd=site.project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def whole(site: Fleet, name: str) -> bool:
    """Whether the release that serves has all that it needs, and the unit that runs it."""
    machine = site[name]
    release = site.current(machine)
    files = "test -s env -a -s release.json -a -x venv/bin/python -a -d static && echo whole"
    kinds = {"web1": "web", "web2": "web", "jobs1": "worker"}
    said = machine.sh(f"cd /srv/portico/releases/{release} && {files}", check=False)
    return said.strip() == "whole" and (kinds[name], release) in units(machine)


def test_of_two_deploys_at_once_the_second_is_told_who_holds_the_lock(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    first = start(site)
    try:
        wait_until(lambda: "receiving" in peek(first), 60, "the first has the lock")
        said = one_line(site.invoke("remote-deploy"))
    finally:
        first.communicate(timeout=120)
    assert re.search(r"web1: busy: deploy of [0-9a-f]{12} by \S+@\S+ since ", said), said
    assert first.returncode == 0


def peek(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline()


# --- Tasks, and beat ---


def test_new_workers_are_ready_before_requests_reach_a_deploy_and_a_rollback_waits_for_none(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    said = site.must("remote-deploy").stderr
    assert said.index("jobs1: workers ready") < said.index("web1: flipped")
    said = site.must("remote-rollback").stderr
    assert said.index("web2: flipped") < said.index("jobs1: workers ready")


def test_what_runs_on_a_host_was_compiled_when_it_was_installed(site: Fleet) -> None:
    for module in ("celery/worker/consumer/mingle", "gunicorn/arbiter"):
        [found] = site["web1"].sh(f"ls -d /srv/portico/layers/.layers/*/lib/*/site-packages/{module}.py").split()
        folder, _, name = found.rpartition("/")
        site["web1"].sh(f"ls {folder}/__pycache__/{name.removesuffix('.py')}.*.pyc")


def test_a_task_and_a_command_under_way_outlive_deploys_and_their_release_stays(site: Fleet) -> None:
    site.configure(keep=1)
    site.commit("keep one")
    old = one_release(site)
    mark = f"mark {random.randrange(10**9)}"
    shell(site, f"from polls.tasks import nap; nap.delay(50, {mark!r})")
    wait_until(lambda: "polls.tasks.nap" in site["jobs1"].journal(f"portico-worker@{old}"), 30, "the task has begun")
    late = "import time; time.sleep(45); import polls.management.commands.load_sample_polls; print('imported late')"
    command = start(site, "remote-manage", "--", "shell", "-v0", "-c", late)
    began = time.monotonic()
    for number in range(2):
        change(site, 3000 + number)
        site.must("remote-deploy")
    assert time.monotonic() - began < 45, "the deploys did not wait for the task"
    assert ("worker", old) in units(site["jobs1"])
    site["jobs1"].sh(f"test -d /srv/portico/releases/{old}")
    assert command.communicate(timeout=60)[0].strip().endswith("imported late")
    wait_until(
        lambda: (
            shell(site, f"from polls.models import Question as Q; print(Q.objects.filter(text={mark!r}).count())")
            == "1"
        ),
        90,
        "the task is done, once",
    )
    site.configure(keep=5)
    site.commit("keep five")


def shell(site: Fleet, python: str) -> str:
    return site.must("remote-manage", "--", "shell", "-v0", "-c", python).stdout.strip()


def test_there_are_never_two_beats(site: Fleet) -> None:
    counting = (
        "most=0; while [ ! -e /tmp/enough ]; do n=$(pgrep -fc 'bin/celery .* beat' || true);"
        " [ $n -le $most ] || most=$n; sleep 0.05; done; echo $most; rm /tmp/enough"
    )
    machine = site["jobs1"]
    found: list[str] = []
    counter = threading.Thread(target=lambda: found.append(machine.sh(counting, check=False)))
    counter.start()
    try:
        for number in range(2):
            change(site, 4000 + number)
            site.must("remote-deploy")
        site.must("remote-rollback")
    finally:
        machine.sh("touch /tmp/enough")
        counter.join(30)
    assert found[0].strip() == "1"


# --- What arrives, and what does not ---


def test_odd_names_modes_submodules_and_large_files_arrive_as_they_are(site: Fleet, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    (library / "part").write_text("of another repository\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "part"]):
        subprocess.run(["git", "-C", str(library), *own, *words], check=True)
    odd = "a file with spaces\nand a line"
    (site.project / odd).write_text("odd\n")
    (site.project / "run me").write_text("#!/bin/sh\necho ran\n")
    (site.project / "run me").chmod(0o755)
    (site.project / "large").write_bytes(random.Random(1).randbytes(50_000_000))
    site.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "vendor/library")
    site.commit("odd things")
    try:
        site.must("remote-deploy")
        for name in SITE:
            there = f"/srv/portico/releases/{one_release(site)}"
            for path in (odd, "run me", "large", "vendor/library/part"):
                digest = hashlib.sha256((site.project / path).read_bytes()).hexdigest()
                assert site[name].ssh("sha256sum", "--zero", f"{there}/{path}").startswith(digest), path
            assert site[name].ssh(f"{there}/run me").strip() == "ran"
    finally:
        site.git("rm", "-rqf", odd, "run me", "large", "vendor", ".gitmodules")
        site.commit("nothing odd any more")


def test_a_dirty_work_tree_is_refused_by_name(site: Fleet) -> None:
    (site.project / "left over").write_text("")
    try:
        assert one_line(site.invoke("remote-deploy")).startswith('not committed: "left over"')
    finally:
        (site.project / "left over").unlink()


def test_no_secret_is_seen_while_deploying(site: Fleet) -> None:
    """Not in an argument list, not in a log, not in a file that others may read, on the hosts and here."""
    machine = site["web1"]
    seen: list[str] = []
    watch = "while [ ! -e /tmp/enough ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; done; rm /tmp/enough"
    watcher = threading.Thread(target=lambda: seen.append(machine.sh(watch, check=False)))
    watcher.start()
    try:
        change(site, random.randrange(10**6))
        said = site.must("remote-deploy")
    finally:
        machine.sh("touch /tmp/enough")
        watcher.join(60)
    assert "ship" in seen[0] or "gunicorn" in seen[0]
    assert site.secret_key not in seen[0]
    assert site.secret_key not in said.stdout + said.stderr
    for name in SITE:
        assert site.secret_key not in site[name].ssh("journalctl", "--no-pager", "-o", "cat")
        readable = "find /srv /etc /var /home /tmp /usr/local -xdev -type f -perm -o=r -print0"
        found = site[name].sh(f"{readable} | xargs -0 grep -lsF -e '{site.secret_key}' || true")
        assert not found.strip()


def test_a_dry_run_says_what_would_happen_and_changes_nothing(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    before = one_release(site)
    said = site.must("remote-deploy", "--dry-run").stdout
    assert f"web1: {before}" in said
    assert "# --- activate.sh" in said
    assert site.secret_key not in said
    assert one_release(site) == before


def test_releases_and_ledger_are_shown(site: Fleet) -> None:
    said = site.must("remote-releases").stdout
    assert one_release(site) in said
    assert "in service" in said
    assert "rollback" in said


@pytest.mark.parametrize("at", ["receiving", "starting"])
def test_one_that_hangs_can_be_ended_and_puts_itself_back(site: Fleet, at: str) -> None:
    change(site, random.randrange(10**6))
    wait_until(lambda: settled(site), 120, "what was before has ended")
    before = one_release(site)
    hanging = start(site)
    try:
        wait_until(lambda: at in peek(hanging), 60, f"it is {at}")
        hanging.send_signal(signal.SIGSTOP)
        assert "busy" in one_line(site.invoke("remote-deploy"))
        assert "the one who held it is ended" in site.must("remote-unlock", "--yes").stderr
        wait_until(lambda: settled(site), 90, "nothing of it runs")
        assert one_release(site) == before
        site.must("remote-deploy")
    finally:
        hanging.kill()
        hanging.wait(10)


# --- What may be asked for around it ---


def test_the_database_is_copied_before_it_is_migrated_and_only_then(site: Fleet) -> None:
    site.configure(backup_before_migrate=True)
    change(site, random.randrange(10**6))
    site.must("remote-deploy")
    assert not site["data1"].sh("ls /var/backups/portico").strip()
    file = site.project / "site/polls/migrations/0003_more.py"
    file.write_text(MIGRATION.replace("SELECT nothing FROM nowhere", "SELECT 1"))
    site.commit("a migration")
    said = site.must("remote-deploy").stderr
    try:
        [copy] = site["data1"].sh("ls /var/backups/portico").split()
        assert f"data1: backup /var/backups/portico/{copy}" in said
        listed = site["data1"].sh(f"runuser -u postgres -- pg_restore --list < /var/backups/portico/{copy}")
        assert "polls_vote" in listed
    finally:
        file.unlink()
        site.configure(backup_before_migrate=False)
        site.commit("no migration")


def test_hooks_run_here_and_on_the_hosts_and_one_before_stops_a_deploy(site: Fleet, tmp_path: Path) -> None:
    here = tmp_path / "here"
    hooks = {
        "before": f"sh -c 'echo before $PORTICO_ENVIRONMENT >> {here}'",
        "after": f"sh -c 'echo after $PORTICO_RELEASE >> {here}'",
        "hosts_before": "sh -c 'test -f site/manage.py && touch hook-before'",
        "hosts_after": "touch hook-after",
    }
    before = one_release(site)
    try:
        site.configure(hooks={**hooks, "hosts_before": "sh -c 'echo no good >&2; false'"})
        site.commit("a hook that fails")
        said = site.invoke("remote-deploy")
        assert "no good" in said.stderr
        assert "the hook fails" in one_line(said)
        assert one_release(site) == before
        site.configure(hooks=hooks)
        site.commit("hooks")
        site.must("remote-deploy")
        release = one_release(site)
        assert here.read_text().splitlines() == ["before test", "before test", f"after {release}"]
        for name in SITE:
            site[name].sh(f"cd /srv/portico/releases/{release} && test -f hook-before -a -f hook-after")
    finally:
        site.configure(hooks={})
        site.commit("no hooks")


def test_a_deploy_to_one_host_leaves_the_others_alone(site: Fleet) -> None:
    before = one_release(site)
    change(site, random.randrange(10**6))
    site.must("remote-deploy", "--only", "web2")
    assert site.current(site["web2"]) != before
    assert one_release(site, ("web1", "jobs1")) == before
    site.must("remote-rollback")
    assert one_release(site) == before


def test_settings_and_secrets_roll_back_with_their_release(site: Fleet) -> None:
    asked = "import os; print(os.environ.get('GREETING'), os.environ['SECRET_KEY'])"
    site.configure(settings={"GREETING": "one"})
    site.commit("one")
    site.must("remote-deploy")
    first = shell(site, asked)
    site.configure(settings={"GREETING": "it's $two"})
    site.commit("two")
    site.must("remote-deploy", env={"SITE_SECRET_KEY": "another-secret-key-of-more-than-fifty-characters-in-all"})
    second = shell(site, asked)
    site.must("remote-rollback")
    assert first == shell(site, asked) == f"one {site.secret_key}"
    assert second == "it's $two another-secret-key-of-more-than-fifty-characters-in-all"
    site.configure(settings={})
    site.commit("no settings")
