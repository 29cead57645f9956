"""Backups and restores of production: what is told to restic and PostgreSQL, what is refused, which code runs after."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.compose.data import database, manifest, restic, view
from deploy.compose.data.manifest import Contents, Manifest
from deploy.compose.data.restore import code
from deploy.compose.ledger import Release, entries
from deploy.compose.operate import Compose
from deploy.core.errors import Failure
from deploy.core.shell import Result
from deploy.docker import backup_env
from deploy.project.backups import Backup
from tests.unit.stacks import stack

GIVEN = {"BACKUP_REPOSITORY": "/srv/backups/shop", "BACKUP_PASSWORD": "w" * 20}


def settings(**values: str) -> backup_env.Settings:
    return backup_env.settings(stack(**{**GIVEN, **values}).env)


# --- .env ---


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"BACKUP_REPOSITORY": ""}, "BACKUP_REPOSITORY is missing: set it to where backups go"),
        ({"BACKUP_PASSWORD": ""}, "BACKUP_PASSWORD is missing, which encrypts the backups: `python3 -c"),
        ({"BACKUP_REPOSITORY": "sftp:me@nas:/shop"}, "needs BACKUP_SSH_KEY and BACKUP_SSH_KNOWN_HOSTS"),
        ({"BACKUP_REPOSITORY": "backups"}, "BACKUP_REPOSITORY is 'backups': 'backups' is not a repository"),
        ({"BACKUP_KEEP": "daily:0"}, "BACKUP_KEEP is 'daily:0': 'daily:0' keeps no backup"),
    ],
)
def test_what_is_wrong_with_the_keys_of_backups_is_one_line(values: Mapping[str, str], said: str) -> None:
    with pytest.raises(Failure) as refused:
        settings(**values)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_secrets_of_backups_are_files_and_may_come_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("KEY\n")
    (tmp_path / "key").chmod(0o600)
    found = settings(
        BACKUP_PASSWORD="env:OUR_PASSWORD",
        BACKUP_SSH_KEY="file:key",
        BACKUP_AWS_ACCESS_KEY_ID="id",
        BACKUP_AWS_SECRET_ACCESS_KEY="a'b c",
    )
    assert "OUR_PASSWORD" not in repr(found)
    texts = backup_env.secret_texts(found, tmp_path, {"OUR_PASSWORD": "p" * 20})
    assert texts == {
        "backup_password": "p" * 20 + "\n",
        "backup_ssh_key": "KEY\n",
        "backup_ssh_known_hosts": "",
        "backup_variables": "export AWS_ACCESS_KEY_ID=id\nexport AWS_SECRET_ACCESS_KEY='a'\"'\"'b c'\n",
    }
    with pytest.raises(Failure, match=r"BACKUP_PASSWORD: env:OUR_PASSWORD: is not set"):
        backup_env.secret_texts(found, tmp_path, {})
    with pytest.raises(Failure, match="BACKUP_PASSWORD is too short"):
        backup_env.secret_texts(settings(BACKUP_PASSWORD="short"), tmp_path, {})


# --- restic ---


def test_a_folder_is_mounted_without_a_network_and_another_place_is_reached_by_one() -> None:
    here = restic.command(stack(), settings(), "repository", "snapshots")
    assert list(here.argv[-8:]) == [
        *["run", "--rm", "-T", "-v", "/srv/backups/shop:/repository"],
        *["data_backup", "repository", "snapshots"],
    ]
    assert (here.env["BACKUP_ADDRESS"], here.env["BACKUP_NETWORK"]) == ("/repository", "none")
    there = restic.command(stack(), settings(BACKUP_REPOSITORY="s3:https://s3.example/shop"), "empty")
    assert "-v" not in there.argv
    assert (there.env["BACKUP_ADDRESS"], there.env["BACKUP_NETWORK"]) == ("s3:https://s3.example/shop", "bridge")
    assert "w" * 20 not in here.render() + there.render()


def test_only_backups_of_this_site_are_ever_forgotten() -> None:
    words = restic.forget("shop", settings(BACKUP_KEEP="daily:3"))
    assert words == (
        *("forget", "--tag", "portico,site=shop", "--group-by", ""),
        *("--keep-within", "2d", "--keep-daily", "3", "--prune"),
    )


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            Result(12, "", "Fatal: wrong password or no key found"),
            "BACKUP_PASSWORD in .env is not the password of /srv",
        ),
        (Result(10, "", "Fatal: repository does not exist"), "there is no repository; `invoke backup` creates one"),
        (Result(11, "", "unable to create lock"), "another program uses the repository"),
        (Result(1, "", "x\nFatal: no space left on device\n"), "/srv/backups/shop: no space left on device"),
        (Result(137), "/srv/backups/shop: exit code 137"),
    ],
)
def test_an_error_of_restic_is_one_line_with_what_to_do(result: Result, said: str) -> None:
    assert said in restic.reason(result, settings())


def test_the_id_of_a_backup_is_in_the_last_message() -> None:
    printed = '{"message_type":"status"}\n{"message_type":"summary","snapshot_id":"0676954f59dba698"}\n'
    assert restic.snapshot_id(printed) == "0676954f"
    for wrong in ("", "{}", "[]\n", "Fatal"):
        with pytest.raises(Failure, match="does not say that it made a snapshot"):
            restic.snapshot_id(wrong)


def test_down_with_volumes_takes_what_a_backup_left_on_the_disk_too(capsys: pytest.CaptureFixture[str]) -> None:
    Compose(stack(), print).down(volumes=True).show()
    shown = capsys.readouterr().out
    assert "COMPOSE_PROFILES=celery,backup " in shown
    assert shown.rstrip().endswith("down --remove-orphans --volumes)")


# --- The manifest ---

SAID = """server 17.12
role site
rows public.vote 12
rows public."odd name" 3
whole
"""
CONTENTS = Contents("17.12", ("site",), {"public.vote": 12, 'public."odd name"': 3})
MANIFEST = Manifest("shop", "7", "a" * 40, "sha256:1", "f" * 64, 4096, ("protected",), CONTENTS)


def test_a_dump_is_whole_only_if_it_says_so() -> None:
    assert manifest.contents(SAID) == CONTENTS
    assert manifest.contents(SAID.replace("whole\n", "pg_dump: error: x\n")) is None
    assert manifest.contents("") is None


def test_a_manifest_is_read_back_and_a_damaged_one_is_refused() -> None:
    assert manifest.parse(MANIFEST.text()) == MANIFEST
    said = json.loads(MANIFEST.text())
    for damaged in (
        "",
        "{}",
        "[]",
        MANIFEST.text()[:-20],
        json.dumps(said | {"bytes": "many"}),
        json.dumps(said | {"more": 1}),
        json.dumps({key: value for key, value in said.items() if key != "sha256"}),
    ):
        with pytest.raises(Failure, match="its manifest cannot be read"):
            manifest.parse(damaged)


def test_the_rows_of_a_restored_database_must_be_those_of_the_backup() -> None:
    wanted = {"a": 1, "b": 2}
    assert manifest.difference(wanted, dict(wanted)) == ""
    assert manifest.difference(wanted, {"a": 1}) == "b: no table instead of 2"
    assert manifest.difference(wanted, {"a": 0, "b": 2, "c": 9}) == "a: 0 instead of 1, c: not in the backup"
    assert manifest.difference({str(n): 1 for n in range(9)}, {}).endswith("and 6 more")


# --- PostgreSQL ---


def test_the_fresh_database_and_the_old_one_change_names_together() -> None:
    run = database.switch(stack(), ("site", "site_before_1"), ("site_restore", "site"))
    assert run.input.splitlines()[2:] == [
        "BEGIN;",
        "ALTER DATABASE site RENAME TO site_before_1;",
        "ALTER DATABASE site_restore RENAME TO site;",
        "COMMIT;",
    ]
    assert run.seconds


def test_what_an_earlier_restore_put_aside_is_not_overwritten() -> None:
    assert database.aside("12ab", ["site"]) == "site_before_12ab"
    assert database.aside("12ab", ["site_before_12ab", "site_before_12ab_2"]) == "site_before_12ab_3"


def test_the_dump_is_the_state_in_which_the_rows_are_counted() -> None:
    sql = database.dump(stack()).input
    assert sql.index("REPEATABLE READ") < sql.index("pg_export_snapshot") < sql.index("count(*)") < sql.index("pg_dump")
    assert '--snapshot="$SNAPSHOT"' in sql
    assert "-- ROWS" not in sql


# --- Which code runs ---

AT = datetime(2026, 11, 27, tzinfo=UTC)


def release(number: int, revision: str) -> Release:
    return Release(number, number, f"sha256:{number}", revision, "me", "2026")


KNOWN = [release(6, "a"), release(7, "b"), release(8, "b"), release(9, "c")]


@pytest.mark.parametrize(
    ("number", "revision", "found"),
    [
        ("7", "b", 7),
        ("8", "b", 8),
        ("9", "c", 9),
        ("2", "b", 8),  # of another machine: the same commit, the last time it was deployed
    ],
)
def test_the_code_of_the_time_of_a_backup_runs_after_it(number: str, revision: str, found: int) -> None:
    backup = Backup("1234abcd", AT, "shop", number, revision, "timer", "postgresql-17", ("/backup/set",))
    assert code(KNOWN, backup, keep=False).number == found
    assert code(KNOWN, backup, keep=True).number == 9


@pytest.mark.parametrize(("number", "revision"), [("7", "z"), ("3", "unknown"), ("7", "c-changed")])
def test_code_that_is_gone_is_named_with_what_to_do(number: str, revision: str) -> None:
    backup = Backup("1234abcd", AT, "shop", number, revision, "timer", "postgresql-17", ("/backup/set",))
    known = [*KNOWN, release(10, "unknown"), release(11, "c-changed")]
    with pytest.raises(Failure, match=rf"release {number} .*deploy that commit first, or take --keep-code"):
        code(known, backup, keep=False)


# --- What is said ---


def test_status_says_when_a_backup_was_made_and_when_one_was_proven() -> None:
    made = {"action": "backup", "outcome": "backup 1234abcd: 3 rows in 1 tables", "end": "2026-11-26T03:30:00+00:00"}
    proven = {"action": "proof", "outcome": "proven: backup 1234abcd", "end": "2026-11-26T04:30:00+00:00"}
    failed = {"action": "backup", "outcome": "failed: no space left", "end": "2026-11-27T03:30:00+00:00"}
    assert view.remarks([]) == [
        "last backup: none; `invoke backup` makes one",
        "last proven restore: none; `invoke backup --verify` makes one",
    ]
    assert view.remarks([made, proven, failed]) == [
        "last backup: 2026-11-26T03:30, backup 1234abcd: 3 rows in 1 tables; 1 failed since: failed: no space left",
        "last proven restore: 2026-11-26T04:30, proven: backup 1234abcd",
    ]


def test_a_backup_that_ends_during_a_deploy_does_not_make_the_deploy_a_killed_one() -> None:
    deploy = {"run": "1", "action": "deploy"}
    backup = {"run": "1backup", "action": "backup", "outcome": "backup 12"}
    text = "".join(f"{json.dumps(each)}\n" for each in (deploy, backup))
    assert [each["outcome"] for each in entries(text, busy=True)] == ["in progress", "backup 12"]
    assert [each["outcome"] for each in entries(text, busy=False)] == ["was killed", "backup 12"]


def test_uploads_are_in_a_backup_if_the_project_has_some() -> None:
    assert restic.folders(stack()) == ("protected",)
    with_media = replace(stack(), project=replace(stack().project, media="local"))
    vars(with_media.project)["media_url"] = "/media/"
    assert restic.folders(with_media) == ("protected", "media")
    assert "shop_media:/backup/set/media:ro" in restic.command(with_media, settings(), "empty").argv
    assert (
        "shop_media:/backup/set/media"
        in restic.command(with_media, settings(), "swap", "media", service=restic.RESTORES).argv
    )
