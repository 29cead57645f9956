"""The desired state of a host, the changes that lead to it, and the root helper's view of hostile arguments."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from deploy.core.errors import Failure
from deploy.hosts.environment.file import parse
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.environment.owner import Mark
from deploy.hosts.layout import RELEASE, Layout
from deploy.hosts.release import deploy, phases
from deploy.hosts.release.state import HostState
from deploy.hosts.setup import converge
from deploy.hosts.setup import facts as asking
from deploy.hosts.setup.desired import desired, require_addresses, setup_digest, setup_mark
from deploy.hosts.setup.diff import (
    Access,
    Change,
    Desired,
    Entry,
    Facts,
    File,
    Folder,
    Group,
    Idle,
    Unit,
    User,
    diff,
    steps,
)
from deploy.hosts.setup.plan import render
from deploy.hosts.setup.refusal import problems, refusal
from deploy.hosts.setup.site import Learned, Site
from deploy.project.config import Project
from tests.support import ROOT
from tests.unit.examples import NAMES

PROJECT = Project(ROOT, "shop", NAMES, 8000, "", ".run", ("/",), 3)
TEXT = """\
domain: shop.example
secrets: {SECRET_KEY: env:KEY}
max_memory: {web: 1G, database: 2G}
hosts:
  web1: {address: 203.0.113.1, private_address: 10.0.0.1, roles: [web]}
  web2: {address: 203.0.113.2, private_address: 10.0.0.2, roles: [web]}
  jobs1: {address: 10.0.0.3, roles: [worker, beat]}
  data1: {address: 10.0.0.4, roles: [database, broker]}
