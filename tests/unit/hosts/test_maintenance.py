"""remote-maintenance: what hosts are told, and what is said of hosts that differ."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

from deploy.hosts.release import maintenance, state
from deploy.hosts.ssh.channel import script
from deploy.project.maintenance import Record
from tests.unit.hosts.test_health import RELEASE

ON = Record("2026-11-28T15:00:59+00:00", "ann@laptop", "Back at <5>", ["203.0.113.4"], ["workers", "beat"])


def test_hosts_get_the_record_the_page_and_who_is_allowed_on_standard_input() -> None:
    step, *texts, hold, entry, last = maintenance.header("on", ON).splitlines()
    record, page, allow = (base64.b64decode(each).decode() for each in texts)
    assert (step, record, hold, entry, last) == ("on", ON.text, "worker beat", "", "end")
    assert "Back at &lt;5&gt;" in page
    assert allow.split() == ["127.0.0.1", "::1", "203.0.113.4"], "the host itself asks through nginx"


def test_an_entry_for_the_ledger_is_one_line() -> None:
    assert maintenance.header("off", None, {"action": "a\nb"}).splitlines()[-2] == '"action": "a\\nb"'


def test_status_says_it_once_and_names_hosts_without_it() -> None:
    assert maintenance.remarks({"web1": None, "jobs1": None}, "production") == []
    [said] = maintenance.remarks({"web1": ON, "jobs1": ON}, "production")
    assert said.startswith("maintenance since 2026-11-28 15:00 UTC, by ann@laptop: visitors get 503; ")
    assert said.endswith("`invoke remote-maintenance --env production --stop` ends it")
    _, differs = maintenance.remarks({"web1": ON, "web2": None}, "production")
    assert differs.startswith("maintenance is on web1, and not on web2: ")


def test_what_is_held_is_not_missing() -> None:
    text = (
        f"setup abc\nroles web worker beat\ncurrent {RELEASE}\nworkers worker worker_mail\nunit web {RELEASE} active\n"
    )
    roles = ("web", "worker", "beat")
    assert state.missing(state.parse("web1", text), roles) == ["worker", "worker_mail", "beat"]
    held = state.parse("web1", f"{text}maintenance {ON.text}\n")
    assert held.maintenance == ON
    assert state.missing(held, roles) == []
    broken = state.parse("web1", f"{text}maintenance nothing of ours\n")
    assert broken.maintenance is None


# --- The script, with folders of its own in place of a host's ---


class Host:
    """The folders of a host, and a helper that keeps what runs in a file."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "srv/shop/state/maintenance"
        release = root / "srv/shop/releases" / RELEASE
        for path in (
            release,
            self.folder.parent,
            root / "etc/shop",
            root / "etc/nginx/shop",
            root / "units",
            root / "bin",
        ):
            path.mkdir(parents=True)
        (self.folder.parent / "current").symlink_to(release)
        (release / "env").write_text("PORTICO_WORKERS='worker,worker_mail'\n")
        (root / "etc/shop/roles").write_text("web worker beat\n")
        (root / "etc/nginx/shop/site.conf").write_text("map $host $shop_maintenance_root {\n")
        for role in ("worker", "beat"):
            (root / f"units/shop-{role}@.service").write_text(f"ConditionPathExists=!/x/maintenance/hold-{role}\n")
        self.runs = root / "runs"
        self.runs.write_text("".join(f"{kind} {RELEASE} active\n" for kind in ("web", "worker", "worker_mail", "beat")))
        helper = root / "bin/shop-helper"
        helper.write_text(
            f'#!/bin/sh\ncase $1 in\nunits) cat {self.runs} ;;\nstop) sed -i "/^$2 /d" {self.runs} ;;\n'
            f'start) echo "$2 $3 active" >>{self.runs} ;;\nesac\n'
        )
        helper.chmod(0o755)

    def run(self, step: str, record: Record | None = None, cut: int = 0) -> subprocess.CompletedProcess[str]:
        text = script("maintenance.sh").replace("sudo -n ", "")
        places = {"/etc/systemd/system": "units", "/usr/local/sbin": "bin", "/srv/": "srv/", "/etc/": "etc/"}
        for path, here in places.items():
            text = re.sub(rf'(?<=["=]){path}', f"{self.root}/{here}", text)
        given = maintenance.header(step, record, {"action": "maintenance"})
        given = given[: len(given) - cut]
        words = ["sh", "-c", f"name=shop; {text}"]
        return subprocess.run(words, input=given, capture_output=True, text=True, timeout=30, check=False)

    @property
    def kinds(self) -> list[str]:
        return sorted(line.split()[0] for line in self.runs.read_text().splitlines())


def test_a_host_is_told_twice_and_is_the_same(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for _ in range(2):
        for step in ("on", "hold"):
            done = host.run(step, ON)
            assert (done.returncode, done.stderr) == (0, "")
        assert (host.folder / "on").read_text() == ON.text
        assert {path.name for path in (host.folder / "allow").iterdir()} == {"127.0.0.1", "::1", "203.0.113.4"}
        assert host.kinds == ["web"]
        assert (host.folder / "hold-worker").exists()
    for step in ("on", "hold"):
        assert host.run(step, replace(ON, allow=[], hold=["beat"])).returncode == 0
    assert {path.name for path in (host.folder / "allow").iterdir()} == {"127.0.0.1", "::1"}
    assert host.kinds == ["web", "worker", "worker_mail"], "workers are no longer held"
    for _ in range(2):
        assert host.run("release").returncode == host.run("off").returncode == 0
        assert host.kinds == ["beat", "web", "worker", "worker_mail"]
        assert not (host.folder / "on").exists()
    assert '"action": "maintenance", "outcome": "done"}' in (host.folder.parent / "ledger.jsonl").read_text()


def test_a_host_that_hears_a_part_or_is_of_an_earlier_version_does_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    done = host.run("on", ON, cut=2)
    assert (done.returncode, done.stderr.strip()) == (1, "the connection was lost; run the command again")
    (tmp_path / "units/shop-beat@.service").write_text("")
    done = host.run("on", ON)
    assert (done.returncode, "is of a version without maintenance: run remote-setup" in done.stderr) == (1, True)
    assert not host.folder.exists()


def test_no_page_comes_off_a_host_whose_workers_do_not_start(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.run("on", ON).returncode == host.run("hold", ON).returncode == 0
    helper = tmp_path / "bin/shop-helper"
    helper.write_text(helper.read_text().replace("start) ", "start) echo no memory >&2; exit 1; "))
    done = host.run("release")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "no memory")
    assert done.stderr.splitlines()[-1] == f"worker of {RELEASE} does not start; its lines are above"
    assert (host.folder / "on").exists()
    assert (host.folder / "hold-worker").exists()
