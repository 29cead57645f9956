"""The rendered configuration of nginx."""

from __future__ import annotations

from deploy.project import proxy

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
