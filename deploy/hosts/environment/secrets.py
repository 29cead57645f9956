"""Read the secrets of an environment from the sources that its file names."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment
from deploy.project.sources import Runner, Source, captured, fetch
from deploy.project.values import SERVICE_VARIABLES, problem


def read_secrets(environment: Environment, environ: Mapping[str, str], run: Runner = captured) -> dict[str, SecretStr]:
    """The secrets by the site's variable names, including the URLs of external services.

    ``run`` runs a command and captures its output. Raises `Failure` with a line for each secret that cannot be read,
    naming key and source; it never shows what a command printed.
    """
    wanted: list[tuple[str, str, Source | SecretStr]] = [
        (f"secrets.{name}", name, source) for name, source in environment.secrets.items()
    ]
    for kind, variable in SERVICE_VARIABLES.items():
        if source := getattr(environment.services, kind):
            wanted.append((f"services.{kind}", variable, source))
    values, failures = {}, []
    for key, name, source in wanted:
        if isinstance(source, SecretStr):
            values[name] = source
            continue
        try:
            values[name] = SecretStr(_fitting(name, fetch(source, environment.root, environ, run)))
        except Failure as failure:
            failures.append(f"{environment.source}: {key}: {source}: {failure.message}")
    if failures:
        raise Failure("\n".join(failures))
    return values


def read_secret(
    environment: Environment, key: str, name: str, source: Source, *, environ: Mapping[str, str]
) -> SecretStr:
    """One secret, by its key in the file and the site's variable. Raises `Failure` as `read_secrets` does."""
    try:
        return SecretStr(_fitting(name, fetch(source, environment.root, environ)))
    except Failure as failure:
        raise Failure(f"{environment.source}: {key}: {source}: {failure.message}") from None


def read_backup(environment: Environment, environ: Mapping[str, str], run: Runner = captured) -> dict[str, SecretStr]:
    """What restic reads that is secret, by name; empty without backups. Raises `Failure` as `read_secrets` does."""
    if not (backup := environment.backup):
        return {}
    wanted = {"RESTIC_PASSWORD": ("backup.password", backup.password)}
    wanted |= {name: (f"backup.variables.{name}", source) for name, source in backup.variables.items()}
    found, failures = {}, []
    for name, (key, source) in wanted.items():
        try:
            value = fetch(source, environment.root, environ, run)
            if not value or "\n" in value:
                raise Failure("must be one line of text")
            found[name] = SecretStr(value)
        except Failure as failure:
            failures.append(f"{environment.source}: {key}: {source}: {failure.message}")
    if failures:
        raise Failure("\n".join(failures))
    return found


def _fitting(name: str, value: str) -> str:
    if said := problem(name, value):
        raise Failure(said)
    return value
