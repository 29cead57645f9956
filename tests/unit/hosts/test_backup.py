"""Backups on hosts: what the file may say, what a host gets, which copies stay, and what a restore decides."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.backup import restore
from deploy.hosts.backup.restore import plan
from deploy.hosts.environment import secrets
from deploy.hosts.environment.file import parse
from deploy.hosts.release import health, phases
from deploy.hosts.release.release import Release
from deploy.hosts.release.state import HostState, Kept
from deploy.hosts.setup.backup import parts
from deploy.hosts.setup.desired import desired, setup_digest
from deploy.hosts.setup.diff import Desired, Facts, diff
from deploy.hosts.setup.plan import render
from deploy.hosts.setup.site import Learned, Site
from deploy.project import backups
from tests.support import ROOT
from tests.unit.hosts.test_setup import ACCESS, NGINX, PROJECT, TEXT, files

LINES = "backup: {repository: 'sftp:backup@vault:/shop', password: env:PASSWORD, keep: 'daily:3', at: '04:15'}\n"
WITH = TEXT + LINES
OLD, NEW = "20260101-120000-abcdef1", "20260102-120000-1234567"


def wanted(name: str, text: str = WITH, **more: object) -> Desired:
    here = Site(parse(text, "x", ROOT), replace(PROJECT, **more), NGINX, backup_secrets={"RESTIC_PASSWORD": "it's"})  # type: ignore[arg-type]
    host = next(host for host in here.environment.hosts if host.name == name)
    return desired(here, host, Learned(access=ACCESS))  # type: ignore[arg-type]


# --- The file ---


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "sftp:backup@vault:/shop",
            "vault",
            "x.yaml:9: backup.repository: 'vault' is not a repository; it is a folder",
        ),
        ("sftp:backup@vault:/shop", "rest:https://a:b@c/", "backup.repository: the address has a password; give it by"),
        ("env:PASSWORD", "geheim", "backup.password: must be env:NAME, file:PATH or command:WORDS; a secret itself"),
        ("daily:3", "3", "backup.keep: '3' must be like daily:7,weekly:5,monthly:12,yearly:2"),
        ("daily:3", "daily:0", "backup.keep: 'daily:0' keeps no backup"),
        ("04:15", "24:00", "backup.at: '24:00' is not a time of day, such as \"03:30\""),
        ("at:", "att:", "backup.att: is not known; did you mean at?"),
    ],
)
def test_an_error_names_line_key_and_remedy(old: str, new: str, words: str) -> None:
    assert old in WITH
    with pytest.raises(Failure) as failure:
        parse(WITH.replace(old, new), "x", ROOT)
    assert words in failure.value.message
    assert "geheim" not in failure.value.message


def test_a_database_elsewhere_is_not_backed_up_from_here() -> None:
    text = WITH.replace("[database, broker]", "[broker]") + "services: {database: 'postgres://d/x'}\n"
    with pytest.raises(Failure, match="backup: needs a host with the role database"):
        parse(text, "x", ROOT)


def test_the_password_is_fetched_from_where_the_file_says_or_named() -> None:
    text = WITH.replace("keep:", "variables: {AWS_SECRET_ACCESS_KEY: env:S3}, keep:")
    environment = parse(text, "x", ROOT)
    found = secrets.read_backup(environment, {"PASSWORD": "p", "S3": "s"})
    assert {name: each.get_secret_value() for name, each in found.items()} == {
        "RESTIC_PASSWORD": "p",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    with pytest.raises(Failure) as failure:
        secrets.read_backup(environment, {"PASSWORD": "p\nq"})
    key = "deploy/environments/x.yaml: backup.variables"
    assert failure.value.message.splitlines() == [
        "deploy/environments/x.yaml: backup.password: env:PASSWORD: must be one line of text",
        f"{key}.AWS_SECRET_ACCESS_KEY: env:S3: is not set in this shell; export it",
    ]
    assert secrets.read_backup(parse(TEXT, "x", ROOT), {}) == {}


# --- What a host gets ---


def test_the_database_and_files_of_workers_are_backed_up_where_they_are() -> None:
    environment = parse(WITH, "x", ROOT)
    assert [host.name for host in parts(environment, "")] == ["data1", "jobs1"]
    assert [host.name for host in parts(environment, "shared")] == ["data1", "web1", "jobs1"], "a share only once"
    configuration = files(wanted("jobs1"))["/etc/shop-x/backup.conf"].text
    assert "FOLDERS=/srv/shop-x/protected\n" in configuration
    assert files(wanted("data1"))["/etc/shop-x/backup.conf"].text == (
        "RESTIC_REPOSITORY=sftp:backup@vault:/shop\nSITE=shop-x\nHOST=data1\n"
        "KEEP='--keep-within 2d --keep-daily 3'\nFOLDERS=''\n"
    )
    assert "restic" not in wanted("web1").packages
    assert "/usr/local/lib/shop-x/restore" in files(wanted("web1")), "a restore stops it"
    assert "/etc/shop-x/backup.env" in wanted("web1").absent


def test_the_timers_start_the_units_and_a_proof_is_made_where_the_database_is() -> None:
    found = files(wanted("data1"))
    timer = found["/etc/systemd/system/shop-x-backup.timer"].text
    assert "OnCalendar=*-*-* 04:15:00" in timer
    assert "Persistent=yes" in timer
    assert "Unit=shop-x-backup@timer.service" in timer
    proof = found["/etc/systemd/system/shop-x-proof.timer"].text
    assert "OnCalendar=Sun *-*-* 05:15:00" in proof
    assert "Unit=shop-x-backup@verify.service" in proof
    assert "/etc/systemd/system/shop-x-proof.timer" not in files(wanted("jobs1"))
    unit = found["/etc/systemd/system/shop-x-backup@.service"].text
    assert "ExecStart=/usr/local/lib/shop-x/backup run %i\n" in unit
    assert "ReadWritePaths=/var/lib/shop-x-backup /var/backups/shop-x -/var/lib/postgresql\n" in unit
    local = files(wanted("data1", WITH.replace("sftp:backup@vault:/shop", "/vault")))
    assert "ReadWritePaths=-/vault\n" in local["/etc/systemd/system/shop-x-backup@.service"].text
    assert {"shop-x-backup.timer", "shop-x-proof.timer"} <= {unit.name for unit in wanted("data1").units}


def test_the_password_is_roots_alone_and_shown_nowhere() -> None:
    file = files(wanted("data1"))["/etc/shop-x/backup.env"]
    assert (file.text, file.mode, file.owner, file.secret) == ("RESTIC_PASSWORD='it'\"'\"'s'\n", 0o600, "root", True)
    assert "RESTIC_PASSWORD=" not in render("data1", diff(wanted("data1"), Facts()), details=True)
    here = Site(parse(WITH, "x", ROOT), PROJECT, NGINX)
    host = here.environment.hosts[-1]
    assert setup_digest(here, host) == setup_digest(replace(here, backup_secrets={"RESTIC_PASSWORD": "x"}), host), (
        "who deploys does not have it"
    )
    assert "x9y" not in repr(replace(here, backup_secrets={"RESTIC_PASSWORD": "x9y"}))


def test_without_a_repository_no_timer_is_left_and_a_host_with_the_database_still_copies_it() -> None:
    found = wanted("data1", TEXT)
    assert "/usr/local/lib/shop-x/backup" in files(found)
    assert "/etc/shop-x/backup.env" in found.absent
    assert {"shop-x-backup.timer", "shop-x-proof.timer"} <= {each.name for each in found.idle}
    assert "/usr/local/lib/shop-x/restore" in wanted("web1", TEXT).absent
    assert "backup" not in found.servers


# --- The script: which copies stay ---


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """The script as on a host, in folders of its own; pg_dump writes a line, and each call is a change."""
    library, bin_folder = tmp_path / "lib/shop-x", tmp_path / "bin"
    for folder in (library, bin_folder, tmp_path / "etc/shop-x", tmp_path / "backups/shop-x"):
        folder.mkdir(parents=True)
    for name in ("backup", "dumps"):
        text = (ROOT / f"deploy/hosts/scripts/{name}.sh").read_text()
        for path in ("/etc/", "/var/lib/", "/var/backups/"):
            text = text.replace(f"{path}$name", f"{tmp_path}{path.replace('/var', '')}$name")
        text = text.replace("PATH=/usr/sbin:", f"PATH={bin_folder}:/usr/sbin:")
        (library / name).write_text(f"#!/bin/sh\n{text}")
        (library / name).chmod(0o755)
    fails = '[ ! -e "$0.broken" ] || { echo part; exit 1; }'
    runs = f"#!/bin/sh\nshift 6\ncase $1 in psql) date +%N ;; *) {fails}; echo dump ;; esac\n"
    (bin_folder / "setpriv").write_text(runs)
    (bin_folder / "setpriv").chmod(0o755)
    (tmp_path / "etc/shop-x/database").write_text("shop_x\n")
    (tmp_path / "etc/shop-x/roles").write_text("database\n")
    return tmp_path


def copy(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(folder / "lib/shop-x/backup"), "copy", OLD]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def there(folder: Path) -> set[str]:
    return {path.name for path in (folder / "backups/shop-x").glob("*.dump")}


def test_who_asks_for_copies_again_and_again_removes_none_of_the_last_days(copies: Path) -> None:
    now = datetime.now(UTC)
    good = {f"{now - timedelta(days=day, minutes=1):%Y%m%d-%H%M%S}-before-{OLD}.dump" for day in range(9)}
    for name in good:
        (copies / "backups/shop-x" / name).write_text("good")
    for _ in range(15):
        assert copy(copies).returncode == 0
    assert good <= there(copies)


def test_old_copies_go_but_for_the_last_one_of_each_of_ten_days(copies: Path) -> None:
    now = datetime.now(UTC)
    for day in range(5, 30):
        for hour in (1, 2):
            name = f"{now - timedelta(days=day):%Y%m%d}-0{hour}0000-before-{OLD}.dump"
            (copies / "backups/shop-x" / name).write_text("old")
    assert copy(copies).returncode == 0
    left = sorted(there(copies))
    assert [name[:15] for name in left[:-1]] == [
        f"{now - timedelta(days=day):%Y%m%d}-020000" for day in range(14, 4, -1)
    ]


def test_a_copy_that_fails_leaves_all_others_and_no_file_of_its_own(copies: Path) -> None:
    assert copy(copies).returncode == 0
    before = there(copies)
    (copies / "bin/setpriv.broken").touch()
    done = copy(copies)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        f"cannot copy the database to {copies}/backups/shop-x",
    )
    assert there(copies) == before
    assert not list((copies / "backups/shop-x").glob(".*.part"))


# --- The script: one host makes the repository of all ---

#: As restic answers, without and with a repository.
RESTIC = """#!/bin/sh
case $* in
    *init*) echo init >>"$0.made" ;;
    *) [ -e "$0.made" ] || { echo 'Is there a repository at the following location?' >&2 && exit 1; } ;;
