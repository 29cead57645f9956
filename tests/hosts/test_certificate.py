"""Certificates of a real ACME directory (pebble): one order for two web hosts, renewed without a lost handshake."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.hosts.release import WEB, change
from tests.rig.machines import Fleet, Machine
from tests.support import one_line, wait_until

NAME = "portico.test"
#: Where the directory and its management listen.
PORT, MANAGEMENT = 14000, 15000
UNIT, PROGRAM = "portico-test-certificate.service", "/usr/local/lib/portico-test/certificate"
SHOWN, HANDOVER = "/etc/nginx/portico-test/tls.pem", "/etc/portico-test/handover.key"
#: A directory that knows no name but what its host knows, and asks at once.
START = f"""
export DEBIAN_FRONTEND=noninteractive
mkdir -p /opt/pebble
apt-get -q -y --no-install-recommends install pebble curl openssl >/opt/pebble/log 2>&1
cat >/opt/pebble/config.json <<'END'
{{"pebble": {{"listenAddress": "0.0.0.0:{PORT}", "managementListenAddress": "127.0.0.1:{MANAGEMENT}",
 "certificate": "/opt/pebble/crt", "privateKey": "/opt/pebble/key", "httpPort": 80, "tlsPort": 443}}}}
END
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=directory -addext "subjectAltName=IP:$ADDRESS" \\
    -keyout /opt/pebble/key -out /opt/pebble/crt 2>/dev/null
systemd-run --quiet --unit pebble -E PEBBLE_VA_NOSLEEP=1 -E PEBBLE_WFE_NONCEREJECT=0 \\
    pebble -config /opt/pebble/config.json
curl -s -k -o /dev/null --retry 60 --retry-delay 1 --retry-connrefused https://127.0.0.1:{PORT}/dir
"""


@dataclass
class Directory:
    """An ACME directory on a host, and the authority of what it issues."""

    machine: Machine
    root: Path

    @property
    def url(self) -> str:
        return f"https://{self.machine.address}:{PORT}/dir"

    def orders(self) -> int:
        """How many certificates it has issued."""
        return self.machine.sh("journalctl -u pebble -o cat --no-pager").count("Issued certificate")

    def knows(self, *addresses: str) -> None:
        """From now on, the name of the site leads to these addresses."""
        lines = "".join(f"{address} {NAME}\n" for address in addresses)
        self.machine.sh(f"sed '/{NAME}/d' /etc/hosts >/opt/hosts; cat /opt/hosts - >/etc/hosts <<'END'\n{lines}END\n")


@dataclass
class Handshakes:
    """Clients that open one connection after another, and trust the directory's certificates alone."""

    site: Fleet
    root: Path
    done: int = 0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> "Handshakes":
        self._end = threading.Event()
        ports = [self.site[name].https_port for name in WEB for _ in range(2)]
        self._threads = [threading.Thread(target=self._ask, args=(port,), daemon=True) for port in ports]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, port: int) -> None:
        while not self._end.is_set():
            try:
                code = visit(port, self.root)[0]
                if code != 200:
                    self.failures.append(f"{port}: {code}")
            except (OSError, ValueError) as error:
                self.failures.append(f"{port}: {error!r}")
            self.done += 1
            time.sleep(0.1)


def visit(port: int, root: Path) -> tuple[int, str]:
    """The code of a page, and the serial of the certificate: it must be the directory's, and for the site's name."""
    context = ssl.create_default_context(cafile=str(root))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n".encode())
        found = connection.getpeercert()
        assert found
        return int(connection.makefile("rb").readline().split()[1]), str(found["serialNumber"])


def serials(site: Fleet, directory: Directory) -> list[str]:
    """The certificate that each web host shows."""
    return [visit(site[name].https_port, directory.root)[1] for name in WEB]


def agreed(site: Fleet, directory: Directory) -> set[str]:
    """The certificate that both show; none while they show different ones."""
    found = set(serials(site, directory))
    return found if len(found) == 1 else set()


