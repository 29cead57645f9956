"""Each mistake ends in one line that says what to do, and leaves nothing half done."""

import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.support import invoke, one_line

REAL = next(Path(folder, "docker") for folder in os.environ["PATH"].split(":") if Path(folder, "docker").exists())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = support.copy_project(tmp_path / "project")
    (folder / ".venvs").symlink_to(support.ROOT / ".venvs")
    subprocess.run(["git", "-C", str(folder), "init", "-q"], check=True)
    yield folder
    assert not docker("ps", "-aq", "--filter", "label=com.docker.compose.project=mistakes").strip()


def with_env(project: Path, **values: str) -> None:
    """Write a `.env` for a separate stack, with these values."""
    from deploy.docker import env as server_env

    text = server_env.fresh((project / ".env.example").read_text(), stack="mistakes", development=False)
    lines = [line for line in text.splitlines() if line.partition("=")[0] not in values]
    (project / ".env").write_text("\n".join([*lines, *(f"{k}={v}" for k, v in values.items())]) + "\n")
    (project / ".env").chmod(0o600)


def only(folder: Path, **programs: str) -> str:
    """A PATH on which `docker` is the given script, or missing."""
    folder.mkdir()
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("python3", "env", "timeout", "git", "sh"):
        found = next(Path(p, name) for p in os.environ["PATH"].split(":") if Path(p, name).exists())
        (folder / name).symlink_to(found)
    return str(folder)


def test_no_docker_command(project: Path, tmp_path: Path) -> None:
    line = one_line(invoke(project, "prod", env={"PATH": only(tmp_path / "bin")}))
    assert line.startswith("docker: not found on this machine: sudo apt install docker.io docker-compose")


def test_no_engine_that_answers(project: Path) -> None:
    line = one_line(invoke(project, "prod", env={"DOCKER_HOST": f"unix://{project}/none.sock"}))
    assert "no container engine answers" in line
    assert "systemctl start docker" in line


def test_an_engine_without_compose(project: Path, tmp_path: Path) -> None:
    old = f'#!/bin/sh\nif [ "$1" = compose ]; then echo "unknown command: compose" >&2; exit 1; fi\nexec {REAL} "$@"\n'
    path = only(tmp_path / "bin", docker=old)
    line = one_line(invoke(project, "prod", env={"PATH": path}))
    assert line.startswith("this docker has no Compose v2 (`docker compose`): sudo apt install docker-compose")
    assert (
        "Running natively: this docker has no Compose v2"
        in invoke(project, "dev", "--dry-run", env={"PATH": path}).stderr
    )


def test_port_80_taken_when_there_is_no_env_yet(project: Path) -> None:
    """`.env` is written, readable only by its owner, and the line then refers to it."""
    with socket.socket() as taken:
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("0.0.0.0", 80))
            taken.listen()
        except OSError as error:
            if error.errno == errno.EACCES:
                pytest.skip("port 80 needs root")
        result = invoke(project, "prod", "--detach", env={"INVOKE_PROJECT_NAME": "mistakes"})
    assert one_line(result) == "port 80 is in use by another program: stop it, or set HTTP_PORT in .env"
    assert "with random secrets, readable only by you" in result.stderr
    assert (project / ".env").stat().st_mode & 0o777 == 0o600
    assert not (project / ".secrets").exists()


def test_a_disk_nearly_full(project: Path) -> None:
    """The real disk, and a demand that it cannot meet."""
    line = one_line(invoke(project, "prod", env={"INVOKE_PROJECT_FREE_GIGABYTES": "999999"}))
    assert "GB free, but building an image needs 999999" in line
    assert not (project / ".env").exists()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("HTTP_PORT", "eighty", ".env: HTTP_PORT is 'eighty': "),
        ("HTTPS_PORT", "70000", ".env: HTTPS_PORT is '70000': "),
        ("ALLOWED_HOSTS", "*", ".env: ALLOWED_HOSTS is '*': '*' is not a host name; name each host"),
        ("TRUSTED_PROXIES", "10.0.0.0/40", ".env: TRUSTED_PROXIES is '10.0.0.0/40': "),
        ("POSTGRES_PASSWORD", "short", ".env: POSTGRES_PASSWORD is too short: at least 16 characters"),
        ("HTTP_PROT", "80", ".env: HTTP_PROT is not a known key; declare a variable of the project's own under "),
        ("TLS_KEY", "/k.pem", ".env: TLS_CERTIFICATE and TLS_KEY belong together"),
        ("APP_REPLICAS", "0", ".env: APP_REPLICAS is '0': "),
    ],
)
def test_a_wrong_value_in_env(project: Path, key: str, value: str, words: str) -> None:
    with_env(project, **{key: value})
    result = invoke(project, "prod", "--detach")
    assert one_line(result).startswith(words)
    assert key != "POSTGRES_PASSWORD" or f" {value!r}" not in result.stderr


