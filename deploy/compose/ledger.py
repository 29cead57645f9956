"""The ledger of this machine (who did what, when, and how it ended), and the releases that a rollback can restore.

All of it is in `.secrets/`, which only its owner can enter, because a release includes the `.env` of its deploy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.core import git, shell
from deploy.core.errors import Failure
from deploy.core.report import ENTRIES, Grid
from deploy.core.running import one_writer, printable, who
from deploy.core.shell import MakeFolder, Remove, Run, Step, WriteSecret
from deploy.docker import env as server_env
from deploy.docker import recorded as of_release
from deploy.docker.releases import grid, next_number, title
from deploy.docker.stack import PROD, Stack, stack_of
from deploy.project import local

#: The number of releases that are kept, each with its image and `.env`; and of lines in the ledger.
KEPT, LINES = 5, 500
#: The actions that need no lock of the stack, and so may run beside the one that holds it.
BESIDE = ("backup", "proof")


@dataclass(frozen=True)
class Release:
    """A deployed release: its number, and the number of the release it repeats (its own, unless it was a rollback)."""

    number: int
    of: int
    #: The id of the image, because a tag can be moved to another image.
    image: str
    revision: str
    by: str
    #: The time of the deploy, ISO 8601.
    at: str

    @property
    def title(self) -> str:
        """The release in words."""
        return title(self)


# --- Releases ---


def _folder(stack: Stack, number: int) -> Path:
    return stack.secrets / "releases" / f"{number:05d}"


def releases(stack: Stack) -> list[Release]:
    """The kept releases, oldest first, without incompletely written ones."""
    found = []
    for path in sorted((stack.secrets / "releases").glob("*/release.json")):
        with suppress(ValueError, TypeError, OSError):
            found.append(Release(**json.loads(path.read_text())))
    return found


def environment_of(stack: Stack, release: Release) -> Stack:
    """The stack with the `.env` of a release, its kinds of workers and its additions.

    One that an earlier version has recorded has those of the work tree. Raises `Failure` if a file cannot be read.
    """
    folder = _folder(stack, release.number)
    project, earlier = stack.project, None
    with suppress(OSError, ValueError):
        project, earlier = of_release.project_of(project, (folder / of_release.FILE).read_text()), folder
    env = server_env.load(folder / "env", project.env)
    # What is held is of the data that is there, and no release takes it back.
    return stack_of(project, stack.kind, env.model_copy(update={"hold": stack.env.hold}), earlier)


def differs(stack: Stack, text: str) -> str:
    """A line if the work tree's `.env` is another than that of a release (``text``); else empty."""
    file = stack.project.env_path
    if text == file.read_text():
        return ""
    return f"{file.name} differs from the one of that release: the next `invoke prod` uses {file.name}"


def text_of(stack: Stack, release: Release) -> str:
    """The text of the `.env` of a release."""
    return (_folder(stack, release.number) / "env").read_text()


def of_image(stack: Stack, image: str) -> Release | None:
    """The earlier release that has an image, by its id; it is gone back to with the `.env` it had.

    None for the release that serves: its image with another `.env` is an update without a build.
    """
    known = releases(stack)
    if not image or (known and known[-1].image == image):
        return None
    return next((each for each in reversed(known) if each.image == image), None)


def serving(stack: Stack) -> Stack:
    """The stack with the `.env` of the last deploy, which its containers have; `.env` may have changed since."""
    known = releases(stack) if stack.kind == PROD else []
    if not known:
        return stack
    try:
        return environment_of(stack, known[-1])
    except Failure:  # written by a version with other keys: the current `.env` is the best substitute
        return stack


def coming(stack: Stack, image: str, revision: str, of: int = 0) -> Release:
    """The next release, with an image by its id; ``of`` is the earlier release that it repeats."""
    number = next_number(releases(stack))
    return Release(number, of or number, image, revision, who(), _now())


def stage(stack: Stack, release: Release, env: str) -> None:
    """Write what a release is beside its image, before it serves: the text of its `.env`, and what it has of ours.

    A command that is killed then leaves what the next one needs to finish it.
    """
    folder = _folder(stack, release.number)
    more = of_release.additions(stack.earlier or stack.project.root, stack.kind)
    steps: list[Step] = [
        Remove(folder),
        *(MakeFolder(path, 0o700) for path in (folder, *([folder / local.FOLDER] if more else []))),
        WriteSecret(folder / "env", env),
        *(WriteSecret(folder / name, text) for name, text in more.items()),
        WriteSecret(folder / of_release.FILE, of_release.text(stack.project)),
    ]
    shell.perform(steps)


def is_staged(stack: Stack, release: Release) -> bool:
    """Whether all that a release is beside its image has been written."""
    return (_folder(stack, release.number) / of_release.FILE).exists()


