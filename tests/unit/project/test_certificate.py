"""A certificate and its key."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project import certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="sudo apt install openssl")
def test_a_certificate_that_ended_is_named(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-days", "1", "-subj", "/CN=x"]
    subprocess.run(command, check=True, capture_output=True)
    certificate.check_certificate(tmp_path / "c", tmp_path / "k")
    with pytest.raises(Failure, match=r"expired on \d{4}-\d\d-\d\d; renew it"):
        certificate.check_certificate(tmp_path / "c", tmp_path / "k", datetime(2100, 1, 1, tzinfo=UTC))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="sudo apt install openssl")
def test_a_certificate_for_other_names_or_later_days_is_named(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c"), "-addext", "subjectAltName=DNS:*.example.org"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-days", "1", "-subj", "/CN=x"]
    subprocess.run(command, check=True, capture_output=True)
    pair = (tmp_path / "c", tmp_path / "k")
    certificate.check_certificate(*pair, names=["localhost", "www.example.org"])
    certificate.check_certificate(*pair, names=[".example.org"])
    for name in ("example.org", "a.b.example.org", "www.example.com"):
        with pytest.raises(Failure, match=rf"is for \*\.example\.org, but the site is {name}"):
            certificate.check_certificate(*pair, names=[name])
    with pytest.raises(Failure, match=r"is valid from .*; check this machine's clock, or wait"):
        certificate.check_certificate(*pair, datetime(2020, 1, 1, tzinfo=UTC))