"""
ACCESS = {
    "database": Access(SecretStr("dbpass"), "certificate of data1", "shop_x", "shop_x"),
    "broker": Access(SecretStr("mqpass"), "certificate of data1", "shop-x", "shop-x"),
}
NGINX = {name: (ROOT / "nginx" / name).read_text() for name in ("site.conf", "proxy.conf")}


def environment(text: str = TEXT) -> Environment:
    return parse(text, "x", ROOT)


def site(text: str = TEXT) -> Site:
    return Site(environment(text), PROJECT, NGINX, "CERT", "KEY")


def host(of: Site, name: str) -> Host:
    return next(host for host in of.environment.hosts if host.name == name)


def wanted(name: str, text: str = TEXT, learned: Learned | None = None) -> Desired:
    here = site(text)
    return desired(here, host(here, name), learned or Learned(access=ACCESS))  # type: ignore[arg-type]


def files(of: Desired) -> dict[str, File]:
    return {file.path: file for group in of.groups for file in group.files}


# --- Desired state ---


def test_a_web_host_has_the_site_s_units_nginx_and_no_server() -> None:
    web = wanted("web1")
    assert {"nginx", "python3-venv", "nftables", "sudo"} <= set(web.packages)
    assert not {"postgresql", "rabbitmq-server"} & set(web.packages)
    assert "/etc/systemd/system/shop-x-web@.service" in files(web)
    assert "/etc/systemd/system/shop-x-worker@.service" in web.absent
    assert [unit.name for unit in web.units] == ["shop-x.service", "nginx.service", "portico.firewall.service"]
    assert web.servers == ()


def test_folders_of_the_deploy_user_lie_in_one_that_is_not_its_own() -> None:
    found = {folder.path: folder for folder in wanted("web1").folders}
    assert found["/srv/shop-x"].rights == ("root", "root", "755")
    assert found["/srv/shop-x/releases"].rights == ("deploy", "shop-x", "2755")
    assert found["/srv/shop-x/state"].rights == ("deploy", "deploy", "755")
    assert found["/srv/shop-x/protected"].rights == ("shop-x", "www-data", "2750")


def test_the_deploy_user_may_run_the_helper_as_root_and_nothing_else() -> None:
    sudoers = files(wanted("web1"))["/etc/sudoers.d/shop-x"]
    assert sudoers.rights == ("root", "root", "440")
    rules = [line for line in sudoers.text.splitlines() if "NOPASSWD" in line]
    assert rules == ["deploy ALL=(root:root) NOPASSWD: /usr/local/sbin/shop-x-helper"]


def test_a_unit_has_the_sandbox_the_time_to_drain_and_the_memory_that_the_file_says() -> None:
    unit = files(wanted("web1", f"drain: 100\n{TEXT}"))["/etc/systemd/system/shop-x-web@.service"].text
    for line in (
        "TimeoutStopSec=115",
        "MemoryMax=1G",
        "User=shop-x",
        "Group=shop-x",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
    ):
        assert line in unit.splitlines()
    assert "ExecStart=/usr/local/lib/shop-x/launch %i web" in unit
    assert "MemoryMax" not in files(wanted("jobs1"))["/etc/systemd/system/shop-x-worker@.service"].text


def test_the_site_s_hosts_are_told_where_the_servers_are_and_nobody_else_may_read_it() -> None:
    services = files(wanted("web1"))["/etc/shop-x/services.env"]
    assert (services.mode, services.secret) == (0o600, True)
    assert services.text.splitlines() == [
        "DATABASE_URL=postgres://shop_x:dbpass@10.0.0.4:5432/shop_x?sslmode=verify-ca&sslrootcert=/etc/shop-x/database.crt",
        "CELERY_BROKER_URL=amqps://shop-x:mqpass@10.0.0.4:5671/shop-x",
        "CELERY_BROKER_CA=/etc/shop-x/broker.crt",
    ]
    assert files(wanted("web1"))["/etc/shop-x/broker.crt"].text == "certificate of data1"
    assert "dbpass" not in repr(services)
    assert "/etc/shop-x/services.env" in wanted("data1").absent


def test_a_host_is_not_called_ready_before_the_passwords_are_known() -> None:
    waiting = wanted("web1", learned=Learned(access={"database": ACCESS["database"]}))
    assert waiting.setup is None
    assert "/etc/shop-x/services.env" not in files(waiting), "what it has had meanwhile stays"
    assert wanted("data1", learned=Learned()).setup is not None
    elsewhere = TEXT.replace("  data1: {address: 10.0.0.4, roles: [database, broker]}\n", "")
    elsewhere += "services: {database: env:DB, broker: env:MQ}\n"
    alone = wanted("web1", elsewhere, Learned())
    assert alone.setup is not None
    assert files(alone)["/etc/shop-x/services.env"].text == ""


def test_the_database_lets_in_the_site_s_hosts_only_with_a_password_over_tls() -> None:
    learned = Learned(addresses={"10.0.0.1": ("10.0.0.1", "fd00::1")})
    rules = files(wanted("data1", learned=learned))["/etc/postgresql/%PG%/pg_hba.conf"]
    assert rules.rights == ("postgres", "postgres", "640")
    assert [line for line in rules.text.splitlines() if not line.startswith("#")] == [
        "local all postgres peer",
        "hostssl shop_x shop_x 10.0.0.1/32 scram-sha-256",
        "hostssl shop_x shop_x fd00::1/128 scram-sha-256",
        "hostssl shop_x shop_x 10.0.0.2/32 scram-sha-256",
        "hostssl shop_x shop_x 10.0.0.3/32 scram-sha-256",
    ]


def test_a_database_beside_the_site_lets_that_in_by_whatever_address_of_its_own() -> None:
    text = TEXT.replace("roles: [database, broker]", "roles: [database, broker, web]")
    assert "hostssl shop_x shop_x samehost scram-sha-256" in (
        files(wanted("data1", text))["/etc/postgresql/%PG%/pg_hba.conf"].text
    )


PARTS: tuple[Literal["open", "close"], ...] = ("open", "close")


def rules_of(name: str, text: str = TEXT, learned: Learned | None = None) -> list[str]:
    found = files(wanted(name, text, learned))
    parts = (found[path] for path in map(str, map(Layout("shop-x").firewall, PARTS)) if path in found)
    lines = [line for part in parts for line in part.text.splitlines()]
    return [line.removeprefix("add rule inet portico_hosts input ") for line in lines if "dport" in line]


def test_the_firewall_lets_in_ssh_wherever_it_listens_and_what_the_roles_need() -> None:
    ssh = 'tcp dport { 22, 2222 } accept comment "SSH"'
    learned = Learned(ports=(22, 2222))
    assert rules_of("web1", learned=learned) == [
        *[ssh, "tcp dport { 80 } accept", "ip saddr { 10.0.0.2 } tcp dport 8082 accept"]
    ]
    assert rules_of("jobs1", learned=learned) == [ssh, "ip saddr { 10.0.0.1, 10.0.0.2 } tcp dport 8082 accept"]
    assert rules_of("data1", learned=learned) == [
        ssh,
        "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } tcp dport 5432 accept",
        "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } tcp dport 5671 accept",
    ]
    text = f"{TEXT}open_ports: [udp/51820, tcp/9100, tcp/9090]\n"
    assert rules_of("data1", text)[1:3] == [
        'tcp dport { 9090, 9100 } accept comment "open_ports"',
        'udp dport { 51820 } accept comment "open_ports"',
    ]
    assert rules_of("web1", f"{TEXT}tls: {{certificate: c, key: k}}\n")[1] == "tcp dport { 80, 443 } accept"


def test_what_is_switched_off_is_removed() -> None:
    off = wanted("web1", f"{TEXT}firewall: false\nunattended_upgrades: false\n")
    assert Idle("portico.firewall.service") in off.idle
    assert {"/etc/portico.d/firewall/main.nft", "/etc/apt/apt.conf.d/60portico"} <= set(off.absent)
    assert not {"nftables", "unattended-upgrades"} & set(off.packages)
    titles = [change.title for change in diff(off, Facts(units={"portico.firewall.service": (True, True)}))]
    assert "disable portico.firewall.service" in titles


def test_without_a_firewall_the_broker_is_still_for_the_site_s_hosts_only() -> None:
    data = wanted("data1", f"{TEXT}firewall: false\n")
    assert rules_of("data1", f"{TEXT}firewall: false\n")[2:] == [
        *["ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } tcp dport 5671 accept", "tcp dport 5671 drop"],
    ]
    closed = files(data)["/etc/portico.d/firewall/close-shop-x.nft"].text
    assert [line for line in closed.splitlines() if line.endswith(" input drop")] == []
    assert "portico.firewall.service" in [unit.name for unit in data.units]


def test_nginx_of_a_web_host_asks_the_others_for_files_and_shows_its_own_to_web_hosts() -> None:
    found = files(wanted("web1"))
    http = found["/etc/nginx/shop-x/http.conf"].text
    assert "server unix:/srv/shop-x/state/current/web.sock max_fails=0;" in http
    assert "server 10.0.0.2:8082 max_fails=0;\n    server 10.0.0.3:8082 max_fails=0;" in http
    assert "allow 10.0.0.2;\n    deny all;" in http
    assert "resolve" not in http, "nginx of Debian 12 does not know it"
    assert "access_log /var/log/nginx/shop-x.access.log shop_x_json" in found["/etc/nginx/shop-x/defaults.conf"].text
    jobs = files(wanted("jobs1"))
    assert "allow 10.0.0.1;\n    allow 10.0.0.2;\n    deny all;" in jobs["/etc/nginx/shop-x/http.conf"].text
    assert "/etc/nginx/shop-x/site.conf" not in jobs
    assert "listen 80;" not in jobs["/etc/nginx/shop-x/http.conf"].text


def test_tls_on_a_host_is_what_nginx_of_debian_12_knows_and_its_key_is_root_s() -> None:
    found = files(wanted("web1", f"{TEXT}tls: {{certificate: c, key: k}}\n"))
    assert "listen 443 ssl http2;" in found["/etc/nginx/shop-x/server.conf"].text
    assert "http2 on" not in found["/etc/nginx/shop-x/server.conf"].text
    key = found["/etc/nginx/shop-x/tls.key"]
    assert (key.text, key.mode, key.secret) == ("KEY", 0o600, True)


def test_ipv6_is_listened_to_where_the_host_has_it() -> None:
    six = Learned(ipv6=True, access=ACCESS)  # type: ignore[arg-type]
    assert "listen [::]:80;" in files(wanted("web1", learned=six))["/etc/nginx/shop-x/server.conf"].text
    assert "[::]" not in "".join(file.text for file in files(wanted("web1")).values())


def test_a_host_that_lost_a_role_runs_nothing_of_it() -> None:
    web = wanted("web1")
    assert {"shop-x-worker@.service", "shop-x-beat@.service"} <= {unit.name for unit in web.idle}
    assert "shop-x-web@.service" not in {unit.name for unit in web.idle}
    running = Facts(units={unit.name: (True, True) for unit in web.idle})
    titles = [change.title for change in diff(web, running)]
    assert "disable shop-x-beat@.service" in titles
    assert not {"disable postgresql.service", "disable rabbitmq-server.service"} & set(titles), "they are another's"
    there = Entry("file", "root", "root", "600", "0")
    left = replace(running, entries={f"/etc/shop-x/{name}_password": there for name in ("database", "broker")})
    titles = [change.title for change in diff(web, left)]
    for title in ("disable postgresql.service", "disable rabbitmq-server.service", "- /etc/shop-x/database_password"):
        assert title in titles


def test_an_nginx_that_nothing_needs_any_more_is_stopped_and_loses_the_key() -> None:
    data, drop_in = wanted("data1"), "/etc/systemd/system/nginx.service.d/portico.conf"
    assert Idle("nginx.service", drop_in) in data.idle
    every = files(wanted("web1", f"{TEXT}tls: {{certificate: c, key: k}}\n"))
    assert {path for path in every if "nginx" in path} <= set(data.absent), "of all that it ever had, nothing stays"
    assert "/etc/nginx/shop-x/tls.key" in wanted("web1").absent, "nor the key of a site without TLS"
    assert "/etc/nginx/shop-x/http.conf" not in wanted("jobs1").absent


def test_the_digest_changes_with_the_environment_and_not_with_what_hosts_say() -> None:
    here = site()
    digest = setup_digest(here, host(here, "web1"))
    assert digest == setup_digest(site(), host(site(), "web1"))
    assert wanted("web1").setup == File("/etc/shop-x/setup", f"{digest}\n")
    other = site(TEXT.replace("web: 1G", "web: 2G"))
    assert setup_digest(other, host(other, "web1")) != digest


def test_the_mark_of_a_setup_can_be_told_without_the_key_and_in_part_without_the_certificate() -> None:
    here = site(f"{TEXT}tls: {{certificate: c, key: k}}\n")
    mark = setup_mark(here, host(here, "web1"))
    assert setup_digest(here, host(here, "web1")) != setup_digest(site(), host(site(), "web1")), "TLS is in the digest"
    assert setup_mark(replace(here, key=""), host(here, "web1")) == mark
    assert mark.startswith(setup_mark(replace(here, certificate="", key=""), host(here, "web1")) + " ")
    renewed = setup_mark(replace(here, certificate="NEW"), host(here, "web1"))
    assert renewed != mark
    assert renewed.split()[0] == mark.split()[0]
    for name in ("jobs1", "data1"):
        assert len(setup_mark(here, host(here, name)).split()) == 1, "a host without the certificate has no mark of it"
    assert wanted("web1", f"{TEXT}tls: {{certificate: c, key: k}}\n").setup == File("/etc/shop-x/setup", f"{mark}\n")


def test_what_a_deploy_compares_with_a_host_s_setup_reads_no_key(tmp_path: Path) -> None:
    text = f"{TEXT}tls: {{certificate: {tmp_path}/c, key: {tmp_path}/k}}\n"
    there = phases.choose(PROJECT, environment(text))
    states = {host.name: HostState(host.name, "shop-x") for host in there.hosts}
    without = deploy.setup_marks(there, states)
    assert len(without["web1"].split()) == 1
    (tmp_path / "c").write_text("CERT")
    assert deploy.setup_marks(there, states)["web1"] == setup_mark(site(text), host(site(text), "web1"))
    assert deploy.setup_marks(there, states)["web1"].split()[0] == without["web1"]
    with pytest.raises(Failure, match=r"k: No such file or directory; make it readable"):
        converge.with_pair(converge.load(environment(text), PROJECT))


@pytest.mark.parametrize("user", ["root", "app", "postgres", "shop-x"])
def test_a_deploy_user_with_other_rights_is_refused(user: str) -> None:
    [line, *_] = problems(environment(f"user: {user}\n{TEXT}"), "shop")
    assert line == f"deploy/environments/x.yaml: web1: {user} cannot be the deploy user; name another with user"
    assert problems(environment(), "shop") == []


def test_the_administrator_is_not_the_one_who_deploys() -> None:
    assert "jobs1: ops cannot be the deploy user" in problems(environment(f"user: ops\nadmin: ops\n{TEXT}"), "shop")[2]


# --- What a host may be ---


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts(("fedora", "40")), "is fedora 40; install Debian 12 or newer, or Ubuntu 22.04 LTS or newer"),
        (Facts(("debian", "11")), "is debian 11; install Debian 12 or newer, or Ubuntu 22.04 LTS or newer"),
        (Facts(("ubuntu", "23.10")), "is ubuntu 23.10, which has no long-term support; install an LTS release"),
        (Facts(("debian", "12"), systemd=False), "does not run systemd, which the site's units need"),
        (
            Facts(("ubuntu", "22.04")),
            "has Python 3.10, but the site needs 3.11: install Debian 12 or Ubuntu 24.04",
        ),
        (Facts(("debian", "12")), ""),
        (Facts(("debian", "13"), python=(3, 13)), ""),
        (Facts(("ubuntu", "24.04")), ""),
        (
            Facts(("debian", "12"), groups={"deploy": ("deploy", "users", "sudo")}),
            "deploy is in the group sudo, which may do more than deploy: gpasswd -d deploy sudo",
        ),
        (
            Facts(("debian", "12"), groups={"deploy": ("users",)}),
            "deploy has no group of its own: groupadd -f deploy && usermod -g deploy deploy",
        ),
        (Facts(("debian", "12"), groups={"deploy": ("deploy", "users"), "app": ("app", "www-data")}), ""),
    ],
)
def test_a_host_that_cannot_run_the_site_is_refused_in_a_line(facts: Facts, said: str) -> None:
    assert refusal(host(site(), "web1"), facts) == said


def test_a_host_without_the_site_needs_no_python() -> None:
    assert refusal(host(site(), "data1"), Facts(("ubuntu", "22.04"))) == ""


def test_a_host_that_does_not_know_another_is_named() -> None:
    here, known = site(), {f"10.0.0.{number}": (f"10.0.0.{number}",) for number in (1, 2, 3)}
    with pytest.raises(Failure, match=r"^web1: cannot resolve 10.0.0.4: give data1 a private_address"):
        require_addresses(here, host(here, "web1"), Facts(addresses=known))
    require_addresses(here, host(here, "data1"), Facts(addresses=known))


# --- The difference ---

SMALL = Desired(
    packages=("nginx", "curl"),
    users=(User("deploy"), User("app", system=True)),
    folders=(Folder("/srv/x", "deploy", "app", 0o2755),),
    groups=(Group((File("/etc/x/a", "one\ntwo\n"), File("/etc/x/key", "KEY", mode=0o600, secret=True)), "nginx"),),
    absent=("/etc/x/old",),
    units=(Unit("nginx.service", restart_for=("/etc/x/never",), reload_for=("/etc/x/a",)),),
    servers=("database",),
    setup=File("/etc/x/setup", "digest\n"),
)


def entry(file: File) -> Entry:
    return Entry("file", *file.rights, file.digest, None if file.secret else file.text)


READY = Facts(
    packages=frozenset({"nginx", "curl", "sudo"}),
    users={"deploy": "/bin/bash", "app": "/usr/sbin/nologin"},
    keys=frozenset({"deploy"}),
    entries={
        "/srv/x": Entry("folder", "deploy", "app", "2755"),
        **{file.path: entry(file) for file in (*SMALL.groups[0].files, File("/etc/x/setup", "digest\n"))},
    },
    units={"nginx.service": (True, True)},
    missing={"database": ""},
)


def titles(facts: Facts, of: Desired = SMALL) -> list[str]:
    return [change.title for change in diff(of, facts)]


def test_nothing_is_to_be_done_for_a_host_that_is_as_desired() -> None:
    assert diff(SMALL, READY) == ()
    assert render("web1", (), details=False) == "web1: no change"


def test_a_bare_host_gets_all_of_it_and_is_called_ready_last() -> None:
    assert titles(Facts()) == [
        "+ packages: nginx curl",
        "+ user deploy",
        "+ keys of deploy: those of the administrator",
        "+ user app",
        "+ /srv/x/ deploy:app 2755",
        "+ /etc/x/a root:root 644",
        "+ /etc/x/key root:root 600 (secret)",
        "enable nginx.service",
        "restart nginx.service",
        "database: make all",
        "+ /etc/x/setup root:root 644".removesuffix(" root:root 644"),
    ]


def changed(path: str, **values: str) -> Facts:
    return replace(READY, entries={**READY.entries, path: Entry(**{**vars(READY.entries[path]), **values})})


def test_a_file_that_was_changed_is_shown_as_a_difference_and_its_unit_is_told() -> None:
    drifted = changed("/etc/x/a", text="one\n2\n", digest="other")
    assert titles(drifted) == ["~ /etc/x/a", "reload nginx.service", "+ /etc/x/setup"]
    shown = render("web1", diff(SMALL, drifted), details=True)
    assert shown.splitlines()[4:10] == [
        *["  --- /etc/x/a", "  +++ /etc/x/a", "  @@ -1,2 +1,2 @@", "   one", "  -2", "  +two"]
    ]


def test_a_plan_begins_with_what_was_there_before_what_restarts_and_how_much_is_new() -> None:
    drifted = replace(
        changed("/etc/x/a", text="one\n2\n", digest="other"), users={"deploy": "/bin/bash", "app": "/bin/sh"}
    )
    note = Change("! nginx has other sites", (), note=True)
    assert render("web1", (note, *diff(SMALL, drifted)), details=False).splitlines() == [
        "web1:",
        "  ! nginx has other sites",
        "  ~ user app: shell /bin/sh → /usr/sbin/nologin",
        "  ~ /etc/x/a",
        "  restarts: nginx.service (reload)",
        "  new: 1 file",
    ]
    assert render("web1", diff(SMALL, Facts()), details=False).splitlines() == [
        "web1:",
        "  database: make all",
        "  restarts: nginx.service",
        "  new: 2 packages, 2 users, 1 list of keys, 1 folder, 3 files",
    ]
    owner = Change("+ /etc/portico.d/sites/x-production: this host becomes production of x", ())
    assert owner.title in render("web1", (owner,), details=False)


def test_another_owner_or_mode_is_a_change() -> None:
    assert titles(changed("/etc/x/a", mode="666"))[0] == "~ /etc/x/a root:root 666 → root:root 644"
    assert titles(changed("/srv/x", owner="root"))[0] == "~ /srv/x/ root:app 2755 → deploy:app 2755"


def test_a_secret_is_never_shown() -> None:
    for facts in (Facts(), changed("/etc/x/key", digest="other")):
        changes = diff(SMALL, facts)
        assert "KEY" not in render("web1", changes, details=True) + repr(changes)
        assert base64.b64encode(b"KEY") in steps("x", changes)


def test_what_is_to_be_gone_goes() -> None:
    facts = replace(READY, entries={**READY.entries, "/etc/x/old": Entry("file", "root", "root", "644", "d")})
    assert b"\nabsent /etc/x/old\n" in steps("x", diff(SMALL, facts))


def test_what_a_setup_that_was_cut_off_left_to_do_is_done() -> None:
    assert titles(replace(READY, pending=(("reload", "nginx.service"),))) == ["reload nginx.service", "+ /etc/x/setup"]
    assert "restart nginx.service" in titles(replace(READY, pending=(("restart", "nginx.service"),)))


def test_files_that_belong_together_are_checked_together() -> None:
    lines = steps("x", diff(SMALL, Facts())).decode().splitlines()
    first = lines.index("group")
    assert [line.split()[0] for line in lines[first : first + 4]] == ["group", "file", "file", "check"]
    assert lines[0] == "name x"
    assert lines[-1] == "end"


def test_words_of_the_protocol_have_no_spaces_in_them() -> None:
    for name in ("web1", "jobs1", "data1"):
        for line in steps("shop", diff(wanted(name), Facts())).decode().splitlines():
            verb, *words = line.split(" ")
            assert all(words), line
            assert verb != "file" or len(words) == 5, line


# --- What a host says ---


def test_answers_are_read_back() -> None:
    text = "\n".join(
        [
            *["system debian 12", "python 3.11", "ipv6", "port 22", "port 2222", "package curl"],
            *["user deploy /home/deploy /bin/bash deploy users", "keys deploy"],
            f"entry /a file root root 644 {'0' * 64} {base64.b64encode(b'text').decode()}",
            *[
                f"entry /b file root root 600 {'1' * 64} ",
                "entry /c folder root root 755 - ",
                "entry /d absent - - - - ",
            ],
            *["unit a.service enabled active", "unit b.service not-found inactive"],
            *["address 10.0.0.1 10.0.0.1 fe80::1 ", "address nowhere "],
            *["state database ", "password database abc", "pending reload nginx.service", "end"],
        ]
    )
    found = asking.parse(text)
    assert (found.system, found.python, found.ipv6, found.ports) == (("debian", "12"), (3, 11), True, (22, 2222))
    assert (found.users, found.groups) == ({"deploy": "/bin/bash"}, {"deploy": ("deploy", "users")})
    assert found.entries["/a"] == Entry("file", "root", "root", "644", "0" * 64, "text")
    assert [found.entries[path].kind for path in ("/c", "/d")] == ["folder", "absent"]
    assert found.units == {"a.service": (True, True), "b.service": (False, False)}
    assert found.addresses == {"10.0.0.1": ("10.0.0.1",), "nowhere": ()}
    assert found.missing == {"database": ""}
    assert "abc" not in repr(found)
    assert found.pending == (("reload", "nginx.service"),)


@pytest.mark.parametrize("text", ["", "system debian 12", "Welcome!\nend", "port x\nend", "entry /a file\nend"])
def test_what_is_no_answer_is_a_failure_and_not_a_guess(text: str) -> None:
    with pytest.raises(Failure):
        asking.parse(text)


def test_a_host_that_there_is_not_is_answered_with_those_there_are() -> None:
    with pytest.raises(Failure, match=r"--only web9: no host of .* has that name; there are: web1, web2, jobs1, data1"):
        converge.setup(environment(), PROJECT, "web1,web9", print, confirmed=False)


# --- The helper ---

RELEASE_ID = "20260101-120000-abcdef1"


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helper, with each command that it could run replaced by one that reports the call."""
    folder = tmp_path_factory.mktemp("helper")
    for name in ("systemctl", "journalctl", "systemd-run", "runuser", "mv", "rm", "sync", "readlink"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{folder}/ran\n")
        (folder / name).chmod(0o755)
    (folder / "id").write_text("#!/bin/sh\necho 0\n")
    (folder / "id").chmod(0o755)
    text = (ROOT / "deploy/hosts/scripts/helper.sh").read_text()
    text = text.replace("/usr/local/sbin", str(folder)).replace("PATH=/usr/sbin:", f"PATH={folder}:/usr/sbin:")
    path = folder / "shop-x-helper"
    path.write_text(text)
    path.chmod(0o755)
    return path


def ask(helper: Path, *words: str) -> tuple[int, bool]:
    """The exit code, and whether any command was run."""
    ran = helper.with_name("ran")
    ran.unlink(missing_ok=True)
    done = subprocess.run([helper, *words], capture_output=True, timeout=20, check=False, cwd="/")
    return done.returncode, ran.exists()


def test_the_helper_does_what_it_is_for(helper: Path) -> None:
    assert ask(helper, "start", "web", RELEASE_ID) == (0, True)
    assert ask(helper, "stop", "release", RELEASE_ID, "later") == (0, True)
    assert ask(helper, "journal", "worker", RELEASE_ID, "1000") == (0, True)
    assert ask(helper, "log", "1000", "-") == (0, True)


RIGHT = {
    "start": ["web", RELEASE_ID],
    "stop": ["web", RELEASE_ID, "now"],
    "migrate": [RELEASE_ID],
    "journal": ["web", RELEASE_ID, "20"],
    "log": ["20", "3600"],
    "follow": ["-"],
    "manage": [RELEASE_ID],
    "backup": [RELEASE_ID],
    "snapshot": ["asked"],
}
HOSTILE = st.one_of(
    st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=30),
    st.sampled_from(
        [
            *["*", "web@*", "../../etc/passwd", "-H", "--help", "$(id)", "`id`", ";id", "|id", "web\n", "\n"],
            *[f"{RELEASE_ID}\n", f"{RELEASE_ID};id", f" {RELEASE_ID}", f"{RELEASE_ID}/../x", f"{RELEASE_ID}.service"],
            *["20260101-120000-", "20260101-120000-abcdef", "20260101-120000-abcdef1234567", "20260101-120000-ABCDEF1"],
            *["????????-??????-abcdef1", "\uff120260101-120000-abcdef1", f"{RELEASE_ID} sshd", f"{RELEASE_ID}@x", "%i"],
        ]
    ),
)


