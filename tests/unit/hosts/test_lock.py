"""`lock.sh`: a deploy is on record from its first step, also if its client is killed, or its host restarts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deploy.hosts.ssh.channel import script

ENTRY = '"release": "r", "action": "deploy"'


def hold(state: Path, entry: str, meanwhile: str = "true") -> str:
    """Hold the lock while a command runs, then end the input, as the end of a client does."""
    text = script("lock.sh").replace("echo HELD\n", f"echo HELD\n({meanwhile}) 8>&-\n")
    given = f"{state}/lock\nann\n{entry}\n"
    done = subprocess.run(["sh", "-c", text], input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcomes(state: Path) -> list[str]:
    file = state / "ledger.jsonl"
    return [json.loads(line)["outcome"] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_client_that_is_gone_before_its_deploy_was_activated_is_in_the_ledger(tmp_path: Path) -> None:
    assert hold(tmp_path, ENTRY) == "HELD\n"
    assert outcomes(tmp_path) == ["ended early: its client was gone; a migration may have been applied"]
    assert (tmp_path / "lock").read_text() == ""
    hold(tmp_path, "")
    assert len(outcomes(tmp_path)) == 1, "once, and nothing of what has no entry"


@pytest.mark.parametrize("outcome", ["in service", "failed: no"])
def test_what_says_itself_how_it_ended_is_not_said_again(tmp_path: Path, outcome: str) -> None:
    line = f'{{{ENTRY}, "outcome": "{outcome}"}}'
    hold(tmp_path, ENTRY, f"echo '{line}' >>{tmp_path}/ledger.jsonl; rm {tmp_path}/begun")
    assert outcomes(tmp_path) == [outcome]


def test_what_is_being_restored_says_itself_how_it_ended(tmp_path: Path) -> None:
    restoring = (
        f"flock {tmp_path}/activating sleep 2 >/dev/null 2>&1 & while flock -n {tmp_path}/activating true; do :; done"
    )
    hold(tmp_path, ENTRY, restoring)
    assert outcomes(tmp_path) == []


def test_a_host_that_restarted_meanwhile_has_it_in_the_ledger_with_the_next_lock(tmp_path: Path) -> None:
    (tmp_path / "begun").write_text(f"{ENTRY}\n")
    hold(tmp_path, "")
    assert outcomes(tmp_path) == [
        "ended early: this host restarted, or lost its client; a migration may have been applied"
    ]
