"""The health check of a container: what is healthy, what is not, and how it says so in a line."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from portico_site import healthcheck


class Site(BaseHTTPRequestHandler):
    seen: ClassVar[list[dict[str, str]]] = []
    broken: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        Site.seen.append({key.lower(): value for key, value in self.headers.items()})
        status, text = (503, '{"database": "failed: OperationalError"}') if self.path in Site.broken else (200, "ok\n")
        if self.path == "/page":
            status, text = 500, "<!doctype html>\n<h1>Error</h1>"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(healthcheck, "BEEN_READY", str(tmp_path / "been-ready"))
    Site.seen, Site.broken = [], set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_answer_without_an_error_is_healthy(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", ".shop.example, other")
    assert healthcheck.main(f"{site}/healthz") == ""
    assert Site.seen[0]["host"] == "shop.example"
    assert Site.seen[0]["x-forwarded-proto"] == "https"


def test_an_error_is_shown_in_a_line_and_html_is_not(site: str) -> None:
    Site.broken = {"/readyz"}
    assert healthcheck.main(f"{site}/readyz") == '/readyz: 503 {"database": "failed: OperationalError"}'
    assert healthcheck.main(f"{site}/page") == "/page: 500"


def test_readiness_counts_until_it_was_ready_once(site: str) -> None:
    Site.broken = {"/readyz"}
    words = (f"{site}/healthz", "--first", "/readyz /")
    assert healthcheck.main(*words).startswith("/readyz: 503")
    Site.broken = {"/"}
    assert healthcheck.main(*words).startswith("/: 503")
    Site.broken = set()
    assert healthcheck.main(*words) == ""
    Site.broken = {"/readyz", "/"}
    assert healthcheck.main(*words) == "", "from then on only liveness counts"


def test_nobody_there_and_somebody_who_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            connection.recv(1000)  # what is not read would turn the end into a reset
            connection.sendall(b"SSH-2.0-x\r\n")
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        assert healthcheck.main(f"http://127.0.0.1:{port}/healthz") == "/healthz: its answer is not HTTP"
    assert "refused" in healthcheck.main(f"http://127.0.0.1:{port}/healthz")


def test_a_server_that_says_a_little_again_and_again_has_so_long_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            while not over.wait(0.1):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        assert "timed out" in healthcheck.main(f"http://127.0.0.1:{server.getsockname()[1]}/healthz")
        assert time.monotonic() - began < 10
        over.set()


def test_a_file_must_be_there_and_fresh(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    assert healthcheck.main(str(ready)) == "not running yet"
    ready.touch()
    assert healthcheck.main(str(ready), "60") == ""
    import os

    os.utime(ready, (0, 0))
    assert healthcheck.main(str(ready)) == ""
    assert healthcheck.main(str(ready), "60").startswith("no heartbeat for ")
