"""Stacks on a real engine: each is a copy of the project with its own names and ports, removed with its data."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.core.shell import Result, Run, run
from tests import support
from tests.rig.engine import accept, docker, engine_or_skip
from tests.rig.ports import free_port
from tests.rig.visitor import ADMIN


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all tests of this suite, with the reason, if there is no engine."""
    engine_or_skip([item for item in items if item.path.is_relative_to(Path(__file__).parent)])


#: The value of two variables that the project declares: one plain, one secret.
OWN = "a$b$$c{d}#e \"f' "


@dataclass
class Stack:
    """A copy of the project, and its running containers."""

    project: Path
    name: str
    kind: str
    port: int
    https_port: int
    #: What its commands have said.
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> Path:
        return self.project / ".env"

    def invoke(self, *words: str, env: dict[str, str] | None = None) -> Result:
        result = support.invoke(self.project, *words, env=env)
        self.said.append(result.stdout + result.stderr)
        return result

    def must(self, *words: str) -> Result:
        result = self.invoke(*words)
        assert result.code == 0, result.stdout + result.stderr
        return result

    def containers(self, service: str = "") -> list[str]:
        """The names of the running containers."""
        only = [f"--filter=label=com.docker.compose.service={service}"] if service else []
        own = f"--filter=label=com.docker.compose.project={self.name}"
        return sorted(docker("ps", own, *only, "--format={{.Names}}").split())

    def inspect(self, container: str) -> dict[str, object]:
        found = json.loads(docker("inspect", container))[0]
        assert isinstance(found, dict)
        return found

    def pid(self, container: str) -> int:
        """The process id, on this machine, of a container's first process."""
        return int(docker("inspect", "-f", "{{.State.Pid}}", container))

    def manage(self, *words: str, env: dict[str, str] | None = None) -> str:
        more = [word for name, value in (env or {}).items() for word in ("-e", f"{name}={value}")]
        return docker("exec", *more, self.containers("app")[0], "python", "manage.py", *words)

    def shell(self, code: str) -> str:
        return self.manage("shell", "-v0", "-c", code).strip()

    def set_env(self, **values: str) -> None:
        """Set or, when empty, unset keys of `.env`."""
        lines = [line for line in self.env.read_text().splitlines() if line.partition("=")[0] not in values]
        self.env.write_text("\n".join([*lines, *(f"{k}={v}" for k, v in values.items() if v)]) + "\n")

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.project / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def accept(self, url: str = "", ca: str = "") -> None:
        """Run the acceptance suite; it must pass."""
        accept(url or self.url, ca)

    def fill(self) -> None:
        """Create sample polls and an administrator."""
        name, password = ADMIN.split(":")
        self.manage("load_sample_polls")
        more = {"DJANGO_SUPERUSER_PASSWORD": password}
        self.manage("createsuperuser", "--noinput", "--username", name, "--email", "a@example.org", env=more)


def new_stack(folder: Path, kind: str) -> Stack:
    """A copy of the project with a `.env` that has free ports."""
    project = support.copy_project(folder / "project")
    (project / ".venvs").symlink_to(support.ROOT / ".venvs")
    run(Run(["git", "-C", str(project), "init", "-q"]))
    with (project / "invoke.yaml").open("a") as file:
        file.write("  env: {OWN_PLACE: plain, OWN_TOKEN: secret}\n  services: {redis: {}}\n")
    name = f"test{secrets.token_hex(3)}"
    from deploy.docker import env as server_env

    text = server_env.fresh((project / ".env.example").read_text(), stack=name, development=kind == "dev")
    os.umask(0o022)
    (project / ".env").write_text(text)
    (project / ".env").chmod(0o600)
    stack = Stack(project, name if kind == "prod" else f"{name}-dev", kind, free_port(), free_port())
    ports = {"HTTP_PORT": stack.port, "HTTPS_PORT": stack.https_port, "PORT": stack.port}
    stack.set_env(**{key: str(value) for key, value in ports.items()})
    # Every byte that a shell, Compose, YAML or dotenv might read as something else.
    stack.set_env(**dict.fromkeys(("OWN_PLACE", "OWN_TOKEN"), f"'{OWN}'".replace("f'", "f\\'")))
    stack.set_env(POSTGRES_PORT=str(free_port()), RABBITMQ_PORT=str(free_port()))
    return stack


def remove(stack: Stack) -> None:
    """Remove the stack with its data and images."""
    stack.must("down", "--volumes", "--yes", "--stack", stack.kind)
    image = stack.name
    tags = [f"{image}:{tag}" for tag in docker("image", "ls", image, "--format={{.Tag}}").split()]
    if tags:
        docker("rmi", "-f", *tags, check=False)


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A production stack with two app replicas, sample polls and an administrator."""
    stack = new_stack(tmp_path_factory.mktemp("prod"), "prod")
    try:
        stack.must("prod", "--detach")
        stack.fill()
        yield stack
    finally:
        remove(stack)
