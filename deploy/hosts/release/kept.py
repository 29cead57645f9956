"""The secrets of the releases that hosts keep: compared by digests, and changed in all of them.

`hosts/rekey.py` does it on each host.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from deploy.core.errors import Failure
from deploy.hosts import rekey
from deploy.hosts.environment.model import Environment, Host
from deploy.hosts.release.phases import Operation
from deploy.hosts.ssh.channel import run_script, script
from deploy.hosts.ssh.connect import Connection
from deploy.project.values import SERVICE_VARIABLES

#: Digests by release and variable, of a host.
Digests = Mapping[str, Mapping[str, str]]
_SECONDS = 200


def secret_names(environment: Environment) -> list[str]:
    """The variables with secrets in a release's environment. Pure."""
    elsewhere = [variable for kind, variable in SERVICE_VARIABLES.items() if getattr(environment.services, kind)]
    return [*environment.secrets, *elsewhere]


def new_salt() -> str:
    """A salt, so that a digest is of no use later."""
    return secrets.token_hex(16)


def look(operation: Operation, names: Collection[str], salt: str) -> dict[str, Digests]:
    """The digests of variables in all releases, by host. Raises `Failure` naming the hosts that cannot tell."""
    said = _ask(operation, {"verb": "look", "names": " ".join(names), "salt": salt})
    return {name: json.loads(text) for name, text in said.items()}


def change(operation: Operation, verb: str, name: str, value: str = "") -> None:
    """Change a variable in all releases of all hosts; `back` or `done` must follow. Raises `Failure`."""
    _ask(operation, {"verb": verb, "name": name, "value": value})


def back(operation: Operation) -> None:
    """Bring back what the environments were before `change`. Raises `Failure`."""
    _ask(operation, {"verb": "back"})


def done(operation: Operation) -> None:
    """Remove what `back` needs. Raises `Failure`."""
    _ask(operation, {"verb": "done"})


def _ask(operation: Operation, request: Mapping[str, str]) -> dict[str, str]:
    program = base64.b64encode(Path(rekey.__file__).read_bytes())
    data = program + b"\n" + json.dumps(dict(request)).encode()

    def ask(connection: Connection) -> str:
        result = run_script(connection, script("rekey.sh"), data, seconds=_SECONDS)
        if result.code:
            raise Failure(f"{connection.name}: the secrets of its releases cannot be changed: {result.last_line}")
        return result.text

    return operation.everywhere(ask)


def has(digests: Digests, release: str, name: str, expected: str) -> bool:
    """Whether a release has the value with this digest. Pure."""
    return digests.get(release, {}).get(name) == expected


def differing(
    found: Mapping[str, Digests], current: Mapping[str, str], chosen: str, hosts: Sequence[Host]
) -> list[str]:
    """The variables that have another value in a release than in the one that serves, a line for each host. Pure."""
    lines = []
    for host in hosts:
        digests = found.get(host.name, {})
        now, then = digests.get(current[host.name], {}), digests.get(chosen, {})
        if names := sorted(name for name in {*now, *then} if now.get(name) != then.get(name)):
            lines.append(f"{host.name}: {chosen} has another {', another '.join(names)} than what serves now")
    return lines
