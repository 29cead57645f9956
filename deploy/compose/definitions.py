"""With which definitions the services were started that outlive a release, and which of them have changed since."""

from __future__ import annotations

import json
from collections.abc import Sequence

from deploy.core import shell
from deploy.core.shell import WriteSecret
from deploy.docker.stack import DATASTORES, Stack

#: Where it is remembered.
DEFINITIONS = "definitions.json"


def definitions(stack: Stack) -> dict[str, str]:
    """A hash of what the files and `.env` say of each service that is not replaced by each release."""
    said = shell.run(stack.compose("config", "--hash", ",".join((*DATASTORES, "nginx"))), capture=True).stdout
    return {service: value for service, _, value in (line.partition(" ") for line in said.splitlines())}


def changed(stack: Stack) -> list[str]:
    """The services whose definition is another than when they were started.

    The engine's own record does not tell: Compose computes another one when it starts a service without the others.
    """
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    return [service for service, value in definitions(stack).items() if recorded.get(service, value) != value]


def record(stack: Stack, services: Sequence[str]) -> None:
    """Remember the definitions with which these services were started."""
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    now = definitions(stack)
    recorded.update({service: now[service] for service in services if service in now})
    shell.perform([WriteSecret(path, json.dumps(recorded))])
