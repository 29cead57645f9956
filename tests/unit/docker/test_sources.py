"""Where packages come from reaches a build as a secret, written by the build itself and by nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core import shell
from deploy.core.shell import Result, Run
from deploy.docker import images
from tests.unit.examples import PROJECT


def test_the_command_names_the_secret_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "sources_text", lambda _: "PIP_INDEX_URL=x\n")
    argv = images.build(replace(PROJECT, root=tmp_path), "dev", ["shop"], None).argv
    assert f"id=package_sources,src={tmp_path}/.secrets/{images.SOURCES}" in argv
    assert not (tmp_path / ".secrets").exists()


def test_the_build_writes_it_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "sources_text", lambda _: "PIP_INDEX_URL=x\n")
    monkeypatch.setattr(shell, "stream", lambda *_: Result(0, "", ""))
    monkeypatch.setattr(shell, "run", lambda *_, **__: Result(0, "", ""))
    images.perform(Run(["true"], cwd=tmp_path), tmp_path, lambda _: None)
    file = tmp_path / ".secrets" / images.SOURCES
    assert file.read_text() == "PIP_INDEX_URL=x\n"
    assert file.stat().st_mode & 0o777 == 0o600
