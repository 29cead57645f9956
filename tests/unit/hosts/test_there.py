"""What is on a host already: names that are taken, and servers, files and ports of others."""

from dataclasses import replace

import pytest

from deploy.core.errors import Failure
from deploy.hosts.environment.owner import Mark
from deploy.hosts.setup import converge
from deploy.hosts.setup import facts as asking
from deploy.hosts.setup.diff import Desired, Entry, Facts, File, Group, diff, steps
from deploy.hosts.setup.merging import REST, merged, without
from deploy.hosts.setup.names import refused
from deploy.hosts.setup.refusal import TAKEN_OVER, in_the_way, remarks, shares_broker, shares_database, shares_nginx
from deploy.hosts.setup.site import Learned
from tests.unit.hosts.test_setup import ACCESS, PROJECT, TEXT, environment, files, host, site, wanted

ALL = TEXT.replace("roles: [web]", "roles: [web, database, broker]", 1).replace(
    "  data1: {address: 10.0.0.4, roles: [database, broker]}\n", ""
)


# --- Names ---


@pytest.mark.parametrize(
    "name", ["ssh", "nginx", "postgres", "root", "www-data", "systemd-x", "cron", "hosts", "app", "a" * 33]
)
def test_a_name_of_the_system_is_refused_before_anything_connects(name: str) -> None:
    assert refused(name)
    with pytest.raises(Failure, match=rf"project.name is {name}, which .*choose another in invoke.yaml"):
        converge.load(environment(), replace(PROJECT, name=name))


@pytest.mark.parametrize("name", ["shop", "portico", "crm", "my-site", "blog_2", "a" * 32, "sshop", "postgrest"])
def test_other_names_are_taken(name: str) -> None:
    assert refused(name) == ""


# --- The plan ---


def said(facts: Facts, text: str = ALL, *take_over: str) -> list[str]:
    here = replace(site(text), take_over=frozenset(take_over))
    return in_the_way(here, host(here, "web1"), facts)


@pytest.mark.parametrize(
    ("facts", "line", "what"),
    [
        (
            Facts(there=(("unit", "shop.service"),)),
            "shop.service is there already, and is not of remote-setup: name",
            "",
        ),
        (
            Facts(there=(("path", "/etc/shop-x"), ("path", "/srv/shop-x"))),
            "/etc/shop-x and /srv/shop-x are there",
            "files",
        ),
        (Facts(there=(("user", "shop-x"),)), "the user shop-x is there already", "users"),
        (
            Facts(there=(("group", "shop-x"),)),
            "the group shop-x is there without a user of that name: `groupdel shop-x`",
            "",
        ),
        (
            Facts(there=(("nginx", "/etc/nginx/conf.d/crm.conf"), ("nginx-main", "/etc/nginx/nginx.conf"))),
            "nginx serves something else here, and /etc/nginx/nginx.conf does not include sites-enabled/*: add",
            "nginx",
        ),
        (Facts(there=(("database", "shop_x"),)), "PostgreSQL has the database shop_x, not of remote-setup", "database"),
        (Facts(there=(("node", "rabbit@m1"),)), "RabbitMQ does not run, but has data here (rabbit@m1)", "broker"),
        (
            Facts(there=(("vhost", "crm"),), listening=((5671, "beam.smp", True),)),
            "RabbitMQ is used by others here, and over TLS on port 5671 with a certificate of theirs: name it in",
            "broker",
        ),
        (Facts(there=(("firewall", "ufw"),)), "ufw is active, and closes what setup's own firewall opens: `ufw", ""),
        (Facts(listening=((80, "apache2", True),)), "apache2 listens on port 80, which nginx needs: stop it", ""),
        (Facts(listening=((5432, "docker-proxy", False),)), "docker-proxy listens on port 5432, which postgres", ""),
        (
            Facts(clusters=(("15", "crm", 5433),)),
            "PostgreSQL's clusters (15/crm on 5433) are not on port 5432: `pg_createcluster 15 shop_x --port 5432",
            "",
        ),
    ],
)
def test_what_is_in_the_way_is_one_line_with_the_remedy(facts: Facts, line: str, what: str) -> None:
    [found] = said(facts)
    assert found.startswith(line)
    assert ("--take-over" in found) == bool(what)
    for each in TAKEN_OVER:
        assert bool(said(facts, ALL, each)) == (each != what), each


def test_a_host_with_its_own_servers_is_not_in_its_own_way() -> None:
    ours = Facts(
        listening=((80, "nginx", True), (5432, "postgres", True), (5671, "beam.smp", True), (22, "sshd", True)),
        clusters=(("15", "crm", 5433), ("15", "main", 5432)),
        there=(("database", "crm"),),
    )
    assert said(ours) == []
    assert said(Facts(listening=((80, "apache2", True),)), ALL.replace("[web, d", "[d")) == [], "a host without the web"
    with_ufw = Facts(there=(("firewall", "ufw"),))
    assert said(with_ufw, f"firewall: false\n{ALL}") == []


