"""remote-setup on real hosts: from bare to ready, and what users must not be able to do there."""

import json
import random
import re
import socket
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.project import local
from tests import pages, support
from tests.hosts.conftest import ROLES, VERSIONS
from tests.hosts.server import make_key
from tests.rig.machines import Fleet, Machine, Rack, bare_fleet, watching
from tests.rig.ports import free_port
from tests.support import one_line

HELPER = "/usr/local/sbin/portico-test-helper"
RELEASE = "20260101-120000-abcdef1"
UNITS = {"web1": "web", "web2": "web", "jobs1": "worker"}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Machines for this module only: other modules may have set up those of the suite."""
    with bare_fleet(tmp_path_factory.mktemp("bare"), VERSIONS, ROLES) as fleet:
        # A locale that is not generated: Debian's package then makes no cluster of PostgreSQL.
        fleet["data1"].sh("echo LANG=de_DE.ISO-8859-1 >/etc/default/locale")
        yield fleet


@pytest.fixture(scope="module")
def ready(bare: Fleet) -> Fleet:
    """The same after setup; its output is in the rack's folder, the processes it ran in /root/watched."""
    for machine in bare.rack.machines.values():
        watch = f"{watching('/tmp/enough')} >/root/watched"
        subprocess.Popen(["docker", "exec", "-d", machine.container, "sh", "-c", watch])
    done = bare.must("remote-setup", "--yes")
    (bare.rack.folder / "said").write_text(done.stdout + done.stderr)
    for machine in bare.rack.machines.values():
        machine.sh("touch /tmp/enough")
    return bare


def no_change(fleet: Fleet) -> list[str]:
    return [f"{name}: no change" for name in fleet.roles]


def passwords(fleet: Fleet) -> list[str]:
    found = [
        fleet["data1"].sh(f"head -n 1 /etc/portico-test/{name}_password").strip() for name in ("database", "broker")
    ]
    assert all(len(password) >= 40 for password in found)
    return found


# --- From bare to ready ---


def test_a_dry_run_shows_what_bare_hosts_would_get_and_changes_nothing(bare: Fleet) -> None:
    shown = bare.must("remote-setup", "--dry-run", "--details").stdout
    for line in ("web1:", "  + user deploy", "  enable nginx.service", "  +++ /etc/sudoers.d/portico-test"):
        assert line in shown.splitlines(), line
    assert "sudo" not in bare["web1"].sh("dpkg-query -W -f '${Package} '")
    assert bare["web1"].sh("ls -d /srv/* /etc/portico-test 2>/dev/null", check=False) == ""


def test_bare_hosts_become_ready_at_once(ready: Fleet) -> None:
    said = (ready.rack.folder / "said").read_text()
    for name in ready.roles:
        assert f"{name}: ready" in said.splitlines()
        machine = ready[name]
        assert machine.sh("systemctl --failed --no-legend") == ""
        assert machine.sh("cat /etc/portico-test/roles").split() == list(ready.roles[name])
        assert machine.sh("stat -c '%U %a' /etc/portico-test/setup").split() == ["root", "644"]


def test_the_cluster_that_debian_does_not_make_without_the_locale_is_made(ready: Fleet) -> None:
    assert ready["data1"].sh("pg_lsclusters -h").split()[1:4] == ["main", "5432", "online"]
    asked = "SELECT datctype FROM pg_database WHERE datname = 'template1'"
    assert ready["data1"].sh(f'runuser -u postgres -- psql -A -t -c "{asked}"').strip() == "C.UTF-8"


def test_a_second_time_nothing_changes(ready: Fleet) -> None:
    before = {
        name: ready[name].sh("find /etc /usr /srv -newer /etc/portico-test/setup -type f") for name in ready.roles
    }
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready), "nobody is asked"
    assert {
        name: ready[name].sh("find /etc /usr /srv -newer /etc/portico-test/setup -type f") for name in before
    } == before


def test_the_deploy_user_logs_in_with_the_administrator_s_key_and_without_a_password(ready: Fleet) -> None:
    for name in ready.roles:
        assert ready[name].sh("cat ~deploy/.ssh/authorized_keys") == ready[name].sh("cat /root/.ssh/authorized_keys")
        assert ready[name].sh("getent shadow deploy").split(":")[1] == "*"
        assert ready[name].sh("stat -c '%U %a' ~deploy/.ssh ~deploy/.ssh/authorized_keys").split() == [
            *["deploy", "700", "deploy", "600"]
        ]


def test_the_site_s_units_are_confined(ready: Fleet) -> None:
    for name, kind in (("web1", "web"), ("web2", "web"), ("jobs1", "worker"), ("jobs1", "beat")):
        said = ready[name].sh(f"systemd-analyze security portico-test-{kind}@{RELEASE}.service --no-pager")
        level = re.search(r"exposure level for .*: ([0-9.]+)", said)
        assert level, said
        assert float(level[1]) <= 2.5
        ready[name].sh(f"systemd-analyze verify /etc/systemd/system/portico-test-{kind}@.service")
    said = ready["web1"].sh(f"systemctl show -p LimitCORE,IPAddressDeny portico-test-web@{RELEASE}.service")
    assert "LimitCORE=0" in said.split(), "a crash leaves no copy of memory"
    assert "169.254.169.254" in said, "where a cloud tells a machine its keys"


def test_the_servers_are_confined_too_and_run(ready: Fleet) -> None:
    cluster = ready["data1"].sh("pg_lsclusters -h").split()[0]
    for name, unit in (
        *(("web1", "nginx"), ("web2", "nginx")),
        *(("data1", f"postgresql@{cluster}-main"), ("data1", "rabbitmq-server")),
    ):
        said = ready[name].sh(f"systemd-analyze security {unit}.service --no-pager")
        level = re.search(r"exposure level for .*: ([0-9.]+)", said)
        assert level, said
        assert float(level[1]) <= 3.0, said
        assert ready[name].sh(f"systemctl is-active {unit}").strip() == "active"


def test_an_nginx_without_a_release_answers_502_and_a_strange_name_gets_nothing(ready: Fleet) -> None:
    for name in ("web1", "web2"):
        ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/"
        assert ready[name].sh(f"{ask} -H 'Host: portico.test'") == "502"
        assert ready[name].sh(ask.replace("127.0.0.1", "127.0.0.2"), check=False) == "000"
        assert '"status":502' in ready[name].sh("sleep 1.2; cat /var/log/nginx/portico-test.access.log")


