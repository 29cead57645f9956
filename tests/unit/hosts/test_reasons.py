"""The last line of a failure is the program's own reason; what failed early is in the ledger too."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.core.errors import Failure
from deploy.hosts.release import phases
from deploy.hosts.release.phases import Operation
from deploy.hosts.ssh import channel
from deploy.hosts.ssh.channel import Result, script
from deploy.project import proxy
from tests.unit.hosts.test_setup import PROJECT, environment

DPKG = """\
Setting up brokenpkg (1.0) ...
dpkg: error processing package brokenpkg (--configure):
 installed brokenpkg package post-installation script subprocess returned error exit status 1
Errors were encountered while processing:
 brokenpkg
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""


def function(name: str, *stubs: str) -> str:
    """A function of apply.sh, after stubs for what it calls."""
    found = re.search(rf"^{name}\(\) {{.*?^}}$", script("apply.sh"), re.MULTILINE | re.DOTALL)
    assert found
    return "\n".join([*stubs, found[0]])


def said(text: str, tmp_path: Path) -> str:
    done = subprocess.run(["sh", "-eu", "-c", f"work={tmp_path}\n{text}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_package_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(DPKG)
    assert said(f"{function('why_not_installed')}\nwhy_not_installed", tmp_path) == (
        "brokenpkg: installed brokenpkg package post-installation script subprocess returned error exit status 1: "
        "`dpkg --configure -a` on the host shows more"
    )
    (tmp_path / "log").write_text("E: Unable to locate package nowhere\n")
    assert said(f"{function('why_not_installed')}\nwhy_not_installed", tmp_path) == "Unable to locate package nowhere"


def test_a_unit_that_does_not_start_is_explained_by_its_program_and_who_holds_the_port(tmp_path: Path) -> None:
    journal = (
        "journalctl() { echo 'nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)'; "
        "echo 'nginx: configuration file test is done'; }"
    )
    ss = """ss() { echo 'LISTEN 0 511 *:80 *:* users:(("apache2",pid=812,fd=4))'; }"""
    assert said(f"{function('why', journal, ss)}\nwhy nginx.service", tmp_path).startswith(
        "apache2 holds port 80 (nginx: [emerg] bind() to 0.0.0.0:80 failed"
    )
    only = "journalctl() { case $* in *_SYSTEMD_UNIT*) ;; *) echo 'x.service: Failed with result' ;; esac; }"
    assert said(f"{function('why', only, ss)}\nwhy x.service", tmp_path) == "x.service: Failed with result"


def test_a_host_that_cannot_resolve_its_own_name_is_never_the_reason() -> None:
    noise = b"sudo: unable to resolve host m3: Name or service not known\n"
    assert (
        channel._NOISE.sub(b"", noise + b"helper: that is not a release\n" + noise)
        == b"helper: that is not a release\n"
    )


def test_a_deploy_that_fails_before_it_is_activated_is_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def run(_: object, text: str, stdin: bytes, **_more: object) -> Result:
        assert text == script("record.sh")
        sent.append(stdin.decode())
        return Result(0, b"", b"")

    def on_all(hosts: list[object], do: object) -> dict[str, object]:
        return {str(number): do(host) for number, host in enumerate(hosts)}  # type: ignore[operator]

    monkeypatch.setattr(phases, "run_script", run)
    target = phases.choose(PROJECT, environment())
    operation = Operation(target, SimpleNamespace(on_all=on_all), SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(Failure), phases.recorded(operation, {"release": "r1", "who": "ann"}):
        raise Failure('web1: migrations: relation "note" already exists')
    assert len(sent) == len(target.hosts)
    entry, outcome, _ = sent[0].split("\n")
    line = json.loads(f'{{"at": "x", {entry}, "outcome": {outcome}}}')
    assert line["release"] == "r1"
    assert line["outcome"] == 'failed: web1: migrations: relation "note" already exists'
    with phases.recorded(operation, {}):
        pass
    assert len(sent) == len(target.hosts), "what goes on is recorded by the activation"


def test_a_load_balancer_asks_by_address_and_a_stranger_gets_nothing() -> None:
    def files(*, tls: bool, trusted: tuple[str, ...]) -> dict[str, str]:
        front = proxy.Front(["shop.example"], tls, 443, trusted)
        return proxy.host_files(proxy.Here(front, "/s", "/l", web=True, others=(), askers=(), ipv6=False))

    plain = files(tls=False, trusted=("10.0.0.0/8",))
    assert "location ~ ^/(healthz|readyz)$ {\n    if ($may_probe = 0) {\n        return 444;" in plain["unknown.conf"]
    assert "$may_probe {\n    default 0;\n    127.0.0.0/8 1;\n    ::1 1;\n    10.0.0.0/8 1;\n}" in plain["http.conf"]
    assert "ssl_certificate" in files(tls=True, trusted=("10.0.0.0/8",))["unknown.conf"]
    assert "ssl_reject_handshake on;" in files(tls=True, trusted=())["unknown.conf"], "a stranger learns no name"
