"""More processes, and new secrets, on hosts that serve: no request, no task and no session is lost."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.hosts.rekey import KEY
from tests.hosts.release import SITE, WEB, ledger, load, one_release
from tests.rig.machines import Fleet
from tests.rig.visitor import ADMIN, Visitor
from tests.support import one_line, wait_until

STATE = "/srv/portico-test/state"


@contextmanager
def nothing_lost(site: Fleet) -> Iterator[None]:
    """Visitors on both web hosts, and one who asks for exports all the time: no request fails, each task is done."""
    person, ended, pages = Visitor(site["web1"].url), threading.Event(), list[str]()
    refused = list[str]()

    def ask() -> None:
        while not ended.is_set():
            answer = person.post("/exports/")
            if answer.status_code == 302:
                pages.append(answer.headers["Location"].replace("/exports/", "/exports/check/").rstrip("/"))
            else:
                refused.append(f"{answer.status_code}: {answer.text[:200]}")
            time.sleep(0.3)

    asking = threading.Thread(target=ask, daemon=True)
    with load(site):
        asking.start()
        yield
        ended.set()
        asking.join(60)
    assert not refused
    assert pages
    for page in pages:
        wait_until(lambda page=page: person.get(page).json()["state"] == "done", 60, f"{page} is done")


@pytest.fixture
def signed_in(site: Fleet) -> Iterator[Visitor]:
    """An administrator with a session; each web host takes it."""
    person = Visitor(site["web1"].url)
    name, password = ADMIN.split(":")
    assert person.post("/admin/login/", username=name, password=password).status_code == 302
    yield person
    person.http.close()


def same_session(site: Fleet, person: Visitor, name: str) -> int:
    """The answer of a web host's admin pages to the session that a person has: 200, or 302 to sign in."""
    other = Visitor(site[name].url)
    other.http.cookies = person.http.cookies
    answer = other.get("/admin/")
    person.http.cookies = other.http.cookies
    return answer.status_code


def processes(site: Fleet, name: str, unit: str) -> int:
    """The child processes of a unit of the release that serves."""
    full = f"portico-test-{unit}@{site.current(site[name])}.service"
    return int(site[name].sh(f"pgrep -c -P $(systemctl show -P MainPID {full}) || true"))


def test_more_or_fewer_processes_lose_no_request_and_no_task(site: Fleet) -> None:
    before = processes(site, "web1", "web")
    try:
        with nothing_lost(site):
            site.must("remote-scale", "--role", "web", "--number", str(before + 2))
            on = ["--on", "test", "--service", "celery_worker", "--replicas", "1"]
            site.must("scale", *on) if False else site.must("remote-scale", "--role", "worker", "--number", "1")
        assert [processes(site, name, "web") for name in WEB] == [before + 2, before + 2]
        assert processes(site, "jobs1", "worker") == 1
        said = site.invoke("remote-status").stderr
        assert f"web2: web has {before + 2} processes instead of {before}, by `remote-scale`" in said
        assert f'"action": "scale of web to {before + 2}"' in ledger(site, "web2")
    finally:
        for name in SITE:
            site[name].sh(f"rm -f {STATE}/scale")


def test_a_new_secret_key_ends_no_session_and_the_old_one_is_refused_when_it_is_over(
    site: Fleet, signed_in: Visitor
) -> None:
    said = one_line(site.invoke("remote-rotate", "--secret", KEY))
    assert "secrets.SECRET_KEY: env:SITE_SECRET_KEY: the hosts have this value already: export another value" in said
    untouched = Visitor(site["web2"].url)
    untouched.http.cookies.update(signed_in.http.cookies)
    old, release = site.secret_key, one_release(site)
    site.secret_key = secrets.token_urlsafe(48)
    with nothing_lost(site):
        rotating = threading.Thread(target=site.must, args=("remote-rotate", "--secret", KEY))
        rotating.start()
        while rotating.is_alive():
            assert [same_session(site, signed_in, name) for name in WEB] == [200, 200]
            time.sleep(0.5)
        said = one_line(site.invoke("remote-deploy", env={"SITE_SECRET_KEY": old}))
        assert "its SECRET_KEY is one that `remote-rotate` has ended on" in said
        assert one_release(site) == release
        site.must("remote-rotate", "--secret", KEY, "--finish")
    assert [same_session(site, signed_in, name) for name in WEB] == [200, 200], "signed anew on the way"
    for name in SITE:
        kept = site[name].sh("cat /srv/portico-test/releases/*/env")
        assert old not in kept
        assert "FALLBACK" not in kept
    stale = site["web1"].sh(f"cd /srv/portico-test/releases && ls -d */.env.before || true; cat {STATE}/retired")
    assert ".env.before" not in stale
    assert old not in stale


@pytest.mark.parametrize("server", ["database", "broker"])
def test_a_new_password_of_a_server_loses_nothing_and_the_old_one_is_refused(site: Fleet, server: str) -> None:
    old = site["data1"].sh(f"head -n 1 /etc/portico-test/{server}_password").strip()
    release = one_release(site)
    with nothing_lost(site):
        said = site.must("remote-rotate", "--secret", server)
        # A release that was kept has no password of its own.
        site.must("remote-rollback")
    assert one_release(site) != release
    new = site["data1"].sh(f"head -n 1 /etc/portico-test/{server}_password").strip()
    assert new not in ("", old)
    assert new not in said.stdout + said.stderr
    for name in SITE:
        texts = site[name].sh("cat /etc/portico-test/services.env; strings /proc/[0-9]*/environ 2>/dev/null || true")
        assert old not in texts
        assert ".next" not in texts
    assert refused(site, server, old)
    assert not refused(site, server, new)
    assert site["data1"].sh(f"ls /etc/portico-test/{server}_password*").split() == [
        f"/etc/portico-test/{server}_password"
    ]
    assert "no change" in site.must("remote-setup", "--dry-run", "--only", "data1").stdout


def refused(site: Fleet, server: str, password: str) -> bool:
    """Whether a server takes neither the site's account with this password, nor the second one."""
    if server == "broker":
        ask = "rabbitmqctl -q authenticate_user {} -- {} >/dev/null 2>&1 && echo in || echo out"
        accounts = ("portico-test", "portico-test.next")
    else:
        ask = (
            "PGPASSWORD={1} psql 'host=127.0.0.1 sslmode=require dbname=portico_test' -U {0} -c 'select 1' "
            ">/dev/null 2>&1 && echo in || echo out"
        )
        accounts = ("portico_test", "portico_test.next")
    said = [site["data1"].sh(ask.format(account, password)).strip() for account in accounts]
    return said == ["out", "out"]


del os