@settings(max_examples=300, deadline=None)
@given(verb=st.sampled_from(list(RIGHT)), place=st.integers(0, 2), word=HOSTILE)
@example(verb="start", place=0, word="release")
@example(verb="journal", place=2, word="1001")
@example(verb="journal", place=2, word="-1")
@example(verb="log", place=0, word="10001")
@example(verb="log", place=0, word="-1")
@example(verb="log", place=1, word="--vacuum-size=1")
@example(verb="follow", place=0, word="@1 -u sshd")
@example(verb="follow", place=0, word="@.5")
@example(verb="stop", place=2, word="")
@example(verb="start", place=0, word="worker_")
@example(verb="start", place=0, word="worker_Mail")
@example(verb="stop", place=0, word="worker_mail:x")
@example(verb="stop", place=0, word="worker_mail\n")
@example(verb="journal", place=0, word=f"worker_{'m' * 31}")
def test_the_helper_runs_nothing_for_an_argument_that_is_not_its_own(
    helper: Path, verb: str, place: int, word: str
) -> None:
    words = list(RIGHT[verb])
    place %= len(words)
    lasting = "web|worker(_[a-z][a-z0-9_]{0,29})?|beat"
    kind = lasting if verb == "start" else f"{lasting}|release"
    moment = r"-|@[0-9]+(\.[0-9]+)?|[0-9]+"
    own = {"snapshot": ["asked|migration|verify"], "log": ["[1-9][0-9]{0,3}|10000", moment], "follow": [moment]}
    right = own.get(
        verb, [kind, RELEASE.pattern, "now|later|[1-9][0-9]{0,2}|1000"] if len(words) > 1 else [RELEASE.pattern]
    )
    assume(not re.fullmatch(right[place], word))
    words[place] = word
    assert ask(helper, verb, *words) == (64, False)


