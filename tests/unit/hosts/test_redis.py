"""Redis as a role of a host: what the file may say, and what the host and the site get."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from deploy.core.errors import Failure
from deploy.hosts.environment.file import parse
from deploy.hosts.setup.desired import desired
from deploy.hosts.setup.diff import Access, Desired, Facts, diff
from deploy.hosts.setup.plan import summary
from deploy.hosts.setup.refusal import OUR_REDIS, in_the_way
from deploy.hosts.setup.site import Learned, Site
from deploy.project.services import Redis
from tests.support import ROOT
from tests.unit.hosts.test_setup import NGINX, PROJECT, TEXT, files

CACHE, BROKER = Redis(), Redis(broker=True, memory=512)
WITH = TEXT.replace("roles: [database, broker]", "roles: [database, redis]").replace(
    "  web2", "  cache1: {address: 10.0.0.9, roles: [broker]}\n  web2"
)
ONLY = TEXT.replace("roles: [database, broker]", "roles: [database, redis]")
ACCESS = {name: Access(SecretStr(f"{name}-pw"), f"certificate of {name}") for name in ("database", "broker", "redis")}
ADDRESSES = {"10.0.0.4": ("10.0.0.4",)}


def wanted(name: str, text: str, redis: Redis | None, learned: Learned | None = None) -> Desired:
    here = Site(parse(text, "x", ROOT, redis=redis), replace(PROJECT, redis=redis), NGINX, "CERT", "KEY")
    host = next(host for host in here.environment.hosts if host.name == name)
    return desired(here, host, learned or Learned(addresses=ADDRESSES, access=ACCESS))  # type: ignore[arg-type]


def refused(text: str, redis: Redis | None) -> str:
    with pytest.raises(Failure) as failure:
        parse(text, "x", ROOT, redis=redis)
    return failure.value.message


# --- The file ---


@pytest.mark.parametrize(
    ("text", "redis", "words"),
    [
        (WITH, None, "hosts.data1.roles: redis is for a project that has `services: {redis: {}}` in invoke.yaml"),
        (TEXT, CACHE, "hosts: no host has the role redis; give it to one host, or set services.redis"),
        (f"{WITH}services: {{redis: 'rediss://r:1'}}\n", CACHE, "services.redis: data1 has the role redis; remove one"),
        (WITH.replace("env:KEY", "env:KEY, REDIS_URL: env:X"), CACHE, "data1 has the role redis, which gives it"),
        (WITH, BROKER, "broker is RabbitMQ, and Redis is the broker"),
        (f"{ONLY}services: {{broker: 'amqp://b'}}\n", BROKER, "services.broker: data1 has the role redis"),
        (WITH.replace("[broker]", "[broker, redis]"), CACHE, "redis is on cache1 already; give it to one host only"),
        (
            ONLY.replace("redis]", "web]") + "services: {redis: 'rediss://r:1'}\n",
            BROKER,
            "no host has the role broker; give the role redis to one host, or set services.broker to a database",
        ),
    ],
)
def test_what_does_not_fit_names_its_remedy(text: str, redis: Redis | None, words: str) -> None:
    assert words in refused(text, redis)


def test_redis_as_the_broker_needs_no_other() -> None:
    assert [host.name for host in parse(ONLY, "x", ROOT, redis=BROKER).with_role("redis")] == ["data1"]


# --- The host ---


def test_its_server_is_of_the_site_s_own_and_keeps_what_a_broker_or_a_cache_keeps() -> None:
    cache = wanted("data1", WITH, CACHE)
    text = files(cache)["/etc/shop-x/redis.conf"].text
    assert {"redis-tools", "ssl-cert"} <= set(cache.packages)
    assert "redis-server" not in cache.packages, "its service asks for no password"
    assert "redis" in cache.servers
    assert {"appendonly no", "maxmemory 256mb", "maxmemory-policy allkeys-lru", "port 0"} <= set(text.splitlines())
    unit = files(cache)["/etc/systemd/system/shop-x-redis.service"].text
    assert {"DynamicUser=yes", "MemoryMax=512M", "NoNewPrivileges=yes"} <= set(unit.splitlines())
    broker = files(wanted("data1", ONLY, BROKER))["/etc/shop-x/redis.conf"].text
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy volatile-lru"} <= set(broker.splitlines())


def test_it_listens_inside_only_and_to_this_host_alone_if_there_is_no_other() -> None:
    def bound(text: str, name: str, learned: Learned | None = None) -> str:
        return files(wanted(name, text, CACHE, learned))["/etc/shop-x/redis.conf"].text.splitlines()[1]

    assert bound(WITH, "data1") == "bind 127.0.0.1 -::1 10.0.0.4"
    lost = Learned(addresses={"10.0.0.4": ("127.0.1.1",)}, access=ACCESS)  # type: ignore[arg-type]
    assert bound(WITH, "data1", lost) == "bind 127.0.0.1 -::1 * -::*", "it does not know by what others reach it"
    one = "domain: a.example\nsecrets: {SECRET_KEY: env:KEY}\nhosts:\n  all1:\n    address: 10.0.0.4\n"
    one += "    roles: [web, worker, beat, database, broker, redis]\n"
    assert bound(one, "all1") == "bind 127.0.0.1 -::1"
    urls = files(wanted("all1", one, CACHE))["/etc/shop-x/services.env"].text
    assert "REDIS_URL=rediss://:redis-pw@127.0.0.1:6380/0?" in urls, "where it listens"
    assert "DATABASE_URL=postgres://:database-pw@10.0.0.4:5432/" in urls


def test_its_password_is_made_before_it_starts() -> None:
    titles = [change.title for change in diff(wanted("data1", WITH, CACHE), Facts())]
    assert titles.index("redis: make all") < titles.index("restart shop-x-redis.service")


def test_the_site_gets_its_urls_over_tls_with_the_host_s_certificate() -> None:
    text = files(wanted("web1", WITH, CACHE))["/etc/shop-x/services.env"].text
    checked = "ssl_cert_reqs=required&ssl_ca_certs=/etc/shop-x/redis.crt&ssl_check_hostname=false"
    assert f"REDIS_URL=rediss://:redis-pw@10.0.0.4:6380/0?{checked}\n" in text
    assert f"CACHE_URL=rediss://:redis-pw@10.0.0.4:6380/1?{checked}\n" in text
    assert "CELERY_BROKER_URL=amqps" in text
    assert files(wanted("web1", WITH, CACHE))["/etc/shop-x/redis.crt"].text == "certificate of redis"
    assert f"CELERY_BROKER_URL=rediss://:redis-pw@10.0.0.4:6380/2?{checked}\n" in (
        files(wanted("web1", ONLY, BROKER))["/etc/shop-x/services.env"].text
    )


@pytest.mark.parametrize("more", ["", "firewall: false\n"])
def test_only_the_site_s_hosts_reach_its_port(more: str) -> None:
    found = files(wanted("data1", WITH + more, CACHE))
    text = "".join(found[f"/etc/portico.d/firewall/{part}-shop-x.nft"].text for part in ("open", "close"))
    assert "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } tcp dport 6380 accept" in text
    assert "input drop" in text or "tcp dport 6380 drop" in text


def test_a_host_that_loses_the_role_stops_it_and_keeps_its_data() -> None:
    without = wanted("web1", WITH, CACHE)
    assert "shop-x-redis.service" in [idle.name for idle in without.idle]
    assert {"/etc/shop-x/redis_password", "/etc/shop-x/redis.password.conf"} <= set(without.absent)
    assert not [path for path in without.absent if path.startswith("/var/lib")]


def test_another_redis_goes_on_and_one_on_our_port_is_refused_by_name() -> None:
    def found(port: int, program: str, *, ours: bool = False) -> list[str]:
        here = Site(parse(WITH, "x", ROOT, redis=CACHE), replace(PROJECT, redis=CACHE), NGINX)
        host = next(host for host in here.environment.hosts if host.name == "data1")
        units = {"shop-x-redis.service": (True, ours)}
        return in_the_way(here, host, Facts(listening=((port, program, False),), units=units))

    assert found(6379, "redis-server") == []
    assert found(6380, OUR_REDIS, ours=True) == []
    (other,) = found(6380, OUR_REDIS)
    assert other == (
        "the Redis of another site listens on port 6380: give the role redis to another host, or name a server in"
        " services.redis"
    )
    (said,) = found(6380, "redis-server")
    assert said.startswith("redis-server listens on port 6380, which the site's Redis needs: stop it (`systemctl")


def test_the_summary_of_a_plan_says_that_its_password_is_made() -> None:
    changes = diff(wanted("data1", WITH, CACHE), Facts())
    assert "redis: make all" in summary(changes)
