"""What a repository's answer means, and which backup is chosen."""

import json

import pytest

from deploy.core.errors import Failure
from deploy.project import backups
from deploy.project.backups import Keep


def snapshot(identifier: str, at: str, site: str = "shop", **changes: object) -> dict[str, object]:
    """As restic lists it."""
    tags = backups.tags(site=site, release="7", revision="a" * 40, why="timer", database="postgresql-17")
    return {"id": identifier * 8, "time": at, "tags": list(tags), "paths": ["/spool"], "hostname": "db"} | changes


OLD = snapshot("1234abcd", "2026-11-26T03:30:00.123456789Z")
NEW = snapshot("5678abcd", "2026-11-27T04:30:00.5+01:00")
THEIRS = snapshot("12ffabcd", "2026-11-27T05:00:00Z", site="blog")
FOREIGN = snapshot("99990000", "2026-11-27T06:00:00Z", tags=None)


def test_backups_are_listed_by_time_and_snapshots_of_others_are_not() -> None:
    found = backups.read(json.dumps([NEW, FOREIGN, OLD]))
    assert [(each.id, f"{each.at:%d %H:%M}", each.release) for each in found] == [
        ("1234abcd", "26 03:30", "7"),
        ("5678abcd", "27 03:30", "7"),
    ]
    assert backups.read("null") == backups.read("[]") == ()
    assert [row[0] for row in backups.grid(found).rows] == ["5678abcd", "1234abcd"]


@pytest.mark.parametrize("answer", ["", "Fatal: wrong password", "{}x", '[{"id": "1"}]x', '["a"]'])
def test_an_answer_that_is_not_of_restic_is_one_line(answer: str) -> None:
    with pytest.raises(Failure, match="restic's answer"):
        backups.read(answer)


def test_a_backup_is_chosen_by_its_beginning_or_as_the_latest_of_this_site() -> None:
    known = backups.read(json.dumps([OLD, NEW, THEIRS]))
    assert backups.choose(known, "1234", "shop").id == "1234abcd"
    assert backups.choose(known, "latest", "shop").id == "5678abcd"
    for to, reason in {
        "ffff": "no such backup of shop; the latest are: 1234abcd, 5678abcd",
        "": "no such backup",
        "12": "several",
        "12ff": "a backup of blog, not of shop",
    }.items():
        with pytest.raises(Failure, match=reason):
            backups.choose(known, to, "shop")


def test_what_stays_is_said_to_restic_and_two_days_always_stay() -> None:
    assert Keep.parse("daily:3, yearly:2", ".env").arguments() == (
        *("--keep-within", "2d", "--keep-daily", "3"),
        *("--keep-yearly", "2"),
    )
    for text in ("", "7", "daily:x", "daily:0", "hourly:3", "daily:1,daily:2"):
        with pytest.raises(Failure, match="line 3"):
            Keep.parse(text, "line 3")


@pytest.mark.parametrize(
    "text", ["/srv/backups/shop", "sftp:backup@nas:/shop", "sftp://u@nas:2222//shop", "s3:https://s3.example/shop"]
)
def test_addresses_that_restic_knows_are_taken(text: str) -> None:
    assert backups.repository(text, "x") == text


@pytest.mark.parametrize("text", ["", "backups", "~/backups", "ftp://nas/x", "/a b", "rest:https://u:secret@nas/x"])
def test_other_addresses_are_refused_by_their_line(text: str) -> None:
    with pytest.raises(Failure, match="line 3"):
        backups.repository(text, "line 3")


def test_the_parts_of_a_backup_are_the_first_after_it_or_else_the_last_before() -> None:
    def part(identifier: str, at: str, host: str) -> dict[str, object]:
        tags = backups.tags(site="shop", release="7", revision="-", why="timer", database="none", part=host)
        return snapshot(identifier, at) | {"tags": list(tags)}

    listed = [
        part("aa000001", "2026-11-25T03:40:00Z", "web1"),
        part("aa000002", "2026-11-26T03:40:00Z", "web1"),
        part("aa000003", "2026-11-27T03:40:00Z", "web1"),
        part("bb000001", "2026-11-24T03:40:00Z", "jobs1"),
        part("bb000002", "2026-11-25T03:40:00Z", "jobs1"),
        OLD,
    ]
    known = backups.read(json.dumps(listed))
    chosen = backups.choose(known, "latest", "shop")
    assert chosen.id == "1234abcd"
    assert {each.part: each.id for each in backups.parts(known, chosen)} == {"web1": "aa000002", "jobs1": "bb000002"}
    assert [each.id for each in backups.whole(known)] == ["1234abcd"]
    with pytest.raises(Failure, match="no such backup"):
        backups.choose(known, "aa000002", "shop")
