"""The file `.env` of this machine, and `.env.NAME` of each environment beside it: read, written once, kept apart."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from deploy.core import shell
from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run, WriteSecret
from deploy.docker import env as server_env
from deploy.docker.stack import DEV, SWARM, Stack, stack_of
from deploy.project import env_file
from deploy.project.config import Project
from deploy.project.names import EXAMPLE, OWN_EXAMPLE

#: The ports of a new environment beside the usual one, which has 80 and 443.
BESIDE = {"HTTP_PORT": 8080, "HTTPS_PORT": 8443}
#: What two environments must not share: containers, volumes and networks have the one name, images the other.
OWN = ("STACK", "IMAGE")


def load(project: Project, kind: str) -> Stack:
    """The stack that the file describes. Raises `Failure` if there is none, and for invalid values."""
    path = project.env_path
    if not server_env.exists(path):
        if (project.root / "deploy" / "environments" / f"{project.environment}.yaml").exists():
            name = project.environment
            raise Failure(f"--env {name}: there is no {path.name}; for the hosts of that environment: --on {name}")
        command = "swarm-init" if kind == SWARM else kind
        raise Failure(f"there is no {path.name} yet: `invoke {command}{project.option}` writes it")
    stack = stack_of(project, kind, server_env.load(path, project.env))
    require_apart(stack)
    return stack


def require_apart(stack: Stack) -> None:
    """Raise `Failure` if another environment of this folder has the same containers, or the same images."""
    mine = dict(zip(OWN, (stack.env.stack, stack.env.image), strict=True))
    for name, theirs in _others(stack.project):
        for key, value in mine.items():
            if theirs.get(key) == value:
                file = stack.project.env_path.name
                raise Failure(
                    f"{file}: {key} is {value!r}, as in {name}: the two would replace each other's"
                    f" {'containers and data' if key == 'STACK' else 'images'}; give one of them a name of its own"
                )


def _others(project: Project) -> Iterator[tuple[str, dict[str, str]]]:
    """The other files of this folder that are Portico's, with these two of their values."""
    for path in sorted(project.root.glob(".env*")):
        known = path.name == ".env" or re.fullmatch(r"\.env\.[a-z][a-z0-9-]*", path.name)
        if path != project.env_path and known and path.name != ".env.example" and path.is_file():
            values = env_file.load(path)
            yield path.name, {key: values.get(key) or "" for key in OWN}


def require_own_servers(stack: Stack) -> None:
    """Raise `Failure` if the file names external servers, which compose does not use in production."""
    if stack.env.database_url or stack.env.celery_broker_url:
        file = stack.project.env_path.name
        raise Failure(
            f"{file}: DATABASE_URL and CELERY_BROKER_URL are for the swarm only, because compose runs its own servers:"
            f" remove them from {file}, or deploy with `invoke swarm-deploy{stack.project.option}`"
        )


def prepare(project: Project, kind: str, *, dry_run: bool, notify: Notify) -> Stack:
    """The stack that the file describes. A missing one is written first, with random secrets."""
    path = project.env_path
    text = _fresh(project, kind)
    if server_env.exists(path):
        more = server_env.lacking(server_env.text_of(path), text)
        if not more and project.redis and "REDIS_PASSWORD" not in (known := server_env.text_of(path)):
            line = f"REDIS_PASSWORD={secrets.token_hex(24)}\n"
            text = known + ("" if known.endswith("\n") else "\n") + line
            notify(f"{path}: {'would add' if dry_run else 'added'} REDIS_PASSWORD, for project.services.redis")
            shell.perform([WriteSecret(path, text)], dry_run=dry_run)
            return stack_of(project, kind, server_env.read(text, path.name, project.env), dry_run=dry_run)
        if not more:
            return load(project, kind)
        notify(f"{path} is the project's own: {'would add' if dry_run else 'added'} the keys of .env.example")
        text = server_env.text_of(path) + more
        shell.perform([WriteSecret(path, text)], dry_run=dry_run)
        return stack_of(project, kind, server_env.read(text, path.name, project.env), dry_run=dry_run)
    require_ignored(project)
    stack = stack_of(project, kind, server_env.read(text, path.name, project.env), dry_run=dry_run)
    require_apart(stack)
    orphan = f"{stack.name}_postgres"
    if (
        kind != SWARM
        and not dry_run
        and shell.run(Run(["docker", "volume", "inspect", orphan]), capture=True, check=False).code == 0
    ):
        raise Failure(
            f"there is no {path.name}, but the volume {orphan} has a database created with the password of an earlier"
            f" {path.name}: restore that file, or delete the data with"
            f" `docker volume rm {orphan} {stack.name}_rabbitmq`"
        )
    shell.perform([WriteSecret(path, text)], dry_run=dry_run)
    wrote = "would write" if dry_run else "wrote"
    notify(f"{wrote} {path} with random secrets, readable only by you; back it up together with the data")
    return stack


def _fresh(project: Project, kind: str) -> str:
    """The text of a new file. An environment beside the usual one has a name, images and ports of its own."""
    example = _example(project.root)
    name = "-".join(filter(None, (project.name, project.environment)))
    text = server_env.fresh(example, stack=name, development=kind == DEV, celery=bool(project.names.celery))
    if project.environment:
        for key, port in BESIDE.items():
            text = re.sub(rf"^#?{key}=.*$", f"{key}={port}", text, flags=re.MULTILINE)
    return text


def _example(root: Path) -> str:
    """The text of Portico's example: one without its keys is the project's own."""
    for name in (EXAMPLE, OWN_EXAMPLE):
        text = texts.read(root / name) if (root / name).is_file() else ""
        if re.search(r"^STACK=", text, re.MULTILINE):
            return text
    raise Failure(f"{EXAMPLE} is not Portico's: copy that of a checkout of Portico to {OWN_EXAMPLE}")


def require_ignored(project: Project) -> None:
    """Raise `Failure` if Git would take the file, which has secrets, into a commit."""
    if not project.environment:
        return
    name = project.env_path.name
    asked = shell.run(Run(["git", "check-ignore", "-q", name], cwd=project.root), capture=True, check=False)
    if asked.code == 1:  # 128: no repository, or no Git
        raise Failure(f"Git would commit {name}, which has secrets: add the line /.env.* to .gitignore")
