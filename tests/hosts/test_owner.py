"""Whose host it is: other projects, environments and clones meet the hosts of the session's site."""

import json
import shutil

import pytest

from deploy.core.shell import Result
from tests import support
from tests.hosts.release import WEB
from tests.rig.machines import Fleet

#: What each command of a clone comes to on hosts that are not its own.
COMMANDS = (
    ("remote-status",),
    ("remote-releases",),
    ("remote-logs",),
    ("remote-manage", "--", "check"),
    ("remote-deploy", "--ref", "HEAD"),
    ("remote-rollback",),
    ("remote-unlock", "--yes"),
    ("remote-setup", "--yes"),
)


def ask(site: Fleet, task: str, *words: str, environment: str = "test", name: str = "portico") -> Result:
    env = {**site.environment(), "INVOKE_PROJECT_NAME": name}
    return support.invoke(site.project, task, "--env", environment, *words, env=env, uv=True)


@pytest.fixture(scope="module")
def staging(site: Fleet) -> Fleet:
    """A second environment on the same hosts, of another domain."""
    folder = site.project / "deploy/environments"
    text = (folder / "test.yaml").read_text().replace("portico.test", "staging.test")
    (folder / "staging.yaml").write_text(text)
    shutil.copy(folder / "test.known_hosts", folder / "staging.known_hosts")
    site.commit("staging")
    return site


def served(site: Fleet) -> list[str]:
    """What a visitor of each web host gets, and what else a setup could change."""
    ask_it = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/readyz -H 'Host: portico.test'"
    digest = "cat /etc/portico/* /etc/nginx/site/* /etc/portico-owner /srv/portico/state/ledger.jsonl | sha256sum"
    return [site[name].sh(f"{ask_it}; {digest}; readlink /srv/portico/state/current") for name in WEB]


def test_every_command_of_another_environment_or_project_ends_before_anything_is_sent(staging: Fleet) -> None:
    before = served(staging)
    assert all(said.startswith("200") for said in before)
    for task, *words in COMMANDS:
        done = ask(staging, task, *words, environment="staging")
        assert done.code != 0, task
        assert "web1: this host is test of portico; yours is staging of portico: use another host" in done.stderr, task
        assert "Traceback" not in done.stderr
    for task, *words in (("remote-status",), ("remote-setup", "--yes")):
        done = ask(staging, task, *words, name="blog")
        assert done.code != 0
        assert "web1: this host is test of portico; yours is test of blog: check name in invoke.yaml" in done.stderr
    assert served(staging) == before


def test_a_host_of_an_earlier_version_is_adopted_by_setup_and_shown_in_its_plan(staging: Fleet) -> None:
    machine = staging["web1"]
    mark = machine.sh("cat /etc/portico-owner; rm /etc/portico-owner")
    assert "an earlier version has set it up" in ask(staging, "remote-deploy", "--ref", "HEAD").stderr
    other = ask(staging, "remote-setup", "--yes", environment="staging")
    assert "an earlier version has set this host up for portico.test; yours is staging of portico" in other.stderr
    shown = ask(staging, "remote-setup", "--dry-run").stdout
    assert "this host becomes test of portico, set up by an earlier version without this mark" in shown
    assert ask(staging, "remote-setup", "--yes").code == 0
    assert machine.sh("cat /etc/portico-owner") == mark
    assert machine.sh("stat -c '%U %a' /etc/portico-owner").split() == ["root", "644"]
    assert ask(staging, "remote-status").code == 0


def test_a_start_up_file_that_prints_mixes_into_nothing(staging: Fleet) -> None:
    for name in ("web1", "web2", "jobs1"):
        noisy = "1i echo '*** Managed by IT ***'; echo 'no tty' >&2"
        staging[name].ssh("sed", "-i.before", noisy, "/home/deploy/.bashrc")
    try:
        for task, *words in (("remote-logs", "--lines", "5"), ("remote-unlock", "--dry-run"), ("remote-status",)):
            done = staging.must(task, *words)
            assert "Managed by IT" not in done.stdout + done.stderr, task
        assert "nobody holds the lock" in staging.must("remote-unlock", "--dry-run").stderr
    finally:
        for name in ("web1", "web2", "jobs1"):
            staging[name].sh("mv ~deploy/.bashrc.before ~deploy/.bashrc")


def test_status_asks_what_a_visitor_gets_and_names_what_is_wrong(staging: Fleet) -> None:
    good = json.loads(staging.must("remote-status", "--json").stdout)
    assert good["ok"] is True
    assert {host["name"]: host["answers"].get("/readyz") for host in good["hosts"]} == {
        "web1": 200,
        "web2": 200,
        "jobs1": None,
        "data1": None,
    }
    assert {"postgresql": "ok", "rabbitmq": "ok"}.items() <= good["hosts"][3]["servers"].items()
    staging["web1"].sh("systemctl stop nginx")
    try:
        done = staging.invoke("remote-status")
        assert done.code == 1
        assert "web1: nginx: inactive" in done.stderr
        assert "web1: /readyz does not answer through nginx" in done.stderr
        assert "web2: " not in done.stderr
    finally:
        staging["web1"].sh("systemctl start nginx")
