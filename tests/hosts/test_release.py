"""Deploys to plain hosts: no request and no task is lost, whatever goes wrong; all hosts, or none."""

import hashlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import httpx
import pytest

from deploy.hosts.environment.file import load as load_environment
from deploy.hosts.release import deploy, phases
from deploy.project.config import Project
from deploy.project.names import Names
from tests.contract.promises import *  # noqa: F403
from tests.contract.promises import Runtime
from tests.demonstration import ASK_FOR_EXPORT
from tests.hosts.release import (
    MIGRATION,
    SITE,
    WEB,
    append,
    change,
    ledger,
    load,
    one_release,
    peek,
    settled,
    shell,
    start,
    units,
    wait_settled,
)
from tests.rig.engine import accept
from tests.rig.load import Load
from tests.rig.machines import ENVIRONMENT, Fleet, watching
from tests.rig.recipes import GITHUB, GITLAB, deploying
from tests.support import TOOLS, environment, one_line, wait_until

# --- What it is for ---


def test_the_acceptance_suite_passes_on_each_web_host(site: Fleet) -> None:
    for name in WEB:
        accept(site[name].url)


def test_a_full_disk_is_said_and_changes_nothing(site: Fleet) -> None:
    before = one_release(site)
    machine = site["web2"]
    machine.sh("mount -t tmpfs -o size=1m,mode=2777 none /srv/portico-test/layers")
    try:
        change(site, random.randrange(10**6))
        said = site.invoke("remote-deploy")
    finally:
        machine.sh("umount /srv/portico-test/layers")
    assert one_line(said) == "web2: its layers are not built; the lines above say why (the disk is full)"
    assert one_release(site) == before


def test_without_room_what_is_too_old_goes_first_and_then_it_is_said(site: Fleet) -> None:
    machine, before = site["web2"], one_release(site)
    small = "mount -t tmpfs -o size=64m,mode=2755 none /srv/portico-test/releases"
    machine.sh(
        f"cp -a /srv/portico-test/releases /root/kept; {small}; cp -a /root/kept/{before} /srv/portico-test/releases"
    )
    machine.sh(
        "cd /srv/portico-test; chown deploy:portico-test releases; cp -a /root/kept/2* releases 2>/dev/null || true"
    )
    site.configure(keep=1)
    try:
        change(site, random.randrange(10**6))
        said = one_line(site.invoke("remote-deploy"))
        assert re.match(r"web2: only \d+ MB are free for releases: make room, or lower keep", said), said
        assert machine.sh("ls /srv/portico-test/releases").split() == [before]
    finally:
        machine.sh("umount /srv/portico-test/releases; rm -r /root/kept")
        site.configure(keep=5)
        site.commit("keep five")


# --- Tasks, and beat ---


