"""`systemd.sh` and the helper: what is asked of systemd while it is replaced is asked again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.hosts.ssh.channel import SCRIPTS, script

#: What systemctl said on Debian 12 and 13 while `systemctl daemon-reexec` ran.
AWAY = (
    "Failed to list units: Message recipient disconnected from message bus without replying",
    "Failed to list units: Connection reset by peer",
    "Failed to connect to bus: Connection refused",
    "Failed to get properties: Transport endpoint is not connected",
    "Warning! D-Bus connection terminated.",
)


def away() -> dict[str, str]:
    """The function that knows these messages, in each script that has it."""
    texts = {name: (SCRIPTS / name).read_text() for name in ("systemd.sh", "helper.sh")}
    return {
        name: text[text.index("is_away()") : text.index("}\n", text.index("is_away()"))] for name, text in texts.items()
    }


def asked(folder: Path, says: str, times: int, words: str = "is-active x") -> subprocess.CompletedProcess[str]:
    """Ask a systemctl that says this so often, with exit code 1, and then answers."""
    (folder / "sleep").write_text("#!/bin/sh\n")
    (folder / "systemctl").write_text(
        f"#!/bin/sh\necho x >>{folder}/asked\n"
        f"if [ $(wc -l <{folder}/asked) -gt {times} ]; then echo active; exit 0; fi\n"
        f"echo '{says}' >&2\nexit 1\n"
    )
    for name in ("sleep", "systemctl"):
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    text = f"set -eu\ncode=kept\n{script('systemd.sh')}\nsystemctl {words}\necho $code\n"
    return subprocess.run(["sh", "-c", text], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("says", AWAY)
def test_a_question_is_asked_again_while_systemd_is_replaced(tmp_path: Path, says: str) -> None:
    done = asked(tmp_path, says, times=3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "active\nkept\n", "")


def test_what_systemd_refuses_is_said_at_once_and_not_asked_again(tmp_path: Path) -> None:
    done = asked(tmp_path, "Unit x.service could not be found.", times=3)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Unit x.service could not be found.\n")
    assert (tmp_path / "asked").read_text().count("x") == 1


def test_a_systemd_that_stays_away_is_a_failure(tmp_path: Path) -> None:
    done = asked(tmp_path, AWAY[0], times=99)
    assert (done.returncode, done.stderr) == (1, f"{AWAY[0]}\n")
    assert (tmp_path / "asked").read_text().count("x") == 10


def test_the_helper_knows_the_same_messages_and_every_script_with_systemctl_has_the_function() -> None:
    known = away()
    assert known["helper.sh"] == known["systemd.sh"]
    for path in sorted(SCRIPTS.glob("*.sh")):
        if path.name in ("helper.sh", "systemd.sh", "frame.sh"):
            continue
        calls = [line for line in path.read_text().splitlines() if "systemctl " in line.partition("#")[0]]
        sent_with = {
            "there.sh": "facts.sh",
            "postgresql.sh": "facts.sh",
            "rabbitmq.sh": "apply.sh",
            "redis.sh": "apply.sh",
        }
        if any("`systemctl" not in line for line in calls):
            assert "is_away()" in script(sent_with.get(path.name, path.name)), path.name
