"""The rotation of secrets on hosts: what is decided, and what `rekey.py` and `rotate.sh` do with a host's files."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from deploy.core.errors import Failure
from deploy.hosts import rekey
from deploy.hosts.environment import file
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.rekey import FALLBACK, KEY, digest
from deploy.hosts.release import kept, rotate, rotate_server, state
from deploy.hosts.release.restart import UnderWay
from deploy.hosts.release.rotate import Rotation
from deploy.hosts.release.rotate_server import NotPutBack
from deploy.hosts.release.state import HostState
from deploy.hosts.ssh.channel import script
from tests.support import ROOT
from tests.unit.hosts.test_restart import FILE, RELEASE

OLDER = "20251231-000000-bbbbbbb"
SOURCES = "secrets: {SECRET_KEY: file:key, MAIL_PASSWORD: 'command:pass show mail', MAP_KEY: env:MAP}"


def environment(secrets: str = SOURCES, *more: str) -> Environment:
    return file.parse("\n".join([FILE.replace("secrets: {SECRET_KEY: env:KEY}", secrets), *more]), "x", ROOT)


# --- What to do ---


def test_a_secret_is_named_as_in_the_file_and_a_server_by_its_role() -> None:
    found = rotate.wanted(environment(), "MAIL_PASSWORD")
    assert found is not None
    assert (found.key, str(found.source)) == ("secrets.MAIL_PASSWORD", "command:pass show mail")
    assert rotate.wanted(environment(), "database") is None
    known = "there are: SECRET_KEY, MAIL_PASSWORD, MAP_KEY, database, broker"
    with pytest.raises(Failure, match=f"--secret TYPO: is not one; {known}"):
        rotate.wanted(environment(), "TYPO")
    with pytest.raises(Failure, match=r"no host of deploy/environments/x\.yaml has the role redis"):
        rotate.wanted(environment(), "redis")


def test_the_url_of_a_server_elsewhere_is_a_secret_as_any_other() -> None:
    text = FILE.replace("  data1: {roles: [database, broker]}\n", "")
    there = file.parse(f"{text}services: {{database: env:DB, broker: 'amqps://b.example/x'}}\n", "x", ROOT)
    found = rotate.wanted(there, "database")
    assert found is not None
    assert (found.name, found.key, str(found.source)) == ("DATABASE_URL", "services.database", "env:DB")
    with pytest.raises(Failure, match=r"services\.broker: is a URL without a secret; name a source for it"):
        rotate.wanted(there, "broker")


def test_a_file_that_the_hosts_have_gets_a_new_key_and_other_sources_are_the_persons_own() -> None:
    here, current = environment(), {"web1": RELEASE, "jobs1": RELEASE}
    key, mail = rotate.wanted(here, KEY), rotate.wanted(here, "MAIL_PASSWORD")
    assert key is not None
    assert mail is not None
    same = {name: {RELEASE: {KEY: "x", "MAIL_PASSWORD": "x"}} for name in current}
    assert rotate.generates(here, key, "x", same, current)
    assert not rotate.generates(here, key, "another", same, current), "it has been changed there"
    half = {**same, "jobs1": {RELEASE: {KEY: "y"}}}
    assert not rotate.generates(here, key, "x", half, current), "a rotation was interrupted: it goes on with that"
    with pytest.raises(Failure) as said:
        rotate.generates(here, mail, "x", same, current)
    assert said.value.message == (
        "deploy/environments/x.yaml: secrets.MAIL_PASSWORD: command:pass show mail: the hosts have this value already:"
        " store another value there, then run this again"
    )


def test_the_steps_of_a_key_of_another_secret_and_of_servers() -> None:
    here = environment()
    due = [(here.hosts[0], ["web"]), (here.hosts[1], ["worker", "beat"])]
    again = (
        "restart, one web host after the other, and one of the others after the other: web1: web; jobs1: worker, beat"
    )
    assert rotate.described(here, KEY, due, finish=False)[1:5] == [
        "2. web1, jobs1: all kept releases accept the new key too",
        f"3. {again}",
        "4. web1, jobs1: the new key signs in all kept releases, the old one is accepted",
        f"5. {again}",
    ]
    assert rotate.described(here, KEY, due, finish=True)[1] == f"2. {again}"
    assert rotate.described(here, "MAP_KEY", due, finish=False) == [
        "1. web1, jobs1: all kept releases get the MAP_KEY of env:MAP",
        f"2. {again}",
    ]
    assert rotate.described(here, "broker", due, finish=False) == [
        "1. data1: a second account for the broker",
        f"2. web1, jobs1: services.env names it; {again}",
        "3. data1: the account itself has a new password of the broker",
        f"4. web1, jobs1: services.env names it; {again}",
        "5. data1: the second account is removed",
    ]
    assert rotate.described(here, "database,broker", due, finish=False)[:2] == [
        "1. data1: a second account for the database",
        "1. data1: a second account for the broker",
    ]
    with pytest.raises(Failure, match="MAP_KEY must be rotated by itself: it comes from another source"):
        rotate.wanted(here, "database,MAP_KEY")


def test_a_rollback_names_the_secrets_that_differ() -> None:
    hosts = environment().site_hosts
    found = {
        "web1": {RELEASE: {KEY: "a", "MAP_KEY": "b"}, OLDER: {KEY: "a", "MAP_KEY": "c", "MAIL_PASSWORD": "d"}},
        "jobs1": {RELEASE: {KEY: "a"}, OLDER: {KEY: "a"}},
    }
    current = dict.fromkeys(found, RELEASE)
    assert kept.differing(found, current, OLDER, hosts) == [
        f"web1: {OLDER} has another MAIL_PASSWORD, another MAP_KEY than what serves now"
    ]


def test_what_a_server_says_of_its_accounts_is_read_or_refused() -> None:
    found = rotate_server.parse("first shop_x shop_x p1\nsecond shop_x.next shop_x p2\n")
    assert found["second"].account == "shop_x.next"
    assert found["second"].password.get_secret_value() == "p2"
    assert rotate_server.parse("first - - p1\nsecond .next - p2\n")["first"].account == ""
    with pytest.raises(Failure, match="run the command again"):
        rotate_server.parse("first shop_x shop_x p1\n")


def test_status_names_the_secrets_of_which_two_are_valid() -> None:
    states = [state.parse("web1", "rotating SECRET_KEY"), state.parse("data1", "rotating broker")]
    command = "`invoke remote-rotate --env x --secret"
    assert rotate.remarks(states, "x") == [
        f"the SECRET_KEY of before is still accepted: {command} SECRET_KEY --finish` ends that",
        f"a rotation of the broker has not ended: {command} broker` goes on with it",
    ]


# --- Restarts ---


@pytest.fixture
def rotation(monkeypatch: pytest.MonkeyPatch) -> tuple[Rotation, list[str], set[str]]:
    """A rotation on three hosts, what restarts there, and the hosts that fail, once each."""
    text = FILE.replace("  jobs1:", "  web2: {roles: [web]}\n  jobs1:")
    web1, web2, jobs1 = file.parse(text, "x", ROOT).site_hosts
    done, failing = list[str](), set[str]()

    def restart_host(_: object, host: Host, kinds: list[str], __: object) -> None:
        done.append(f"{host.name} {' '.join(kinds)}")
        if host.name in failing:
            failing.remove(host.name)
            raise Failure(f"{host.name}: does not start again")

    monkeypatch.setattr("deploy.hosts.release.restart.restart_host", restart_host)
    due = [(web1, ["web"]), (web2, ["web"]), (jobs1, ["worker", "beat"])]
    states = {host.name: HostState(host.name, current=RELEASE) for host, _ in due}
    return Rotation(UnderWay(Mock(), states, lambda: None, {}), due), done, failing


def test_one_web_host_restarts_after_the_other_and_the_others_beside_them(
    rotation: tuple[Rotation, list[str], set[str]],
) -> None:
    this, done, _ = rotation
    this.restart(None)
    assert [line for line in done if "web" in line] == ["web1 web", "web2 web"]
    assert "jobs1 worker beat" in done


def test_a_unit_that_does_not_come_back_puts_all_back_that_has_begun(
    rotation: tuple[Rotation, list[str], set[str]],
) -> None:
    this, done, failing = rotation
    failing.add("web1")
    with pytest.raises(Failure, match="web1: does not start again"):
        this.restart(lambda: done.append("back"))
    before, after = done[: done.index("back")], done[done.index("back") + 1 :]
    assert "web2 web" not in before
    assert sorted(after) == sorted(before), "what has begun restarts with what it had"


def test_what_cannot_be_put_back_is_said_as_that(rotation: tuple[Rotation, list[str], set[str]]) -> None:
    this, _, failing = rotation
    failing.add("jobs1")

    def back() -> None:
        raise Failure("web2: nothing answers")

    with pytest.raises(NotPutBack, match="jobs1: does not start again; and cannot be put back: web2: nothing answers"):
        this.restart(back)


# --- The environments of releases ---


def test_an_environment_is_read_and_written_as_a_shell_does() -> None:
    text = "A=1\nB='it'\"'\"'s $x'\nC='-----BEGIN\nEND-----'\nD=''\n"
    found = rekey.parse(text)
    assert found == {"A": "1", "B": "it's $x", "C": "-----BEGIN\nEND-----", "D": ""}
    assert rekey.text_of(found) == text


def test_a_key_goes_from_accepted_to_signing_and_the_old_one_ends() -> None:
    old = {KEY: "old", "A": "1"}
    accepting = rekey.changed(old, "accept", KEY, "new", "old")
    assert accepting == {KEY: "old", "A": "1", FALLBACK: "new"}
    signing = rekey.changed(accepting, "switch", KEY, "new", "old")
    assert signing == {KEY: "new", "A": "1", FALLBACK: "old"}
    assert rekey.changed(signing, "finish", KEY, "", "new") == {KEY: "new", "A": "1"}
    for verb in ("accept", "switch"):
        assert rekey.changed(signing, verb, KEY, "new", "new") == signing, "an interrupted rotation goes on"
    assert rekey.changed({KEY: "ancient"}, "switch", KEY, "new", "old") == {KEY: "new", FALLBACK: "old"}


def test_another_secret_is_replaced_where_a_release_has_it() -> None:
    assert rekey.changed({"M": "1", KEY: "k", FALLBACK: "f"}, "replace", "M", "2", "1") == {
        "M": "2",
        KEY: "k",
        FALLBACK: "f",
    }
    assert rekey.changed({KEY: "k"}, "replace", "M", "2", "1") == {KEY: "k"}


# --- On a host ---


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for release, key in ((RELEASE, "old key"), (OLDER, "ancient")):
        folder = tmp_path / "srv/shop-x/releases" / release
        folder.mkdir(parents=True)
        (folder / "env").write_text(rekey.text_of({"A": "x y", KEY: key}))
    (tmp_path / "srv/shop-x/state").mkdir()
    (tmp_path / "srv/shop-x/state/current").symlink_to(f"../releases/{RELEASE}")
    return tmp_path


def asked(host: Path, **request: str) -> object:
    """The answer of `rekey.sh`, as the client sends it."""
    program = base64.b64encode(Path(rekey.__file__).read_bytes()).decode()
    text = script("rekey.sh").replace("/srv/", f"{host}/srv/")
    done = subprocess.run(
        ["sh", "-c", f"name=shop-x; {text}"],
        input=f"{program}\n{json.dumps(request)}",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def env(host: Path, release: str = RELEASE) -> dict[str, str]:
    return rekey.parse((host / "srv/shop-x/releases" / release / "env").read_text())


def test_all_kept_releases_get_the_new_key_and_none_keeps_a_copy(host: Path) -> None:
    salted = {RELEASE: {KEY: digest("s", "old key")}, OLDER: {KEY: digest("s", "ancient")}}
    assert asked(host, verb="look", names=f"{KEY} MISSING", salt="s") == salted
    retired = host / "srv/shop-x/state/retired"
    for verb in ("accept", "switch"):
        asked(host, verb=verb, name=KEY, value="new key")
        asked(host, verb="back")
        assert env(host) == {"A": "x y", KEY: "old key"}
        assert not retired.exists() or not retired.read_text()
    asked(host, verb="switch", name=KEY, value="new key")
    asked(host, verb="done")
    for release in (RELEASE, OLDER):
        assert env(host, release) == {"A": "x y", KEY: "new key", FALLBACK: "old key"}
        folder = host / "srv/shop-x/releases" / release
        assert [path.name for path in folder.iterdir()] == ["env"]
        assert (folder / "env").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in retired.parent.glob(".r*")] == []
    name, salt, of, _ = retired.read_text().split()
    assert (name, of) == (KEY, digest(salt, "old key"))
    assert "old key" not in retired.read_text()
    assert retired.stat().st_mode & 0o777 == 0o600


def shipped(host: Path, key: str) -> tuple[str, str]:
    """What `ship.sh` says of a release with this key, and the environment that it gets."""
    function = script("ship.sh").partition("rotated() {")[2].partition("\n}\n")[0]
    coming = host / "coming"
    coming.mkdir(exist_ok=True)
    (coming / "env").write_text(rekey.text_of({"B": "1", KEY: key}))
    begin = f"set -eu; srv={host}/srv/shop-x coming={coming} step=; rotated() {{{function}\n}}\n"
    text = begin + "trap 'echo \"$step\"' EXIT; rotated; step="
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=30, check=False)
    assert not done.stderr
    return done.stdout.strip(), (coming / "env").read_text()


def test_a_deploy_keeps_the_second_key_and_does_not_bring_back_one_that_has_ended(host: Path) -> None:
    assert shipped(host, "any key") == ("", "B=1\nSECRET_KEY='any key'\n")
    asked(host, verb="accept", name=KEY, value="new key")
    assert rekey.parse(shipped(host, "old key")[1])[FALLBACK] == "new key"
    assert rekey.parse(shipped(host, "new key")[1])[FALLBACK] == "old key"
    asked(host, verb="switch", name=KEY, value="new key")
    assert rekey.parse(shipped(host, "new key")[1]) == {"B": "1", KEY: "new key", FALLBACK: "old key"}
    assert FALLBACK not in shipped(host, "a third key")[1]
    said, _ = shipped(host, "old key")
    assert said.startswith("its SECRET_KEY is one that `remote-rotate` has ended on 20")
    asked(host, verb="finish", name=KEY)
    assert shipped(host, "new key") == ("", "B=1\nSECRET_KEY='new key'\n")
    asked(host, verb="switch", name=KEY, value="old key")
    assert shipped(host, "old key")[0] == "", "one that was rotated to is no longer ended"


# --- On the server's host ---


def test_the_lines_of_a_server_are_replaced_in_their_place(tmp_path: Path) -> None:
    etc = tmp_path / "etc/shop-x"
    etc.mkdir(parents=True)
    (etc / "services.env").write_text("DATABASE_URL=old?a=b\nCELERY_BROKER_URL=amqps://b\nREDIS_URL=r\n")
    (tmp_path / "etc/portico.d").mkdir()
    text = "".join(map(script, ("postgresql.sh", "rabbitmq.sh", "redis.sh", "rotate.sh")))
    text = text.replace("/etc/", f"{tmp_path}/etc/").replace("/run/setup.lock", str(tmp_path / "lock"))

    def run(*lines: str) -> subprocess.CompletedProcess[str]:
        names = "shop-x shop-x shop_x shop-x shop-x"
        data = rotate_server.request("write", "broker", names, lines)
        return subprocess.run(
            ["sh", "-c", text], input=data.decode(), capture_output=True, text=True, check=False, timeout=30
        )

    assert run("CELERY_BROKER_URL=amqps://it's%20\\n", "CELERY_BROKER_CA=/x").returncode == 0
    assert (etc / "services.env").read_text() == (
        "DATABASE_URL=old?a=b\nCELERY_BROKER_URL=amqps://it's%20\\n\nREDIS_URL=r\n"
    )
    assert (etc / "services.env").stat().st_mode & 0o777 == 0o600
    assert "that is no variable" in run("CELERY_BROKER_URL;id=x").stderr
