"""Whose host it is: other projects, environments and clones meet the hosts of the session's site."""

import json
import re
import shutil
from dataclasses import dataclass

import pytest

from deploy.core.shell import Result
from tests import support
from tests.hosts import release
from tests.hosts.release import WEB
from tests.rig.load import Load
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
    digest = "cat /etc/portico-test/* /etc/nginx/portico-test/* /srv/portico-test/state/ledger.jsonl | sha256sum"
    return [site[name].sh(f"{ask_it}; {digest}; readlink /srv/portico-test/state/current") for name in WEB]


def test_every_command_of_another_environment_or_project_ends_before_anything_is_sent(staging: Fleet) -> None:
    before = served(staging)
    assert all(said.startswith("200") for said in before)
    for task, *words in COMMANDS:
        done = ask(staging, task, *words, environment="staging")
        assert done.code != 0, task
        said = "web1: this host is test of portico; yours is staging of portico, which is not set up here: check --env"
        assert said in done.stderr, task
        assert "Traceback" not in done.stderr
    done = ask(staging, "remote-status", name="blog")
    assert done.code != 0
    assert "yours is test of blog, which is not set up here: check name in invoke.yaml" in done.stderr
    assert served(staging) == before


def test_a_clone_without_its_configuration_is_refused_by_setup_as_another_site_has_the_domain(staging: Fleet) -> None:
    before = served(staging)
    done = ask(staging, "remote-setup", "--yes", name="blog")
    assert done.code != 0
    assert "web1: nginx serves portico.test already (/etc/nginx/portico-test/server.conf); yours is blog-test" in (
        done.stderr
    )
    gone = ask(staging, "remote-remove", "--yes", name="blog")
    assert "web1: has test of portico, but not test of blog: leave it out with --only" in gone.stderr
    assert served(staging) == before


# --- Several sites on a host ---


@dataclass
class Neighbour:
    """Another site on two of the session's hosts."""

    site: Fleet
    name: str
    environment: str
    domain: str

    def must(self, task: str, *words: str) -> Result:
        env = {**self.site.environment(), "INVOKE_PROJECT_NAME": self.name}
        done = support.invoke(self.site.project, task, "--env", self.environment, *words, env=env, seconds=900)
        assert done.code == 0, done.stdout + done.stderr
        return done


@pytest.fixture
def neighbours(site: Fleet) -> list[Neighbour]:
    """Another environment, and another project, each on a web host and on the servers' host."""
    folder, found = site.project / "deploy/environments", []
    hosts = {
        "web1": {"address": site["web1"].address, "roles": ["web", "worker", "beat"]},
        "data1": {"address": site["data1"].address, "roles": ["database", "broker"]},
    }
    for name, environment in (("portico", "beta"), ("blog", "live")):
        domain = f"{environment}.test"
        keys = {"domain": domain, "secrets": {"SECRET_KEY": "env:SITE_SECRET_KEY"}}
        keys |= {"identity": str(site.rack.identity), "hosts": hosts}
        (folder / f"{environment}.yaml").write_text(json.dumps(keys))
        shutil.copy(folder / "test.known_hosts", folder / f"{environment}.known_hosts")
        found.append(Neighbour(site, name, environment, domain))
    site.commit("two more sites")
    return found


def test_two_projects_and_two_environments_on_one_host_lose_nothing_of_each_other(
    site: Fleet, neighbours: list[Neighbour]
) -> None:
    web, data = site["web1"], site["data1"]
    # For minutes: thousands of requests, and processors for the other sites' set-ups.
    with release.load(site, rest=0.5) as loads:
        for number, other in enumerate(neighbours):
            called = f"{other.name}-{other.environment}"
            shown = other.must("remote-setup", "--yes").stdout
            assert re.search("! this host also serves (beta of portico, )?test of portico, which goes on", shown)
            restarts = [each for line in shown.splitlines() if "restarts: " in line for each in line.split(",")]
            shared = ("postgresql", "rabbitmq", "epmd", "nginx", "portico.firewall")
            assert not [each for each in restarts if any(name in each for name in shared) and "(reload)" not in each]
            if number:  # one of them serves
                other.must("remote-deploy")
                other.must("remote-manage", "--", "load_sample_polls")
                with Load(web.http_port, clients=2, rest=0.2, host=other.domain) as own:
                    other.must("remote-deploy")
                    other.must("remote-rollback")
                assert not own.failures, own.failures[:10]
            # Its processes read nothing of the first site's.
            spied = "cat /srv/portico-test/releases/*/env /srv/portico-test/protected/* 2>/dev/null | wc -c"
            assert web.sh(f"runuser -u {called} -- sh -c '{spied}'").strip() == "0"
        assert site.must("remote-setup").stdout.splitlines() == [f"{name}: no change" for name in site.roles]
        neighbours[0].must("remote-remove", "--yes", "--data", "all")
        neighbours[1].must("remote-remove", "--yes")
    assert all(each.total for each in loads)
    databases = data.sh("runuser -u postgres -- psql -l -A -t | cut -d '|' -f 1").split()
    assert "portico_beta" not in databases
    assert "blog_live" in databases, "data stays unless it is asked for"
    for machine in (web, data):
        left = machine.sh(
            "cd /etc; ls -d *-beta *-live nginx/*-beta nginx/*-live portico.d/*/* /srv/*-beta 2>/dev/null || true"
        )
        assert not [
            path for path in left.split() if not path.endswith(("portico-test", "portico-test.nft", "main.nft"))
        ]
        assert machine.sh("getent passwd portico-beta blog-live || true") == ""
        assert machine.sh("systemctl list-units --all --no-legend '*-beta*' '*-live*' || true") == ""
    assert "blog_live" not in data.sh("cat /etc/postgresql/*/main/pg_hba.conf")
    assert site.must("remote-setup").stdout.splitlines() == [f"{name}: no change" for name in site.roles]
    assert ask(site, "remote-status").code == 0


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
