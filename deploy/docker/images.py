"""Images: what `build` and `push` run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deploy.core.errors import Failure
from deploy.core.git import Revision
from deploy.core.shell import Run
from deploy.project.config import Project

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def tag(text: str) -> str:
    """A tag as registries take it. Raises `Failure` for another."""
    if not TAG.fullmatch(text):
        raise Failure(f"--tag is {text!r}, but must be letters, digits, _ . and -, at most 128")
    return text


def build(
    project: Project, target: str, names: Sequence[str], version: Revision | None, *, ca: str = "", platform: str = ""
) -> Run:
    """Build a target of the Dockerfile under these names, labelled with a revision where it holds one."""
    labels = {"REVISION": version.name, "CREATED": version.created} if version else {}
    arguments = {"SITE": project.site, **labels}
    return Run(
        [
            *["docker", "buildx", "build", "--load", "--target", target],
            *(word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")),
            *(["--secret", f"id=build_ca,src={ca}"] if ca else []),
            *(["--platform", platform] if platform else []),
            *(word for name in names for word in ("--tag", name)),
            ".",
        ],
        cwd=project.root,
    )


def push(name: str) -> Run:
    """Push an image to its registry."""
    return Run(["docker", "push", name])