def test_metrics_and_health_are_for_those_inside(ready: Fleet) -> None:
    """Those outside have an address that is routed on the Internet (here one of TEST-NET-3)."""
    web = ready["web1"]
    ask = "curl -s -o /dev/null -w '%{http_code} ' -H 'Host: portico.test'"
    paths = "http://127.0.0.1/metrics http://127.0.0.1/readyz"
    web.sh("ip address add 203.0.113.9/32 dev lo")
    try:
        codes = [web.sh(f"{ask} {each} {url}") for each in ("", "--interface 203.0.113.9") for url in paths.split()]
    finally:
        web.sh("ip address delete 203.0.113.9/32 dev lo")
    assert codes == ["502 ", "502 ", "404 ", "404 "], "there is no release yet: nginx would ask for those inside"


# --- Secrets ---


def test_no_password_is_said_or_is_in_a_process_list_a_log_or_a_file_for_all(ready: Fleet) -> None:
    said = (ready.rack.folder / "said").read_text() + ready.must("remote-setup", "--dry-run", "--details").stdout
    for password in passwords(ready):
        assert password not in said
        for name in ready.roles:
            machine = ready[name]
            seen = machine.sh("cat /root/watched")
            assert "/bin/sh" in seen, "the watch has seen something"
            assert password not in seen
            found = machine.sh(f"find / -xdev -type f -perm -o=r -exec grep -l -e {password} {{}} +", check=False)
            assert found == "", name
            assert machine.sh(f"grep -r -l -e {password} /var/log", check=False) == ""
            assert password not in machine.sh("journalctl --no-pager")


def test_where_passwords_are_only_root_reads(ready: Fleet) -> None:
    for name, files in {"data1": ("database_password", "broker_password"), "web1": ("services.env",)}.items():
        for file in files:
            assert ready[name].sh(f"stat -c '%U:%G %a' /etc/portico-test/{file}").strip() == "root:root 600"


# --- The servers ---

#: libpq by itself: a line for what a connection comes to.
CONNECT = """\
import ctypes, sys
pq = ctypes.CDLL("libpq.so.5")
pq.PQconnectdb.restype = pq.PQerrorMessage.restype = ctypes.c_void_p
pq.PQstatus.argtypes = pq.PQerrorMessage.argtypes = [ctypes.c_void_p]
c = pq.PQconnectdb(sys.argv[1].encode())
print(ctypes.string_at(pq.PQerrorMessage(c)).decode().strip().replace("\\n", " ") or "connected")
"""


def connect(machine: Machine, url: str) -> str:
    return machine.ssh("python3", "-c", CONNECT, url).strip()


def test_the_site_s_hosts_come_to_the_database_over_tls_with_the_password_and_not_otherwise(ready: Fleet) -> None:
    for name in ("web1", "web2", "jobs1"):
        url = re.search(r"^DATABASE_URL=(.*)$", ready[name].sh("cat /etc/portico-test/services.env"), re.MULTILINE)
        assert url
        assert connect(ready[name], url[1]) == "connected"
        for wrong in (
            url[1].replace("sslmode=verify-ca", "sslmode=disable"),
            url[1].replace("/portico_test?", "/postgres?"),
            url[1].replace("//portico_test:", "//postgres:"),
        ):
            assert "no pg_hba.conf entry" in connect(ready[name], wrong), wrong
        assert "authentication failed" in connect(ready[name], re.sub(r":[0-9a-f]{30,}@", ":wrong@", url[1]))


#: What TLS the broker is spoken to with, if it is the one that a file has the certificate of.
GREET = """\
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.load_verify_locations(sys.argv[2])
try:
    print(context.wrap_socket(socket.create_connection((sys.argv[1], 5671), 5)).version())
except ssl.SSLError as error:
    print(error)
"""


def test_a_server_that_shows_another_certificate_is_told_nothing(ready: Fleet) -> None:
    web, data = ready["web1"], ready["data1"].address
    web.sh("openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out /tmp/other.crt -subj /CN=x -days 2 2>&1")
    url = re.search(r"^DATABASE_URL=(.*)$", web.sh("cat /etc/portico-test/services.env"), re.MULTILINE)
    assert url
    assert "certificate verify failed" in connect(
        web, url[1].replace("/etc/portico-test/database.crt", "/tmp/other.crt")
    )
    assert web.ssh("python3", "-c", GREET, data, "/etc/portico-test/broker.crt").strip() == "TLSv1.3"
    assert "certificate verify failed" in web.ssh("python3", "-c", GREET, data, "/tmp/other.crt")


@pytest.fixture(scope="module")
def stranger(ready: Fleet) -> Machine:
    """A machine on the same network that is not a host of the environment."""
    [made] = ready.rack.add({"stranger": 12})
    made.sh("apt-get update -q >/dev/null; apt-get install -y -q --no-install-recommends python3 libpq5 >/dev/null")
    return made


def test_a_stranger_is_refused_by_the_database_itself_too(ready: Fleet, stranger: Machine) -> None:
    [password, _] = passwords(ready)
    data = ready["data1"]
    url = f"postgres://portico_test:{password}@{data.address}:5432/portico_test?sslmode=require&connect_timeout=3"
    assert "timeout" in connect(stranger, url), "the firewall drops it"
    data.sh("systemctl stop portico.firewall")
    try:
        assert "no pg_hba.conf entry" in connect(stranger, url)
    finally:
        data.sh("systemctl start portico.firewall")


def listening(machine: Machine) -> set[str]:
    """The ports that listen for other machines."""
    addresses = machine.sh("ss -H -l -t -n | awk '{print $4}'").split()
    return {each.rpartition(":")[2] for each in addresses if not each.startswith(("127.", "[::1]"))}


def test_the_broker_has_one_user_and_erlang_is_for_this_host_only(ready: Fleet) -> None:
    data = ready["data1"]
    users = data.sh("rabbitmqctl list_users --quiet --no-table-headers").split()
    assert "guest" not in users
    assert users[0] == "portico-test"
    assert listening(data) == {"22", "5432", "5671"}


# --- The firewall ---


def rules(machine: Machine) -> list[str]:
    """The rules of our firewall."""
    return [line.strip() for line in machine.sh("nft list table inet portico_hosts").splitlines()]


PORTS = {22, 80, 443, 4369, 5432, 5671, 5672, 8082, 9999, 25672}


def opened(source: Machine, target: Machine) -> set[int]:
    """Which of these ports answer, even with a refusal."""
    ports = " ".join(map(str, PORTS))
    script = (
        f'for port in {ports}; do (if timeout 2 bash -c "echo >/dev/tcp/{target.address}/$port" 2>/tmp/said.$port '
        "|| grep -q refused /tmp/said.$port; then echo $port; fi) & done; wait"
    )
    return {int(port) for port in source.sh(script).split()}


