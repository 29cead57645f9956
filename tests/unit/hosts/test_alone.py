"""`activate.sh` on a host whose systemd is simulated: of some workers there are never two, whatever ends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.hosts.ssh.channel import script

OLD, NEW = "20260101-000000-aaaaaaa", "20260102-000000-bbbbbbb"
#: Stands for sudo and the helper. A unit is a file that has its state; each change is a line of the log.
HELPER = """#!/bin/sh
cd "$FAKE" && shift 2
case $1 in
    units) for each in *@*; do [ ! -e "$each" ] || echo "${each%%@*} ${each#*@} $(cat "$each")"; done ;;
    start)
        [ ! -e "broken-$2@$3" ] || exit 1
        echo active >"$2@$3"
        ;;
    stop) rm -f "$2@$3" ;;
esac
case $1 in start | stop)
    echo "$*" >>log
    for kind in beat worker_billing; do
        [ "$(ls | grep -c "^$kind@")" -le 1 ] || echo "two of $kind" >>log
    done
    ;;
esac
"""


@dataclass
class Host:
    """A simulated host."""

    root: Path

    @property
    def fake(self) -> Path:
        return self.root / "fake"

    def release(self, name: str, workers: str, alone: str = "worker_billing") -> None:
        folder = self.root / "srv/shop-x/releases" / name
        folder.mkdir(parents=True)
        (folder / "env").write_text(f"A=1\nPORTICO_WORKERS={workers}\nPORTICO_ALONE={alone}\n")

    def runs(self) -> set[str]:
        return {path.name for path in self.fake.glob("*@*") if not path.name.startswith("broken-")}

    @property
    def log(self) -> list[str]:
        return (self.fake / "log").read_text().splitlines()

    def activate(self, *words: str) -> list[str]:
        """Talk with the script, and end with what was said, or by closing the connection."""
        text = script("activate.sh").replace("/srv/$name", f"{self.root}/srv/$name")
        text = text.replace("/etc/$name", f"{self.root}/etc/$name")
        header = [NEW, "shop.example", "http", "/", '"who": "x"', "", ""]
        env = {**os.environ, "name": "shop-x", "FAKE": str(self.fake), "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        given = "".join(f"{line}\n" for line in [*header, *words])
        done = subprocess.run(
            ["sh", "-c", text], input=given, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert not [line for line in self.log if line.startswith("two of")], self.log
        return done.stdout.splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    for folder in ("bin", "fake", "etc/shop-x", "srv/shop-x/state"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin/sudo").write_text(HELPER)
    (tmp_path / "bin/sudo").chmod(0o755)
    (tmp_path / "etc/shop-x/roles").write_text("worker beat\n")
    made.release(OLD, "worker,worker_mail,worker_billing")
    (tmp_path / "srv/shop-x/state/current").symlink_to(f"../releases/{OLD}")
    (tmp_path / "fake/log").touch()
    for kind in ("worker", "worker_mail", "worker_billing", "beat"):
        (tmp_path / f"fake/{kind}@{OLD}").write_text("active")
    return made


def units(release: str, *kinds: str) -> set[str]:
    return {f"{kind}@{release}" for kind in kinds}


ALL = ("worker", "worker_mail", "worker_billing", "beat")
STEPS = ("workers", "flip", "beat", "part", "alone", "commit")


def test_an_update_stops_what_must_be_alone_before_the_new_one_starts_and_others_after_it(host: Host) -> None:
    host.release(NEW, "worker,worker_mail,worker_billing")
    said = host.activate(*STEPS)
    assert [line for line in said if line.startswith("= ")] == [
        *("= STARTED", "= WORKERS", "= FLIPPED", "= BEAT", "= PARTED", "= ALONE", "= COMMITTED", "= DONE"),
    ]
    assert host.runs() == units(NEW, *ALL)
    stopped, started = (
        f"{verb} {release} now" for verb, release in (("stop worker_billing", OLD), ("start worker_billing", NEW))
    )
    assert host.log.index(stopped) < host.log.index(started)
    assert host.log.index(f"start worker_mail {NEW} later") < host.log.index(f"stop worker_mail {OLD} later")


@pytest.mark.parametrize("last", range(len(STEPS)))
@pytest.mark.parametrize("how", [[], ["back a fault elsewhere"]])
def test_a_client_that_ends_at_any_step_leaves_what_ran_before(host: Host, last: int, how: Sequence[str]) -> None:
    host.release(NEW, "worker,worker_mail,worker_billing")
    host.activate(*STEPS[:last], *how)
    assert host.runs() == units(OLD, *ALL)


def test_a_new_one_that_does_not_start_brings_the_old_one_back(host: Host) -> None:
    host.release(NEW, "worker,worker_billing")
    (host.fake / f"broken-worker_billing@{NEW}").touch()
    said = host.activate(*STEPS)
    assert f"! worker_billing of {NEW} does not start" in said
    assert host.runs() == units(OLD, *ALL)


def test_a_host_that_no_longer_runs_it_stops_it_before_another_starts_it(host: Host) -> None:
    host.release(NEW, "worker")
    said = host.activate(*STEPS[:4])
    assert "= PARTED" in said
    assert f"stop worker_billing {OLD} now" in host.log
    assert host.runs() == units(OLD, *ALL), "and starts it again when the client is gone"
    host.activate(*STEPS)
    assert host.runs() == units(NEW, "worker", "beat")


def test_kinds_come_and_go_with_their_release(host: Host) -> None:
    host.release(NEW, "worker,worker_post", alone="''")
    host.activate(*STEPS)
    assert host.runs() == units(NEW, "worker", "worker_post", "beat")


def test_a_release_of_an_earlier_version_has_its_one_kind(host: Host) -> None:
    host.release(NEW, "x")
    (host.root / f"srv/shop-x/releases/{NEW}/env").write_text("A=1\n")
    host.activate(*STEPS)
    assert host.runs() == units(NEW, "worker", "beat")
