"""Entries of a host's journal."""

import json
from types import SimpleNamespace
from typing import cast

import pytest

from deploy.core.errors import Failure
from deploy.core.logs import Entry
from deploy.hosts import logs
from deploy.hosts.logs import Followed
from deploy.hosts.ssh.connect import Connection

RELEASE = "20260101-120000-abcdef1"


def line(
    number: int, *, at: int = 1_700_000_000_000_001, unit: str = f"shop-web@{RELEASE}.service", **more: object
) -> str:
    return json.dumps(
        {
            "__CURSOR": f"c{number}",
            "__REALTIME_TIMESTAMP": str(at),
            "_SYSTEMD_UNIT": unit,
            "MESSAGE": f"m{number}",
            **more,
        }
    )


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        (f"shop-web@{RELEASE}.service", "web"),
        (f"shop-x-web@twin-{RELEASE}.service", "web"),
        (f"shop-worker@{RELEASE}.service", "worker"),
        (f"shop-worker@mail:{RELEASE}.service", "worker_mail"),
        (f"shop-beat@{RELEASE}.service", "beat"),
        ("shop-backup@asked.service", "backup"),
        ("init.scope", ""),
        ("nginx.service", ""),
    ],
)
def test_a_line_is_shown_with_the_kind_of_its_unit(unit: str, kind: str) -> None:
    assert logs.kind_of(unit) == kind


def test_what_systemd_says_of_a_unit_is_a_line_of_that_unit() -> None:
    read = Followed("web1", "web")
    assert read.entry(line(1, unit="init.scope", UNIT=f"shop-web@{RELEASE}.service")) == Entry(
        1_700_000_000.000001, "web1 web", "m1"
    )


def test_a_line_of_another_kind_and_what_is_no_entry_are_left_out() -> None:
    read = Followed("web1", "worker")
    assert [read.entry(each) for each in (line(1), "", "{}", "[]", "not JSON")] == [None] * 5
    assert read.entry(line(2, unit=f"shop-worker@{RELEASE}.service"))


def test_after_a_new_connection_no_line_comes_twice_and_none_of_the_same_moment_is_lost() -> None:
    read = Followed("web1", "")
    assert read.entry(line(1))
    assert read.entry(line(2))
    assert read.at == "1700000000.000001", "where the host is asked to go on"
    again = [read.entry(each) for each in (line(1), line(2), line(3), line(4, at=1_700_000_000_000_002))]
    assert [each and each.text for each in again] == [None, None, "m3", "m4"]


@pytest.mark.parametrize(("said", "text"), [("ü", "ü"), ([0xC3, 0xBC, 0xFF], "ü\ufffd"), (None, ""), ([], "")])
def test_a_message_may_be_bytes_or_missing(said: object, text: str) -> None:
    assert logs.message(said) == text


@pytest.mark.parametrize(
    ("code", "said", "line"),
    [
        (
            64,
            "helper: VERB must be …",
            "web1: its helper is of an earlier version: `invoke remote-setup --env shop` renews it",
        ),
        (1, "sudo: a password is required", "web1: cannot read its log: sudo: a password is required"),
        (3, "", "web1: cannot read its log: exit code 3"),
    ],
)
def test_a_host_that_cannot_show_its_log_says_why(code: int, said: str, line: str) -> None:
    known = SimpleNamespace(environment="shop")
    connection = SimpleNamespace(name="web1", end=SimpleNamespace(known=known))
    with pytest.raises(Failure) as raised:
        logs.require_helper(cast(Connection, connection), code, said)
    assert raised.value.message == line


@pytest.mark.parametrize(("moment", "word"), [(0.0, "-"), (1000.0, "600"), (1600.0, "0"), (9999.0, "0")])
def test_a_host_is_asked_by_its_own_clock(moment: float, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1600.0)
    assert logs.since(moment) == word