def test_the_firewall_lets_in_what_the_roles_need_and_nothing_else(ready: Fleet) -> None:
    for name in ready.roles:
        ready[name].sh("command -v bash")
    assert opened(ready["web1"], ready["data1"]) == {22, 5432, 5671}
    assert opened(ready["jobs1"], ready["data1"]) == {22, 5432, 5671}
    assert opened(ready["web2"], ready["web1"]) == {22, 80, 8082}
    assert opened(ready["web1"], ready["jobs1"]) == {22, 8082}
    assert opened(ready["jobs1"], ready["web1"]) == {22, 80}
    assert opened(ready["data1"], ready["web1"]) == {22, 80}
    assert opened(ready["data1"], ready["jobs1"]) == {22}


def test_without_a_firewall_the_broker_is_still_for_the_site_s_hosts_only(ready: Fleet, stranger: Machine) -> None:
    data = ready["data1"]
    ready.configure(firewall=False)
    ready.must("remote-setup", "--yes", "--only", "data1")
    try:
        assert PORTS - opened(stranger, data) == {5671}
        assert opened(ready["web1"], data) == PORTS
        assert (
            ready["web1"].ssh("python3", "-c", GREET, data.address, "/etc/portico-test/broker.crt").strip() == "TLSv1.3"
        )
    finally:
        ready.configure(firewall=True)
    ready.must("remote-setup", "--yes", "--only", "data1")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_a_port_that_the_file_opens_is_open(ready: Fleet, stranger: Machine) -> None:
    ready.configure(open_ports=["tcp/9999", "udp/51820"])
    ready.must("remote-setup", "--yes", "--only", "jobs1,data1")
    assert [opened(stranger, ready[name]) for name in ("jobs1", "data1", "web1")] == [{22, 9999}, {22, 9999}, {22, 80}]
    ready.configure(open_ports=[])
    ready.must("remote-setup", "--yes")
    assert opened(stranger, ready["jobs1"]) == {22}


def test_ssh_is_let_in_wherever_it_listens(ready: Fleet) -> None:
    file = "/etc/ssh/sshd_config.d/more.conf"
    ready["jobs1"].sh(f"printf 'ListenAddress 0.0.0.0\\nListenAddress 127.0.0.1:2222\\n' >{file}")
    shown = ready.must("remote-setup", "--dry-run", "--details").stdout
    assert '  +add rule inet portico_hosts input tcp dport { 22, 2222 } accept comment "SSH"' in shown.splitlines()
    ready["jobs1"].sh(f"rm {file}")


def test_rules_that_were_flushed_come_back(ready: Fleet) -> None:
    # The system's nftables.service flushes all tables when it starts; its restart must restart ours too.
    ready["jobs1"].sh("systemctl start nftables; systemctl restart nftables")
    # systemctl does not wait for units that are restarted along; they are only queued then.
    ready["jobs1"].sh("systemctl start portico.firewall; nft list table inet portico_hosts >/dev/null")
    ready["jobs1"].sh("nft delete table inet portico_hosts")
    shown = ready.must("remote-setup", "--yes").stdout
    assert "  restarts: portico.firewall.service" in shown.splitlines()
    assert opened(ready["data1"], ready["jobs1"]) == {22}
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


# --- What the deploy user may not do ---


def as_deploy(machine: Machine, script: str) -> tuple[int, str]:
    """The exit code and the output of a shell command, run as the deploy user."""
    command = ["docker", "exec", "-i", "-u", "deploy", "-w", "/tmp", machine.container, "sh", "-s"]
    done = subprocess.run(command, input=f"{script}\n", capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "cat /etc/shadow",
        "cat /etc/portico-test/services.env",
        "ls /srv/portico-test/protected",
        "touch /srv/portico-test/protected/x",
        "mv /srv/portico-test/state /srv/portico-test/elsewhere",
        "rmdir /srv/portico-test/layers",
        "touch /etc/systemd/system/x.service",
        "touch /etc/systemd/system/portico-test-web@.service",
        "echo >>/usr/local/lib/portico-test/launch",
        f"echo >>{HELPER}",
        "touch /etc/sudoers.d/x",
        "touch /etc/nginx/portico-test/x.conf",
        "cat /etc/nginx/portico-test/tls.key /etc/portico-test/pending",
        "sudo -n id",
        "sudo -n -s",
        "sudo -n /bin/sh -c id",
        "sudo -n -u portico-test id",
        "sudo -n -u postgres id",
        "sudo -n systemctl restart nginx",
        "sudo -n journalctl",
        "sudo -n -e /etc/passwd",
        f"sudo -n LD_PRELOAD=/tmp/x.so {HELPER} units",
        f"sudo -n -E {HELPER} units",
        f"sudo -n -u postgres {HELPER} units",
        f"sudo -n -g root -u portico-test {HELPER} units",
        f"sudo -n sh {HELPER} units",
        f"{HELPER} units",
        "systemctl restart nginx",
        "systemctl start portico-test-web@x",
        "systemd-run --wait id",
        "nft list ruleset | grep -q portico",
    ],
)
@pytest.mark.parametrize("name", ["web1", "web2"])
def test_the_deploy_user_may_not(ready: Fleet, name: str, script: str) -> None:
    code, said = as_deploy(ready[name], script)
    assert code != 0, said


#: Calls, each a list of words, with what else a caller can set; prints those that were not refused as they must be.
CALLS = f"""\
import json, os, subprocess, sys
os.makedirs("/tmp/bait", exist_ok=True)
for name in ("systemctl", "journalctl", "id", "env", "runuser", "pg_dump", "systemd-run", "sh", "pager"):
    with open(f"/tmp/bait/{{name}}", "w") as file:
        file.write("#!/bin/sh\\ntouch /tmp/taken.$(/usr/bin/id -u)\\n")
    os.chmod(f"/tmp/bait/{{name}}", 0o755)
pager = dict.fromkeys(("PAGER", "SYSTEMD_PAGER", "SYSTEMD_EDITOR", "ENV", "BASH_ENV"), "/tmp/bait/pager")
bait = {{**pager, "PATH": "/tmp/bait:/usr/bin", "IFS": "e", "LESSOPEN": "|/tmp/bait/sh", "SHELLOPTS": "xtrace",
        "PS4": "$(touch /tmp/taken)", "LD_LIBRARY_PATH": "/tmp/bait", "TERM": "../../tmp/bait/sh", "LC_ALL": "../bait",
        "PGHOST": "/tmp/bait", "SYSTEMD_LOG_TARGET": "console"}}
for words in json.load(sys.stdin):
    done = subprocess.run(["/usr/bin/sudo", "-n", "{HELPER}", *words], env=bait, cwd="/tmp/bait", capture_output=True,
                          input=b"touch /tmp/taken\\nid\\n", timeout=30)
    if done.returncode != 64 or done.stdout:
        print(json.dumps([words, done.returncode, done.stdout.decode(errors="replace")[:200]]))
"""
HOSTILE = (
    *["", " ", "*", "?", "[", "~", "-", "--", "-H", "--help", "--version", "--root=/tmp", "-Hroot@evil", "--no-block"],
    *["$(touch /tmp/taken)", "`touch /tmp/taken`", ";touch /tmp/taken", "|touch /tmp/taken", "&touch /tmp/taken"],
    *["web\n", "\nweb", "web web", "web;", "web*", "web@", "Web", "web\\n", "release@", "../web", "sshd", "%n", "%i"],
    *[f"{RELEASE}\n", f"\n{RELEASE}", f"{RELEASE} ", f"{RELEASE};id", f"{RELEASE}.service", f"{RELEASE}@x"],
    *[f"-{RELEASE}", f"{RELEASE}/../x", f"../releases/{RELEASE}", f"{RELEASE}\t", f"{RELEASE}*", f"{RELEASE}%i"],
    *["20260101-120000-", "20260101-120000-abcdef", "20260101-120000-abcdef1234567", "20260101-120000-ABCDEF1"],
    *["????????-??????-abcdef1", "[0-9]-[0-9]-abcdef1", "20260101120000abcdef1", "0", "1001", "-1", "+1", "1e3", "1 "],
    *["now later", "NOW", "--now", "$IFS", "${RELEASE}", "\\", "'", '"', "!!", "{a,b}", "é", "\uff0f", "\x1b[2J"],
)


