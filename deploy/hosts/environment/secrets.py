"""Read the secrets of an environment from the sources that its file names."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.hosts.environment.model import Environment
from deploy.hosts.environment.values import SCHEMES, Source, url_problem

Runner = Callable[[shell.Run], shell.Result]
#: The variables from which the site reads the URLs of its services.
SERVICE_VARIABLES = {"database": "DATABASE_URL", "broker": "CELERY_BROKER_URL"}
#: Characters; the site's production settings refuse a shorter SECRET_KEY.
SECRET_KEY_LENGTH = 50


def _captured(command: shell.Run) -> shell.Result:
    return shell.run(command, capture=True, check=False)


def read_secrets(environment: Environment, environ: Mapping[str, str], run: Runner = _captured) -> dict[str, SecretStr]:
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
            values[name] = SecretStr(_fitting(name, _value(source, environment.root, environ, run)))
        except Failure as failure:
            failures.append(f"{environment.source}: {key}: {source}: {failure.message}")
    if failures:
        raise Failure("\n".join(failures))
    return values


def _value(source: Source, root: Path, environ: Mapping[str, str], run: Runner) -> str:
    if source.kind == "env":
        if source.words[0] not in environ:
            raise Failure("is not set in this shell; export it")
        return environ[source.words[0]]
    # A file and a command's output usually end with a line break, which is not part of the secret. A space may be.
    if source.kind == "file":
        return _file_text(root, source.words[0]).rstrip("\r\n")
    result = run(shell.Run(source.words, cwd=root))
    if shell.UNREADABLE in result.stdout:
        raise Failure("its output is not text")
    if result.code:
        said = shell.last_line(result.stderr)
        raise Failure(f"failed with exit code {result.code}{': ' + said if said else ''}")
    return result.stdout.rstrip("\r\n")


def _file_text(root: Path, name: str) -> str:
    try:
        path = root / Path(name).expanduser()
        if path.stat().st_mode & 0o077:
            raise Failure(f"others may read it: chmod 600 {shlex.quote(str(path))}")
        return path.read_text()
    except OSError as error:
        raise Failure(f"{error.strerror}; put it there, or fix the path") from None
    except UnicodeDecodeError:
        raise Failure("is not a text file") from None
    except RuntimeError:
        raise Failure("begins with the ~ of an unknown user; fix the path") from None


def _fitting(name: str, value: str) -> str:
    if not value.strip():
        raise Failure("is empty; give it a value")
    if name == "SECRET_KEY" and (len(value) < SECRET_KEY_LENGTH or value.startswith(("insecure-", "django-insecure-"))):
        raise Failure(
            "is too short or a default; make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    for kind, variable in SERVICE_VARIABLES.items():
        if name == variable and (said := url_problem(value, SCHEMES[kind])):
            raise Failure(said)
    return value
