"""The command that builds an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core import git
from deploy.core.errors import Failure
from deploy.docker import images
from tests.support import ROOT
from tests.unit.stacks import PROJECT, stack


@pytest.fixture(autouse=True)
def no_settings_of_installers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "sources_text", lambda _: "")


def test_the_image_is_built_under_its_revision() -> None:
    version = git.Revision("0123456789abcdef", "2026-01-01T00:00:00+00:00")
    command = images.build(PROJECT, "app", ["shop:x"], version, ca="/ca", platform="linux/arm64")
    assert list(command.argv) == [
        *["docker", "buildx", "build", "--load", "--target", "app"],
        *["--build-arg", "PYTHON_IMAGE=python:3.13-slim-trixie"],
        *["--build-arg", "SETTINGS=mysite.settings.production", "--build-arg", "WSGI=mysite.wsgi:application"],
        *["--build-arg", "ASGI=", "--build-arg", "CELERY=mysite.celery_app:app"],
        *["--build-arg", "REVISION=0123456789abcdef"],
        *["--build-arg", "CREATED=2026-01-01T00:00:00+00:00", "--secret", "id=build_ca,src=/ca"],
        *["--platform", "linux/arm64", "--tag", "shop:x", "-"],
    ]
    assert "-m deploy.docker.context site | docker buildx build" in command.render()


def test_the_image_follows_the_projects_python() -> None:
    assert images.python_image(replace(PROJECT, python=(3, 12))) == "python:3.13-slim-trixie", "newer will do"
    assert images.python_image(replace(PROJECT, python=(3, 14))) == "python:3.14-slim-trixie"
    assert f"ARG PYTHON_IMAGE={images.python_image(PROJECT)}\n" in (ROOT / "Dockerfile").read_text()


def test_the_image_for_development_is_built_from_the_locks_alone() -> None:
    command = images.build(PROJECT, "dev", ["shop-dev:latest"], None)
    assert command.argv[-1] == "."
    assert command.source is None
    assert "SETTINGS=mysite.settings.development" in command.argv
    assert git.Revision("0123456789abcdef-changed", "").tag == "0123456789ab-changed"


@pytest.mark.parametrize("text", ["", "-x", "a b", "a/b", "x" * 129])
def test_a_tag_that_no_registry_takes_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="--tag"):
        images.tag(text)


def test_a_build_says_in_one_line_what_of_this_machine_it_does_not_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/ours")
    said: list[str] = []
    images.write_sources(tmp_path, said.append)
    (line,) = said
    assert line.startswith("build: without /opt/ours of pip's and uv's settings, which only this machine has")
    monkeypatch.delenv("PIP_FIND_LINKS")
    images.write_sources(tmp_path, said.append)
    assert said == [line]


def test_the_certificate_of_pips_settings_reaches_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("PIP_CERT", "/etc/ssl/own.pem")
    assert stack("prod").build_ca == "/etc/ssl/own.pem"
    monkeypatch.delenv("PIP_CERT")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\ncert = /etc/ssl/other.pem\n")
    assert stack("prod").build_ca == "/etc/ssl/other.pem"