@pytest.fixture(scope="module")
def directory(site: Fleet) -> Iterator[Directory]:
    """A directory on a host of the site that serves no visitors; the environment names it, but nothing is set up."""
    machine, folder = site["data1"], site.project / ".secrets"
    folder.mkdir(exist_ok=True)
    machine.sh(f"ADDRESS={machine.address}\n{START}")
    (folder / "acme.pem").write_text(machine.sh("cat /opt/pebble/crt"))
    (folder / "root.pem").write_text(machine.sh(f"curl -s -k https://127.0.0.1:{MANAGEMENT}/roots/0"))
    made = Directory(machine, folder / "root.pem")
    acme = {"email": "ops@example.org", "directory": made.url, "ca": ".secrets/acme.pem"}
    # Without https_only, the release that serves goes on as it is.
    site.configure(tls={"acme": acme}, https_only=False, open_ports=[f"tcp/{PORT}"])
    site.commit("certificates by themselves")
    try:
        yield made
    finally:
        for key in ("tls", "https_only", "open_ports"):
            del site.more[key]
        site.configure()
        site.commit("no certificates")
        site.must("remote-setup", "--yes")
        made.knows()
        machine.sh("systemctl stop pebble 2>/dev/null || true; rm -rf /opt/pebble /opt/hosts")


@pytest.fixture(scope="module")
def certified(site: Fleet, directory: Directory) -> Fleet:
    """The site with its first certificate. The directory asks the host that has not ordered."""
    directory.knows(site["web2"].address)
    site.must("remote-setup", "--yes")
    return site


@pytest.mark.first
def test_a_failed_order_leaves_all_else_set_up_and_says_what_to_do(site: Fleet, directory: Directory) -> None:
    ordered = f"order a certificate for {NAME} at {directory.machine.address}"
    assert ordered in site.must("remote-setup", "--dry-run").stdout
    line = one_line(site.invoke("remote-setup", "--yes"))
    assert line.startswith(f"web1: {NAME}: its name does not lead here ("), line
    assert line.endswith("): fix its A and AAAA records")
    for name in WEB:
        ask = f"curl -s -k -o /dev/null -w '%{{http_code}}' --resolve {NAME}:443:127.0.0.1 https://{NAME}/"
        assert site[name].sh(ask) == "200"
    status = site.invoke("remote-status")
    assert status.code == 1
    assert f"web1: has no certificate yet: {NAME}: its name does not lead here (" in status.stderr
    assert "web2: has no certificate yet: `invoke remote-setup --env test` orders it" in status.stderr
    assert directory.orders() == 0


def test_one_order_gives_both_hosts_the_certificate_though_the_directory_asks_the_other_host(
    certified: Fleet, directory: Directory
) -> None:
    wait_until(lambda: agreed(certified, directory) != set(), 20, "both hosts show the same one")
    assert directory.orders() == 1
    for name in WEB:
        assert certified[name].sh(f"stat -c '%U %G %a' {SHOWN}").split() == ["root", "root", "600"]
        assert certified[name].sh(f"systemctl is-active {UNIT.replace('service', 'timer')}").strip() == "active"
    assert certified["web2"].sh("ls /var/lib/portico-test-certificate").split() == ["issued", "lock"]
    status = json.loads(certified.must("remote-status", "--json").stdout)
    assert all(host["certificate_days"] > 60 for host in status["hosts"] if "web" in host["roles"])


def test_three_renewals_under_load_fail_no_handshake_and_cost_an_order_each(
    certified: Fleet, directory: Directory
) -> None:
    before, shown = directory.orders(), {serials(certified, directory)[0]}
    with Handshakes(certified, directory.root) as load:
        for _ in range(3):
            certified["web1"].sh(f"{PROGRAM} force")
            certified["web2"].sh(f"systemctl start {UNIT}")
            # nginx has been told to reload; its earlier processes may still take a connection.
            wait_until(lambda: agreed(certified, directory) - shown != set(), 20, "both hosts show the new one")
            shown.update(agreed(certified, directory))
    print(f"{load.done} handshakes, {len(load.failures)} failed")
    assert not load.failures, load.failures[:10]
    assert load.done > 50
    assert len(shown) == 4
    assert directory.orders() == before + 3


