"""What `ssh -G` says of a host, as paramiko understands it."""

from pathlib import Path

import pytest

from deploy.hosts.environment.values import Jump
from deploy.hosts.ssh import openssh

SAID = """\
host web
user root
hostname web.internal
port 2222
identityfile ~/.ssh/id_rsa
identityfile {folder}/own
identityfile {folder}/missing
identityagent {folder}/agent
proxyjump ops@bastion:2222,inner
proxycommand none
"""


def test_a_section_has_what_decides_about_the_way_and_the_keys(tmp_path: Path) -> None:
    (tmp_path / "own").touch()
    said = openssh.parse(SAID.format(folder=tmp_path))
    assert openssh.section("web", said).splitlines() == [
        *("Host web", "    HostName web.internal", f"    IdentityFile {tmp_path}/own"),
        "    proxyjump ops@bastion:2222,inner",
    ], "the user and the port of a host are our own file's"
    assert "    user root" in openssh.section("web", said, whole=True).splitlines()
    assert openssh._jumps(said) == [("ops", "bastion", 2222), ("", "inner", None)]
    assert openssh._jumps(openssh.parse("proxyjump none\n")) == []


@pytest.mark.parametrize(
    ("value", "agent"),
    [
        *(("none", "none"), ("SSH_AUTH_SOCK", ""), ("/run/a b", "/run/a b")),
        *(("~/agent", "/home/ann/agent"), ("%d/agent", "/home/ann/agent"), ("$HOME/agent", "/home/ann/agent")),
    ],
)
def test_the_agent_is_the_one_that_the_configuration_names(
    value: str, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert openssh.agent(openssh.parse(f"identityagent {value}\n")) == agent
    assert openssh.agent({}) == ""


def test_without_openssh_paramiko_reads_the_file_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert openssh.meaning(Jump("root", "web1", 22)) is None
