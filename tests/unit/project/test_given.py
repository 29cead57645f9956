"""The variables that a project may read without declaring them: there in every runtime, and while an image is built."""

from __future__ import annotations

import re

import yaml

from deploy.hosts.environment.file import load
from deploy.hosts.release.release import site_environment
from deploy.native import runtime
from deploy.project.config import GIVEN
from tests.support import ROOT
from tests.unit.examples import PROJECT

#: What a process has from whoever starts it.
ALWAYS = {"HOME", "PATH"}
SECRET = {"SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IMAGE = set(re.findall(r"\b([A-Z_]+)=", " ".join(re.findall(r"^ENV .*(?:\n .*)*", DOCKERFILE, re.MULTILINE))))


def test_processes_of_this_machine() -> None:
    assert set(runtime.environment(PROJECT, {})) | ALWAYS >= GIVEN


def test_a_build() -> None:
    made_up = set(re.findall(r"\b([A-Z_]+)=", DOCKERFILE[DOCKERFILE.index("compileall") :].partition("# ---")[0]))
    assert IMAGE | made_up | ALWAYS >= GIVEN


def test_containers() -> None:
    base = yaml.safe_load((ROOT / "deploy/compose/base.yaml").read_text())["x-site"]["environment"]
    assert IMAGE | {name.removesuffix("_FILE") for name in base} | ALWAYS >= GIVEN


def test_hosts() -> None:
    environment = load(ROOT, "example")
    made = site_environment(PROJECT, environment, environment.site_hosts[0], "20260101-000000-abcdef0", 2)
    assert set(made) | SECRET | ALWAYS >= GIVEN