@pytest.mark.parametrize("verb", sorted(set(RIGHT) - {"manage"}))
def test_the_helper_takes_neither_more_nor_fewer_words_than_it_needs(helper: Path, verb: str) -> None:
    assert ask(helper, verb, *RIGHT[verb], "--force") == (64, False)
    assert ask(helper, verb, *RIGHT[verb][:-2]) == (64, False)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("",),
        ("Start",),
        ("units", "x"),
        ("boot", "x"),
        ("backups", "x"),
        ("snapshot", "timer"),
        ("daemon-reload",),
        ("eval", "id"),
    ],
)
def test_the_helper_knows_no_other_verb(helper: Path, words: tuple[str, ...]) -> None:
    assert ask(helper, *words) == (64, False)


def test_the_layout_is_where_the_scripts_look() -> None:
    layout = Layout.of("shop", "X")
    assert str(layout.upstream) == "/srv/shop-x/state/current/web.sock"
    assert str(layout.socket(RELEASE_ID)) == f"/run/shop-x/web-{RELEASE_ID}/sock"
    assert layout.unit("web", RELEASE_ID) == f"shop-x-web@{RELEASE_ID}.service"


@pytest.mark.parametrize(
    ("project", "environment", "name", "user", "database"),
    [
        ("shop", "production", "shop-production", "shop-production", "shop_production"),
        ("my-site", "EU.prod_2", "my-site-eu-prod_2", "my-site-eu-prod_2", "my_site_eu_prod_2"),
        (f"a{'b' * 30}", "production", f"a{'b' * 30}-production", None, None),
    ],
)
def test_all_names_of_a_site_come_from_its_project_and_environment(
    project: str, environment: str, name: str, user: str | None, database: str | None
) -> None:
    layout = Layout.of(project, environment)
    assert (layout.name, layout.account, layout.vhost) == (name, name, name)
    assert user in (None, layout.user)
    assert database in (None, layout.database)
    assert len(layout.user) <= 32
    assert re.fullmatch("[a-z][a-z0-9_]{,62}", layout.database)
    assert {layout.user, layout.database} & {"app", "site"} == set()


