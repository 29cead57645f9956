"""Certificates of an ACME directory: what the file says, what hosts get, what status says of them."""

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment.file import load, parse
from deploy.hosts.environment.model import Host
from deploy.hosts.environment.tls import LETS_ENCRYPT
from deploy.hosts.release import health, state
from deploy.hosts.setup import acme
from deploy.hosts.setup.desired import setup_digest, setup_mark
from deploy.hosts.setup.diff import Facts, File, diff
from deploy.hosts.setup.plan import render
from deploy.hosts.setup.remove import removal
from deploy.hosts.setup.site import Learned, Plan
from deploy.hosts.ssh.channel import script
from deploy.hosts.ssh.connect import Connection, Connections
from tests.unit.hosts.test_environment_file import PROJECT, VALID, complaints, project, valid
from tests.unit.hosts.test_remove import seen
from tests.unit.hosts.test_setup import ACCESS, TEXT, files, host, site, wanted

T = TypeVar("T")
ACME = f"tls: acme\n{TEXT}"
OWN = f"tls: {{acme: {{email: a@b.example, directory: 'https://ca.example/d', ca: ca.pem}}}}\n{TEXT}"
KNOWN = Learned(
    access=ACCESS,  # type: ignore[arg-type]
    addresses={"10.0.0.1": ("10.0.0.1",), "10.0.0.2": ("10.0.0.2",)},
    handover={"web1": "KEY OF web1\n", "web2": "KEY OF web2\n"},
)
ISSUED = f"{LETS_ENCRYPT} web1 shop.example\n"


def on(name: str, text: str = ACME, learned: Learned = KNOWN) -> dict[str, File]:
    return files(wanted(name, text, learned))


# --- The file ---


@pytest.mark.parametrize("text", ["acme", "{acme: }", "{acme: {}}"])
def test_acme_alone_is_lets_encrypt(text: str) -> None:
    said = parse(f"{VALID}tls: {text}\n", "x", PROJECT)
    assert said.acme
    assert (said.acme.directory, said.acme.email, said.acme.ca) == (LETS_ENCRYPT, None, None)
    assert said.secure
    assert said.tls
    assert said.tls.pair is None


def test_another_directory_has_an_address_and_may_have_an_authority_of_its_own() -> None:
    found = parse(OWN, "x", PROJECT).acme
    assert found
    assert (found.email, found.directory, found.ca) == ("a@b.example", "https://ca.example/d", PROJECT / "ca.pem")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            "tls: letsencrypt\n",
            "25: tls: 'letsencrypt' is not known; write acme, or name the files with certificate and",
        ),
        ("tls: {acme: {mail: a@b.example}}\n", "25: tls.acme.mail: is not known; did you mean email?"),
        ("tls: {acme: {email: me}}\n", "25: tls.acme.email: 'me' is not a mail address"),
        ("tls: {acme: {directory: http://a.example}}\n", "25: tls.acme.directory: must be the address of an ACME"),
        ('tls: {acme: {directory: "https://a.example/\'$(id)"}}\n', "25: tls.acme.directory: has letters that no addr"),
        ("tls: {acme: {}, key: k}\n", "25: tls.key: is there beside acme; remove one of the two"),
        ("tls: {key: k}\n", "25: tls.certificate: is missing; certificate and key are a pair, or write tls: acme"),
        (
            "tls: acme\nallowed_hosts: [.shop.example]\n",
            "26: allowed_hosts: tls: acme cannot prove all names below shop.",
        ),
    ],
)
def test_what_no_order_can_be_made_of_is_named_with_its_line(more: str, line: str) -> None:
    [said] = complaints(VALID + more)
    assert said.startswith(f"deploy/environments/x.yaml:{line}"), said


def test_a_domain_that_the_internet_does_not_know_cannot_be_certified() -> None:
    for domain in ("shop", "203.0.113.1"):
        [said] = complaints(valid(("domain: shop.example", f"domain: {domain}"), more="tls: acme\n"))
        assert said.endswith(f"1: domain: tls: acme needs a name that the Internet knows, and {domain} is none")


def test_addresses_and_names_without_a_dot_are_served_and_not_certified() -> None:
    more = "tls: acme\nallowed_hosts: [localhost, 127.0.0.1, WWW.shop.example]\n"
    assert parse(VALID + more, "x", PROJECT).certified == ("shop.example", "www.shop.example")


