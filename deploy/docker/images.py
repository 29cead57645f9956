"""The commands that build and push images."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from deploy.core import running, shell
from deploy.core.errors import Failure
from deploy.core.git import Revision
from deploy.core.running import Notify, logged, quote
from deploy.core.screen import Screen
from deploy.core.shell import MakeFolder, Run, WriteSecret
from deploy.docker import context
from deploy.project import assets, local, site
from deploy.project.config import Project
from deploy.project.names import WHEELS
from deploy.venvs import installers

#: The Python of the Dockerfile.
PYTHON = (3, 13)
#: A file of shell variables in `.secrets` that says where packages come from; `write_sources` makes it.
SOURCES = "package-sources"
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def tag(text: str) -> str:
    """A tag that registries accept. Raises `Failure` for any other text."""
    if not TAG.fullmatch(text):
        raise Failure(f"--tag is {text!r}, but must be at most 128 letters, digits, _ . or -")
    return text


def build(
    project: Project,
    target: str,
    names: Sequence[str],
    version: Revision | None,
    *,
    ca: str = "",
    platform: str = "",
) -> Run:
    """The command that builds a target of the Dockerfile under these names, labelled with a revision if given.

    The image for production gets the files that Git knows. The one for development contains no code: its context is the
    project's folder, of which `.dockerignore` leaves the locks, as for Compose's own rebuild when they change.
    """
    labels = {"REVISION": version.name, "CREATED": version.created} if version else {}
    sources = project.root / ".secrets" / SOURCES
    parts, code = project.names, target == "app"
    own = {"SETTINGS": parts.prod, "WSGI": parts.wsgi} if code else {"SETTINGS": parts.dev}
    arguments = {"PYTHON_IMAGE": python_image(project), **own, "ASGI": parts.asgi, "CELERY": parts.celery, **labels}
    if parts.path:
        arguments["IMPORTS"] = parts.imports
    if project.packages:
        arguments["PACKAGES"] = " ".join(project.packages)
    changed = None if code else own_dockerfile(project)
    if code and (own_values := site.stand_ins(project)):
        arguments["OWN"] = " ".join(f"{name}={value}" for name, value in own_values.items())
    front = project.assets if code else None
    arguments |= assets.build_arguments(front, parts.site)
    return Run(
        [
            *["docker", "buildx", "build", "--load", "--target", target],
            *(word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")),
            *(["--secret", f"id=build_ca,src={ca}"] if ca else []),
            *(["--secret", f"id=package_sources,src={sources}"] if sources_text(project.root) else []),
            *(["--platform", platform] if platform else []),
            *(["--file", str(changed)] if changed else []),
            *(word for name in names for word in ("--tag", name)),
            "-" if code else ".",
        ],
        cwd=project.root,
        source=context.command(project.root, parts.site, front) if code else None,
    )


def require_ca(project: Project, path: str) -> None:
    """Raise `Failure` if the certificate authority for builds is not there."""
    if path and not (project.root / path).is_file():
        fix = "fix BUILD_CA_FILE in .env, or the certificate in the settings of pip and uv"
        raise Failure(f"{path}: the certificate authority for builds is not there: {fix}")


def own_dockerfile(project: Project) -> Path | None:
    """Where the Dockerfile with the project's own lines is for development; None without any.

    For production, the archive that an image is built from has it.
    """
    return project.root / ".secrets" / "Dockerfile" if local.dockerfile(project.root) else None


def sources_text(root: Path) -> str:
    """Where packages come from, as pip's and uv's settings here say it, for a build: shell variables; may be empty."""
    return installers.configured(root, os.environ).elsewhere


def write_sources(root: Path, notify: Notify = lambda _: None) -> None:
    """Write the file that tells builds where packages come from. It may contain passwords of indexes and proxies.

    Says in one line what of this machine a build does not get.
    """
    if local := installers.configured(root, os.environ).left_out(root):
        names = ", ".join(map(shell.without_password, local))
        notify(
            f"build: without {names} of pip's and uv's settings, which only this machine has;"
            f" a wheel that no index has belongs in {WHEELS}/"
        )
    text, path = sources_text(root), root / ".secrets" / SOURCES
    if text or path.exists():
        shell.perform([MakeFolder(path.parent, 0o700), WriteSecret(path, text)])


def python_image(project: Project) -> str:
    """The base image: the Dockerfile's own, or a newer one where the project needs that."""
    version = ".".join(map(str, max(PYTHON, project.python)))
    return f"python:{version}-slim-trixie"


def perform(command: Run, folder: Path, notify: Notify) -> None:
    """Build an image, showing the current step if this is a terminal. Raises `Failure` if the build fails.

    After a failure, the last lines are shown, and the full output is in a log. An image that had these names before,
    and has none now, is removed unless something uses it.
    """
    if command.cwd:
        write_sources(Path(command.cwd), notify)
    began, before = time.monotonic(), set(_named(command).split())
    with Screen() as screen:
        result = shell.stream(
            replace(command, argv=[*command.argv, "--progress", "plain"]),
            lambda line: screen.status(f"build: {at}") if (at := step(line)) else None,
        )
    if result.code:
        quote("build", result.stderr)
        full = replace(result, stderr=f"$ {shlex.join(command.argv)}\n{result.stderr}")
        raise Failure(f"the image was not built: {reason(result.stderr)}; {logged('build', full, folder)}")
    if old := before - set(_named(command).split()):
        tags = Run(["docker", "image", "inspect", "-f", "{{.Id}} {{len .RepoTags}}", *sorted(old)], command.env)
        lines = shell.run(tags, capture=True, check=False).stdout.splitlines()
        if unnamed := [line.split()[0] for line in lines if line.endswith(" 0")]:
            shell.run(Run(["docker", "image", "rm", *unnamed], command.env), capture=True, check=False)
    notify(f"build: done in {time.monotonic() - began:.1f} s")


def _named(build: Run) -> str:
    """The ids of the images that have the names which a build gives."""
    names = [name for word, name in pairwise(build.argv) if word == "--tag"]
    ask = Run(["docker", "image", "inspect", "-f", "{{.Id}}", *names], build.env)
    return shell.run(ask, capture=True, check=False).stdout


def step(line: str) -> str:
    """The build step in a line of BuildKit's output; empty for other lines."""
    found = re.match(r"#\d+ (\[[^\]]+\] .+)", line)
    return found[1] if found else ""


def reason(said: str) -> str:
    """Why a build failed: the last output of the failed step, else BuildKit's last line."""
    lines = [line for line in said.splitlines() if line.strip()]
    outputs = [line.split(" ", 2)[2] for line in lines if re.match(r"#\d+ \d+\.\d+ \S", line)]
    errors = [line for line in lines if line.startswith(("ERROR:", "error:"))]
    why = shell.last_line("\n".join(outputs or errors or lines or ["BuildKit gave no reason"]))
    return why + running.remedy(why)


def push(name: str) -> Run:
    """The command that pushes an image to its registry."""
    return Run(["docker", "push", name])


def image_id(name: str) -> str:
    """The id of an image; empty if it is not on this machine."""
    found = shell.run(Run(["docker", "image", "inspect", "-f", "{{.Id}}", name]), capture=True, check=False)
    return found.stdout.strip() if found.code == 0 else ""


def revision_of(image: str) -> str:
    """The revision from which an image was built."""
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    return shell.run(Run(["docker", "image", "inspect", "-f", label, image]), capture=True).stdout.strip()