def test_what_setup_changes_for_others_is_said_in_the_plan() -> None:
    here = site(ALL)
    there = Facts(ports=(22,), listening=((3306, "mysqld", True), (6379, "redis", False), (22, "sshd", True)))
    assert remarks(here, host(here, "web1"), there, Learned()) == [
        "the firewall closes port 3306 (mysqld) to others; open_ports keeps it open"
    ]
    assert remarks(here, host(here, "web1"), Facts(there=(("database", "crm"),)), Learned()) == [
        "PostgreSQL has other databases (crm), which stay; it restarts"
    ]
    assert (
        remarks(here, host(here, "web1"), replace(there, units={"portico.firewall.service": (True, True)}), Learned())
        == []
    )


# --- Sites of others ---

CRM = Facts(there=(("nginx", "/etc/nginx/sites-enabled/crm"),))


def test_sites_of_others_are_served_on_and_ours_is_one_of_them() -> None:
    here = site(ALL)
    assert said(CRM) == []
    assert "which it serves on" in remarks(here, host(here, "web1"), CRM, Learned())[0]
    beside = wanted("web1", learned=Learned(shares_nginx=True))
    assert "/etc/nginx/sites-enabled/zz-shop-x.conf" in files(beside)
    assert {"/etc/nginx/site/nginx.conf", "/etc/nginx/shop-x/unknown.conf"} <= set(beside.absent)
    assert "/etc/systemd/system/nginx.service.d/portico.conf" in beside.absent, "nginx keeps its own main file"
    assert shares_nginx(here, CRM)
    assert not shares_nginx(replace(here, take_over=frozenset({"nginx"})), CRM)
    assert shares_nginx(here, Facts(there=(("nginx-beside", "/etc/nginx/sites-enabled/zz-shop-x.conf"),)))
    assert not shares_nginx(here, Facts())


@pytest.mark.parametrize("tls", ["", "tls: {certificate: c, key: k}\ntrusted_proxies: [10.0.0.0/8]\n"])
def test_what_stands_outside_of_our_servers_touches_no_other(tls: str) -> None:
    found = files(wanted("web1", f"{tls}{TEXT}", Learned(shares_nginx=True)))
    http = found["/etc/nginx/shop-x/http.conf"].text + found["/etc/nginx/shop-x/site.conf"].text
    outside = [line for line in http.splitlines() if line[:1].isalpha()]
    assert {line.split()[0] for line in outside} <= {
        *("map", "geo", "upstream", "log_format", "include", "limit_req_zone", "limit_conn_zone", "server")
    }
    assert not any("default_server" in file.text for file in found.values())
    defaults = found["/etc/nginx/shop-x/defaults.conf"].text
    for line in ("access_log /var/log/nginx/shop-x.access.log shop_x_json", "gzip on;", "limit_req_status 429;"):
        assert line in defaults
    assert ("set_real_ip_from 10.0.0.0/8;" in defaults) == bool(tls)
    assert found["/etc/nginx/shop-x/server.conf"].text.endswith("include /etc/nginx/shop-x/defaults.conf;\n")
    assert "upstream shop_x_app {\n    zone shop_x_app 64k;" in http
    assert "proxy_pass http://shop_x_app;" in found["/etc/nginx/shop-x/proxy.conf"].text


# --- A database's server and a broker of others ---


def test_a_broker_of_others_keeps_its_configuration_and_gives_ours_a_vhost() -> None:
    used = Facts(there=(("vhost", "crm"), ("broker-user", "crm")))
    here = site(ALL)
    assert said(used) == []
    assert shares_broker(here, used)
    assert not shares_broker(replace(here, take_over=frozenset({"broker"})), used)
    assert "which stay; it restarts" in remarks(here, host(here, "web1"), used, Learned())[0]
    shared = wanted("data1", learned=Learned(shares_broker=True))
    assert "/etc/rabbitmq/conf.d/portico.conf" in files(shared)
    assert not {"/etc/rabbitmq/rabbitmq.conf", "/etc/rabbitmq/rabbitmq-env.conf"} & set(files(shared))
    assert "epmd.socket" not in [unit.name for unit in shared.units], "others may have a cluster"
    services = files(wanted("web1", learned=Learned(access=ACCESS)))["/etc/shop-x/services.env"]  # type: ignore[arg-type]
    assert "CELERY_BROKER_URL=amqps://shop-x:mqpass@10.0.0.4:5671/shop-x" in services.text.splitlines()