def test_deploys_setups_and_the_timer_order_nothing_before_it_is_time(certified: Fleet, directory: Directory) -> None:
    before, shown = directory.orders(), serials(certified, directory)
    change(certified, 7)
    certified.must("remote-deploy")
    assert "order" not in certified.must("remote-setup", "--yes").stdout
    for name in WEB:
        certified[name].sh(f"systemctl start {UNIT}")
    assert directory.orders() == before
    assert serials(certified, directory) == shown


def test_the_deploy_key_reads_no_key_and_what_travels_tells_none(certified: Fleet) -> None:
    issuer, other = certified["web1"], certified["web2"]
    kept = "/var/lib/portico-test-certificate/certbot/live/portico-test/privkey.pem"
    for machine, paths in ((issuer, (SHOWN, HANDOVER, kept)), (other, (SHOWN, HANDOVER))):
        for path in paths:
            assert "KEY" in machine.sh(f"cat {path}")
            for who in ("deploy", "portico-test", "www-data"):
                assert "ermission denied" in machine.sh(f"runuser -u {who} -- cat {path} 2>&1 || true"), (who, path)
    asked = "curl -s -m 5 -H 'Host: portico-test.peers' -o /opt/pair -w '%{http_code}' http://WHERE:8082/handover"
    assert other.sh(asked.replace("WHERE", issuer.address)) == "200"
    middle = issuer.sh(f"sed -n '/PRIVATE/{{n;p}}' {SHOWN}").split()[0]
    assert other.sh(f"grep -a -c -F '{middle}' /opt/pair || rm /opt/pair").strip() == "0"
    assert certified["jobs1"].sh(asked.replace("WHERE", issuer.address), check=False) in ("000", "403")


def test_a_certificate_that_the_other_host_has_not_signed_is_refused(certified: Fleet, directory: Directory) -> None:
    issuer, other, shown = certified["web1"], certified["web2"], serials(certified, directory)
    issuer.sh(
        "cd /srv/portico-test/handover; mv pair /root/pair; openssl req -x509 -newkey rsa:2048 -nodes -days 2"
        " -subj /CN=portico-test -keyout /root/key -out /root/crt 2>/dev/null;"
        f" {{ echo x; cat {SHOWN}; }} |"
        " openssl cms -sign -binary -nodetach -signer /root/crt -inkey /root/key -outform DER |"
        " openssl cms -encrypt -binary -aes256 -outform DER -out pair /etc/portico-test/recipients.pem; chmod 644 pair"
    )
    try:
        assert "failed" in other.sh(f"systemctl start {UNIT} 2>&1 || echo failed", check=False)
        said = certified.invoke("remote-status")
        assert said.code == 1
        assert "web2: its certificate ends in" in said.stderr
        assert "the certificate that came from web1 is not signed by it" in said.stderr
    finally:
        issuer.sh("mv /root/pair /srv/portico-test/handover/pair; rm /root/key /root/crt")
    other.sh(f"systemctl start {UNIT}")
    assert serials(certified, directory) == shown


def test_while_the_directory_is_down_the_old_one_stays_and_status_says_how_long(
    certified: Fleet, directory: Directory
) -> None:
    shown = serials(certified, directory)
    directory.machine.sh("systemctl stop pebble")
    assert "failed" in certified["web1"].sh(f"{PROGRAM} force || echo failed", check=False)
    assert serials(certified, directory) == shown
    said = certified.invoke("remote-status")
    assert said.code == 1
    why = f"and was not renewed within the hour: {re.escape(directory.url)} cannot be reached"
    assert re.search(rf"web1: its certificate ends in \d+ days, {why}", said.stderr), said.stderr
    # Before it is time, nobody asks for anything.
    certified["web1"].sh(f"systemctl start {UNIT}")
    assert certified.invoke("remote-status").code == 0