esac
"""


def opened(folder: Path, roles: str, repository: str) -> subprocess.CompletedProcess[str]:
    (folder / "etc/shop-x/roles").write_text(f"{roles}\n")
    (folder / "etc/shop-x/backup.conf").write_text(f"RESTIC_REPOSITORY={repository}\nSITE=shop-x\n")
    (folder / "etc/shop-x/backup.env").write_text("RESTIC_PASSWORD=x\n")
    (folder / "bin/restic").write_text(RESTIC)
    (folder / "bin/restic").chmod(0o755)
    script = folder / "lib/shop-x/backup"
    script.write_text(script.read_text().replace("longest_wait=900", "longest_wait=3"))
    return subprocess.run([str(script), "prepare"], capture_output=True, text=True, timeout=30, check=False)


def test_the_host_with_the_database_makes_the_repository_and_the_others_wait_for_it(copies: Path) -> None:
    done = opened(copies, "worker", "sftp:vault:/shop")
    assert done.returncode == 1
    assert "no repository at sftp:vault:/shop yet: the host with the database makes it" in done.stderr
    assert not (copies / "bin/restic.made").exists()
    assert opened(copies, "database", "sftp:vault:/shop").returncode == 0
    assert opened(copies, "worker", "sftp:vault:/shop").returncode == 0
    assert (copies / "bin/restic.made").read_text() == "init\n"


def test_a_folder_is_each_host_s_own(copies: Path) -> None:
    assert opened(copies, "worker", str(copies / "vault")).returncode == 0
    assert (copies / "bin/restic.made").read_text() == "init\n"


#: What restic of Debian says, and a part of what a person is told.
SAID = {
    "Fatal: wrong password or no key found": "has another password: correct backup.password in the environment file",
    "Fatal: unable to open config file\nIs there a repository at the following location?\nx": (
        "there is no repository at sftp:vault:/shop: bring it back"
    ),
    "unable to create lock in backend: repository is already locked by PID 7": "lapses after 30 minutes",
    "Fatal: unable to start the sftp session, error: EOF": "Fatal: unable to start the sftp session, error: EOF",
}


@pytest.mark.parametrize("said", SAID)
def test_what_keeps_a_repository_from_being_read_is_told_apart(copies: Path, said: str) -> None:
    assert opened(copies, "database", "sftp:vault:/shop").returncode == 0
    (copies / "bin/restic").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    done = subprocess.run([str(copies / "lib/shop-x/backup"), "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert SAID[said] in line


# --- What status says ---


def test_status_names_a_backup_that_is_missing_late_or_failed() -> None:
    def said(text: str, now: float = 1_000_000) -> list[str]:
        found = health.parse(text)
        has = HostState("data1", setup="x", roles=("database",))
        return list(health.wrong(("database",), has, found, "x", now))

    assert said("") == []
    assert said("backup due \nbackup last 990000 aaaa1111\nbackup proved ok 980000 aaaa1111\n") == []
    assert said("backup due \n")[0] == "has no backup yet: `invoke remote-backup --env x`"
    assert said("backup due 998000\nbackup last 990000 aaaa1111\n")[0].startswith(
        "its last backup failed within the hour"
    )
    assert said("backup due \nbackup last 600000 aaaa1111\n")[0].startswith("its last backup was made 4 days ago, and")
    assert said("backup due \nbackup last 990000 a\nbackup proved failed 1 a\n")[0].startswith(
        "its last backup could not"
    )
    found = health.parse("backup due \nbackup last 990000 a\nbackup proved ok 700000 a\n").backups
    assert found
    assert health.said_of_backups(found, 1_000_000) == "made 2 hours ago, proved 3 days ago"


# --- What a restore decides ---


def host_state(name: str, current: str, *kept: str) -> HostState:
    records = [Kept(Release(each, f"c{each[-7:]}", "HEAD", "s", "ann", "now"), 1) for each in kept]
    return HostState(name, "shop-x", current=current, kept=records)


def backup(release: str = OLD, revision: str = "abcdef1") -> backups.Backup:
    at = datetime(2026, 1, 1, 13, tzinfo=UTC)
    return backups.Backup("aaaa1111", at, "shop-x", release, revision, "timer", "postgresql-15", ("/spool",))


def test_the_release_of_the_backup_serves_if_all_hosts_keep_it_else_its_commit_is_deployed() -> None:
    both = {name: host_state(name, NEW, OLD, NEW) for name in ("web1", "web2")}
    found = plan(backup(), (), both, keep_code=False)
    assert (found.release, found.commit, found.deploys) == (OLD, "cabcdef1", False)
    one = {**both, "web2": host_state("web2", NEW, NEW)}
    found = plan(backup(), (), one, keep_code=False)
    assert (found.release, found.commit, found.deploys) == ("", "abcdef1", True)
    lost = {"web1": host_state("web1", "")}
    assert plan(backup(), (), lost, keep_code=False).commit == "abcdef1", "a new host gets the backup's commit"
    found = plan(backup(), (), both, keep_code=True)
    assert (found.release, found.deploys) == (NEW, False)
    with pytest.raises(Failure, match="serve different releases"):
        plan(backup(), (), {**both, "web2": host_state("web2", OLD, OLD)}, keep_code=True)
    with pytest.raises(Failure, match="does not say which release"):
        plan(backup("none", "none"), (), both, keep_code=False)


def test_the_plan_names_what_is_replaced_and_what_is_lost() -> None:
    target = phases.choose(PROJECT, parse(WITH, "x", ROOT))
    states = {name: host_state(name, NEW, OLD, NEW) for name in target.names}
    part = replace(backup(), id="bbbb2222", part="jobs1")
    text = "\n".join(restore.described(plan(backup(), (part,), states, keep_code=False), target, states))
    assert "backup aaaa1111 (2026-01-01 13:00 UTC, release 20260101-120000-abcdef1" in text
    assert "jobs1: fetch the files of backup bbbb2222" in text
    assert f"stop {NEW}" in text
    assert f"then release {OLD} serves" in text
    assert "What was written since 2026-01-01 13:00 UTC is not in it." in text


def test_the_record_of_a_backup_is_part_of_the_status_for_programs() -> None:
    found = health.parse("backup due \nbackup last 990000 a\n")
    data = health.as_data(("database",), HostState("data1"), found, [], 1_000_000)
    assert json.loads(json.dumps(data["backup"])) == {"seconds_ago": 10000, "proved_seconds_ago": None, "proved": None}