def is_right(call: list[str]) -> bool:
    """Whether the words, which were put together by chance, ask for a log."""
    log = len(call) == 3 and call[0] == "log" and re.fullmatch(r"[1-9]\d{0,3}|10000", call[1])
    asks = log or (len(call) == 2 and call[0] == "follow")
    return bool(asks and re.fullmatch(r"-|@?\d+", call[-1]))


def hostile_calls() -> list[list[str]]:
    right = [
        *[["start", "web", RELEASE], ["stop", "web", RELEASE, "now"], ["migrate", RELEASE]],
        *[
            ["journal", "web", RELEASE, "20"],
            ["log", "20", "-"],
            ["follow", "0"],
            ["manage", RELEASE],
            ["backup", RELEASE],
            ["snapshot", "asked"],
        ],
    ]
    chance = random.Random(6)
    letters = string.printable + "äß\u202e"
    calls = []
    for call in right:
        for place in range(len(call)):
            calls += [[*call[:place], word, *call[place + 1 :]] for word in HOSTILE]
            for _ in range(10):
                word = "".join(chance.choices(letters, k=chance.randrange(1, 40)))
                calls.append([*call[:place], word, *call[place + 1 :]])
        if call[0] != "manage":
            calls += [[*call, word] for word in HOSTILE[:20]]
    calls = [call for call in calls if not is_right(call)]
    return [*calls, [], ["units", "x"], ["boot", "x"], ["start", "release", RELEASE], ["stop", "web"], ["manage"]]


