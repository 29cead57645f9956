"""A restart on hosts: what restarts where, and `restart.sh` on a host whose systemd is simulated."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment import file
from deploy.hosts.release import restart
from deploy.hosts.release.state import HostState
from deploy.hosts.ssh.channel import script
from tests.support import ROOT

RELEASE = "20260101-000000-aaaaaaa"
#: Stands for sudo and the helper: each call is a line of the log, with the socket that nginx would connect to.
HELPER = """#!/bin/sh
cd "$FAKE" && shift 2
echo "$1 $2 | $(readlink web.sock | sed 's/.*web-//; s/.sock$//')" >>log
[ ! -e "broken-$1-$2" ] || { echo "no port for $2"; exit 1; }
[ ! -e "hup-$1-$2" ] || kill -s HUP "$(cat shell)"
"""


@dataclass
class Host:
    """A simulated host."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "srv/shop-x/releases" / RELEASE

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    @property
    def ledger(self) -> str:
        return (self.root / "srv/shop-x/state/ledger.jsonl").read_text()

    def restart(self, kinds: str, release: str = RELEASE) -> subprocess.CompletedProcess[str]:
        text = script("restart.sh").replace("/srv/$name", f"{self.root}/srv/$name")
        header = [release, kinds, "shop.example", "http", "/readyz /", '"who": "x"']
        env = {
            **os.environ,
            "name": "shop-x",
            "FAKE": str(self.folder),
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["sh", "-c", f'echo $$ >"$FAKE/shell"; {text}'],
            input="".join(f"{line}\n" for line in header),
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    for folder in (tmp_path / "bin", made.folder, tmp_path / "srv/shop-x/state"):
        folder.mkdir(parents=True)
    for name, text in {"sudo": HELPER, "curl": "#!/bin/sh\nprintf '\\n200'\n", "ss": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "srv/shop-x/state/current").symlink_to(f"../releases/{RELEASE}")
    (made.folder / "web.sock").symlink_to(f"/run/shop-x/web-{RELEASE}/sock")
    (made.folder / "log").touch()
    return made


def test_a_second_instance_answers_while_the_web_unit_restarts(host: Host) -> None:
    done = host.restart("web worker beat")
    assert done.stdout.splitlines() == ["= web", "= worker", "= beat"], done.stderr
    assert host.log == [
        f"start twin | {RELEASE}",
        f"restart web | twin-{RELEASE}",
        f"stop twin | {RELEASE}",
        f"restart worker | {RELEASE}",
        f"restart beat | {RELEASE}",
    ]
    assert '"who": "x", "outcome": "restarted web worker beat"' in host.ledger


def test_a_second_instance_that_does_not_start_leaves_the_first_alone(host: Host) -> None:
    (host.folder / "broken-start-twin").touch()
    done = host.restart("web worker")
    assert (done.returncode, done.stdout) == (1, "| no port for twin\n")
    assert "so the first one was not restarted" in done.stderr
    assert host.log == [f"start twin | {RELEASE}"]
    assert '"outcome": "failed: a second instance' in host.ledger


def test_a_web_unit_that_does_not_come_back_leaves_the_second_instance_in_service(host: Host) -> None:
    (host.folder / "broken-restart-web").touch()
    done = host.restart("web")
    assert "web does not start again; a second instance of web serves until the next restart" in done.stderr
    assert os.readlink(host.folder / "web.sock") == f"/run/shop-x/web-twin-{RELEASE}/sock"
    (host.folder / "broken-restart-web").unlink()
    assert host.restart("web").returncode == 0
    assert os.readlink(host.folder / "web.sock") == f"/run/shop-x/web-{RELEASE}/sock"


def test_a_client_that_is_gone_interrupts_no_web_unit_half_way(host: Host) -> None:
    (host.folder / "hup-restart-web").touch()
    assert host.restart("web").returncode == 0
    assert os.readlink(host.folder / "web.sock") == f"/run/shop-x/web-{RELEASE}/sock"
    (host.folder / "hup-restart-worker").touch()
    assert host.restart("web worker beat").returncode == 1
    assert host.log[-1] == f"restart worker | {RELEASE}"
    assert '"outcome": "failed: the client disconnected, after web"' in host.ledger


def test_a_host_that_serves_another_release_by_now_restarts_nothing(host: Host) -> None:
    done = host.restart("web", "20260102-000000-bbbbbbb")
    assert "serves another release by now; run the command again" in done.stderr
    assert host.log == []


# --- What restarts where ---


FILE = """\
domain: shop.example
secrets: {SECRET_KEY: env:KEY}
hosts:
  web1: {roles: [web]}
  jobs1: {roles: [worker, beat]}
  data1: {roles: [database, broker]}
"""


def test_each_host_restarts_what_its_release_runs_there() -> None:
    hosts = file.parse(FILE, "x", ROOT).site_hosts
    kinds = ("worker", "worker_mail")
    states = {host.name: HostState(host.name, current=RELEASE, workers=kinds) for host in hosts}
    found = {host.name: chosen for host, chosen in restart.steps(hosts, states, "")}
    assert found == {"web1": ["web"], "jobs1": ["worker", "worker_mail", "beat"]}
    [(host, chosen)] = restart.steps(hosts, states, "worker_mail")
    assert (host.name, chosen) == ("jobs1", ["worker_mail"])
    with pytest.raises(Failure, match="--role beat: does not run on these hosts; there are: web"):
        restart.steps(hosts[:1], states, "beat")
    with pytest.raises(Failure, match="no release serves on these hosts yet: `invoke remote-deploy`"):
        restart.steps(hosts, {host.name: HostState(host.name) for host in hosts}, "")
