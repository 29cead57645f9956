"""The definitions with which long-running services (datastores, nginx) were started, and which have changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from deploy.core import shell
from deploy.core.shell import WriteSecret
from deploy.docker import accounts
from deploy.docker.mounted import Mounted
from deploy.docker.stack import Stack, secret_texts
from deploy.project import limits

#: The file in which they are recorded.
DEFINITIONS = "definitions.json"


def definitions(stack: Stack) -> dict[str, str]:
    """A hash of the definition of each service that is not replaced by each release, from the files and `.env`."""
    said = shell.run(stack.compose("config", "--hash", ",".join((*stack.datastores, "nginx"))), capture=True).stdout
    return {service: value for service, _, value in (line.partition(" ") for line in said.splitlines())}


def changed(stack: Stack, now: Mapping[str, str]) -> list[str]:
    """The services whose definition has changed since they were started; ``now`` is what `definitions` says.

    The hash in the container's label cannot be used: Compose computes a different one when it starts a service alone.
    """
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    return [service for service, value in now.items() if recorded.get(service, value) != value]


def record(stack: Stack, services: Sequence[str], now: Mapping[str, str]) -> None:
    """Record the definitions with which these services were started; ``now`` is what `definitions` says."""
    path = stack.secrets / DEFINITIONS
    recorded = json.loads(path.read_text()) if path.exists() else {}
    recorded.update({service: now[service] for service in services if service in now})
    shell.perform([WriteSecret(path, json.dumps(recorded))])


def bring_accounts(stack: Stack, before: Mounted) -> None:
    """Give a broker that runs the accounts that are new in this release: it reads them itself when it starts."""
    name = accounts.DEFINITIONS
    if "rabbitmq" in stack.datastores and before.secrets.get(name) != (text := secret_texts(stack)[name]):
        command = stack.compose("exec", "-T", "rabbitmq", "sh", "-c", accounts.IMPORT)
        shell.run(replace(command, input=text, secret=True, seconds=limits.HEALTHY), capture=True)
