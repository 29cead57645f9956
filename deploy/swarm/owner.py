"""Whose stack it is: a stack carries the first commits of the repository that it was deployed from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from deploy.core import git
from deploy.core.errors import Failure
from deploy.docker.stack import Stack
from deploy.swarm.render import StackFile
from deploy.swarm.state import Snapshot

#: The label of each service; its value is the first commits, sorted, with commas between them.
REPOSITORY = "portico.repository"


def recorded(snapshot: Snapshot) -> frozenset[str]:
    """The first commits of the repository that a stack was deployed from; none if it does not say."""
    marks = (service.labels.get(REPOSITORY, "") for service in snapshot.services)
    return frozenset(commit for mark in marks for commit in mark.split(",") if commit)


def foreign(theirs: Collection[str], ours: Collection[str]) -> bool:
    """Whether both are known and have nothing in common. Clones, and a merge of two histories, have something."""
    return bool(theirs and ours) and not set(theirs) & set(ours)


def require_own(snapshot: Snapshot, stack: Stack) -> None:
    """Raise `Failure` if the stack that runs was deployed from another repository, whose data and services it is."""
    if (theirs := recorded(snapshot)) and foreign(theirs, git.roots(stack.project.root)):
        raise Failure(
            f"{stack.name} on this swarm is another project's: its repository begins with commit"
            f" {git.short(min(theirs))}. Give this project another name (STACK and IMAGE in .env, project.name in"
            " invoke.yaml)"
        )


def marked(file: StackFile, commits: Collection[str]) -> StackFile:
    """The stack file with its services labelled with the first commits of a repository."""
    if not commits:
        return file
    services = {}
    for name, service in file.services.items():
        deploy = service.get("deploy") or {}
        labels = {**(deploy.get("labels") or {}), REPOSITORY: ",".join(sorted(commits))}
        services[name] = {**service, "deploy": {**deploy, "labels": labels}}
    return replace(file, services=services)
