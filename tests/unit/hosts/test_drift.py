"""`remote-setup --check`: a line for each difference, made from the steps that heal it."""

from dataclasses import replace

import pytest

from deploy.hosts.setup.diff import Change, Desired, Entry, Facts, File, Folder, Group, Idle, Unit, User, diff
from deploy.hosts.setup.drift import lines

OPEN, KEY = File("/etc/x/a", "one\ntwo\n"), File("/etc/x/key", "KEY", mode=0o600, secret=True)
DESIRED = Desired(
    packages=("nginx", "curl"),
    users=(User("deploy"), User("app", system=True)),
    folders=(Folder("/srv/x", "deploy", "app", 0o2755),),
    groups=(Group((OPEN, KEY), "nginx"),),
    absent=("/etc/x/old",),
    units=(Unit("nginx.service", reload_for=(OPEN.path,)), Unit("portico.firewall.service")),
    idle=(Idle("x-beat@.service"),),
    servers=("database",),
    setup=File("/etc/x/setup", "digest\n"),
)


FIREWALL = (
    "portico.firewall.service: stopped, or its rules were changed since, should be running with the rules of its files"
)


def entry(file: File) -> Entry:
    return Entry("file", *file.rights, file.digest, None if file.secret else file.text)


FACTS = Facts(
    packages=frozenset({"nginx", "curl"}),
    users={"deploy": "/bin/bash", "app": "/usr/sbin/nologin"},
    keys=frozenset({"deploy"}),
    entries={
        "/srv/x": Entry("folder", "deploy", "app", "2755"),
        **{file.path: entry(file) for file in (OPEN, KEY, File("/etc/x/setup", "digest\n"))},
    },
    units={"nginx.service": (True, True), "portico.firewall.service": (True, True)},
    missing={"database": ""},
)


def found(facts: Facts) -> list[str]:
    return list(lines(diff(DESIRED, facts), facts))


def with_entry(path: str, **values: str | None) -> Facts:
    before = FACTS.entries.get(path, Entry("file", "root", "root", "644"))
    return replace(FACTS, entries={**FACTS.entries, path: replace(before, **values)})  # type: ignore[arg-type]


def with_unit(name: str, *, enabled: bool, active: bool) -> Facts:
    return replace(FACTS, units={**FACTS.units, name: (enabled, active)})


def test_a_host_as_it_should_be_has_no_line() -> None:
    assert found(FACTS) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FACTS, packages=frozenset({"curl"})), "package nginx: not installed, should be"),
        (
            replace(FACTS, users={**FACTS.users, "app": "/bin/sh"}),
            "user app: shell /bin/sh, should be /usr/sbin/nologin",
        ),
        (replace(FACTS, users={"deploy": "/bin/bash"}), "user app: not there, should be"),
        (
            replace(FACTS, keys=frozenset()),
            "authorized_keys of deploy: none, or others may write it; should be there, and only the user's to write",
        ),
        (with_entry("/srv/x", owner="root"), "/srv/x/: root:app 2755, should be deploy:app 2755"),
        (with_entry("/srv/x", kind="absent"), "/srv/x/: not there, should be deploy:app 2755"),
        (with_entry("/etc/x/a", mode="666"), "/etc/x/a: root:root 666, should be root:root 644"),
        (with_entry("/etc/x/a", kind="link"), "/etc/x/a: a link, should be a file of root:root 644"),
        (with_entry("/etc/x/a", digest="d", text="one\n2\n"), '/etc/x/a: has "2", should have "two"'),
        (with_entry("/etc/x/a", digest="d", text="one\n"), '/etc/x/a: lacks a line, should have "two"'),
        (with_entry("/etc/x/a", digest="d", text="one\ntwo\n3\n"), '/etc/x/a: has "3", should not'),
        (with_entry("/etc/x/key", digest="d"), "/etc/x/key: has another content, should have that of setup"),
        (
            with_entry("/etc/x/setup", digest="d", text="x"),
            "/etc/x/setup: has another content, should have that of setup",
        ),
        (with_entry("/etc/x/old"), "/etc/x/old: there, should not be"),
        (with_unit("nginx.service", enabled=False, active=True), "nginx.service: disabled, should be enabled"),
        (with_unit("nginx.service", enabled=True, active=False), "nginx.service: stopped, should be running"),
        (
            with_unit("portico.firewall.service", enabled=True, active=False),
            FIREWALL,
        ),
        (
            with_unit("x-beat@.service", enabled=False, active=True),
            "x-beat@.service: running, should be neither",
        ),
        (replace(FACTS, missing={"database": "role password"}), "database: lacks role, password, should have it"),
        (
            replace(FACTS, pending=(("reload", "nginx.service"),)),
            "nginx.service: runs with its former files after an interrupted setup, should be reloaded",
        ),
    ],
)
def test_each_difference_is_one_line_and_its_consequences_are_none(facts: Facts, said: str) -> None:
    assert found(facts) == [said]


def test_no_line_has_a_secret_and_a_long_line_is_cut() -> None:
    changed = with_entry("/etc/x/key", digest="d", text="OTHER SECRET")
    assert not [line for line in found(changed) if "SECRET" in line or "KEY" in line]
    [line] = found(with_entry("/etc/x/a", digest="d", text=f"one\n{'x' * 500}\ntwo\n"))
    assert len(line) < 120


def test_what_waits_for_another_host_is_a_difference_and_a_remark_is_none() -> None:
    waiting = Change("+ /etc/x/services.env (secret), once data1 has generated its password", ())
    assert lines([waiting, Change("! nginx has other sites", (), note=True)], FACTS) == (
        "/etc/x/services.env (secret): not there, should be, once data1 has generated its password",
    )


def test_a_file_of_postgresql_is_named_with_its_cluster() -> None:
    file = Desired(groups=(Group((File("/etc/postgresql/%PG%/pg_hba.conf", "x\n"),)),))
    facts = Facts(clusters=(("15", "old", 5433), ("17", "main", 5432)))
    [line] = lines(diff(file, facts), facts)
    assert line == "/etc/postgresql/17/main/pg_hba.conf: not there, should be a file of root:root 644"
