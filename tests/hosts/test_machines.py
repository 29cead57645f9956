"""The machines behave like servers, which the other tests assume."""

from collections.abc import Iterator

import pytest

from deploy.hosts.environment import file
from deploy.hosts.ssh import pinning
from deploy.hosts.ssh.channel import run_script
from deploy.hosts.ssh.connect import Connections
from tests.rig.machines import ENVIRONMENT, Fleet, bare_fleet

VERSIONS = {"web1": 12, "web2": 13}
ROLES = {"web1": ("web", "worker", "beat"), "web2": ("web", "database", "broker")}
#: What a unit of ours is confined with, and a process that wants more memory than it may have.
UNIT = """
[Service]
Type=oneshot
User=www-data
ProtectSystem=strict
ProtectProc=invisible
ProcSubset=pid
PrivateTmp=yes
PrivateUsers=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
RuntimeDirectory=confined
MemoryMax=64M
ExecStart=/bin/sh -c '! touch /srv/x && touch /run/confined/x && echo confined'
ExecStart=-/usr/bin/perl -e "print length(q(b) x 500000000), q( bytes)"
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A machine of each version without a setup."""
    with bare_fleet(tmp_path_factory.mktemp("bare"), VERSIONS, ROLES) as fleet:
        yield fleet


def test_each_machine_is_bare_debian_that_is_reached_by_key(bare: Fleet) -> None:
    there = file.load(bare.project, ENVIRONMENT)
    with Connections(pinning.load(bare.project, ENVIRONMENT)) as connections:
        looked = "cat /etc/debian_version; id -un; command -v sudo python3 nginx || echo bare"
        admins = [host.model_copy(update={"user": host.admin}) for host in there.hosts]
        found = connections.on_all(admins, lambda connection: run_script(connection, looked).text.split())
    assert {name: (int(float(said[0])), said[1:]) for name, said in found.items() if isinstance(said, list)} == {
        name: (version, ["root", "bare"]) for name, version in VERSIONS.items()
    }


def test_machines_keep_address_key_and_files_over_a_power_cut(bare: Fleet) -> None:
    machine = bare["web1"]
    key = machine.host_key()
    machine.sh("echo kept > /srv/file; systemctl enable --now dpkg-db-backup.timer")
    machine.kill()
    machine.restart()
    assert machine.ssh("hostname", "-I").split() == [machine.address]
    assert machine.ssh("cat", "/srv/file") == "kept\n"
    assert machine.host_key() == key


def test_confinement_memory_limits_and_firewalls_are_real(bare: Fleet) -> None:
    for machine in (bare["web1"], bare["web2"]):
        machine.sh(f"cat > /run/systemd/system/confined.service <<'END'\n{UNIT}END\nsystemctl start confined")
        journal = machine.journal("confined")
        assert "\nconfined\n" in journal
        assert "bytes" not in journal
        machine.sh("apt-get -qq update; apt-get -qq install nftables >/dev/null")
        machine.sh("nft add table inet x; nft add chain inet x y '{type filter hook input priority 0; policy drop;}'")
        assert "policy drop" in machine.ssh("nft", "list", "ruleset")
        machine.ssh("nft", "delete", "table", "inet", "x")
