"""What an upgrade would write, remove and refuse, and where an edit of a file of Portico's belongs instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path

from deploy.core import text as texts
from deploy.core.errors import Failure
from deploy.project.declared import FILE
from deploy.project.upgrade import keys, manifest, origin
from deploy.project.upgrade.manifest import Manifest
from deploy.project.upgrade.origin import Origin, Version

#: Copied by `adopt` and the project's since; an upgrade only says what has changed in the new ones.
SEEDED = (".env.example", ".gitignore", ".dockerignore")
#: Without it, a version could not be followed by a newer one.
PROGRAM = "deploy/project/upgrade/run.py"
#: `invoke lock` writes it, so it may differ without an edit.
LOCK = "requirements/tools.txt"
#: Where what was changed in a file belongs instead: the first that the file's name begins with.
BELONGS = {
    "deploy/compose/": "deploy/local/compose.yaml",
    "deploy/swarm/": "deploy/local/compose.yaml",
    "nginx/": "deploy/local/nginx.conf",
    "Dockerfile": "deploy/local/Dockerfile, and system packages under `packages` in invoke.yaml",
    "deploy/hosts/units/": "deploy/local/units/",
    "deploy/hosts/": "the environment's file in deploy/environments/, or deploy/local/",
    "deploy/kit/": "the project's settings",
    "deploy/environments/": "a file of its own in deploy/environments/",
    "deploy/local/": "another file in deploy/local/",
    "tasks.py": "project_tasks.py if it is a task, else invoke.yaml",
    "requirements/": "requirements/dev.in or another list of the project",
    "": "invoke.yaml, deploy/local/ or project_tasks.py",
}


@dataclass(frozen=True)
class Options:
    """What a user asks for."""

    #: Another repository than the one that this runs in; empty for this one.
    path: str = ""
    #: A branch, tag or commit of Portico; empty for the newest.
    to: str = ""
    #: Portico's repository, a URL or a folder; empty for the one that is remembered.
    source: str = ""
    #: Edited files of Portico's that may be replaced.
    replaced: Collection[str] = ()


@dataclass(frozen=True)
class Plan:
    """One upgrade of one repository."""

    before: Manifest
    after: Manifest
    #: Files of Portico's that are written, because they are new or different, and that are removed.
    written: tuple[str, ...]
    removed: tuple[str, ...]
    #: `invoke.yaml` with the keys' new names, and a line about each.
    settings: str
    moved: tuple[str, ...]
    #: What the change log says, and what has changed in the seeded files, as lines.
    news: tuple[str, ...]
    seeds: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether all is there already."""
        return not (self.written or self.removed or self.moved) and self.before == self.after


def belongs(name: str) -> str:
    """Where an edit of a file of Portico's belongs."""
    return next(place for beginning, place in BELONGS.items() if name.startswith(beginning))


def refusals(
    before: Mapping[str, str], there: Mapping[str, str], after: Mapping[str, str], replaced: Collection[str]
) -> Iterator[str]:
    """A line for each file that the upgrade would take from the project: the hashes of what was installed, of what is
    there, and of what the new version has. ``replaced`` names edited files that may go.
    """
    for name, digest in there.items():
        if digest in (before.get(name), after.get(name)) or name == LOCK:
            continue
        if name not in before:
            yield f"{name} is not Portico's: move it out of there, for example to deploy/local/, and commit that"
        elif name not in replaced:
            yield (
                f"{name} was edited, and the upgrade replaces it: what you changed belongs in {belongs(name)}; "
                f"when it is there, add --replace {name}"
            )
    for name in sorted(set(replaced) - set(before)):
        yield f"--replace {name}: there is no such file of Portico's"