def test_every_wrong_value_is_named_at_once(project: Path) -> None:
    with_env(project, HTTP_PORT="x", WEB_CONCURRENCY="-1", STACK="No Such")
    said = invoke(project, "prod", "--detach").stderr
    assert all(f".env: {key}" in said for key in ("HTTP_PORT", "WEB_CONCURRENCY", "STACK"))


def test_an_env_that_others_can_read(project: Path) -> None:
    with_env(project)
    (project / ".env").chmod(0o644)
    assert ".env holds secrets, but others may read it: chmod 600" in one_line(invoke(project, "prod"))


def test_a_lost_env_beside_data_that_was_made_with_it(project: Path) -> None:
    docker("volume", "create", "mistakes_postgres")
    try:
        line = one_line(invoke(project, "prod", env={"INVOKE_PROJECT_NAME": "mistakes"}))
    finally:
        docker("volume", "rm", "mistakes_postgres")
    assert "the volume mistakes_postgres has a database created with the password of an earlier .env" in line
    assert not (project / ".env").exists()


def test_the_data_of_another_postgresql_is_not_given_to_a_server_that_cannot_read_it(project: Path) -> None:
    with_env(project, HTTP_PORT=str(free_port()), HTTPS_PORT=str(free_port()))
    image = re.findall(r"image: (postgres:\S+)", (project / "deploy/compose/base.yaml").read_text())[0]
    write = ["--entrypoint", "sh", image, "-c", "echo 9 >/data/PG_VERSION"]
    docker("run", "--rm", "-v", "mistakes_postgres:/data", *write)
    try:
        line = one_line(invoke(project, "prod", "--detach"))
        kept = docker("run", "--rm", "-v", "mistakes_postgres:/data", "--entrypoint", "ls", image, "/data").split()
    finally:
        docker("volume", "rm", "mistakes_postgres")
    assert line.startswith(f"{image} does not read the data of PostgreSQL 9 in the volume mistakes_postgres: ")
    assert kept == ["PG_VERSION"]


@pytest.mark.parametrize("command", [["status"], ["logs"], ["down"], ["scale", "--service", "app", "--replicas", "2"]])
def test_a_command_on_a_stack_that_does_not_run(project: Path, command: list[str]) -> None:
    with_env(project)
    line = one_line(invoke(project, *command))
    assert "of this project runs here: `invoke dev` or `invoke prod` starts" in line


def test_a_certificate_that_is_not_there(project: Path) -> None:
    with_env(project, TLS_CERTIFICATE="/none.crt", TLS_KEY="/none.key")
    assert ".env: /none.crt: there is no such file" in one_line(invoke(project, "prod"))


def test_a_build_that_fails_says_why_and_its_log_has_the_command(project: Path) -> None:
    with_env(project, HTTP_PORT=str(free_port()), HTTPS_PORT=str(free_port()))
    settings = project / "site" / "mysite" / "settings" / "production.py"
    settings.write_text("raise RuntimeError('broken settings')\n")
    result = invoke(project, "prod", "--detach")
    log = project / ".run" / "build.log"
    said = result.stderr.strip().splitlines()[-1]
    assert said == f"the image was not built: RuntimeError: broken settings; the full output is in {log}"
    assert log.read_text().startswith("$ docker buildx build")
    assert "broken settings" in log.read_text()
