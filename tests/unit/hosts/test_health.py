"""What remote-status says: what a visitor and the servers get, not only which units run."""

import json

import pytest

from deploy.core.errors import Failure
from deploy.hosts import operate
from deploy.hosts.environment.model import Host
from deploy.hosts.release import health, phases, state
from deploy.hosts.release.health import Health
from deploy.project import site
from tests.unit.hosts.test_setup import PROJECT, TEXT, environment

RELEASE = "20260101-120000-abcdef1"
NOW = 1_800_000_000.0
GOOD = f"""\
setup abc
roles web
cores 2
unit web {RELEASE} active
current {RELEASE}
free 9000000
server nginx ok
answer /readyz 200 {{"database": "ok"}}
certificate {int(NOW) + 40 * 86400}
server firewall ok
disk / 9000000 20000000
restarts shop-x-web@{RELEASE}.service 0
"""


def said(text: str, roles: tuple[str, ...] = ("web",)) -> list[str]:
    return list(health.wrong(roles, state.parse("web1", text), health.parse(text), "production", NOW))


def test_a_host_that_serves_has_nothing_wrong() -> None:
    assert said(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("server nginx ok", "server nginx inactive", "nginx: inactive: `journalctl -u nginx` on the host shows why"),
        ("/readyz 200", "/readyz 503", '/readyz answers 503 through nginx: {"database": "ok"}'),
        ('/readyz 200 {"database": "ok"}', "/readyz 000 ", "/readyz does not answer through nginx"),
        ("disk / 9000000", "disk / 100000", "/ has 0.1 of 20.0 GB free: make room there"),
        ("disk / 9000000 20000000", "disk /srv 900000 20000000", "/srv has 0.9 of 20.0 GB free"),
        (f"unit web {RELEASE} active", f"unit web {RELEASE} failed", "web does not run"),
        (f"current {RELEASE}", "current ", "has no release: `invoke remote-deploy --env production`"),
        ("server firewall ok", "server firewall inactive", "firewall: inactive"),
        (f"{int(NOW) + 40 * 86400}", f"{int(NOW) + 20 * 86400}", "its certificate ends in 20 days: renew it"),
        (f"{int(NOW) + 40 * 86400}", f"{int(NOW) - 86400}", "its certificate has ended"),
        ("setup abc", "setup -", "its last setup did not finish"),
        ("setup abc", "setup abc\nunmarked", "an earlier version has set it up"),
    ],
)
def test_each_thing_that_is_wrong_is_a_line(old: str, new: str, line: str) -> None:
    assert old in GOOD
    [found] = said(GOOD.replace(old, new))
    assert found.startswith(line)


def test_restarts_are_shown_but_not_wrong_as_a_boot_without_the_database_has_some(report: operate.Hosts) -> None:
    assert said(GOOD.replace(".service 0", ".service 7")) == []
    seen = operate._Seen(
        report.target.hosts[0], state.parse("web1", GOOD), health.parse(GOOD.replace(".service 0", ".service 7"))
    )
    assert operate._units([seen]).rows[0][3] == "web active (7 restarts)"


def test_a_host_with_a_server_alone_is_asked_for_that_server() -> None:
    text = "setup abc\nroles database broker\nserver postgresql no answer\nserver rabbitmq ok\ndisk / 9000000 9900000\n"
    assert said(text, ("database", "broker"))[0].startswith("postgresql: no answer")
    assert len(said(text, ("database", "broker"))) == 1
    assert said("setup -\n") == ["is not set up: `invoke remote-setup --env production`"]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> operate.Hosts:
    """The hosts of an environment; data1 cannot be reached."""

    def ask(_: object, hosts: list[Host]) -> dict[str, object]:
        text = {host.name: GOOD.replace("roles web", f"roles {' '.join(host.roles)}") for host in hosts}
        found: dict[str, object] = {name: (state.parse(name, each), health.parse(each)) for name, each in text.items()}
        return {**found, "data1": Failure("data1: no SSH at 10.0.0.4:22")}

    monkeypatch.setattr(phases, "ask_health", ask)
    return operate.Hosts(phases.choose(PROJECT, environment()), print)


def test_status_lists_hosts_with_servers_alone_and_goes_on_when_one_does_not_answer(report: operate.Hosts) -> None:
    found = report.status()
    assert [row[0] for row in found.grids[0].rows] == ["web1", "web2", "jobs1"]
    assert "data1: no SSH at 10.0.0.4:22" in found.wrong
    data = json.loads(json.dumps(found.data))
    assert (data["environment"], data["project"], data["ok"]) == ("x", "shop", False)
    assert [each["name"] for each in data["hosts"]] == ["web1", "web2", "jobs1", "data1"]
    assert data["hosts"][3]["problems"] == ["data1: no SSH at 10.0.0.4:22"]
    assert "data1" in TEXT


def test_the_shape_for_programs_is_the_one_of_the_page() -> None:
    has, found = state.parse("web1", GOOD), health.parse(f"{GOOD}lock deploy by ann\n")
    assert health.as_data(("web",), has, found, ["x"], NOW) == {
        "name": "web1",
        "roles": ["web"],
        "release": RELEASE,
        "units": [{"kind": "web", "release": RELEASE, "state": "active", "restarts": 0}],
        "answers": {"/readyz": 200},
        "servers": {"nginx": "ok", "firewall": "ok"},
        "disks": [{"folder": "/", "free_bytes": 9000000 * 1024, "total_bytes": 20000000 * 1024}],
        "certificate_days": 40,
        "backup": None,
        "changed_by": "deploy by ann",
        "maintenance": None,
        "problems": ["x"],
    }
    assert health.parse("server\nanswer x\nnonsense\n") == Health()


def test_tasks_that_were_given_up_are_told_and_nothing_else_of_the_answer(report: operate.Hosts) -> None:
    told = []
    for said in ('"dead letters": "2"', '"dead letters": "x"', '"broker": "ok"'):
        text = GOOD.replace('"database": "ok"', said)
        seen = operate._Seen(report.target.hosts[0], state.parse("web1", text), health.parse(text))
        told.append(report._given_up([seen]))
    assert told == [
        ["2 tasks were given up: `invoke remote-manage --env x -- dead_letters` shows them"],
        [],
        [],
    ]
    assert site.given_up("[1]", "x") == site.given_up("<html>", "x") == []


LEFT = "20251231-235959-fedcba9"


@pytest.mark.parametrize(
    ("unit", "lock", "told"),
    [
        (f"unit web {LEFT} active", "", True),
        (f"unit worker_mail {LEFT} active", "", True),
        (f"unit worker {LEFT} deactivating", "", False),  # it ends its tasks
        (f"unit manage {LEFT} active", "", False),  # somebody's command
        (f"unit web {LEFT} active", "lock a deploy by me@laptop", False),
    ],
)
def test_what_a_killed_command_has_left_is_told_with_what_ends_it(unit: str, lock: str, told: bool) -> None:
    has = state.parse("web1", f"current 20260101-120000-abcdef1\nunit web 20260101-120000-abcdef1 active\n{unit}\n")
    lines = health.left_over(has, health.parse(lock), "production")
    kind = unit.split()[1]
    ends = "`invoke remote-deploy --env production` ends it"
    assert lines == (
        [f"{kind} of {LEFT} still runs, which a command that was killed has started: {ends}"] if told else []
    )
