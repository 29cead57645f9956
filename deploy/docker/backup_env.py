"""What `.env` says of backups: where they go, what opens them, how many stay."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.core.errors import Failure
from deploy.docker.env import ServerEnv
from deploy.project import backups, sources
from deploy.project.backups import Keep

#: The keys whose values are secrets, by the secret file that a container gets. The others are variables of restic's.
FILES = {
    "BACKUP_PASSWORD": "backup_password",
    "BACKUP_SSH_KEY": "backup_ssh_key",
    "BACKUP_SSH_KNOWN_HOSTS": "backup_ssh_known_hosts",
}
#: The file with the variables of restic's, as lines of shell.
VARIABLES = "backup_variables"
#: Characters of a password at least: whoever reads the repository may try as many as he likes.
SHORTEST = 16
#: The command that adds a password to an `.env` of an earlier version.
_ADD = "python3 -c 'import secrets; print(\"BACKUP_PASSWORD=\" + secrets.token_urlsafe(24))' >>"


@dataclass(frozen=True)
class Settings:
    """Where backups go, and how many stay. The secrets are as in `.env`: they may name where they come from."""

    repository: str
    keep: Keep
    said: Mapping[str, str] = field(repr=False)
    #: The file's name, for messages.
    file: str = ".env"

    @property
    def folder(self) -> str:
        """The folder of this machine that is the repository; empty for one elsewhere."""
        return self.repository if self.repository.startswith("/") else ""


def settings(env: ServerEnv, file: str = ".env") -> Settings:
    """What the ``file`` says. Raises `Failure` naming what is missing."""
    if not env.backup_repository:
        raise Failure(
            f"{file}: BACKUP_REPOSITORY is missing: set it to where backups go, such as /srv/backups/shop or"
            " sftp:user@host:/folder; .env.example explains it"
        )
    if env.backup_password is None:
        raise Failure(f"{file}: BACKUP_PASSWORD is missing, which encrypts the backups: `{_ADD}{file}` adds one")
    if env.backup_repository.startswith("sftp:") and not (env.backup_ssh_key and env.backup_ssh_known_hosts):
        raise Failure(
            f"{file}: BACKUP_REPOSITORY is reached by sftp, which needs BACKUP_SSH_KEY and BACKUP_SSH_KNOWN_HOSTS;"
            " .env.example explains them"
        )
    keep = Keep.parse(env.backup_keep, f"{file}: BACKUP_KEEP") if env.backup_keep else Keep()
    given = {name.upper(): getattr(env, name) for name in ServerEnv.model_fields if name.startswith("backup_")}
    said = {
        name: value.get_secret_value()
        for name, value in given.items()
        if value and name not in ("BACKUP_REPOSITORY", "BACKUP_KEEP")
    }
    return Settings(backups.repository(env.backup_repository, f"{file}: BACKUP_REPOSITORY"), keep, said, file)


def secret_texts(found: Settings, root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The secret files of the container that runs restic, by name; empty for what is not set.

    Raises `Failure` for a secret whose source does not give it, and for a short password.
    """
    values = {name: _fetched(found.file, name, value, root, environ) for name, value in found.said.items()}
    if len(values["BACKUP_PASSWORD"]) < SHORTEST:
        raise Failure(f"{found.file}: BACKUP_PASSWORD is too short: at least {SHORTEST} characters")
    lines = [
        f"export {name.removeprefix('BACKUP_')}={shlex.quote(value)}\n"
        for name, value in sorted(values.items())
        if name not in FILES
    ]
    files = {file: f"{values[name]}\n" if name in values else "" for name, file in FILES.items()}
    return {**files, VARIABLES: "".join(lines)}


def _fetched(file: str, name: str, value: str, root: Path, environ: Mapping[str, str]) -> str:
    try:
        source = sources.named(value)
        return sources.fetch(source, root, environ) if source else value
    except ValueError as error:
        raise Failure(f"{file}: {name}: {error}") from None
    except Failure as failure:
        raise Failure(f"{file}: {name}: {source}: {failure.message}") from None
