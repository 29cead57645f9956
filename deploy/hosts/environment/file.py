"""An environment file, `deploy/environments/NAME.yaml`: validated as a whole, before anything connects.

The models and `parse` decide; `load` reads the file and checks the local files that it names.
`deploy/environments/example.yaml` explains each key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.hosts.environment import yaml_lines
from deploy.hosts.environment.model import (
    EXAMPLE,
    FOLDER,
    Backup,
    Environment,
    EnvironmentFile,
    Hooks,
    Host,
    HostEntry,
    PerHost,
    Services,
    Shared,
    known_environments,
)
from deploy.hosts.environment.tls import Acme, Tls
from deploy.hosts.environment.yaml_lines import Place, Problem, Problems
from deploy.project import certificate
from deploy.project.config import Project
from deploy.project.services import Redis

# --- Some of the hosts ---


def chosen(only: str, hosts: Sequence[Host], what: str) -> tuple[Host, ...]:
    """The hosts in a comma-separated list; all hosts if it is empty.

    Raises `Failure` for an unknown name; ``what`` says in the message to what the hosts belong.
    """
    there = [host.name for host in hosts]
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in there:
            raise Failure(f"--only {name}: no host of {what} has that name; there are: {', '.join(there)}")
    return tuple(host for host in hosts if not names or host.name in names)


# --- From a file to an environment ---


def parse(text: str, name: str, root: Path, *, celery: bool = True, redis: Redis | None = None) -> Environment:
    """The environment that a file's text describes; paths in it are relative to ``root``.

    Without ``celery``, no host may be for workers, beat or a broker. ``redis``: as the project declares it.
    Raises `Failure` with a line for each error: file, line number, key and remedy, and no secret.
    """
    document = yaml_lines.read(text, f"{FOLDER}/{name}.yaml")
    try:
        said = EnvironmentFile.model_validate(document.value, context={"root": root, "celery": celery, "redis": redis})
    except ValidationError as error:
        raise document.failure(_problems(error)) from None
    if document.problems:
        raise document.failure([])
    hosts = tuple(_host(each, entry, said) for each, entry in said.hosts.items())
    return Environment.model_construct(**{**dict(said), "name": name, "root": root, "hosts": hosts})


def _host(name: str, entry: HostEntry, defaults: Shared) -> Host:
    inherited = {key: getattr(defaults, key) for key in PerHost.model_fields}
    own = {key: getattr(entry, key) for key in entry.model_fields_set}
    address = entry.address or name
    decided = {
        "name": name,
        "address": address,
        "private_address": entry.private_address or address,
        "max_memory": {**defaults.max_memory, **entry.max_memory},
    }
    return Host.model_construct(**{**inherited, **own, **decided})


def _problems(error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_url=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, Problems):
            yield from cause.found
        else:
            # Pydantic appends this to the path if the key itself is invalid.
            yield Problem(tuple(part for part in each["loc"] if part != "[key]"), str(cause or _said(each)))


def _said(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return _unknown(error["loc"])
    if error["type"] == "missing":
        return f"is missing; {EXAMPLE} explains it"
    if error["input"] == "":
        return "has no value; give it one, or remove the key"
    return {
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list, such as [a, b]",
        "dict_type": "must have keys of its own",
        "model_type": "must have keys of its own",
    }.get(error["type"], error["msg"])


def _unknown(path: Place) -> str:
    below: dict[str | int, type[BaseModel]] = {"tls": Tls, "services": Services, "hooks": Hooks, "hosts": HostEntry}
    below |= {"backup": Backup}
    known = (Acme if path[:-1] == ("tls", "acme") else below[path[0]] if path[1:] else EnvironmentFile).model_fields
    near = get_close_matches(str(path[-1]), known, n=1)
    return f"is not known; did you mean {near[0]}?" if near else f"is not known; known are: {', '.join(known)}"


def load(root: Path, name: str, *, pair: bool = False, celery: bool = True, redis: Redis | None = None) -> Environment:
    """Read and validate an environment of the project at ``root``, and check the local files that it names.

    The ``pair`` of `tls` is checked for remote-setup only: no other command needs the key on the machine it runs on.
    Raises `Failure` as `parse` does; for a name without a file, it lists the existing names.
    """
    text = _text(root, name)
    environment = parse(text, name, root, celery=celery, redis=redis)
    document = yaml_lines.read(text, environment.source)
    failures = []
    if pair and environment.tls and (files := environment.tls.pair):
        try:
            source = f"{environment.source}:{document.line(('tls',))}: tls"
            names = (environment.domain, *environment.allowed_hosts)
            certificate.check_certificate(files.certificate, files.key, source=source, names=names)
        except Failure as failure:
            failures.append(failure.message)
    missing = []
    if pair and (acme := environment.acme) and acme.ca and not acme.ca.is_file():
        missing.append(Problem(("tls", "acme", "ca"), f"{acme.ca}: there is no such file; fix the path"))
    for host in environment.hosts:
        if host.identity and not host.identity.is_file():
            own: Place = ("hosts", host.name, "identity")
            path = own if own in document else ("identity",)
            missing.append(Problem(path, f"{host.identity}: there is no such file; fix the path"))
    if missing:
        failures.append(document.failure(missing).message)
    if failures:
        raise Failure("\n".join(failures))
    return environment


def of(project: Project, name: str, *, pair: bool = False) -> Environment:
    """An environment of a project, for the servers that it needs. Raises `Failure` as `load` does."""
    return load(project.root, name, pair=pair, celery=bool(project.names.celery), redis=project.redis)


def _text(root: Path, name: str) -> str:
    folder = root / FOLDER
    if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name) or not (folder / f"{name}.yaml").is_file():
        there = known_environments(root)
        so = f"there are: {', '.join(there)}" if there else f"there is none yet: copy {EXAMPLE}"
        raise Failure(f"{name!r} is not an environment in {FOLDER}; {so}")
    try:
        return texts.read(folder / f"{name}.yaml", f"{FOLDER}/{name}.yaml")
    except OSError as error:
        raise Failure(f"{FOLDER}/{name}.yaml:1: {error.strerror}; make it readable") from None