def test_a_host_of_an_earlier_version_keeps_its_names() -> None:
    layout = Layout.of("shop", "x", "shop")
    assert layout.names == "shop app site site /"
    assert layout.group == "www-data"
    assert str(layout.root) == "/srv/shop"
    here = replace(site(), name="shop")
    old = desired(here, host(here, "web1"), Learned(access=ACCESS))  # type: ignore[arg-type]
    entries = {path: Entry("file", "root", "root", "644", "0", "# Written by remote-setup.\n") for path, _ in old.moved}
    there = Facts(
        entries={**entries, **{path: Entry("file", "root", "root", "644", "0") for path in old.retired_files}},
        units={"shop-firewall.service": (True, True), "nginx.service": (True, True)},
    )
    drop_in = "/etc/systemd/system/nginx.service.d/{}.conf"
    entry_of = Entry("file", "root", "root", "644", files(old)[drop_in.format("portico")].digest, "")
    there.entries[drop_in.format("shop")] = entry_of  # type: ignore[index]
    changes = diff(old, there)
    lines = [change.title for change in changes]
    moved = f"~ {drop_in.format('shop')} → {drop_in.format('portico')}"
    assert moved in lines
    assert "reload nginx.service" in lines, "it is not restarted for a file with another name"
    assert lines.index("restart portico.firewall.service") < lines.index("disable shop-firewall.service")
    assert lines.index("disable shop-firewall.service") < lines.index("- /etc/systemd/system/shop-firewall.service")
    assert "/etc/nginx/site/site.conf" in old.absent


