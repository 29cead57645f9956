"""More processes, and new secrets, on hosts that serve: no request, no task and no session is lost."""

import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.hosts.rekey import KEY
from tests.hosts.release import SITE, WEB, change, ledger, load, one_release, start
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
            form = person.get("/exports/")
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
            data = {"csrfmiddlewaretoken": token[1] if token else ""}
            answer = person.http.post("/exports/", data=data, headers={"Referer": f"{person.base_url}/exports/"})
            if answer.status_code == 302:
                pages.append(answer.headers["Location"].replace("/exports/", "/exports/check/").rstrip("/"))
            elif answer.status_code != 429:  # several are under way
                refused.append(f"{form.status_code}, {answer.status_code}: {answer.text[:200]}")
            time.sleep(0.5)

    asking = threading.Thread(target=ask, daemon=True)
    with load(site):
        asking.start()
        yield
        ended.set()
        asking.join(60)
    assert not refused
    assert pages
    # One that a web process had not handed over when it ended waits for the site's own task of every five minutes.
    wait_until(lambda: all(person.get(page).json()["state"] == "done" for page in pages), 400, "each export is done")


def signed_in(site: Fleet) -> Visitor:
    """An administrator with a session, which each web host takes."""
    person = Visitor(site["web1"].url)
    name, password = ADMIN.split(":")
    assert person.post("/admin/login/", username=name, password=password).status_code == 302
    return person


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
            site.must("remote-scale", "--role", "worker", "--number", "1")
        assert [processes(site, name, "web") for name in WEB] == [before + 2, before + 2]
        assert processes(site, "jobs1", "worker") == 1
        said = site.invoke("remote-status").stderr
        assert f"web2: web has {before + 2} processes instead of {before}, by `remote-scale`" in said
        assert f'"action": "scale of web to {before + 2}"' in ledger(site, "web2")
    finally:
        for name in SITE:
            site[name].sh(f"rm -f {STATE}/scale")


def test_a_new_secret_key_ends_no_session_and_the_old_one_is_refused_when_it_is_over(site: Fleet) -> None:
    said = one_line(site.invoke("remote-rotate", "--secret", KEY))
    assert "secrets.SECRET_KEY: env:SITE_SECRET_KEY: the hosts have this value already: export another value" in said
    person, idle = signed_in(site), signed_in(site)
    old, release = site.secret_key, one_release(site)
    site.secret_key = secrets.token_urlsafe(48)
    with nothing_lost(site):
        rotating = start(site, "remote-rotate", "--secret", KEY)
        try:
            while rotating.poll() is None:
                assert [same_session(site, person, name) for name in WEB] == [200, 200]
                time.sleep(0.5)
        finally:
            said = rotating.communicate(timeout=300)[0]
        assert rotating.returncode == 0, said
        said = one_line(site.invoke("remote-deploy", env={"SITE_SECRET_KEY": old}))
        assert "its SECRET_KEY is one that `remote-rotate` has ended on" in said
        assert one_release(site) == release
        site.must("remote-rotate", "--secret", KEY, "--finish")
    assert [same_session(site, person, name) for name in WEB] == [200, 200], "signed anew on the way"
    assert same_session(site, idle, "web2") == 302, "what only the old key has signed is refused"
    for name in SITE:
        kept = site[name].sh("cat /srv/portico-test/releases/*/env")
        assert old not in kept
        assert "FALLBACK" not in kept
    stale = site["web1"].sh(f"cd /srv/portico-test/releases && ls -d */.env.before || true; cat {STATE}/retired")
    assert ".env.before" not in stale
    assert old not in stale


def test_new_passwords_of_database_and_broker_lose_nothing_and_the_old_ones_are_refused(site: Fleet) -> None:
    def password(server: str) -> str:
        return site["data1"].sh(f"head -n 1 /etc/portico-test/{server}_password").strip()

    servers = ("database", "broker")
    old = {server: password(server) for server in servers}
    kept = another_release(site)
    with nothing_lost(site):
        said = site.must("remote-rotate", "--secret", ",".join(servers))
        # A release that was kept has no password of its own.
        site.must("remote-rollback", "--to", kept)
    assert one_release(site) == kept
    for server in servers:
        new = password(server)
        assert new not in {"", old[server]}
        assert new not in said.stdout + said.stderr
        assert refused(site, server, old[server])
        assert not refused(site, server, new)
    for name in SITE:
        used = site[name].sh(
            "cat /etc/portico-test/services.env /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' || true"
        )
        assert not [text for text in (*old.values(), ".next") if text in used]
    assert "password.next" not in site["data1"].sh("ls /etc/portico-test")
    assert "no change" in site.must("remote-setup", "--dry-run", "--only", "data1").stdout


def another_release(site: Fleet) -> str:
    """A release that has served on all hosts and does not serve now."""
    now = one_release(site)
    served = [set(site[name].sh("cd /srv/portico-test/releases; ls -d */served").split()) for name in SITE]
    found = sorted(each.removesuffix("/served") for each in set.intersection(*served))
    if found == [now]:
        change(site, secrets.randbelow(10**6))
        site.must("remote-deploy")
        return now
    return next(each for each in found if each != now)


def refused(site: Fleet, server: str, password: str) -> bool:
    """Whether a server takes neither the site's account with this password, nor the second one."""
    if server == "broker":
        asked, accounts = site["data1"], ("portico-test", "portico-test.next")
        ask = "rabbitmqctl -q authenticate_user {0} -- {1}"
    else:
        asked, accounts = site["web1"], ("portico_test", "portico_test.next")
        there = f"host={site['data1'].address} sslmode=require dbname=portico_test"
        ask = f"PGPASSWORD={{1}} psql '{there} user={{0}}' -c 'select 1'"
    said = [asked.sh(f"{ask.format(each, password)} >/dev/null 2>&1 && echo in || echo out") for each in accounts]
    return [each.strip() for each in said] == ["out", "out"]