@pytest.mark.parametrize("name", ["web1", "web2"])
def test_hundreds_of_hostile_arguments_come_to_nothing(ready: Fleet, name: str) -> None:
    calls = hostile_calls()
    assert len(calls) > 1000
    machine = ready[name]
    machine.sh("touch /root/before")
    done = subprocess.run(
        ["docker", "exec", "-i", "-u", "deploy", machine.container, "python3", "-c", CALLS],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert machine.sh("ls /tmp/taken* 2>/dev/null", check=False) == ""
    where = "/etc /usr /srv /root /home /opt /boot /var/backups /var/lib /var/spool /run/systemd/transient"
    made = machine.sh(f"find {where} -newer /root/before ! -path '/var/lib/sudo*'", check=False)
    assert made == ""


@pytest.mark.parametrize("name", ["web1", "web2"])
def test_what_the_deploy_user_puts_in_the_way_of_root_is_not_followed(ready: Fleet, name: str) -> None:
    machine = ready[name]
    for link in (
        "/etc",
        "../releases/../../../etc",
        f"../releases/{RELEASE}/x",
        f"/srv/portico-test/releases/{RELEASE}",
        "x",
    ):
        as_deploy(machine, f"ln -sfn '{link}' /srv/portico-test/state/current")
        assert as_deploy(machine, f"sudo -n {HELPER} boot")[0] == 64, link
    as_deploy(machine, "rm /srv/portico-test/state/current")
    assert as_deploy(machine, f"sudo -n {HELPER} boot")[0] == 0
    # The release's `env` is run by the site's user, who has fewer rights.
    as_deploy(
        machine,
        f"mkdir -p /srv/portico-test/releases/{RELEASE} && cd /srv/portico-test/releases/{RELEASE} && "
        "echo 'id -un; cat /etc/shadow || touch /srv/portico-test/state/x || touch /etc/x || exit 3' >env",
    )
    code, said = as_deploy(machine, f"sudo -n {HELPER} start web {RELEASE}")
    assert code == 1
    assert "\nportico-test\n" in said
    assert said.count("denied") + said.count("Read-only") >= 3, said
    assert as_deploy(machine, f"sudo -n {HELPER} units") == (0, "")
    as_deploy(machine, f"rm -r /srv/portico-test/releases/{RELEASE}")


@pytest.mark.parametrize(
    ("user", "folder", "name"),
    [("postgres", "/etc/postgresql/*/main", "pg_hba.conf"), ("rabbitmq", "/etc/rabbitmq", "rabbitmq.conf")],
)
def test_a_link_that_a_server_s_user_puts_in_the_way_leads_root_nowhere(
    ready: Fleet, user: str, folder: str, name: str
) -> None:
    data = ready["data1"]
    data.sh("echo right >/root/target; chmod 644 /root/target; rm -rf /root/bait; mkdir /root/bait; chmod 755 /root")
    # In place of the temporary file that root would create, in place of the file, and in place of the file's folder.
    data.sh(
        f"cd {folder}; echo >>{name}; runuser -u {user} -- sh -c "
        f"'ln -s /root/target .{name}.new; mkdir -p conf.d; mv conf.d was; ln -s /root/bait conf.d'"
    )
    result = ready.invoke("remote-setup", "--yes", "--only", "data1")
    if user == "postgres":
        assert one_line(result).startswith("data1: postgres cannot write /etc/postgresql/"), result.stderr
    data.sh(f"cd {folder}; rm conf.d; mv was conf.d; mv {name} was; ln -s /root/target {name}; rm was")
    ready.must("remote-setup", "--yes", "--only", "data1")
    assert data.sh(f"cd {folder}; stat -c '%F %U' {name}").strip() == f"regular file {user}"
    assert data.sh("cat /root/target; stat -c '%U %a' /root/target; ls /root/bait").split() == ["right", "root", "644"]
    data.sh("chmod 700 /root")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_a_link_among_static_files_leads_nginx_to_nothing_of_others(ready: Fleet) -> None:
    machine = ready["web1"]
    machine.sh("cd /srv/portico-test/protected; echo secret >export; chown portico-test:www-data export")
    as_deploy(
        machine,
        "cd /srv/portico-test/static; echo mine >a.txt; ln -s ../protected/export b.txt; ln -s a.txt c.txt",
    )
    ask = "curl -s -H 'Host: portico.test' http://127.0.0.1/static"
    assert [machine.sh(f"{ask}/{name}.txt").strip() for name in "ac"] == ["mine", "mine"]
    assert "403 Forbidden" in machine.sh(f"{ask}/b.txt")
    machine.sh("rm /srv/portico-test/static/*.txt /srv/portico-test/protected/export")


# --- What the deploy user may do ---

#: A release of nothing: `manage.py` says what it was called with.
NOTHING = f"""\
umask 022
mkdir -p /srv/portico-test/releases/{RELEASE}/venv/bin /srv/portico-test/releases/{RELEASE}/site
cd /srv/portico-test/releases/{RELEASE}
ln -sf /usr/bin/python3 venv/bin/python
printf "A='b c'\\nPORTICO_SITE=site\\n" >env
cat >site/manage.py <<'END'
import json, os, sys
print(json.dumps([sys.argv[1:], os.getuid() == 0, os.environ["A"], "DATABASE_URL" in os.environ, sys.stdin.read()]))
sys.exit(7)
END
"""


@pytest.mark.parametrize("name", ["web1", "web2"])
def test_manage_hands_on_words_as_they_are_input_and_exit_code(ready: Fleet, name: str) -> None:
    as_deploy(ready[name], NOTHING)
    words = [
        "shell",
        "$HOME",
        "${A}",
        "$$",
        "%i %% %n",
        "a\n\nb\n",
        "",
        "-p",
        "--property=User=root",
        "'\"\\",
        "é",
        ";id",
    ]
    command = ["docker", "exec", "-i", "-u", "deploy", ready[name].container, "sudo", "-n", HELPER, "manage", RELEASE]
    done = subprocess.run([*command, *words], input="input", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert json.loads(done.stdout) == [words, False, "b c", True, "input"]
    as_deploy(ready[name], f"rm -r /srv/portico-test/releases/{RELEASE}")


def test_a_unit_that_does_not_start_says_why_and_is_not_tried_again(ready: Fleet) -> None:
    as_deploy(ready["jobs1"], f"{NOTHING}\necho 'echo no broker at all >&2; exit 1' >>env")
    code, said = as_deploy(ready["jobs1"], f"sudo -n {HELPER} start worker {RELEASE}")
    assert code == 1
    assert "no broker at all" in said.splitlines()
    assert as_deploy(ready["jobs1"], f"sudo -n {HELPER} units") == (0, "")
    code, said = as_deploy(ready["jobs1"], f"sudo -n {HELPER} migrate {RELEASE}; sudo -n {HELPER} log 100 600")
    assert '"MESSAGE":"no broker at all"' in said
    as_deploy(ready["jobs1"], f"rm -r /srv/portico-test/releases/{RELEASE}")


def test_copies_of_ten_days_are_kept_where_only_root_reads_them(ready: Fleet) -> None:
    data = ready["data1"]
    data.sh(
        "cd /var/backups/portico-test; for n in 01 02 03 04 05 06 07 08 09 10 11; do "
        "touch 202001$n-000000-before-x.dump; done"
    )
    code, said = as_deploy(data, f"sudo -n {HELPER} backup {RELEASE}")
    assert code == 0
    assert re.fullmatch(rf"/var/backups/portico-test/\d{{8}}-\d{{6}}-before-{RELEASE}.dump\n", said)
    kept = data.sh("ls /var/backups/portico-test").split()
    assert len(kept) == 11
    assert kept[-1] in said
    assert data.sh(f"stat -c '%U %a' {said.strip()}").split() == ["root", "600"]
    assert "portico_test" in data.sh(f"runuser -u postgres -- pg_restore -l <{said.strip()}")
    assert as_deploy(ready["web1"], f"sudo -n {HELPER} backup {RELEASE}")[0] == 64


# --- Drift, and mistakes ---


def test_what_was_changed_by_hand_is_shown_and_mended(ready: Fleet) -> None:
    web = ready["web1"]
    web.sh(
        "sed -i 's/read_timeout 60s/read_timeout 5s/' /etc/nginx/portico-test/proxy.conf; "
        "chmod 644 /etc/portico-test/services.env"
    )
    web.sh("echo 'deploy ALL=(ALL) NOPASSWD: ALL' >>/etc/sudoers.d/portico-test; systemctl disable -q --now nginx")
    shown = ready.must("remote-setup", "--dry-run", "--details").stdout.splitlines()
    for line in (
        "  -proxy_read_timeout 5s;",
        "  +proxy_read_timeout 60s;",
        "  -deploy ALL=(ALL) NOPASSWD: ALL",
        "  ~ /etc/portico-test/services.env root:root 644 → root:root 600",
        "  enable nginx.service",
    ):
        assert line in shown, shown
    assert "web2: no change" in shown
    assert "read_timeout 5s" in web.sh("cat /etc/nginx/portico-test/proxy.conf"), "a dry run changes nothing"
    ready.must("remote-setup", "--yes", "--only", "web1")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)
    assert web.sh("curl -s -o /dev/null -w '%{http_code}' -H 'Host: portico.test' http://127.0.0.1/") == "502"


#: By host, what somebody does there, and the line that says so.
DRIFT = {
    "web1": {
        "sed -i 's/sendfile on/sendfile off/' /etc/nginx/portico-test/defaults.conf": (
            '/etc/nginx/portico-test/defaults.conf: has "sendfile off;", should have "sendfile on;"'
        ),
        "chmod 666 /etc/sudoers.d/portico-test": "/etc/sudoers.d/portico-test: root:root 666, should be root:root 440",
        "echo ProtectHome=no >>/etc/systemd/system/portico-test-web@.service": (
            '/etc/systemd/system/portico-test-web@.service: has "ProtectHome=no", should not'
        ),
        "usermod -s /bin/sh portico-test": "user portico-test: shell /bin/sh, should be /usr/sbin/nologin",
        "systemctl -q disable portico-test": "portico-test.service: disabled, should be enabled",
        "apt-get remove -y -q logrotate >/dev/null": "package logrotate: not installed, should be",
        "chmod 666 ~deploy/.ssh/authorized_keys; echo '# ours' >>~deploy/.ssh/authorized_keys": (
            "authorized_keys of deploy: none, or others may write it; should be there, and only the user's to write"
        ),
    },
    "jobs1": {
        "chown root /srv/portico-test/layers": (
            "/srv/portico-test/layers/: root:portico-test 2755, should be deploy:portico-test 2755"
        ),
        "rm ~deploy/.ssh/authorized_keys": (
            "authorized_keys of deploy: none, or others may write it; should be there, and only the user's to write"
        ),
        "nft insert rule inet portico_hosts input tcp dport 9999 accept": (
            "portico.firewall.service: stopped, or its rules were changed since, should be running with the rules of "
            "its files"
        ),
        "chmod 600 /etc/portico.d/sites/portico-test": (
            "/etc/portico.d/sites/portico-test: root:root 600, should be root:root 644"
        ),
        "systemctl -q mask --now nginx": "nginx.service: disabled, should be enabled",
    },
    "data1": {
        "sed -i '/^hostssl portico_test/d' /etc/postgresql/17/main/pg_hba.conf": (
            "/etc/postgresql/17/main/pg_hba.conf: lacks a line, should have "
            '"hostssl portico_test portico_test WEB1/32 scram-sha-256"'
        ),
        "rabbitmqctl -q clear_permissions -p portico-test portico-test": "broker: lacks permissions, should have it",
        "runuser -u postgres -- psql -q -c 'ALTER ROLE portico_test SUPERUSER'": "database: lacks role, should have it",
    },
}


def test_drift_of_more_than_ten_kinds_is_named_host_by_host_and_healed(ready: Fleet) -> None:
    assert ready.must("remote-setup", "--check").stdout == "test: no drift on web1, web2, jobs1, data1\n"
    for name, deeds in DRIFT.items():
        ready[name].sh("\n".join(deeds))
    secrets = passwords(ready)
    checked = ready.invoke("remote-setup", "--check")
    assert checked.code == 1
    assert checked.stderr == ""
    web1 = ready["web1"].address
    expected = [f"{name}: {line.replace('WEB1', web1)}" for name, deeds in DRIFT.items() for line in deeds.values()]
    lines = checked.stdout.splitlines()
    assert not (missing := [line for line in expected if line not in lines]), "\n".join([*missing, "", *lines])
    assert not [line for line in lines if line.startswith("web2:")]
    assert not [secret for secret in secrets if secret in checked.stdout]
    assert ready["jobs1"].sh("stat -c %U /srv/portico-test/layers").strip() == "root", "nothing was changed"
    ready.must("remote-setup", "--yes")
    assert ready.must("remote-setup", "--check").stdout == "test: no drift on web1, web2, jobs1, data1\n"
    assert "# ours" in ready["web1"].sh("cat ~deploy/.ssh/authorized_keys"), "a key that the team has added stays"
    ready["web1"].sh("sed -i '/# ours/d' ~deploy/.ssh/authorized_keys")


def test_a_host_that_no_longer_runs_the_site_has_its_units_stopped(ready: Fleet) -> None:
    left = f"portico-test-worker@{RELEASE}.service"
    ready["data1"].sh(f"systemd-run --quiet --unit {left} sleep 600")
    assert "  disable portico-test-worker@.service" in ready.must("remote-setup", "--dry-run").stdout
    ready.must("remote-setup", "--yes")
    support.wait_until(lambda: left not in ready["data1"].sh("systemctl list-units"), 20, "it has ended")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


#: For a release's `env`: a process that is ready, and does nothing.
IDLE = """\
exec python3 -c 'import os, socket, time
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(900)'
"""


def test_a_host_runs_nothing_of_roles_that_others_have_now_and_keeps_the_data(ready: Fleet) -> None:
    jobs, data, web2 = ready["jobs1"], ready["data1"], ready["web2"]
    before, beat = dict(ready.roles), "/etc/systemd/system/portico-test-beat@.service"
    as_deploy(jobs, f"{NOTHING}\ncat >>env <<'END'\n{IDLE}END")
    assert as_deploy(jobs, f"sudo -n {HELPER} start beat {RELEASE}") == (0, "")
    data.sh("echo 'CREATE TABLE kept ()' | runuser -u postgres -- psql -q portico_test")
    ready.roles |= {"web1": ("web", "beat"), "web2": ("database", "broker"), "jobs1": ("worker",), "data1": ("worker",)}
    ready.configure()
    try:
        shown = ready.must("remote-setup", "--yes").stdout.splitlines()
        for unit in ("portico-test-beat@.service", "nginx.service", "postgresql.service", "rabbitmq-server.service"):
            assert f"  disable {unit}" in shown
        support.wait_until(lambda: "portico-test-beat@" not in jobs.sh("systemctl list-units"), 20, "beat has ended")
        assert jobs.sh(f"ls {beat} 2>&1", check=False).endswith("No such file or directory\n")
        ready["web1"].sh(f"ls {beat}")
        assert (listening(data), listening(web2)) == ({"22", "8082"}, {"22", "5432", "5671"})
        assert web2.sh("ls /etc/nginx/portico-test; systemctl is-enabled nginx", check=False).strip() == "disabled"
        assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)
    finally:
        ready.roles |= before
        ready.configure()
        as_deploy(jobs, f"rm -r /srv/portico-test/releases/{RELEASE}")
    ready.must("remote-setup", "--yes")
    assert "kept" in data.sh("echo '\\dt' | runuser -u postgres -- psql -q portico_test")
    assert listening(web2) == {"22", "80", "8082"}
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_a_deploy_user_that_somebody_gave_more_rights_is_refused(ready: Fleet) -> None:
    ready["web2"].sh("gpasswd -a deploy sudo >/dev/null")
    assert one_line(ready.invoke("remote-setup", "--yes")) == (
        "web2: deploy is in the group sudo, which may do more than deploy: gpasswd -d deploy sudo"
    )
    ready["web2"].sh("gpasswd -d deploy sudo >/dev/null")