def test_what_sites_share_is_made_once_and_then_left_alone() -> None:
    others = {"blog-x": Mark("blog", "x", "-", 2)}
    for name, path in (
        ("web1", "/etc/nginx/site/nginx.conf"),
        ("data1", "/etc/postgresql/%PG%/conf.d/portico.conf"),
        ("data1", "/etc/rabbitmq/rabbitmq.conf"),
        ("web1", "/etc/portico.d/firewall/main.nft"),
    ):
        there = Facts(entries={path: Entry("file", "root", "root", "644", "0", "# Written by remote-setup: other\n")})
        second = wanted(name, learned=Learned(access=ACCESS, others=others))  # type: ignore[arg-type]
        assert not [line for line in titles(there, second) if path in line], path
        assert [line for line in titles(Facts(), second) if path in line], f"{path} is made if it is not there"
        assert [line for line in titles(there, wanted(name)) if path in line], f"{path} of a site that is alone"
    left = wanted("web1", learned=Learned(access=ACCESS, others=others))  # type: ignore[arg-type]
    assert not {"postgresql.service", "rabbitmq-server.service"} & {unit.name for unit in left.idle}
    assert "nginx.service" not in {unit.name for unit in wanted("data1", learned=Learned(others=others)).idle}
    assert not any("memory" in path for path in files(wanted("data1", learned=Learned(others=others))))


def test_two_sites_have_no_path_unit_or_name_in_common_but_what_they_share() -> None:
    learned = Learned(access=ACCESS)  # type: ignore[arg-type]
    for name in ("web1", "jobs1", "data1"):
        one, other = site(), replace(site(), project=replace(PROJECT, name="blog"))
        both = [files(desired(each, host(each, name), learned)) for each in (one, other)]
        common = [path for path in both[0] if path in both[1] and both[0][path].shared != "merged"]
        assert all(both[0][path].common for path in common), common
        assert all(both[0][path].text == both[1][path].text for path in common)
        units = [{unit.name for unit in desired(each, host(each, name), learned).units} for each in (one, other)]
        assert all(not each.startswith("shop") for each in units[0] & units[1])
