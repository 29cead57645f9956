"""The tasks on images: build and push."""

from __future__ import annotations

from deploy.core import git, shell
from deploy.core.action import Action, steps
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker import images
from deploy.docker.dotenv import load, prepare
from deploy.docker.engine import require_engine
from deploy.docker.stack import PROD
from deploy.docker.stack import build as build_of
from deploy.project.config import Project


def build(project: Project, tag: str, platform: str, notify: Notify) -> Action:
    """Build the production image under its revision, or a tag."""

    def command(*, dry_run: bool) -> Run:
        require_engine(project.free_gigabytes)
        stack = prepare(project, PROD, dry_run=dry_run, notify=notify)
        return build_of(stack, images.tag(tag) if tag else "", platform)

    return Action(
        lambda: shell.perform([command(dry_run=True)], dry_run=True),
        lambda: images.perform(command(dry_run=False), project.run_folder, notify),
    )


def push(project: Project, tag: str) -> Action:
    """Push the image of the revision, or of a tag, to its registry."""
    stack = load(project, PROD)
    version = images.tag(tag) if tag else git.revision(project.root).tag
    return steps([images.push(f"{stack.env.image}:{version}")])