def test_the_authority_of_a_directory_is_needed_only_where_hosts_are_set_up(tmp_path: Path) -> None:
    there = project(tmp_path, valid(more="tls: {acme: {ca: ca.pem}}\n"))
    assert load(there, "x").secure
    with pytest.raises(Failure, match=rf"x.yaml:25: tls.acme.ca: {tmp_path}/ca.pem: there is no such file"):
        load(there, "x", pair=True)


# --- What hosts get ---


def test_the_first_web_host_orders_and_the_others_pass_the_question_on_and_ask_it() -> None:
    first, second = on("web1"), on("web2")
    assert {"certbot", "openssl"} <= set(wanted("web1", ACME, KNOWN).packages)
    for name in ("web2", "jobs1", "data1"):
        assert "certbot" not in wanted(name, ACME, KNOWN).packages
    where = "    location ^~ /.well-known/acme-challenge/ {\n        limit_except GET { deny all; }\n"
    assert f"{where}        root /srv/shop-x/challenges;\n" in first["/etc/nginx/shop-x/http.conf"].text
    assert f"{where}        proxy_pass http://10.0.0.1:80;\n" in second["/etc/nginx/shop-x/http.conf"].text
    asked = "location = /handover { alias /srv/shop-x/handover/pair; default_type application/octet-stream; }"
    assert asked in first["/etc/nginx/shop-x/http.conf"].text
    assert "handover" not in second["/etc/nginx/shop-x/http.conf"].text
    assert "FROM=http://10.0.0.1:8082/handover\nPEERS=shop-x.peers\n" in second["/etc/shop-x/certificate.conf"].text
    assert first["/etc/shop-x/certificate.conf"].text == (
        f"ISSUED='{ISSUED.strip()}'\nDIRECTORY={LETS_ENCRYPT}\nEMAIL=''\nNAMES=shop.example\n"
    )
    assert "OnCalendar=*-*-* 00,12:00:00" in first["/etc/systemd/system/shop-x-certificate.timer"].text
    assert "OnCalendar=hourly" in second["/etc/systemd/system/shop-x-certificate.timer"].text


def test_hosts_know_the_public_keys_of_each_other_and_no_private_key_leaves_its_host() -> None:
    assert on("web1")["/etc/shop-x/recipients.pem"].text == "KEY OF web2\n"
    assert on("web2")["/etc/shop-x/sender.crt"].text == "KEY OF web1\n"
    three = TEXT.replace("  jobs1", "  web3: {address: 203.0.113.9, private_address: 10.0.0.9, roles: [web]}\n  jobs1")
    assert "/etc/shop-x/recipients.pem" not in on("web1", f"tls: acme\n{three}"), "one is not known yet"
    for name in ("web1", "web2"):
        assert not [path for path in on(name) if "tls." in path or path.endswith(".key")]


def test_the_pair_is_one_file_that_the_host_keeps_and_those_of_before_go() -> None:
    for name in ("web1", "web2"):
        found = wanted(name, ACME, KNOWN)
        assert "ssl_certificate_key /etc/nginx/shop-x/tls.pem;" in files(found)["/etc/nginx/shop-x/server.conf"].text
        assert "/etc/nginx/shop-x/tls.pem" not in found.absent
        assert {"/etc/nginx/shop-x/tls.crt", "/etc/nginx/shop-x/tls.key"} <= set(found.absent)
    without = wanted("web1")
    assert {"/etc/nginx/shop-x/tls.pem", "/usr/local/lib/shop-x/certificate"} <= set(without.absent)
    assert "shop-x-certificate.timer" in [idle.name for idle in without.idle]
    assert "certbot" not in without.packages
    assert "acme-challenge" not in files(without)["/etc/nginx/shop-x/http.conf"].text


def test_plain_http_is_a_redirect_also_among_the_sites_of_others() -> None:
    for learned in (KNOWN, replace(KNOWN, shares_nginx=True)):
        text = on("web1", learned=learned)["/etc/nginx/shop-x/http.conf"].text
        [server] = re.findall(r"^server \{\n    listen 80;\n.*?^}", text, re.MULTILINE | re.DOTALL)
        assert "    location / { return 308 https://$host$request_uri; }\n" in server
        assert server.index("include /etc/nginx/shop-x/defaults.conf;") < server.index("location")


