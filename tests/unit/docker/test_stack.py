"""The stack that `.env` and the compose files describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deploy.core.errors import Failure
from deploy.docker import dotenv
from deploy.project.config import Project
from tests.support import ROOT
from tests.unit.examples import NAMES
from tests.unit.stacks import VALUES, stack

# --- command lists ---


def test_compose_is_told_what_env_says_and_not_what_a_shell_has() -> None:
    command = stack(HTTP_PORT="8080").compose("ps")
    assert list(command.argv) == [
        *["docker", "compose", "--env-file", "/dev/null"],
        *["-f", "deploy/compose/base.yaml", "-f", "deploy/compose/prod.yaml", "-f", "deploy/compose/backup.yaml", "ps"],
    ]
    assert command.env["HTTP_PORT"] == "8080"
    assert command.env["APP_REPLICAS"] == ""
    names = set(re.findall(r"\$\{([A-Z_]+)", "".join(p.read_text() for p in (ROOT / "deploy/compose").glob("*.yaml"))))
    assert names <= set(command.env), "a variable of the files that .env cannot decide"


# --- the files ---


@pytest.mark.parametrize("name", ["base", "dev", "prod", "backup"])
def test_no_service_has_a_fixed_name_a_public_datastore_or_a_password(name: str) -> None:
    text = (ROOT / "deploy" / "compose" / f"{name}.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert "container_name" not in text
    assert "privileged" not in text
    for service, spec in services.items():
        for key, value in spec.get("environment", {}).items():
            assert "PASSWORD" not in key or key.endswith("_FILE"), (service, key, value)
        if service != "nginx":
            assert all(str(port).startswith("127.0.0.1:") for port in spec.get("ports", []))


def test_the_context_of_a_build_is_an_allow_list() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!requirements/*.txt", "!requirements/wheels/*.whl"]


def test_servers_of_ones_own_are_refused_only_where_compose_in_production_starts(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{key}={value}\n" for key, value in VALUES.items()) + "DATABASE_URL=postgres://u:p@db/x\n")
    path.chmod(0o600)
    project = Project(tmp_path, "shop", NAMES, 8000, "", ".run", ("/readyz",), 3)
    with pytest.raises(Failure, match=r"are for the swarm.* remove them from \.env"):
        dotenv.require_own_servers(dotenv.load(project, "prod"))
    assert dotenv.load(project, "swarm").env.database_url
    development = dotenv.load(project, "dev")
    dotenv.require_own_servers(development)
    assert "@postgres:5432/" in development.env.secret_files()["database_url"], "not production's"
