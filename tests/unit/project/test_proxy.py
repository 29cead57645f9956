"""The rendered configuration of nginx."""

from __future__ import annotations

import re

import pytest

from deploy.project import proxy
from tests.support import ROOT

# --- nginx ---

FRONT = proxy.Front(["a.example", "b.example"], tls=False, https_port=443, trusted=[])


def test_who_serves_is_read_back_from_what_was_written() -> None:
    text = proxy.http(FRONT, ["shop-app-1", "shop-app-2"], ["app"])
    assert proxy.serving(text) == ("shop-app-1", "shop-app-2")
    assert "server app:8000 resolve max_fails=0 down;" in text
    assert proxy.serving(proxy.http(FRONT, proxy.ALL)) == proxy.ALL


def test_without_a_certificate_nothing_listens_for_tls() -> None:
    assert "443" not in "".join(proxy.runtime_files(FRONT, proxy.ALL).values())


def test_with_a_certificate_plain_http_is_a_redirect_only() -> None:
    front = proxy.Front(["a.example"], tls=True, https_port=8443, trusted=[])
    files = proxy.runtime_files(front, proxy.ALL)
    assert "return 308 https://$host:8443$request_uri;" in files["http.conf"]
    assert "listen 80" not in files["server.conf"]
    assert "ssl_reject_handshake on;" in files["unknown.conf"]


def test_only_proxies_that_are_named_are_believed() -> None:
    assert "set_real_ip_from" not in proxy.http(FRONT, proxy.ALL)
    trusting = proxy.http(proxy.Front(["a"], tls=False, https_port=443, trusted=["10.0.0.0/8"]), proxy.ALL)
    assert "set_real_ip_from 10.0.0.0/8;" in trusting
    assert "    10.0.0.0/8 1;" in trusting


def test_the_replicas_of_a_laid_configuration_are_exchanged_and_nothing_else() -> None:
    text = proxy.http(FRONT, ["a-1", "a-2"], ["a-3"])
    assert proxy.with_upstream(text, ["a-3"]) == proxy.http(FRONT, ["a-3"])
    assert proxy.with_upstream(proxy.http(FRONT, proxy.ALL), ["x"], ["y"]) == proxy.http(FRONT, ["x"], ["y"])


# --- Limits ---

SITE = (ROOT / "nginx" / "site.conf").read_text()


def clients(variable: str) -> list[tuple[str, str]]:
    """The lines of a map in site.conf: pattern and value."""
    found = re.search(rf"map \S+ \${variable} {{\n(.*?)\n}}", SITE, re.DOTALL)
    assert found
    return re.findall(r'^ +("[^"]*"|\S+) +([^;]+);', found[1], re.MULTILINE)


def client(address: str) -> str:
    """What site.conf counts an address as."""
    for pattern, value in clients("site_client"):
        if pattern == "default":
            continue
        found = re.search(pattern.strip('"').removeprefix("~").replace("(?<", "(?P<"), address)
        if found:
            return address if value == "$remote_addr" else found[value.removeprefix("$")]
    return address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.5", "203.0.113.6", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", True),
        ("2001:db8:1:2::9", "2001:db8:1:3::9", False),
        ("2001:db8::1", "2001:db8::ffff:0:1:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001::5:6:7:8", "2001::1", True),
        ("2001::4:5:6:7:8", "2001::4:9:9:9:9", True),
        ("2001::4:5:6:7:8", "2001::5:5:6:7:8", False),
        ("::ffff:203.0.113.5", "::ffff:203.0.113.6", False),
        ("2001:db8:1::", "2001:db8:1::1", True),
    ],
)
def test_a_client_is_an_address_or_a_64_network(one: str, other: str, same: bool) -> None:
    assert (client(one) == client(other)) == same


def test_every_limit_is_by_client() -> None:
    keys = re.findall(r"limit_(?:req|conn)_zone (\S+)", SITE)
    assert keys
    for key in keys:
        if key != "$site_client":
            assert {value for _, value in clients(key.removeprefix("$"))} == {"$site_client", '""'}, key
    assert "$binary_remote_addr" not in SITE


@pytest.mark.parametrize("megabytes", [1, 10, 100, 4096])
def test_bodies_that_arrive_do_not_fill_the_memory_of_nginx(megabytes: int) -> None:
    sizes = {name: int(value.removesuffix("m")) for name, value in proxy.sizes(megabytes).items()}
    assert sizes["NGINX_TMP"] >= 2 * megabytes, "one upload leaves room for another's"
    assert sizes["NGINX_TMP"] + 128 <= sizes["NGINX_MEMORY"]
    text = (ROOT / "deploy" / "compose" / "prod.yaml").read_text()
    for name, value in proxy.sizes(10).items():
        assert f"${{{name}:-{value}}}" in text


@pytest.mark.parametrize("metrics", [True, False])
def test_metrics_are_for_those_inside_and_without_them_the_address_is_the_project_s(metrics: bool) -> None:
    front = proxy.Front(["a"], tls=False, https_port=443, trusted=[], metrics=metrics)
    here = proxy.Here(front, "/run/x", "/x.log", web=True, others=[], askers=[], ipv6=False)
    for files in (proxy.runtime_files(front, proxy.ALL), proxy.host_files(here)):
        for name in ("server.conf", "unknown.conf"):
            assert ("location = /metrics {\n    if ($is_inside = 0) {\n        return 404;" in files[name]) is metrics
    assert "metrics" not in SITE


def test_health_is_for_those_inside() -> None:
    trusting = proxy.http(proxy.Front(["a"], tls=False, https_port=443, trusted=["203.0.113.0/24"]), proxy.ALL)
    found = re.search(r"geo \$realip_remote_addr \$is_inside {(.*?)}", trusting, re.DOTALL)
    assert found
    assert "    default 0;" in found[1]
    for network in ("127.0.0.0/8", "10.0.0.0/8", "203.0.113.0/24"):
        assert f"    {network} 1;" in found[1]
    location = SITE.index("location ~ ^/(healthz|readyz)$ {")
    assert "if ($is_inside = 0) {\n            return 404;" in SITE[location : location + 200]