def add(stack: Stack, release: Release) -> None:
    """Record a serving release, which was staged."""
    folder = _folder(stack, release.number)
    # release.json comes last: without it the release does not exist.
    steps: list[Step] = [
        Run(["docker", "tag", release.image, f"{stack.env.image}:release-{release.number}"]),
        WriteSecret(folder / "release.json", json.dumps(asdict(release))),
    ]
    shell.perform(steps)


def prune(stack: Stack) -> None:
    """Remove old releases, and images that no kept release and no container uses."""
    known = releases(stack)
    kept = known[-KEPT:]
    for each in known[: -len(kept) or None]:
        shell.perform([Remove(_folder(stack, each.number))])
    listed = shell.run(
        Run(["docker", "image", "ls", "--no-trunc", stack.env.image, "--format", "{{.ID}} {{.Tag}}"]),
        capture=True,
        check=False,
    )
    images = [line.split() for line in listed.stdout.splitlines()]
    for tag in removable_tags([(image, tag) for image, tag in images], kept):
        shell.run(Run(["docker", "rmi", f"{stack.env.image}:{tag}"]), capture=True, check=False)


def removable_tags(images: Sequence[tuple[str, str]], kept: Sequence[Release]) -> list[str]:
    """The tags that can be removed. ``images``: id and tag, newest first."""
    needed = {each.image for each in kept}
    numbers = {f"release-{each.number}" for each in kept}
    others = [tag for image, tag in images if image not in needed and tag not in ("latest", "<none>")]
    past = [tag for tag in others if tag.startswith("release-")]
    past += [tag for image, tag in images if image in needed and tag.startswith("release-") and tag not in numbers]
    return [*past, *[tag for tag in others if not tag.startswith("release-")][KEPT:]]


def require_image(release: Release) -> None:
    """Raise `Failure` if the image of a release no longer exists."""
    if shell.run(Run(["docker", "image", "inspect", release.image]), capture=True, check=False).code:
        raise Failure(
            f"the image of release {release.number} is no longer on this machine: deploy its commit"
            f" {git.short(release.revision)} again"
        )


# --- The ledger ---


@contextmanager
def recorded(stack: Stack, action: str, what: str) -> Iterator[list[str]]:
    """Record an action in the ledger at its start and at its end. The outcome is the last item of the yielded list.

    One of `BESIDE` is recorded at its end only: an action without an end was killed, or holds the lock.
    """
    beside = action in BESIDE
    run = f"{time.time():.0f}{action if beside else ''}"
    said: list[str] = []
    begun = {"run": run, "action": action, "what": what, "who": who(), "at": _now()}
    if not beside:
        _note(stack, begun)
    outcome = "stopped"
    try:
        yield said
        outcome = said[-1] if said else "done"
    except Failure as failure:
        outcome = f"failed: {printable(failure.message.splitlines()[0])}"
        raise
    finally:
        _note(stack, {**begun, "outcome": outcome, "end": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _path(stack: Stack) -> Path:
    return stack.secrets / "ledger.jsonl"


def _note(stack: Stack, entry: dict[str, str]) -> None:
    path = _path(stack)
    with one_writer(path.with_suffix(".lock")):
        lines = path.read_text().splitlines()[-LINES:] if path.exists() else []
        shell.perform([WriteSecret(path, "".join(f"{line}\n" for line in [*lines, json.dumps(entry)]))])


def entries(text: str, *, busy: bool) -> list[dict[str, str]]:
    """The actions in a ledger, oldest first. Incomplete lines are ignored.

    An action without an end was killed, except that the last one is in progress if a command is ``busy``.
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = {key: str(value) for key, value in json.loads(line).items()}
            found[entry["run"]] = {**found.get(entry["run"], {}), **entry}
    done = list(found.values())
    last = [entry for entry in done if entry.get("action") not in BESIDE][-1:]
    for entry in done:
        entry.setdefault("outcome", "in progress" if busy and entry in last else "was killed")
    return done


def read(stack: Stack, *, busy: bool) -> list[dict[str, str]]:
    """The actions on this stack, oldest first."""
    path = _path(stack)
    return entries(path.read_text() if path.exists() else "", busy=busy)


def grids(known: Sequence[Release], done: Sequence[dict[str, str]]) -> list[Grid]:
    """A table of the releases, newest first, and one of the last ledger entries."""
    keys = ("at", "action", "what", "who", "outcome")
    last = [tuple(entry.get(key, "") for key in keys) for entry in done[-ENTRIES:]]
    return [
        grid(known),
        Grid(("when", "what", "of", "by", "how it ended"), last),
    ]