def test_what_a_setup_that_was_killed_has_masked_is_unmasked(ready: Fleet) -> None:
    ready["web1"].sh("systemctl stop nginx; systemctl --quiet --runtime mask nginx")
    ready.must("remote-setup", "--yes", "--only", "web1,web2")
    ready["web1"].sh("systemctl is-active -q nginx")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_a_password_that_was_changed_by_hand_is_set_again(ready: Fleet) -> None:
    before = passwords(ready)
    ready["data1"].sh("echo \"ALTER ROLE portico_test PASSWORD 'other'\" | runuser -u postgres -- psql -q")
    ready["data1"].sh("rabbitmqctl change_password portico-test other >/dev/null")
    shown = ready.must("remote-setup", "--yes").stdout
    assert "  database: make password" in shown
    assert "  broker: make password" in shown
    assert passwords(ready) == before
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_nginx_keeps_what_works_when_it_is_told_nonsense(ready: Fleet) -> None:
    path = ready.project / "nginx" / "site.conf"
    right = path.read_text()
    path.write_text(right.replace("sendfile on;", "sendfile perhaps;"))
    try:
        result = ready.invoke("remote-setup", "--yes")
        assert result.code == 1
        failed = [line for line in result.stderr.splitlines() if "rejects its configuration" in line]
        assert [line.split(":")[0] for line in failed] == ["web1", "web2"]
        assert "the previous one is restored" in failed[0]
        assert "perhaps" in failed[0]
        for name in ("web1", "web2"):
            assert "sendfile on;" in ready[name].sh("cat /etc/nginx/portico-test/defaults.conf")
            ready[name].sh("nginx -t -q -c /etc/nginx/site/nginx.conf && systemctl is-active -q nginx")
    finally:
        path.write_text(right)
    ready.must("remote-setup", "--yes")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_one_host_that_cannot_be_looked_at_is_one_line_and_nothing_is_done(ready: Fleet) -> None:
    file = ready.project / "deploy" / "environments" / "test.yaml"
    right = file.read_text()
    ready["web2"].sh("sed -i s/^ID=debian/ID=slackware/ /etc/os-release; cp /etc/passwd /root")
    file.write_text(right.replace(f'"{ready["jobs1"].address}"', '"127.0.0.1", "port": ' + str(free_port())))
    file.write_text(file.read_text() + "drain: 7\n")
    try:
        result = ready.invoke("remote-setup", "--yes")
        assert result.code == 1
        lines = result.stderr.strip().splitlines()
        assert [line.split(":")[0] for line in lines] == ["web2", "jobs1"]
        assert lines[0].startswith("web2: is slackware 13; install Debian 12 or newer")
        assert lines[1].startswith("jobs1: no SSH at 127.0.0.1:")
        assert "TimeoutStopSec=22" not in ready["web1"].sh("cat /etc/systemd/system/portico-test-web@.service")
    finally:
        file.write_text(right)
        ready["web2"].sh("sed -i s/^ID=slackware/ID=debian/ /etc/os-release")


