"""Build and push the images of a swarm, and pin them by their digests."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from deploy import doctor
from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker import images
from deploy.docker.stack import Stack
from deploy.swarm.manager import TRANSFER_SECONDS, Manager, limited
from deploy.swarm.stack import document
from deploy.swarm.state import Snapshot

#: The registry of a single node, used when IMAGE names none. `swarm-init` starts it.
LOCAL_REGISTRY = "127.0.0.1:5000"


@dataclass(frozen=True)
class Image:
    """An image by its digest, and the revision it was built from."""

    pinned: str
    revision: str


# --- Images ---


def repository(image: str) -> str:
    """Where an image is pushed to: the registry in its name, else the registry of the single node."""
    return image if "/" in image else f"{LOCAL_REGISTRY}/{image}"


def builder(manager: Manager, image: str) -> Manager:
    """The engine that builds: this machine's; the node's if there is none here or the image stays on the node."""
    return replace(manager, engine={}) if "/" in image and doctor.engine() else manager


def on(manager: Manager, command: Run) -> Run:
    """A command for the engine of a manager."""
    return replace(command, env={**command.env, **manager.engine})


def build_steps(manager: Manager, stack: Stack) -> tuple[str, git.Revision, list[Run]]:
    """What builds the work tree and pushes it: the image's name, its revision, the commands."""
    version = git.revision(stack.project.root)
    name = f"{repository(stack.env.image)}:{version.tag}"
    where = builder(manager, stack.env.image)
    build = images.build(stack.project, "app", [name], version, ca=stack.build_ca)
    return name, version, [on(where, build), where.docker("push", "--quiet", name)]


def serving_from(image: str, version: git.Revision, snapshot: Snapshot) -> Image | None:
    """The image that serves, if it was built from this commit: a value of `.env` then changes without a build."""
    if version.name == "unknown" or version.name.endswith("-changed"):
        return None
    app = snapshot.service("app")
    known = app is not None and app.image.startswith(f"{repository(image)}:{version.tag}@")
    return Image(app.image, version.name) if app and known else None


def publish(manager: Manager, stack: Stack, tag: str, notify: Notify) -> Image:
    """Build and push the work tree, or pull an image from the registry by its tag."""
    require_reach(manager, stack)
    if tag:
        name = f"{repository(stack.env.image)}:{images.tag(tag)}"
        return Image(pin(manager, name), tag)
    name, version, (build, push) = build_steps(manager, stack)
    notify(f"build and push {name}")
    images.perform(build, stack.project.run_folder, notify)
    result = shell.run(limited(push, TRANSFER_SECONDS), capture=True, check=False)
    if result.code:
        registry = name.partition("/")[0]
        why = shell.last_line(result.stderr)
        raise Failure(f"cannot push {name}: {why}; to sign in: `docker login {registry}`")
    return Image(digest_of(builder(manager, stack.env.image), name), version.name)


def require_reach(manager: Manager, stack: Stack) -> None:
    """Raise `Failure` if some nodes cannot pull the image, because it is in no registry they all reach."""
    if "/" not in stack.env.image and len(manager.nodes()) > 1:
        raise Failure(
            f"IMAGE is {stack.env.image!r} in .env, but this swarm has several nodes: put a registry before it that all"
            " of them reach, as registry.example.org/portico"
        )


def pin(manager: Manager, name: str) -> str:
    """Name and digest of an image, pulled by the manager. Raises `Failure` if no registry has it."""
    result = manager.try_("pull", "--quiet", name, seconds=TRANSFER_SECONDS)
    if result.code:
        raise Failure(f"cannot pull {name}: {shell.last_line(result.stderr)}")
    return digest_of(manager, name)


def digest_of(manager: Manager, name: str) -> str:
    said = manager.try_("image", "inspect", "--format", "{{json .RepoDigests}}", name).stdout
    return with_digest(name, json.loads(said or "[]"))


def with_digest(name: str, digests: Sequence[str]) -> str:
    """``NAME:TAG@sha256:…``, chosen from an image's digests. Raises `Failure` if none is from the name's registry."""
    repository = re.sub(r":[^:/]+$", "", name)
    short = {repository, repository.removeprefix("docker.io/").removeprefix("library/")}
    for each in digests:
        where, _, digest = each.partition("@")
        if where in short:
            return f"{name}@{digest}"
    raise Failure(f"{name} has no digest: it is in no registry, so nodes cannot pull it")


def pin_all(manager: Manager, stack: Stack, snapshot: Snapshot, image: Image, *, pull: bool) -> dict[str, str]:
    """The images of the document, each with its digest.

    An image that runs already under the same name and tag is kept, so that a release of the site never replaces a
    database whose tag has moved; ``pull`` pulls them again.
    """
    found = {service["image"] for service in document(stack)["services"].values()} - {stack.image}
    running = (
        {} if pull else {each.image.partition("@")[0]: each.image for each in snapshot.services if "@" in each.image}
    )
    missing = sorted(found - set(running))
    with ThreadPoolExecutor() as pool:
        pulled = dict(zip(missing, pool.map(lambda name: pin(manager, name), missing), strict=True))
    return {stack.image: image.pinned, **{name: running[name] for name in found & set(running)}, **pulled}
