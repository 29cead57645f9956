"""The number of processes on hosts: what can be scaled, `scale.sh` on a host, and the launcher that reads it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment import file
from deploy.hosts.release import scale, state
from deploy.hosts.release.state import HostState
from deploy.hosts.ssh.channel import script
from deploy.project import workers
from deploy.project.config import Project
from deploy.project.names import Names
from tests.support import ROOT
from tests.unit.hosts.test_restart import FILE, RELEASE

PROJECT = Project(ROOT, "portico", Names(), 8000, "", ".run", ("/readyz", "/"), 3)
ENV = f"""PORTICO_SITE=site
WEB_CONCURRENCY=2
PORTICO_WORKERS=worker,worker_mail
PORTICO_WORKER='-c 4 --loglevel=info'
PORTICO_WORKER_mail='-c 2 -Q mail --loglevel=info'
STATIC_ROOT=/srv/shop-x/releases/{RELEASE}/static
"""


def test_web_and_each_kind_of_workers_can_be_scaled_by_their_name_on_hosts_or_in_containers() -> None:
    kinds = workers.parse({"mail": {"queues": "mail"}, "one": {"queues": "one", "alone": True}})
    found = replace(PROJECT, workers=kinds)
    for service in ("web", "app"):
        assert scale.kind_of(service, found) == "web"
    for service in ("worker_mail", "celery_worker_mail"):
        assert scale.kind_of(service, found) == "worker_mail"
    with pytest.raises(Failure, match="beat cannot be scaled: there must be only one"):
        scale.kind_of("beat", found)
    with pytest.raises(Failure, match=r"worker_one cannot be scaled: project\.workers\.one\.alone in invoke\.yaml"):
        scale.kind_of("worker_one", found)
    with pytest.raises(Failure, match="'postgres' is not web or worker or worker_mail"):
        scale.kind_of("postgres", found)


def test_a_kind_that_scales_itself_is_refused() -> None:
    found = replace(PROJECT, workers=workers.parse({"default": {"celery": "--autoscale=4,1"}}))
    with pytest.raises(Failure, match=r"worker scales itself: --autoscale is in project\.workers\.default\.celery"):
        scale.kind_of("celery_worker", found)


def test_the_number_changes_on_all_hosts_before_the_first_restart() -> None:
    hosts = file.parse(FILE, "x", ROOT).site_hosts
    states = {host.name: HostState(host.name, current=RELEASE) for host in hosts}
    assert scale.plan(hosts, states, "worker", 6) == [
        "1. scale.sh on jobs1: worker has 6 processes from its next start on",
        "2. restart.sh on jobs1: worker",
    ]
    with pytest.raises(Failure, match="--role worker_mail: does not run on these hosts"):
        scale.plan(hosts, states, "worker_mail", 6)


def test_status_says_which_number_is_not_the_files() -> None:
    has = state.parse("web1", "scaled web 4 2\nscaled torn\n")
    [line] = scale.remarks(has)
    assert line.startswith("web has 4 processes instead of 2, by `remote-scale`")


# --- On a host ---


@pytest.fixture
def host(tmp_path: Path) -> Path:
    release = tmp_path / "srv/shop-x/releases" / RELEASE
    for folder in (release / "site", release / "venv/bin", tmp_path / "srv/shop-x/state", tmp_path / "lib/shop-x"):
        folder.mkdir(parents=True)
    (release / "env").write_text(ENV)
    for name in ("gunicorn", "celery"):
        (release / "venv/bin" / name).write_text('#!/bin/sh\necho "$WEB_CONCURRENCY $*"\n')
        (release / "venv/bin" / name).chmod(0o755)
    (tmp_path / "srv/shop-x/state/current").symlink_to(f"../releases/{RELEASE}")
    launcher = script("launch.sh").replace("/srv/", f"{tmp_path}/srv/").replace('[ "$(id -u)" -ne 0 ] ||', "false &&")
    (tmp_path / "lib/shop-x/launch").write_text(launcher)
    return tmp_path


def sh(host: Path, text: str, *lines: str) -> str:
    text = text.replace("/srv/", f"{host}/srv/").replace("/usr/local/lib/", f"{host}/lib/")
    given = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["sh", "-c", f"name=shop-x; {text}"], input=given, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout or done.stderr


def change(host: Path, kind: str, number: str, release: str = RELEASE) -> str:
    return sh(host, script("scale.sh"), release, kind, number).strip()


def launched(host: Path, kind: str, release: str = RELEASE) -> str:
    words = ["sh", str(host / "lib/shop-x/launch"), release, kind]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or done.stderr


def test_a_process_starts_with_the_number_that_was_set_until_the_file_says_another(host: Path) -> None:
    assert launched(host, "web").split()[0] == "2"
    assert change(host, "web", "5") == "-"
    assert change(host, "worker_mail", "7") == "-"
    assert launched(host, "web").split()[0] == "5"
    assert launched(host, "web", f"twin-{RELEASE}").split()[0] == "5"
    assert " -c 4 --loglevel=info" in launched(host, "worker")
    assert " -c 7 -Q mail --loglevel=info" in launched(host, "worker", f"mail:{RELEASE}")
    assert change(host, "web", "6") == "5", "the second change names the first"
    env = host / "srv/shop-x/releases" / RELEASE / "env"
    env.write_text(ENV.replace("WEB_CONCURRENCY=2", "WEB_CONCURRENCY=3"))
    assert launched(host, "web").split()[0] == "3"
    assert " -c 7 -Q mail" in launched(host, "worker", f"mail:{RELEASE}")


def test_the_files_number_takes_a_change_back(host: Path) -> None:
    change(host, "web", "5")
    change(host, "worker", "9")
    assert change(host, "web", "-") == "5"
    assert change(host, "worker", "4") == "9"
    assert (host / "srv/shop-x/state/scale").read_text() == ""
    assert launched(host, "web").split()[0] == "2"


def test_a_host_that_cannot_change_a_number_says_so_and_changes_nothing(host: Path) -> None:
    assert "serves another release by now" in change(host, "web", "5", "20260102-000000-bbbbbbb")
    assert "worker_gone of" in change(host, "worker_gone", "5")
    (host / "lib/shop-x/launch").write_text("")
    assert "its launcher knows no change of numbers: run remote-setup first" in change(host, "web", "5")
    assert not (host / "srv/shop-x/state/scale").exists()


@pytest.mark.parametrize("line", ["web 0 2", "web 100 2", "web ;id 2", "web 2", "web", "web 5$(id) 2", "\\ 5 2"])
def test_the_launcher_takes_nothing_but_numbers_from_the_file(host: Path, line: str) -> None:
    (host / "srv/shop-x/state/scale").write_text(f"{line}\n")
    assert launched(host, "web").split()[0] == "2"