def test_a_server_that_others_use_runs_on_when_a_host_loses_its_role() -> None:
    there = Entry("file", "root", "root", "600", "0")
    left = Facts(
        entries={f"/etc/shop-x/{name}_password": there for name in ("database", "broker")},
        units=dict.fromkeys(("postgresql.service", "rabbitmq-server.service"), (True, True)),
    )
    alone = [change.title for change in diff(wanted("web1"), left)]
    assert {"disable postgresql.service", "disable rabbitmq-server.service"} <= set(alone)
    shared = wanted("web1", learned=Learned(access=ACCESS, shares_database=True, shares_broker=True))  # type: ignore[arg-type]
    assert not [change.title for change in diff(shared, left) if change.title.startswith("disable")]


def test_only_databases_of_no_site_make_a_server_shared() -> None:
    blog = {"blog-live": Mark("blog", "live", "0" * 40, 1)}
    of_sites = ("shop_x", "shop_x_restored", "blog_live", "blog_live_before_0123abcd_2")
    assert not shares_database(site(), Facts(there=tuple(("database", name) for name in of_sites)), blog)
    for name in ("crm", "blog_live2", "blog_live_before_then"):
        assert shares_database(site(), Facts(there=(("database", name),)), blog), name
    assert shares_database(site(), Facts(there=(("database", "blog_live"),)), {}), "no mark says that it is a site's"


def test_what_else_uses_a_server_takes_no_right_from_it_and_gives_none() -> None:
    rights, others = (
        "/etc/systemd/system/postgresql@.service.d/portico.conf",
        {"blog-live": Mark("blog", "live", "", 1)},
    )
    assert rights in files(wanted("data1"))
    assert rights in files(wanted("data1", learned=Learned(others=others))), "the same file: no restart"
    shared = wanted("data1", learned=Learned(shares_database=True))
    assert rights not in files(shared)
    assert rights not in shared.absent, "a database that a removed site has left restarts nothing"


# --- Files that were there ---

RULES = File("/etc/postgresql/%PG%/pg_hba.conf", "# Written by remote-setup: x\nours\n", "postgres", "postgres", 0o640)
OURS, THEIRS = "# Written by remote-setup for a\nours\n# End of a\n", "# Written by remote-setup for b\nb\n# End of b\n"


def test_lines_of_others_stay_however_often_ours_change() -> None:
    assert merged(OURS, "") == OURS
    once = merged(OURS, f"{THEIRS}local all all peer\n")
    assert once == f"{OURS}{THEIRS}local all all peer\n"
    assert merged(OURS, once) == once
    again = OURS.replace("ours\n", "more\nlines\n")
    assert merged(again, once) == f"{again}{THEIRS}local all all peer\n"
    assert merged(again, f"{THEIRS}{OURS}rest\n") == f"{THEIRS}{again}rest\n", "in their place"
    assert without(OURS, once) == f"{THEIRS}local all all peer\n"
    assert without(OURS, THEIRS) == THEIRS


def test_a_file_that_an_earlier_version_wrote_for_this_site_becomes_lines_among_others() -> None:
    whole = "# Written by remote-setup: y\nhostssl site site\n"
    assert merged(OURS, whole, earlier=True) == OURS
    assert merged(OURS, f"{whole}{REST}local all all peer\n", earlier=True) == f"{OURS}local all all peer\n"
    assert merged(OURS, whole) == OURS + whole, "another site's file is left as it is"


@pytest.mark.parametrize(("shared", "kept"), [("merged", True), ("copied", True), ("", False)])
def test_a_file_of_a_server_that_was_there_has_a_copy_beside_it(shared: str, kept: bool) -> None:
    file = replace(RULES, shared=shared)  # type: ignore[arg-type]
    theirs = Facts(entries={file.path: Entry("file", "postgres", "postgres", "640", "0", "local all all peer\n")})
    lines = steps("shop", diff(Desired(groups=(Group((file,)),)), theirs)).decode().splitlines()
    assert (f"keep {file.path} postgres" in lines) == kept
    if kept:
        assert lines.index(f"keep {file.path} postgres") < next(i for i, line in enumerate(lines) if "file " in line)
    ours = Facts(entries={file.path: Entry("file", "postgres", "postgres", "640", "0", file.text + "x\n")})
    lines = steps("shop", diff(Desired(groups=(Group((file,)),)), ours)).decode().splitlines()
    assert not any(line.startswith("keep") for line in lines)


def test_answers_about_what_is_there_are_read_back() -> None:
    text = "there unit shop.service\nthere user app 1000\ncluster 15 main 5432 online\nlisten 80 apache2 open\nend"
    found = asking.parse(text)
    assert found.there == (("unit", "shop.service"), ("user", "app"))
    assert found.clusters == (("15", "main", 5432),)
    assert found.listening == ((80, "apache2", True),)
