"""Environments of one machine beside each other: what a new one is called, and that two share nothing."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.docker import dotenv
from deploy.project import config
from deploy.project.config import Project
from tests.support import ROOT
from tests.unit.examples import NAMES
from tests.unit.stacks import VALUES


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with production's `.env`, in a repository that ignores the files."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/.env.*\n")
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    write(tmp_path / ".env", VALUES)
    return Project(tmp_path, "shop", NAMES, 8000, "", ".run", ("/readyz",), 3)


def write(path: Path, values: dict[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    path.chmod(0o600)


def silent(_: str) -> None:
    """For what is reported."""


def staging(project: Project) -> Project:
    return replace(project, environment="staging")


def test_a_new_environment_shares_no_name_port_secret_or_folder_with_the_usual_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "run", without_engine(shell.run))
    made = dotenv.prepare(staging(project), "prod", dry_run=False, notify=silent)
    usual = dotenv.load(project, "prod")
    assert (made.name, made.env.image) == ("shop-staging", "shop-staging")
    assert (made.env.http_port, made.env.https_port) == (8080, 8443)
    assert made.secrets == project.root / ".secrets" / "environments" / "staging"
    assert made.compose("ps").env["SECRETS"] == "../../.secrets/environments/staging"
    assert usual.compose("ps").env["SECRETS"] == "../../.secrets"
    assert made.env.secret_key != usual.env.secret_key
    assert (project.root / ".env.staging").stat().st_mode & 0o777 == 0o600
    assert dotenv.load(staging(project), "prod").env == made.env


def without_engine(run: object) -> object:
    def answered(command: object, **more: object) -> object:
        argv = command.argv  # type: ignore[attr-defined]
        from deploy.core.shell import Result

        return Result(1) if argv[0] == "docker" else run(command, **more)  # type: ignore[operator]

    return answered


@pytest.mark.parametrize(("key", "what"), [("STACK", "containers and data"), ("IMAGE", "images")])
def test_two_environments_with_one_name_are_refused_whichever_is_meant(project: Project, key: str, what: str) -> None:
    others = {"STACK": "other", "IMAGE": "other", key: VALUES[key]}
    write(project.root / ".env.staging", {**VALUES, **others})
    with pytest.raises(Failure, match=rf"\.env\.staging: {key} is '.*', as in \.env: .* each other's {what}; give one"):
        dotenv.load(staging(project), "prod")
    with pytest.raises(Failure, match=rf"^\.env: {key} is '.*', as in \.env\.staging"):
        dotenv.load(project, "prod")


def test_a_file_of_the_projects_own_is_none_of_ours(project: Project) -> None:
    (project.root / ".env.local").write_text("API=http://localhost\n")
    assert dotenv.load(project, "prod").name == "shop"


def test_a_dry_run_writes_nothing_also_for_a_project_that_declares_variables(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "run", without_engine(shell.run))
    declares = replace(staging(project), env={"EMAIL_HOST": "plain"}, metrics=True)
    there = sorted(project.root.rglob("*"))
    assert dotenv.prepare(declares, "prod", dry_run=True, notify=silent).name == "shop-staging"
    assert sorted(project.root.rglob("*")) == there


def test_a_file_that_git_would_commit_is_not_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "run", without_engine(shell.run))
    (project.root / ".gitignore").write_text("")
    with pytest.raises(Failure, match=r"Git would commit \.env\.staging, .*: add the line /\.env\.\* to \.gitignore"):
        dotenv.prepare(staging(project), "prod", dry_run=False, notify=silent)
    assert not (project.root / ".env.staging").exists()


def test_an_environment_that_there_is_not_names_what_writes_it_or_the_hosts_of_that_name(project: Project) -> None:
    with pytest.raises(Failure, match=re.escape("no .env.staging yet: `invoke prod --env staging` writes it")):
        dotenv.load(staging(project), "prod")
    (project.root / "deploy" / "environments").mkdir(parents=True)
    (project.root / "deploy" / "environments" / "staging.yaml").touch()
    with pytest.raises(Failure, match=r"for the hosts of that environment: --on staging"):
        dotenv.load(staging(project), "prod")


@pytest.mark.parametrize("name", ["example", "Staging", "a b", "../x", "-", "a/b", "1"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Failure, match=r"^--env is '.*', but must be lower-case letters"):
        config.environment_name(name)


def test_an_example_of_the_projects_own_is_not_what_env_is_made_from(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "run", without_engine(shell.run))
    ours = (project.root / ".env.example").read_text()
    (project.root / ".env.example").write_text("DEBUG=True\nSECRET_KEY=changeme\n")
    (project.root / ".env").write_text("HTTP_PORT=8481\n")
    with pytest.raises(Failure, match=r"\.env\.example is not Portico's: copy that of a checkout .* to deploy/local"):
        dotenv.prepare(project, "prod", dry_run=False, notify=silent)
    (project.root / "deploy" / "local").mkdir(parents=True)
    (project.root / "deploy" / "local" / "env.example").write_text(ours)
    made = dotenv.prepare(project, "prod", dry_run=False, notify=silent)
    assert (made.name, made.env.http_port) == ("shop", 8481)