def test_what_nginx_shows_is_there_before_its_files_are_checked() -> None:
    titles = [change.title for change in diff(wanted("web1", ACME, KNOWN), Facts())]
    made = titles.index("certificate: make all")
    assert titles.index("+ /etc/nginx/shop-x/ root:root 755") < made
    assert titles.index(next(title for title in titles if title.startswith("+ packages"))) < made
    assert made < titles.index("+ /etc/nginx/shop-x/http.conf root:root 644")


def test_a_directory_s_own_authority_is_known_to_the_host_that_orders_and_is_no_part_of_the_digest() -> None:
    here = replace(site(OWN), authority="CA")
    assert files(acme.with_certificate(here, host(here, "web1"), KNOWN))["/etc/shop-x/acme_ca.crt"].text == "CA"
    assert "/etc/shop-x/acme_ca.crt" not in files(acme.with_certificate(here, host(here, "web2"), KNOWN))
    assert setup_digest(here, host(here, "web1")) == setup_digest(site(OWN), host(here, "web1")), "a deploy has no file"
    assert setup_digest(here, host(here, "web1")) != setup_digest(site(), host(here, "web1"))
    assert len(setup_mark(here, host(here, "web1")).split()) == 1, "the certificate is not this machine's"


# --- The order ---


def test_an_order_is_a_part_of_the_plan_until_the_host_notes_the_certificate_for_these_names() -> None:
    def titles(name: str, text: str, noted: str) -> list[str]:
        digest = sha256(noted.encode()).hexdigest() if noted else ""
        here = site(text)
        return [change.title for change in acme.later(here, host(here, name), Facts(issued=digest))]

    order = ["order a certificate for shop.example at acme-v02.api.letsencrypt.org"]
    assert titles("web1", ACME, "") == order
    assert titles("web2", ACME, "") == ["get the certificate for shop.example from web1"]
    assert titles("web1", ACME, ISSUED) == titles("web2", ACME, ISSUED) == []
    assert titles("web1", TEXT, "") == titles("jobs1", ACME, "") == []
    assert titles("web1", f"allowed_hosts: [a.example]\n{ACME}", ISSUED), "another name"
    assert titles("web1", OWN, ISSUED), "another directory"
    assert "  order a certificate for shop.example at" in render(
        "web1", acme.later(site(ACME), host(site(ACME), "web1"), Facts()), details=False
    )


def test_a_check_of_drift_names_a_certificate_that_is_not_there() -> None:
    here = site(ACME)
    plan = Plan((), "shop-x", ("a: b",), acme.later(here, host(here, "web2"), Facts()))
    lacks = "certificate: not there, or not renewed; to get the certificate for shop.example from web1"
    assert plan.differences == ("a: b", lacks)