def test_new_workers_are_ready_before_requests_reach_a_deploy_and_a_rollback_waits_for_none(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    said = site.must("remote-deploy").stderr
    assert said.index("jobs1: workers ready") < said.index("web1: flipped")
    said = site.must("remote-rollback").stderr
    assert said.index("web2: flipped") < said.index("jobs1: workers ready")


def test_a_rollback_right_after_a_deploy_waits_for_requests_that_are_still_answered(site: Fleet) -> None:
    before, machine = one_release(site), site["web1"]
    answered: list[str] = []
    asked = threading.Thread(target=lambda: answered.append(page(f"{machine.url}/slow/answer")))
    change(site, random.randrange(10**6))
    asked.start()
    try:
        site.must("remote-deploy")
        assert units(machine)[("web", before)] == "deactivating"
        rollback = start(site, "remote-rollback")
        said = ""
        while "starting" not in said and (line := peek(rollback)):
            said += line
        time.sleep(1)
        assert units(machine)[("web", before)] == "deactivating"
        assert rollback.poll() is None
        assert not answered
    finally:
        machine.sh("touch /opt/answer")
    assert rollback.communicate(timeout=120)[0].endswith("\n")
    assert rollback.returncode == 0
    assert one_release(site) == before
    asked.join(60)
    assert answered == ["slow"]


def page(url: str) -> str:
    with urlopen(url, timeout=60) as response:
        return str(response.read(), "utf-8")


def test_what_was_rolled_back_from_is_neither_gone_back_to_nor_kept_in_place_of_what_was_good(site: Fleet) -> None:
    def deployed() -> str:
        change(site, random.randrange(10**6))
        wait_settled(site)
        site.must("remote-deploy")
        return one_release(site)

    site.configure(keep=2)
    good, bad = deployed(), deployed()
    site.must("remote-rollback")
    assert one_release(site) == good
    deployed()
    for name in SITE:
        there = site[name].sh("ls /srv/portico-test/releases").split()
        assert good in there
        assert bad not in there
    site.must("remote-rollback")
    assert one_release(site) == good
    site.configure(keep=5)
    site.commit("keep five")


def test_a_client_whose_clock_is_behind_rolls_back_and_a_second_rollback_does_not_go_forward(
    site: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = one_release(site)
    change(site, random.randrange(10**6))
    deploy_by_a_clock_that_is_behind(site, monkeypatch)
    bad = one_release(site)
    assert bad < before, "by their ids, it is the older one"
    listed = site.must("remote-releases").stdout
    assert listed.index(bad) < listed.index(before), "newest first"
    said = site.must("remote-rollback").stderr
    assert one_release(site) == before
    assert said.index("web2: flipped") < said.index("jobs1: workers ready"), "a rollback waits for no worker"
    for name in SITE:
        assert site[name].sh(f"ls /srv/portico-test/releases/{bad}/left")
    again = site.invoke("remote-rollback", "--dry-run")  # to an earlier release, if there is one
    assert again.code or f"back to: {bad}" not in again.stdout
    assert not again.code or "no earlier release" in one_line(again)


def deploy_by_a_clock_that_is_behind(site: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy from a client whose clock is a day behind, in this process, so that the test can set the id's time."""
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    late = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr(deploy, "committed", partial(deploy.committed, now=late))
    project = Project(site.project, "portico", Names(), 8000, "", ".run", ("/readyz", "/"), 3)
    hosts = phases.choose(project, load_environment(site.project, ENVIRONMENT))
    deploy.deploy(hosts, "", print)


def test_after_a_setup_that_failed_half_way_what_serves_is_seen_and_can_be_gone_back_from(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    before = one_release(site)
    site.must("remote-deploy")
    machine = site["web1"]
    machine.sh("mv /etc/portico-test/setup /root/setup")
    try:
        said = site.invoke("remote-status")
        assert "web1: its last setup did not finish" in one_line(said)
        assert "web active" in said.stdout
        assert "its last setup did not finish" in one_line(site.invoke("remote-deploy"))
        site.must("remote-rollback")
        assert one_release(site) == before
    finally:
        machine.sh("mv /root/setup /etc/portico-test/setup")


def test_one_host_with_another_key_stops_a_deploy_before_anything_is_sent(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    file = site.project / "deploy/environments/test.known_hosts"
    pinned = file.read_text()
    web1, web2 = (site[name].host_key() for name in WEB)
    file.write_text(pinned.replace(web2, web1))
    site.commit("another key")
    before = {name: site[name].sh("ls -A /srv/portico-test/releases") for name in SITE}
    try:
        assert "web2: its host key is" in one_line(site.invoke("remote-deploy"))
    finally:
        file.write_text(pinned)
        site.commit("the key")
    assert before == {name: site[name].sh("ls -A /srv/portico-test/releases") for name in SITE}


def test_on_a_terminal_there_is_a_row_for_each_host(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    words = [*("python3", str(site.project / "tasks.py")), "remote-deploy", "--env", "test"]
    more = {**environment(**site.environment()), "PATH": f"{TOOLS}:{os.environ['PATH']}", "TERM": "xterm"}
    command = ["script", "-qec", shlex.join(words), "/dev/null"]
    said = subprocess.run(command, env=more, cwd=site.project, capture_output=True, text=True, check=True).stdout
    # Drawn again in its place.
    assert "\x1b[1A" in said
    last = said.rpartition("host")[2]
    for name in SITE:
        assert re.search(rf"{name}\W[^\n]*done", last), last


def test_what_runs_on_a_host_was_compiled_when_it_was_installed(site: Fleet) -> None:
    for module in ("celery/worker/consumer/mingle", "gunicorn/arbiter"):
        [found] = site["web1"].sh(f"ls -d /srv/portico-test/layers/.layers/*/lib/*/site-packages/{module}.py").split()
        folder, _, name = found.rpartition("/")
        site["web1"].sh(f"ls {folder}/__pycache__/{name.removesuffix('.py')}.*.pyc")


def test_a_task_and_a_command_under_way_outlive_deploys_and_their_release_stays(site: Fleet) -> None:
    site.configure(keep=1)
    site.commit("keep one")
    old = one_release(site)
    mark = f"mark {random.randrange(10**9)}"
    shell(site, f"from polls.tasks import nap; nap.delay('/opt/enough', {mark!r})")
    wait_until(
        lambda: "polls.tasks.nap" in site["jobs1"].journal(f"portico-test-worker@{old}"), 30, "the task has begun"
    )
    late = (
        "import os, time; print('begun', flush=True)\nwhile not os.path.exists('/opt/enough'): time.sleep(0.1)\n"
        "import polls.management.commands.load_sample_polls; print('imported late')"
    )
    command = start(site, "remote-manage", "--", "shell", "-v0", "-c", late)
    wait_until(lambda: "begun" in peek(command), 60, "the command has begun")
    try:
        for number in range(2):
            change(site, 3000 + number)
            site.must("remote-deploy")
        assert ("worker", old) in units(site["jobs1"]), "the deploys did not wait for the task"
        assert command.poll() is None
        site["jobs1"].sh(f"test -d /srv/portico-test/releases/{old}")
    finally:
        for name in SITE:
            site[name].sh("touch /opt/enough")
    assert command.communicate(timeout=60)[0].strip().endswith("imported late")
    asked = f"print(*Question.objects.filter(text__startswith={mark!r}).values_list('text', flat=True), sep='|')"
    asked = f"from polls.models import Question; {asked}"
    written = f"echo \"SELECT 1 FROM polls_question WHERE text LIKE '{mark} %'\" | runuser -u postgres -- psql -qAtX"
    wait_until(lambda: "1" in site["data1"].sh(f"{written} portico_test"), 90, "the task is done")
    assert shell(site, asked) == f"{mark} /srv/portico-test/releases/{old}/static", "once, by the worker that began it"
    wait_until(lambda: ("worker", old) not in units(site["jobs1"]), 30, "its worker ends with its last task")
    site.configure(keep=5)
    site.commit("keep five")


KINDS = "  workers:\n    mail: {queues: [mail]}\n    billing: {queues: [billing], alone: true}\n"


def test_there_are_never_two_beats_or_two_of_a_kind_of_workers_that_must_be_alone(site: Fleet) -> None:
    counting = (
        "most=0 more=0; while [ ! -e /tmp/enough ]; do n=$(pgrep -fc 'bin/celery .* beat' || true);"
        " m=$(pgrep -fc 'bin/celery .* -n worker_billing.* -Q billing' || true);"
        " [ $n -le $most ] || most=$n; [ $m -le $more ] || more=$m; sleep 0.2; done; echo $most $more; rm /tmp/enough"
    )
    machine, without, began = site["jobs1"], (site.project / "invoke.yaml").read_text(), time.time()
    append(site, "invoke.yaml", KINDS)
    found: list[str] = []
    counter = threading.Thread(target=lambda: found.append(machine.sh(counting, check=False)))
    counter.start()
    try:
        for number in range(2):
            change(site, 4000 + number)
            site.must("remote-deploy")
            if number == 0:
                old = one_release(site)
                assert {("worker_mail", old), ("worker_billing", old)} <= set(units(machine))
                for queue in ("mail", "billing"):
                    words = f"['/opt/enough-{queue}', 'queue-{queue}'], queue={queue!r}, countdown=1"
                    shell(site, f"from polls.tasks import nap; nap.apply_async({words})")
                wait_until(
                    lambda: _naps(site, began) >= {"worker_mail", "worker_billing"}, 60, "each queue has its worker"
                )
                machine.sh("nohup sh -c 'sleep 8; touch /opt/enough-mail /opt/enough-billing' >/dev/null 2>&1 &")
        site.must("remote-rollback")
        assert "worker" not in _naps(site, began)
        asked = "from polls.models import Question; print(Question.objects.get(text__startswith='queue-billing').text)"
        assert shell(site, asked) == f"queue-billing /srv/portico-test/releases/{old}/static", (
            "by the worker that began it"
        )
    finally:
        machine.sh("touch /tmp/enough /opt/enough-mail /opt/enough-billing")
        counter.join(30)
        (site.project / "invoke.yaml").write_text(without)
        site.commit("without kinds of workers")
    # As many processes as one worker with one task has, whatever was replaced.
    assert found[0].split() == ["1", "2"]


def _naps(site: Fleet, began: float) -> set[str]:
    """The kinds of units whose log names the task, since a moment in seconds since the epoch."""
    since = f"{time.time() - began:.0f}s"
    said = site.must("remote-logs", "--grep", r"polls\.tasks\.nap\[", "--since", since, "--json").stdout
    return {json.loads(line)["source"].split()[1] for line in said.splitlines()}


def test_a_beat_that_moves_to_another_host_is_never_two(site: Fleet) -> None:
    roles = dict(site.roles)

    def run(**more: tuple[str, ...]) -> None:
        site.roles |= more
        site.configure()
        site.commit("roles")

    beats = "pgrep -fc 'bin/celery .* beat' || true"
    most, over = 0, threading.Event()

    def count() -> None:
        nonlocal most
        while not over.wait(0.5):
            # Asked one after the other, each host could report a beat although they never ran at once: ask one twice.
            first, between, last = (int(site[name].sh(beats)) for name in ("web2", "jobs1", "web2"))
            most = max(most, between + min(first, last))

    counter = threading.Thread(target=count)
    counter.start()
    try:
        run(jobs1=("worker",), web2=("web", "beat"))
        assert "jobs1: was set up as worker beat, but must be worker" in site.invoke("remote-deploy").stderr
        site.must("remote-setup", "--yes", "--only", "web2")
        said = one_line(site.invoke("remote-deploy", "--only", "web2"))
        assert said == "jobs1: runs beat, but beat must run on web2 now: include both hosts in --only"
        site.must("remote-setup", "--yes")
        site.must("remote-deploy")
        assert ("beat", one_release(site)) in units(site["web2"])
        assert not [kind for kind, _ in units(site["jobs1"]) if kind == "beat"]
    finally:
        run(**roles)
        site.must("remote-setup", "--yes")
        site.must("remote-deploy")
        over.set()
        counter.join(30)
    assert most == 1
    wait_settled(site)


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
            there = f"/srv/portico-test/releases/{one_release(site)}"
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
    """Not in an argument list, a log or a file that others may read, neither on the hosts nor here."""
    passwords = site["data1"].sh("head -qn 1 /etc/portico-test/*_password").split()
    assert len(passwords) == 2
    found_in = re.compile("|".join(map(re.escape, [site.secret_key, *passwords]))).search
    watch = watching("/tmp/enough")
    machines = [site[name] for name in (*SITE, "data1")]
    seen: dict[str, str] = {}
    # The processes of the machines and of the client are also processes of this machine.
    watchers = [
        threading.Thread(target=lambda each=each: seen.update({each.name: each.sh(watch, check=False)}))
        for each in machines
    ]
    watchers.append(threading.Thread(target=lambda: seen.update(here=subprocess.getoutput(watch))))
    for watcher in watchers:
        watcher.start()
    try:
        change(site, random.randrange(10**6))
        said = site.must("remote-deploy")
    finally:
        for each in machines:
            each.sh("touch /tmp/enough")
        Path("/tmp/enough").touch()
        for watcher in watchers:
            watcher.join(60)
        Path("/tmp/enough").unlink()
    assert "remote-deploy" in seen["here"]
    assert "gunicorn" in seen["web1"]
    for text in (*seen.values(), said.stdout, said.stderr):
        assert not found_in(text)
    for each in machines:
        each.sh("rm /tmp/enough")
        assert not found_in(each.ssh("journalctl", "--no-pager", "-o", "cat"))
        readable = "find /srv /etc /var /home /tmp /usr/local -xdev -type f -perm -o=r -print0"
        wanted = " ".join(f"-e '{secret}'" for secret in (site.secret_key, *passwords))
        found = each.sh(f"{readable} | xargs -0 grep -lsF {wanted} || true")
        assert not found.strip()


def test_a_dry_run_says_what_would_happen_and_changes_nothing(site: Fleet) -> None:
    change(site, random.randrange(10**6))
    before = one_release(site)
    said = site.must("remote-deploy", "--dry-run").stdout
    assert f"web1: {before}" in said
    assert "# --- activate.sh" in said
    assert site.secret_key not in said
    assert one_release(site) == before


def test_input_and_a_database_shell_reach_manage_on_any_host(site: Fleet, tmp_path: Path) -> None:
    """Of any size, byte by byte; the password of the database is in no argument."""
    fixture = site.must("remote-manage", "--only", "web1", "--", "dumpdata", "polls.question", "polls.choice").stdout
    file = tmp_path / "polls.json"
    file.write_text(fixture + " " * 3_000_000)
    said = piped(site, file, "--only", "web2", "--", "loaddata", "--format=json", "-")
    assert f"Installed {len(json.loads(fixture))} object(s)" in said
    file.write_text("SELECT current_user, 6 * 7;\n")
    assert "42" in piped(site, file, "--only", "jobs1", "--", "dbshell", "--", "-A", "-t")
    file.write_text("\\! tr '\\0' ' ' </proc/$PPID/cmdline\n")
    argument, password = piped(site, file, "--", "dbshell"), site["data1"].sh("cat /etc/portico-test/database_password")
    assert "psql" in argument
    assert password.split()[0] not in argument


def piped(site: Fleet, file: Path, *words: str) -> str:
    argv = ["python3", str(site.project / "tasks.py"), "remote-manage", "--env", "test", *words]
    with file.open() as given:
        done = subprocess.run(
            argv,
            stdin=given,
            env=environment(**site.environment()),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_releases_and_ledger_are_shown(site: Fleet) -> None:
    said = site.must("remote-releases").stdout
    assert one_release(site) in said
    assert "in service" in said
    assert "rollback" in said


@pytest.mark.parametrize("at", ["receiving", "starting"])
def test_one_that_hangs_can_be_ended_and_puts_itself_back(site: Fleet, at: str) -> None:
    change(site, random.randrange(10**6))
    wait_settled(site)
    before = one_release(site)
    hanging = start(site)
    try:
        wait_until(lambda: at in peek(hanging), 60, f"it is {at}")
        hanging.send_signal(signal.SIGSTOP)
        assert "busy" in one_line(site.invoke("remote-deploy"))
        assert "the lock holder is stopped" in site.must("remote-unlock", "--yes").stderr
        wait_until(lambda: settled(site), 90, "nothing of it runs")
        assert one_release(site) == before
        ended = {"receiving": "ended early: its client was gone", "starting": "put back: the client disconnected"}[at]
        wait_until(lambda: ended in ledger(site, "web1"), 90, "the ledger says how it ended")
        site.must("remote-deploy")
    finally:
        hanging.kill()
        hanging.wait(10)


# --- What may be asked for around it ---


def test_the_database_is_copied_before_it_is_migrated_and_only_then(site: Fleet) -> None:
    site.configure(backup_before_migrate=True)
    change(site, random.randrange(10**6))
    site.must("remote-deploy")
    assert not site["data1"].sh("ls /var/backups/portico-test").strip()
    file = site.project / "site/polls/migrations/0003_more.py"
    file.write_text(MIGRATION.replace("SELECT nothing FROM nowhere", "SELECT 1"))
    site.commit("a migration")
    said = site.must("remote-deploy").stderr
    try:
        [copy] = site["data1"].sh("ls /var/backups/portico-test").split()
        assert f"data1: backup /var/backups/portico-test/{copy}" in said
        listed = site["data1"].sh(f"runuser -u postgres -- pg_restore --list < /var/backups/portico-test/{copy}")
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
            site[name].sh(f"cd /srv/portico-test/releases/{release} && test -f hook-before -a -f hook-after")
        site.configure(hooks={"hosts_after": "sh -c 'sleep 300 >/dev/null 2>&1 & echo too late; false'"})
        site.commit("a hook that fails afterwards, and leaves something running")
        said = site.invoke("remote-deploy")
        assert "web1 | too late" in said.stderr
        assert "hooks.hosts_after fails; the release serves" in said.stderr
        assert said.code
        assert one_release(site) != release
    finally:
        # Like the end of the script, what the hook has left ignores TERM: a shutdown would wait for it.
        for name in SITE:
            site[name].sh("pkill -KILL -fx 'sleep 300' || true")
        site.configure(hooks={})
        site.commit("no hooks")


def test_a_pipeline_deploys_by_the_recipes_of_the_page_with_a_key_that_may_only_deploy(
    site: Fleet, tmp_path: Path
) -> None:
    key, clone, home = tmp_path / "deploy_ci", tmp_path / "clone", tmp_path / "home"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", key], check=True, timeout=30)
    home.mkdir()
    site.git("clone", "-q", ".", str(clone))
    (clone / ".venvs").symlink_to(site.project / ".venvs")
    path = clone / "deploy" / "environments" / f"{ENVIRONMENT}.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("identity:")))
    hosts = [site[name] for name in (*SITE, "data1")]
    public = f"restrict {key.with_suffix('.pub').read_text().strip()}"
    shell_variables = {
        **environment(**site.environment()),
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
        "HOME": str(home),
        "DEPLOY_KEY": key.read_text(),
        **dict.fromkeys(("ENVIRONMENT", "CI_ENVIRONMENT_NAME"), ENVIRONMENT),
    }
    for host in hosts:
        host.sh(
            f"cp -p /home/deploy/.ssh/authorized_keys /root/kept; echo {public!r} >>/home/deploy/.ssh/authorized_keys"
        )
    try:
        for number, which in enumerate((GITHUB, GITLAB)):
            (clone / "site" / "polls" / "static" / "polls" / "style.css").open("a").write(f"/* pipeline {number} */")
            git = ["git", "-C", str(clone), "-c", "user.name=CI", "-c", "user.email=ci@example.org"]
            subprocess.run([*git, "commit", "-qam", f"pipeline {number}"], check=True, timeout=30)
            head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=30)
            script = deploying(which)[0]
            done = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=clone,
                env=shell_variables,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert head.stdout.startswith(one_release(site).rpartition("-")[2])
            assert not any(line in done.stdout + done.stderr for line in key.read_text().splitlines()[1:-1])
    finally:
        for host in hosts:
            host.sh("cat /root/kept >/home/deploy/.ssh/authorized_keys; rm /root/kept")


def test_a_maintenance_is_on_all_hosts_or_on_none(site: Fleet) -> None:
    words = ("remote-maintenance", "--start", "--hold", "workers")
    before = units(site["jobs1"])
    site["web2"].sh("mv /etc/nginx/portico-test/site.conf /root/site.conf")
    try:
        said = one_line(site.invoke(*words))
    finally:
        site["web2"].sh("mv /root/site.conf /etc/nginx/portico-test/site.conf")
    assert said == "web2: its setup is of a version without maintenance: run remote-setup, then this again"
    assert [code(site, name) for name in WEB] == [200, 200]
    site["web2"].sh("systemctl stop ssh.socket ssh.service 2>/dev/null || systemctl stop ssh")
    try:
        said = one_line(site.invoke(*words))
    finally:
        site["web2"].sh("systemctl start ssh.socket 2>/dev/null || true; systemctl start ssh")
    assert said.startswith("web2: ")
    assert [code(site, name) for name in WEB] == [200, 200]
    assert units(site["jobs1"]) == before, "nothing was held"


def test_a_maintenance_loses_nothing_and_outlives_a_deploy_and_a_boot(site: Fleet) -> None:
    jobs, asker = site["jobs1"], site["web2"]
    allowed = f"{asker.address},2001:db8::/64"
    words = ("--message", "Back at <5>", "--hold", "workers,beat", "--allow", allowed)
    with load(site, maintenance="Back at &lt;5&gt;") as loads:
        site.must("remote-maintenance", "--start", *words)
        for name in WEB:
            answer = httpx.get(site[name].url, trust_env=False)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "120")
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert units(jobs) == {}
        said = site.invoke("remote-status").stderr
        assert "workers and beat are held: `invoke remote-maintenance --env test --stop` ends it" in said
        assert "does not run" not in said
        assert "/readyz" not in said, "the site is well: a balancer inside sees it"

        change(site, random.randrange(10**6))
        site.must("remote-deploy")
        jobs.sh("/usr/local/sbin/portico-test-helper boot")
        assert [code(site, name) for name in WEB] == [503, 503]
        assert units(jobs) == {}

        curl = f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: localhost' http://{site['web1'].address}/"
        assert asker.sh(curl) == "200", "who is allowed sees the site"
        asked = shell(site, ASK_FOR_EXPORT)
        state = f"echo \"SELECT state FROM polls_export WHERE id = '{asked}'\" | runuser -u postgres -- psql -qAtX"
        assert site["data1"].sh(f"{state} portico_test").strip() != "done"
        site.must("remote-maintenance", "--stop")
        wait_until(lambda: site["data1"].sh(f"{state} portico_test").strip() == "done", 60, "the task that waited")
        assert [code(site, name) for name in WEB] == [200, 200]
    assert all(each.codes[503] for each in loads)
    wait_settled(site)
    assert "maintenance ended" in site.must("remote-releases").stdout


def code(site: Fleet, name: str) -> int:
    return httpx.get(site[name].url, trust_env=False).status_code


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


# --- What every runtime promises ---


class OnHosts(Runtime):
    under_way = "starting"

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        here = ["--env", "test"]
        self.deploying = ["remote-deploy", *here]
        self.changing = [
            *(["remote-deploy", *here], ["remote-rollback", *here], ["rollback", "--on", "test"]),
            *(["remote-maintenance", *here, "--start"], ["maintenance", "--on", "test", "--stop"]),
            *(["remote-manage", *here, "--", "flush"], ["manage", "--on", "test", "--", "flush"]),
            *(["shell", "--on", "test"], ["remote-unlock", *here], ["remote-setup", *here], ["remote-restart", *here]),
            ["remote-scale", *here, "--role", "web", "--number", "3"],
            ["remote-rotate", *here, "--secret", "database"],
        ]

    @property
    def project(self) -> Path:
        return self.fleet.project

    def environment(self) -> dict[str, str]:
        return self.fleet.environment()

    def commit(self) -> None:
        self.fleet.commit("what comes next")

    def serving(self) -> object:
        wait_settled(self.fleet)
        return {name: (self.fleet.current(self.fleet[name]), units(self.fleet[name])) for name in SITE}

    def load(self) -> AbstractContextManager[list[Load]]:
        return load(self.fleet)

    def history(self) -> str:
        return self.fleet.must("remote-releases").stdout


@pytest.fixture(scope="module")
def runtime(site: Fleet) -> OnHosts:
    found = OnHosts(site)
    found.change()
    site.must("remote-deploy")  # so that there is a release to roll back to
    return found
