"""The stack file of the work tree, rendered from Compose's output, with the configs and secrets that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker.kinds import ALONE
from deploy.docker.stack import DATASTORES, Stack, secret_texts
from deploy.project import proxy
from deploy.project.workers import is_worker
from deploy.swarm import render
from deploy.swarm.render import StackFile
from deploy.swarm.state import RELEASE, Snapshot, lost

#: Placeholder for a missing certificate: a swarm rejects an empty file.
NO_CERTIFICATE = "# no certificate\n"


# --- Desired state ---


def document(stack: Stack) -> dict[str, Any]:
    """The compose files and `.env` as one document. Raises `Failure` with Compose's error."""
    result = shell.run(stack.compose("config", "--format", "json"), capture=True, check=False)
    if result.code:
        raise Failure(f"deploy/compose: {shell.last_line(result.stderr)}")
    found: dict[str, Any] = json.loads(result.stdout)
    found = without(found, external(stack))
    return encrypted(found) if stack.env.encrypted_networks else found


def encrypted(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the networks between nodes encrypted. The option's presence counts, whatever its value."""
    networks = {
        name: _encrypted(each) if each and not each.get("external") else each
        for name, each in (document.get("networks") or {}).items()
    }
    return {**document, "networks": networks}


def _encrypted(network: Mapping[str, Any]) -> dict[str, Any]:
    return {**network, "driver_opts": {**(network.get("driver_opts") or {}), "encrypted": "true"}}


def external(stack: Stack) -> list[str]:
    """The services that the stack does not run: those that `.env` replaces with a URL, and RabbitMQ beside Redis."""
    given = {"postgres": stack.env.database_url, "rabbitmq": stack.env.celery_broker_url}
    spared = {"rabbitmq"} - set(stack.datastores)
    return [name for name, url in given.items() if url or name in spared]


def without(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The document without some of its services."""
    services = {name: each for name, each in document["services"].items() if name not in names}
    return {**document, "services": services}


def contents(stack: Stack, document: Mapping[str, Any]) -> dict[str, str]:
    """The text of each file that the document names. Raises `Failure` for one that cannot be read."""
    folder = stack.secrets
    made = {str(folder / name): text for name, text in secret_texts(stack).items()}
    made |= {str(folder / "swarm" / name): text for name, text in proxy.runtime_files(stack.front(), proxy.ALL).items()}
    pair = {"tls.crt": stack.env.tls_certificate, "tls.key": stack.env.tls_key}
    elsewhere = {str(folder / "swarm" / name): path for name, path in pair.items() if path}
    made |= {str(folder / "swarm" / name): NO_CERTIFICATE for name, path in pair.items() if not path}
    return {
        name: made[name] if name in made else read(elsewhere.get(name, Path(name)))
        for name in render.referenced(document)
    }


def read(path: Path) -> str:
    """The text of a config or secret. Raises `Failure` if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "") or "is not a text file"
        raise Failure(f"{path}: {why}; a config or secret names it") from None


def stack_file(stack: Stack, pinned: Mapping[str, str]) -> StackFile:
    """The stack file of the work tree. Raises `Failure` naming what a swarm does not support or accept."""
    found = document(stack)
    file = render.render(found, stack.name, contents(stack, found), pinned)
    checked = shell.run(Run(["docker", "stack", "config", "-c", "-"], input=file.text), capture=True, check=False)
    if checked.code:
        raise Failure(f"`docker stack config` rejects the stack file: {shell.last_line(checked.stderr)}")
    return file


def as_release(file: StackFile, number: int, replicas: Mapping[str, int]) -> StackFile:
    """The stack file with its services labelled with a release, and with the replicas of those that can be scaled."""
    services = {}
    for name, service in file.services.items():
        deploy = service.get("deploy") or {}
        deploy = {**deploy, "labels": {**(deploy.get("labels") or {}), RELEASE: str(number)}}
        if name in replicas and can_scale(name, deploy["labels"]):
            deploy["replicas"] = replicas[name]
        services[name] = {**service, "deploy": deploy}
    return replace(file, services=services)


def can_scale(service: str, labels: Mapping[str, str]) -> bool:
    """Whether a service may have any number of replicas: the app and workers, but for kinds that must be alone."""
    return (service == "app" or is_worker(service)) and ALONE not in labels


def without_rollback(file: StackFile) -> StackFile:
    """The stack file without Swarm's own rollback of failed updates.

    When services are restored, that rollback would return them to the release that has just failed.
    """
    services = {}
    for name, service in file.services.items():
        deploy = service.get("deploy") or {}
        update = {**(deploy.get("update_config") or {}), "failure_action": "continue"}
        services[name] = {**service, "deploy": {**deploy, "update_config": update}}
    return replace(file, services=services)


def wanted(stack: Stack, snapshot: Snapshot) -> dict[str, int]:
    """The replicas of the services that can be scaled: from `.env`, else as they are scaled now, else the default."""
    return stack.replicas({service.name: service.wanted for service in snapshot.services})


def guard(snapshot: Snapshot, file: StackFile, remove: Sequence[str]) -> None:
    """Raise `Failure` when something runs that the file does not define and that nobody asked to remove."""
    gone = lost(snapshot, file.services, file.secrets, DATASTORES)
    if unknown := [name for name in remove if name not in gone]:
        raise Failure(f"--remove {', '.join(unknown)}: the files still define it, or it does not run")
    if forgotten := [name for name in gone if name not in remove]:
        raise Failure(
            f"{', '.join(forgotten)}: runs, but is no longer defined in the compose files or .env. Check for a missing"
            f" value or the wrong .env. To remove it: --remove {','.join(gone)}"
        )