def test_one_host_that_cannot_be_made_ready_leaves_the_others_to_be(ready: Fleet) -> None:
    data, web = ready["data1"], ready["web1"]
    before = web.sh("cat /etc/portico-test/services.env")
    data.sh("cd /etc/rabbitmq; mv rabbitmq.conf old; mkdir rabbitmq.conf; systemctl stop postgresql rabbitmq-server")
    web.sh("chmod 755 /etc/portico-test/roles")
    result = ready.invoke("remote-setup", "--yes")
    assert one_line(result) == "data1: /etc/rabbitmq/rabbitmq.conf is a folder; remove it"
    assert "web1: ready" in result.stderr.splitlines()
    assert web.sh("cat /etc/portico-test/services.env") == before
    data.sh("rmdir /etc/rabbitmq/rabbitmq.conf")
    ready.must("remote-setup", "--yes")
    assert ready.must("remote-setup").stdout.splitlines() == no_change(ready)


def test_a_key_that_is_not_the_administrator_s_is_one_line_for_each_host(ready: Fleet, tmp_path: Path) -> None:
    file = ready.project / "deploy" / "environments" / "test.yaml"
    right = file.read_text()
    file.write_text(right.replace(str(ready.rack.identity), str(make_key(tmp_path / "wrong"))))
    try:
        result = ready.invoke("remote-setup", "--yes")
        assert result.code == 1
        lines = result.stderr.strip().splitlines()
        assert [line.split(":")[0] for line in lines] == list(ready.roles)
        assert all("rejects all of your keys for root" in line for line in lines)
    finally:
        file.write_text(right)


def test_without_a_terminal_and_without_yes_nothing_is_done(ready: Fleet) -> None:
    ready["web1"].sh("chmod 755 /etc/portico-test/roles")
    assert one_line(ready.invoke("remote-setup")).endswith("There is no terminal to confirm it on: add --yes")
    assert ready["web1"].sh("stat -c %a /etc/portico-test/roles").strip() == "755"
    ready.must("remote-setup", "--yes")


# --- One host for all, with an administrator who is not root ---


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    own = Rack(tmp_path_factory.mktemp("solo"))
    own.start({"solo": 12})
    tls = tmp_path_factory.mktemp("tls")
    pair = ["-keyout", str(tls / "key.pem"), "-out", str(tls / "crt.pem")]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *pair,
        "-days",
        "9",
        "-subj",
        "/CN=portico.test",
    ]
    subprocess.run(command, check=True, capture_output=True)
    more: dict[str, object] = {
        "admin": "ops",
        "tls": {"certificate": str(tls / "crt.pem"), "key": str(tls / "key.pem")},
        "max_memory": {"web": "300M", "database": "512M", "broker": "512M"},
    }
    try:
        roles: dict[str, tuple[str, ...]] = {"solo": ("web", "worker", "beat", "database", "broker")}
        fleet = Fleet(tmp_path_factory.mktemp("one") / "project", own, roles, more)
        fleet.prepare()
        with (fleet.project / "invoke.yaml").open("a") as file:
            file.write("  media: true\n  packages: [tree]\n")
        for block in pages.blocks((support.ROOT / local.FOLDER / "README.md").read_text()):
            if block.remark.startswith(local.FOLDER):
                (fleet.project / block.remark).parent.mkdir(parents=True, exist_ok=True)
                (fleet.project / block.remark).write_text(block.body)
        fleet.commit("uploads, and the examples of deploy/local")
        yield fleet
    finally:
        own.down()


def test_an_administrator_who_may_not_become_root_is_told(solo: Fleet) -> None:
    host = solo["solo"]
    host.sh(
        "useradd -m -s /bin/sh -p '*' ops; mkdir ~ops/.ssh; cp /root/.ssh/authorized_keys ~ops/.ssh; "
        "chown -R ops ~ops/.ssh"
    )
    assert one_line(solo.invoke("remote-setup", "--yes")).startswith("solo: ops is not root, and there is no sudo; ")
    host.sh("apt-get -q update >/dev/null; apt-get install -y -q --no-install-recommends sudo >/dev/null")
    said = one_line(solo.invoke("remote-setup", "--yes"))
    assert said.startswith("solo: ops may not become root without a password; ")
    host.sh("echo 'Defaults requiretty\nops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops")
    said = one_line(solo.invoke("remote-setup", "--yes"))
    remedy = "write `Defaults:ops !requiretty` below that; "
    assert said.startswith(f"solo: sudo wants a terminal of ops (requiretty): {remedy}")
    host.sh("echo 'Defaults:ops !requiretty' >>/etc/sudoers.d/ops")