def require_newer(repository: Origin, before: Manifest, to: Version, named: str) -> None:
    """Raise `Failure` if the version is older than what is installed, unless its id or tag was given."""
    if to.fixed or to.commit == before.base:
        return
    if repository.has(before.base):
        older = repository.is_before(to.commit, before.base)
    else:
        older = before.version != manifest.UNKNOWN and manifest.day(to.time) < before.version
    if older:
        raise Failure(
            f"{named or 'the default branch'} of {repository.source} is {to}, older than what is installed, {before}; "
            f"to go back to it, name it: --to {to.commit[:12]}"
        )


def new(repository: Origin, to: Version, fresh: Path, source: str) -> Manifest:
    """Write Portico's files of a version into a folder. ``source`` is what is remembered as where it comes from.

    Raises `Failure` for a version that had no upgrades.
    """
    names = repository.extract(to.commit, fresh)
    if PROGRAM not in names:
        raise Failure(f"{to} of {repository.source} has no `upgrade` yet, so that nothing newer could follow it")
    return Manifest(manifest.day(to.time), to.commit, source, manifest.digests(fresh, names))


def plan(root: Path, repository: Origin, before: Manifest, after: Manifest, replaced: Collection[str]) -> Plan:
    """Compare what is installed, what is there, and the new version. Raises `Failure` with all that it refuses."""
    there = manifest.digests(root, manifest.present(root))
    refused = list(refusals(before.files, there, after.files, replaced))
    if refused:
        raise Failure("\n".join([*refused, "nothing was written"]))
    settings = texts.read(root / FILE) if (root / FILE).is_file() else ""
    table = keys.table(repository.text(after.commit, "deploy/project/upgrade/keys.py"))
    migrated, moved = keys.migrated(settings, table)
    base = before.base if repository.has(before.base) else ""
    log = origin.news(repository.text(base, "CHANGELOG.md"), repository.text(after.commit, "CHANGELOG.md"))
    if not base:
        log = [f"{before} is not in {repository.source}, so what has changed since cannot be said"]
    return Plan(
        before=before,
        after=after,
        written=tuple(sorted(name for name in after.files if there.get(name) != after.files[name])),
        removed=tuple(sorted(set(there) - set(after.files))),
        settings=migrated,
        moved=tuple(moved),
        news=tuple(log),
        seeds=tuple(_seeds(root, repository, base, after.commit)) if base else (),
    )


def _seeds(root: Path, repository: Origin, before: str, after: str) -> Iterator[str]:
    """What has changed in the seeded files between two versions, where the project's is not the new one already."""
    for name in SEEDED:
        old, new = repository.text(before, name), repository.text(after, name)
        own = (root / name).read_text("utf-8", errors="replace") if (root / name).is_file() else ""
        if old != new != own:
            yield f"{name} is yours and stays; the new one differs from the one before by:"
            changed = list(unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
            yield from (f"  {line}" for line in changed if not line.startswith("@@"))


def summary(this: Plan) -> Iterator[str]:
    """What is told before an upgrade, and all that a dry run shows."""
    yield f"Portico {this.before} becomes {this.after}, from {this.after.source}"
    yield from this.news
    yield from (f"write  {name}" for name in this.written)
    yield from (f"remove {name}" for name in this.removed)
    yield from (f"change {line}" for line in this.moved)
    yield f"write  {manifest.FILE}"
    yield from this.seeds


def nearest(root: Path, repository: Origin, scratch: Path) -> Manifest:
    """What is installed in a repository without a manifest: the version whose files differ least from those there.

    Raises `Failure` if it has nothing of Portico.
    """
    names = [name for name in manifest.present(root) if not (root / name).is_symlink()]
    commit = repository.nearest(origin.blobs(root, names)) if names else ""
    if not commit:
        raise Failure(
            f"{root} has no Portico: `python3 tasks.py adopt {root}`, in a checkout of Portico, puts it there"
        )
    version = repository.version(commit)
    found = manifest.digests(scratch, repository.extract(commit, scratch))
    return replace(Manifest(manifest.day(version.time), commit), files=found)
