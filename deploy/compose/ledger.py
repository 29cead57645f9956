"""What was put into service on this machine, by whom, and how it ended; and the releases that it can go back to.

Everything lies in `.secrets/`, which is its owner's alone: a release keeps the `.env` that it was deployed with.
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
from deploy.core.running import printable, who
from deploy.core.shell import MakeFolder, Remove, Run, Step, WriteSecret
from deploy.docker import env as server_env
from deploy.docker.releases import grid, next_number, title
from deploy.docker.stack import PROD, Stack, stack_of

#: Releases that are kept, each with its image and its `.env`, and lines of the ledger.
KEPT, LINES = 5, 500


@dataclass(frozen=True)
class Release:
    """What was put into service: its number, and that of the release it repeats (its own, unless a rollback)."""

    number: int
    of: int
    #: The image by its id, so that a tag that moves takes nothing with it.
    image: str
    revision: str
    by: str
    #: When it came into service, ISO 8601.
    at: str

    @property
    def title(self) -> str:
        """How people are told of it."""
        return title(self)


# --- Releases ---


def _folder(stack: Stack, number: int) -> Path:
    return stack.secrets / "releases" / f"{number:05d}"


def releases(stack: Stack) -> list[Release]:
    """The releases that are kept, the oldest first; one that was not written to the end is left out."""
    found = []
    for path in sorted((stack.secrets / "releases").glob("*/release.json")):
        with suppress(ValueError, TypeError, OSError):
            found.append(Release(**json.loads(path.read_text())))
    return found


def environment_of(stack: Stack, release: Release) -> Stack:
    """The stack with the `.env` that a release was deployed with. Raises `Failure` when that cannot be read."""
    path = _folder(stack, release.number) / "env"
    return stack_of(stack.project, stack.kind, server_env.load(path))


def text_of(stack: Stack, release: Release) -> str:
    """The text of the `.env` that a release was deployed with."""
    return (_folder(stack, release.number) / "env").read_text()


def serving(stack: Stack) -> Stack:
    """The stack as it was deployed last: what its containers have, and not what `.env` says by now."""
    known = releases(stack) if stack.kind == PROD else []
    if not known:
        return stack
    try:
        return environment_of(stack, known[-1])
    except Failure:  # by a version that knew other keys: what `.env` says now is nearest
        return stack


def coming(stack: Stack, image: str, revision: str, of: int = 0) -> Release:
    """The next release: of an image, by its id; ``of`` an earlier one that it repeats."""
    number = next_number(releases(stack))
    return Release(number, of or number, image, revision, who(), _now())


def add(stack: Stack, release: Release, env: str) -> None:
    """Record a release that serves, with the text of the `.env` it has."""
    folder = _folder(stack, release.number)
    # The record last: without it there is no release.
    steps: list[Step] = [
        MakeFolder(folder, 0o700),
        WriteSecret(folder / "env", env),
        Run(["docker", "tag", release.image, f"{stack.env.image}:release-{release.number}"]),
        WriteSecret(folder / "release.json", json.dumps(asdict(release))),
    ]
    shell.perform(steps)


def prune(stack: Stack) -> None:
    """Remove old releases, and images that neither a kept release nor a container needs."""
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
    for tag in spare([(image, tag) for image, tag in images], kept):
        shell.run(Run(["docker", "rmi", f"{stack.env.image}:{tag}"]), capture=True, check=False)


def spare(images: Sequence[tuple[str, str]], kept: Sequence[Release]) -> list[str]:
    """The tags that can go, of images by id and tag, the newest first: those of releases long past."""
    needed = {each.image for each in kept}
    numbers = {f"release-{each.number}" for each in kept}
    others = [tag for image, tag in images if image not in needed and tag not in ("latest", "<none>")]
    past = [tag for tag in others if tag.startswith("release-")]
    past += [tag for image, tag in images if image in needed and tag.startswith("release-") and tag not in numbers]
    return [*past, *[tag for tag in others if not tag.startswith("release-")][KEPT:]]


def require_image(release: Release) -> None:
    """Raise `Failure` when the image of a release has gone."""
    if shell.run(Run(["docker", "image", "inspect", release.image]), capture=True, check=False).code:
        raise Failure(
            f"the image of release {release.number} is no longer on this machine: deploy its commit"
            f" {git.short(release.revision)} again"
        )


# --- The ledger ---


@contextmanager
def recorded(stack: Stack, action: str, what: str) -> Iterator[list[str]]:
    """Note something in the ledger when it begins, and how it ended. What is put into the list is said of its end."""
    run = f"{time.time():.0f}"
    said: list[str] = []
    _note(stack, {"run": run, "action": action, "what": what, "who": who(), "at": _now()})
    outcome = "stopped"
    try:
        yield said
        outcome = said[-1] if said else "done"
    except Failure as failure:
        outcome = f"failed: {printable(failure.message.splitlines()[0])}"
        raise
    finally:
        _note(stack, {"run": run, "outcome": outcome, "end": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _path(stack: Stack) -> Path:
    return stack.secrets / "ledger.jsonl"


def _note(stack: Stack, entry: dict[str, str]) -> None:
    path = _path(stack)
    lines = path.read_text().splitlines()[-LINES:] if path.exists() else []
    shell.perform([WriteSecret(path, "".join(f"{line}\n" for line in [*lines, json.dumps(entry)]))])


def entries(text: str, *, busy: bool) -> list[dict[str, str]]:
    """What a ledger says was done, the oldest first: a line that is torn is left out.

    What has no end was killed; the last of them goes on where somebody is ``busy``.
    """
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = {key: str(value) for key, value in json.loads(line).items()}
            found[entry["run"]] = {**found.get(entry["run"], {}), **entry}
    done = list(found.values())
    for entry in done:
        entry.setdefault("outcome", "goes on" if busy and entry is done[-1] else "was killed")
    return done


def read(stack: Stack, *, busy: bool) -> list[dict[str, str]]:
    """What was done to this stack, the oldest first."""
    path = _path(stack)
    return entries(path.read_text() if path.exists() else "", busy=busy)


def grids(known: Sequence[Release], done: Sequence[dict[str, str]]) -> list[Grid]:
    """The releases, the newest first; and the last entries of the ledger."""
    keys = ("at", "action", "what", "who", "outcome")
    last = [tuple(entry.get(key, "") for key in keys) for entry in done[-ENTRIES:]]
    return [
        grid(known),
        Grid(("when", "what", "of", "by", "how it ended"), last),
    ]
