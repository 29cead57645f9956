"""A maintenance: what may be asked for, what nginx finds, what is said of it."""

from __future__ import annotations

import json
import re
from ipaddress import IPv6Address, ip_address, ip_network

import pytest

from deploy.core.errors import Failure
from deploy.project import maintenance, proxy
from deploy.project.maintenance import Record, Wanted
from tests.support import ROOT
from tests.unit.project.test_proxy import client, clients

SITE = (ROOT / "nginx" / "site.conf").read_text()
ON = Record("2026-11-28T15:00:59+00:00", "ann@laptop", allow=["203.0.113.4"], hold=["workers", "beat"])


def asked(
    *, start: bool = True, stop: bool = False, message: str = "", allow: str = "", hold: str = ""
) -> Wanted | None:
    lists = {"allow": allow.split(",") if allow else [], "hold": hold.split(",") if hold else []}
    return maintenance.asked(start=start, stop=stop, message=message, **lists)


# --- What may be asked for ---


def test_without_a_message_there_is_one() -> None:
    assert asked() == Wanted(maintenance.MESSAGE, (), ())
    assert asked(hold="beat,workers", message="  Back   soon ") == Wanted("Back soon", (), ("workers", "beat"))
    assert asked(start=False, stop=True) is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"start": False}, "say --start, or --stop for its end"),
        ({"stop": True}, "say --start, or --stop for its end"),
        ({"start": False, "stop": True, "hold": "beat"}, "--stop: takes no --message, --allow or --hold"),
        ({"hold": "web"}, "--hold web: must be workers, beat or workers,beat"),
        ({"message": "x" * 301}, "--message: has 301 characters, and at most 300 are shown"),
        ({"message": "a\nb"}, "--message: has control characters"),
        ({"message": "a\x1b[2Jb"}, "--message: has control characters"),
        ({"message": "a\u2028b"}, "--message: has control characters"),
        ({"allow": "office"}, "--allow office: 'office' does not appear to be"),
        ({"allow": "../../etc"}, "--allow ../../etc: "),
        ({"allow": "203.0.113.5/24"}, "--allow 203.0.113.5/24: 203.0.113.5/24 has host bits set"),
        (
            {"allow": "10.0.0.0/8"},
            "--allow 10.0.0.0/8: must be a network of /16 to /32, or one address: name several of those",
        ),
        (
            {"allow": "2001:db8::/48"},
            "--allow 2001:db8::/48: must be a network of /56 to /64, or one address: name several of those",
        ),
        ({"allow": ",".join(["203.0.113.4"] * 51)}, "--allow: names 51 addresses, and at most 50"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_option(options: dict[str, str], line: str) -> None:
    with pytest.raises(Failure) as error:
        asked(**options)  # type: ignore[arg-type]
    assert error.value.message.startswith(line)


# --- Who sees the site ---


def network(address: str) -> str:
    """What site.conf has as $client_network of an address."""
    for pattern, _ in clients("client_network"):
        found = pattern != "default" and re.search(pattern.strip('"~').replace("(?<", "(?P<"), address)
        if found:
            return str(found["first_three"])
    return client(address)


def sees(address: str, allow: list[str]) -> bool:
    there = maintenance.names(allow)
    return address in there or network(address) in there


@pytest.mark.parametrize(
    "allowed",
    [
        *("203.0.113.4", "203.0.113.8/29", "203.0.113.0/24", "203.0.112.0/22", "203.0.0.0/16"),
        *("2001:db8::5", "2001:db8:1:2::/64", "2001:db8::/64", "2001:db8:1::/64", "2001:db8:0:1::/64"),
        *("2001:0:0:5::/64", "2001:db8:0:8::/61", "2001:db8:aa:100::/56", "fe80::/64", "2001:0:0:0:0:0:0:1"),
    ],
)
def test_a_network_is_all_of_its_addresses_and_no_other(allowed: str) -> None:
    whole = ip_network(allowed)
    first, last = int(whole.network_address), int(whole.broadcast_address)
    inside = {first, last, first + (last - first) // 3, first + (last - first) // 2}
    if whole.version == 6 and whole.prefixlen < 128:
        # Zeros in all places of the host's part: an address is written with `::` for the longest run of them.
        parts = [0, 1, 0xA0000, 0xB0000000A, 0xC000000000001, 0xD00000000000, 0xE0000000F000A, 0xFFFF00000000]
        networks = [int(each.network_address) for each in whole.subnets(new_prefix=64)]
        inside |= {each + part for each in (networks[0], networks[-1], networks[len(networks) // 2]) for part in parts}
    make = type(whole.network_address)
    for each in inside:
        assert sees(str(make(each)), [allowed]), make(each)
    for each in (first - 1, last + 1, first ^ (1 << (whole.max_prefixlen - 10))):
        assert not sees(str(make(each)), [allowed]), make(each)


def test_the_network_of_64_bits_has_a_name_for_each_way_it_is_written() -> None:
    assert maintenance.files_of("2001:db8::/64") == ["2001:db8:0:0:", "2001:db8::"]
    assert maintenance.files_of("203.0.112.0/23") == ["203.0.112", "203.0.113"]
    assert maintenance.files_of("203.0.113.4/31") == ["203.0.113.4", "203.0.113.5"]
    assert str(IPv6Address("2001:db8:0:0:1:0:0:0")) == "2001:db8:0:0:1::"
    assert max(len(maintenance.files_of(each)) for each in ("203.0.0.0/16", "2001:db8::/56")) <= 768


def test_what_is_a_name_of_a_file_needs_no_quotes() -> None:
    names = maintenance.names(["203.0.0.0/16", "2001:db8::/56", "::1", "127.0.0.1"])
    assert [name for name in names if not re.fullmatch("[0-9a-f.:]+", name)] == []


# --- What nginx does ---


def test_nginx_asks_for_the_folder_that_each_place_has() -> None:
    front = proxy.Front(
        ["a.example"], tls=False, https_port=443, trusted=[], maintenance_root="/srv/x/state/maintenance"
    )
    assert "map $host $maintenance_root { default /srv/x/state/maintenance; }" in proxy.http(front, proxy.ALL)


def test_pages_of_the_project_come_before_ours() -> None:
    for status in (502, 503, 504):
        assert SITE.index("include /etc/nginx/site/local.conf;") < SITE.index(f"error_page {status} ")


def test_health_and_the_page_itself_and_renewals_have_no_maintenance() -> None:
    [pattern] = re.findall(r'if \(\$uri ~ "(.+)"\) \{.*\n\s+set \$in_maintenance "";', SITE)
    assert [
        path
        for path in ("/healthz", "/readyz", "/-/maintenance", "/.well-known/acme-challenge/x")
        if not re.search(pattern, path)
    ] == []
    assert [
        path for path in ("/", "/healthz/x", "/x/healthz", "/-/", "/.well-known/") if re.search(pattern, path)
    ] == []


def test_the_pages_name_no_software_and_need_nothing_else() -> None:
    [unanswered] = re.findall(r"map \$host \$unanswered_page \{\n    default '(.+)';", SITE)
    for text in (unanswered, maintenance.page("x")):
        assert text.startswith("<!doctype html>")
        assert not re.search(r"nginx|django|portico|https?:|src=|href=|<script", text, re.IGNORECASE)


def test_the_message_is_text() -> None:
    page = maintenance.page('<script>alert("1")</script> & $x {{ y }}')
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; $x {{ y }}" in page


# --- What is said of it ---


def test_a_record_is_read_back_from_one_line() -> None:
    assert "\n" not in ON.text
    assert maintenance.read(ON.text) == ON


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"since": 1}', json.dumps({"since": "", "by": "", "allow": 1})]
)
def test_what_is_no_record_is_none(text: str) -> None:
    assert maintenance.read(text) is None


def test_it_is_said_since_when_by_whom_and_for_whom() -> None:
    assert maintenance.said(ON) == (
        "maintenance since 2026-11-28 15:00 UTC, by ann@laptop: visitors get 503; 203.0.113.4 see the site;"
        " workers and beat are held"
    )
    assert maintenance.said(Record("2026-11-28T15:00:59+00:00", "\x1b[2Jann")) == (
        "maintenance since 2026-11-28 15:00 UTC, by [2Jann: visitors get 503"
    )


def test_one_that_goes_on_keeps_its_time_and_its_author() -> None:
    again = maintenance.record(Wanted("Later", ("::1",), ("beat",)), ON, {"celery_beat": 1})
    assert again == Record(ON.since, "ann@laptop", "Later", ("::1",), ("beat",), {"celery_beat": 1})
    assert ip_address(again.allow[0]).is_loopback