class Asked(Connections):
    """Connections that note who is asked; some hosts fail."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.order = failing, list[list[str]]()

    def on_all(
        self, hosts: Iterable[Host], function: Callable[[Connection], T], limit: int = 0
    ) -> dict[str, T | Failure]:
        names = [each.name for each in hosts]
        self.order.append(names)
        return {name: Failure(f"{name}: no") if name in self.failing else cast(T, None) for name in names}


def test_the_others_are_handed_the_certificate_after_the_order_and_not_asked_if_it_fails() -> None:
    here = site(ACME)
    plans = {each.name: Plan((), "shop-x app db site shop-x") for each in here.environment.hosts}
    good, bad = Asked(), Asked("web1")

    def as_root(_connection: Connection, _text: str, _data: bytes) -> None:
        raise AssertionError

    assert acme.obtain(here, here.environment.hosts, plans, good, as_root) == {}
    assert good.order == [["web1"], ["web2"]]
    assert list(acme.obtain(here, here.environment.hosts, plans, bad, as_root)) == ["web1"]
    assert bad.order == [["web1"]]


# --- Why an order failed ---

AUTH = "Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported:\n"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            f"{AUTH}  Domain: a.example\n  Type:   dns\n  Detail: NXDOMAIN",
            "a.example: its name does not lead here (NXDOM",
        ),
        (
            f"{AUTH}  Domain: a.example\n  Type:   connection\n  Detail: refused",
            "a.example: port 80 does not answer the",
        ),
        (
            f"{AUTH}  Domain: a.example\n  Type:   connection\n  Detail: error while resolving URL",
            "a.example: its name does not lead here",
        ),
        (
            f"{AUTH}  Domain: a.example\n  Type:   unauthorized\n  Detail: 404",
            "a.example: something else answers there",
        ),
        (f"{AUTH}  Domain: a.example\n  Type:   caa\n  Detail: forbids", "a.example: caa: forbids"),
        (
            "HTTPSConnectionPool(host='ca.example', port=443): Max retries exceeded: refused",
            "https://ca.example/d cannot be",
        ),
        ("ValueError: Requesting 10.0.0.1/d: Connection refused", "https://ca.example/d cannot be reached"),
        (
            "Failed to renew certificate x with error: HTTPSConnectionPool(): Max retries\n1 renew failure(s)",
            "https://ca.example/d cannot be reached: check the address, and whether this host may reach it",
        ),
        (
            "HTTPSConnectionPool(): [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            "https://ca.example/d shows a",
        ),
        (
            "AttributeError: can't set\nacme.messages.Error: urn:ietf:params:acme:error:rateLimited :: too many",
            "https://ca.example/d says: urn:ietf:params:acme:error:rateLimited :: too many",
        ),
        ("Saving debug log to x\nAsk for help", "certbot: no reason given"),
    ],
)
def test_why_an_order_failed_is_one_line_with_what_to_do(tmp_path: Path, log: str, line: str) -> None:
    (tmp_path / "log").write_text(f"{log}\n")
    (tmp_path / "more").write_text(f"{log}\n")
    [function] = re.findall(r"^why_not_ordered\(\) \{.*?^}", script("certificate.sh"), re.MULTILINE | re.DOTALL)
    text = f"set -eu\nDIRECTORY=https://ca.example/d\n{function}\nwhy_not_ordered {tmp_path}/log {tmp_path}/more\n"
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.startswith(line), done
    assert done.stdout.count("\n") == 1


# --- What status says ---

NOW = 1_800_000_000.0
DAY = 86400


def said(*lines: str) -> list[str]:
    text = "\n".join(("setup abc", "roles web", "unit web x active", "current x", *lines))
    return list(health.wrong(("web",), state.parse("web1", text), health.parse(text), "production", NOW))


def certificate(left: float, whole: float) -> str:
    return f"certificate {int(NOW + left * DAY)} {int(NOW + (left - whole) * DAY)}"


SETUP = "`invoke remote-setup --env production`"


def test_a_certificate_that_was_not_renewed_is_wrong_with_its_days_and_the_reason() -> None:
    assert said(certificate(40, 90)) == []
    assert said(certificate(29, 90), f"renewal {int(NOW) - 7200} a.example: no") == [
        f"its certificate ends in 29 days, and was not renewed 2 hours ago: a.example: no; then {SETUP}"
    ]
    first = (certificate(36000, 36500), "renewal never")
    assert said(*first) == [f"has no certificate yet: {SETUP} orders it"]
    assert said(*first, f"renewal {int(NOW)} a.example: no") == [f"has no certificate yet: a.example: no; then {SETUP}"]
    assert health.days(health.parse("\n".join(first)), NOW) is None


def test_a_certificate_is_late_with_21_days_left_or_a_fourth_of_a_shorter_time() -> None:
    assert "ends in 20 days" in said(certificate(20.5, 90))[0]
    assert said(certificate(12, 45)) == [], "which is renewed with 15 days left"
    assert "ends in 10 days" in said(certificate(10.5, 45))[0]
    assert said(certificate(2, 6.6)) == []


# --- Its removal ---


def test_a_removal_takes_the_site_s_own_certificate_and_nothing_of_other_certbots() -> None:
    found = [step for change in removal(seen("web1"), host(site(), "web1"), ()) for step in change.steps]
    for step in (
        "quit shop-x-certificate.timer",
        "quit shop-x-certificate.service",
        "absent /etc/systemd/system/shop-x-certificate.timer",
        "absent /etc/nginx/shop-x/tls.pem",
        "erase /var/lib/shop-x-certificate",
        "erase /srv/shop-x/challenges",
        "erase /srv/shop-x/handover",
    ):
        assert step in found
    assert found.index("quit shop-x-certificate.timer") < found.index("quit shop-x-certificate.service")
    everything = "\n".join([*found, script("certificate.sh").replace("those of others in /etc/letsencrypt", "")])
    assert "/etc/letsencrypt" not in everything