def test_a_setup_that_is_killed_is_ended_by_the_next(solo: Fleet) -> None:
    words = ["python3", str(solo.project / "tasks.py"), "remote-setup", "--env", "test", "--yes"]
    client = subprocess.Popen(
        words,
        env=support.environment(**solo.environment()),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert client.stderr
    assert "installing" in client.stderr.readline()
    support.wait_until(lambda: "dpkg" in solo["solo"].sh("cat /proc/[0-9]*/comm", check=False), 120, "it installs")
    client.kill()
    client.wait()
    assert solo["solo"].sh("ls /etc/portico-test/setup 2>&1", check=False).strip().endswith("No such file or directory")

    def done() -> bool:
        result = solo.invoke("remote-setup", "--yes")
        assert result.code == 0 or "somebody else is setting this host up" in result.stderr, result.stderr
        return result.code == 0

    support.wait_until(done, 300, "the first has ended there, and the second is done")
    assert solo.must("remote-setup").stdout.splitlines() == no_change(solo)
    assert solo["solo"].sh("ls -d /run/setup.?????? 2>/dev/null", check=False) == ""


def test_limits_and_tls_are_in_force_and_keys_are_the_administrator_s(solo: Fleet) -> None:
    host = solo["solo"]
    for unit in ("postgresql@15-main", "rabbitmq-server"):
        assert host.sh(f"systemctl show -p MemoryMax --value {unit}").strip() == str(512 * 2**20)
    assert host.sh("cat ~deploy/.ssh/authorized_keys") == host.sh("cat ~ops/.ssh/authorized_keys")
    ask = "curl -s -o /dev/null -w '%{http_code} %{http_version}' -H 'Host: portico.test' -k --resolve"
    assert host.sh(f"{ask} portico.test:443:127.0.0.1 https://portico.test/") == "502 2"
    assert host.sh(f"{ask} portico.test:80:127.0.0.1 http://portico.test/").startswith("308")
    assert host.sh("stat -c '%U %a' /etc/nginx/portico-test/tls.key").split() == ["root", "600"]


def test_what_the_site_uploads_is_served_and_nothing_of_it_is_run(solo: Fleet) -> None:
    host = solo["solo"]
    host.sh(
        "cd /srv/portico-test/media && setpriv --reuid portico-test --regid portico-test --init-groups sh -c '"
        'umask 027 && mkdir "a b" && echo x >"a b/ü.png" && echo "<svg/>" >"a b/x.svg"\''
    )
    ask = "curl -s -i -k --resolve portico.test:443:127.0.0.1 https://portico.test/media/"
    image, script = host.sh(f"{ask}a%20b/%C3%BC.png"), host.sh(f"{ask}a%20b/x.svg")
    assert image.startswith("HTTP/2 200")
    assert "content-disposition" not in image
    for line in ("HTTP/2 200", "content-disposition: attachment", "x-content-type-options: nosniff", "; sandbox"):
        assert line in script
    for path in ("", "a%20b", "a%20b/", "..%2fstate/", "%2e%2e/%2e%2e/etc/passwd"):
        assert host.sh(f"{ask}{path}").split()[1] in ("400", "404", "502"), path  # 502: it is the site's
    assert host.sh("runuser -u deploy -- ls /srv/portico-test/media 2>&1", check=False).endswith("Permission denied\n")


def test_what_a_project_adds_is_there_and_nonsense_for_nginx_names_its_file(solo: Fleet) -> None:
    host = solo["solo"]
    ask = "curl -s -k --resolve portico.test:443:127.0.0.1 https://portico.test/robots.txt"
    assert host.sh(ask) == "User-agent: *\nDisallow: /search/\n"
    assert host.sh("command -v tree").strip() == "/usr/bin/tree"
    assert host.sh("systemctl is-active portico-test-heartbeat").strip() == "active"
    assert host.sh("systemctl show -p Nice --value portico-test-worker@20260101-000000-abcdef0").strip() == "10"
    lines, unit = solo.project / local.NGINX, solo.project / local.UNITS / "heartbeat.service"
    right, running = lines.read_text(), unit.read_text()
    try:
        lines.write_text(f"{right}nonsense;\n")
        unit.write_text("")
        said = one_line(solo.invoke("remote-setup", "--yes"))
        assert 'unknown directive "nonsense" in deploy/local/nginx.conf:5' in said
        assert host.sh(ask) == "User-agent: *\nDisallow: /search/\n"
        lines.write_text(right)
        solo.must("remote-setup", "--yes")
        assert host.sh("systemctl is-active portico-test-heartbeat", check=False).strip() == "inactive"
    finally:
        lines.write_text(right)
        unit.write_text(running)
    solo.must("remote-setup", "--yes")
    assert host.sh("systemctl is-active portico-test-heartbeat").strip() == "active"


def test_only_a_setup_needs_certificate_and_key_and_a_renewed_one_is_told(solo: Fleet, tmp_path: Path) -> None:
    tls = solo.more["tls"]
    assert isinstance(tls, dict)
    certificate, key = Path(tls["certificate"]), Path(tls["key"])
    there = certificate.read_text()
    hidden = key.rename(tmp_path / "key.pem")
    try:
        assert "setup is out of date" not in (said := solo.must("remote-deploy", "--dry-run").stdout)
        assert "its certificate differs" not in said, "the certificate is here, and the same"
        certificate.write_text("renewed")
        said = solo.must("remote-deploy", "--dry-run").stdout
        assert "solo: its certificate differs from the file in tls: `invoke remote-setup --env test`" in said
        certificate.unlink()
        assert "its certificate differs" not in solo.must("remote-deploy", "--dry-run").stdout
        status = solo.invoke("remote-status")  # which is not well: there is no release yet
        assert "solo: has no release" in status.stderr
        assert str(certificate) not in status.stderr
        assert f"{certificate}: there is no such file" in one_line(solo.invoke("remote-setup", "--yes"))
    finally:
        certificate.write_text(there)
        hidden.rename(key)


def test_a_host_that_boots_again_is_as_it_was(solo: Fleet) -> None:
    host = solo["solo"]
    # Its usual configuration begins with `flush ruleset`.
    host.sh("systemctl enable -q nftables")
    host.restart()
    support.wait_until(lambda: solo.must("remote-setup", "--dry-run").stdout == "solo: no change\n", 60, "all is up")
    assert "drop" in rules(host)


def test_a_firewall_that_is_switched_off_goes(solo: Fleet) -> None:
    solo.configure(firewall=False, unattended_upgrades=False)
    solo.must("remote-setup", "--yes")
    assert "drop" not in rules(solo["solo"])
    assert solo["solo"].sh("ls /etc/apt/apt.conf.d/60portico 2>&1", check=False).endswith("No such file or directory\n")
    assert solo.must("remote-setup").stdout.splitlines() == no_change(solo)


def test_a_port_of_ours_is_reached_from_outside(ready: Fleet) -> None:
    with socket.create_connection(("127.0.0.1", ready["web1"].http_port), 5) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: portico.test\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 502")
