"""A backup: the dump, checked, and the site's files go into the repository; then old backups are removed.

restic writes the record of a snapshot last: what fails or is killed before leaves the earlier backups, and no new one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace

from deploy.compose import ledger
from deploy.compose.containers import replicas, require_own
from deploy.compose.data import database, manifest, restic
from deploy.compose.data.manifest import Contents, Manifest
from deploy.compose.ledger import Release
from deploy.core import pipe, shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.report import Report
from deploy.core.running import Notify, alone
from deploy.core.shell import MakeFolder, Run, WriteSecret
from deploy.docker.backup_env import Settings, settings
from deploy.docker.dotenv import load
from deploy.docker.engine import require_engine
from deploy.docker.stack import PROD, Stack
from deploy.project import backups, limits
from deploy.project.backups import Backup
from deploy.project.config import Project

#: Where it is noted which repository has had backups: an empty folder in its place is then no new repository.
KNOWN = "backup-repository"
#: The services of `backup.yaml`.
SERVICES = (restic.ADDS, restic.RESTORES, "data_archive", "data_scratch", "data_proof")


@dataclass(frozen=True)
class Data:
    """The data of production, and where its backups go."""

    stack: Stack
    settings: Settings
    notify: Notify
    #: The site whose backups are meant, if it is another one.
    origin: str = ""

    @property
    def site(self) -> str:
        """The site's name in the repository."""
        return self.origin or self.stack.env.stack

    def restic(self, *words: str, given: str = "", service: str = restic.ADDS) -> str:
        """Run a word of `restic.sh`; see `restic.run`."""
        return restic.run(self.stack, self.settings, *words, given=given, service=service)

    def listed(self) -> tuple[Backup, ...]:
        """The backups of this site, oldest first."""
        shell.perform(restic.secret_steps(self.stack, self.settings))
        return restic.listed(self.stack, self.settings, self.site)


def of(project: Project, notify: Notify, *, engine: bool = True) -> Data:
    """The data of production, with the `.env` of the release that serves, and the place that `.env` names now.

    Raises `Failure` if no place is named, and with ``engine`` if there is no engine, or the stack is another's.
    """
    stack = load(project, PROD)
    found = settings(stack.env, project.env_path.name)
    if engine:
        require_engine(0)
        require_own(stack)
    return Data(ledger.serving(stack), found, notify)


def report(project: Project, notify: Notify) -> Report:
    """The backups of this site, and what was done about them."""
    return Report([backups.grid(of(project, notify).listed())])


# --- A backup ---


def backup(project: Project, notify: Notify) -> Action:
    """Make a backup; then remove those that are not to be kept. Raises `Failure` if there is no place for it."""

    def show() -> None:
        data = of(project, notify, engine=False)
        stack, at = data.stack, data.settings
        tags = _tags(data, "RELEASE", "REVISION", _why(), "VERSION")
        print(restic.command(stack, at, "repository", "cat", "config").render())
        print(pipe.rendered(database.dump(stack), restic.command(stack, at, "receive", "BYTES")))
        shell.perform(
            [
                stack.compose("run", "--rm", "-T", "data_archive"),
                restic.command(stack, at, "add", data.site, *tags),
                restic.command(stack, at, *restic.forget(data.site, at)),
            ],
            dry_run=True,
        )

    def do() -> None:
        data = of(project, notify)
        with only_one(data.stack, "a backup"), ledger.recorded(data.stack, "backup", _why()) as said:
            release = serving(data.stack)
            made, contents = make(data, release)
            said.append(f"backup {made}: {contents.title()}")
            forget(data, made)
        notify(f"{said[-1]}. It is in {data.settings.repository}")

    return Action(show, do)


def _why() -> str:
    return "asked" if sys.stdin.isatty() else "timer"


def only_one(stack: Stack, what: str) -> AbstractContextManager[None]:
    """Lock the backups of a stack. Raises `Failure` naming the holder if another command has the lock."""
    shell.perform([MakeFolder(stack.secrets, 0o700)])
    return alone(
        stack.secrets / "backup.lock",
        what,
        f"{{holder}}, works with the backups of {stack.name}; retry when it is done",
    )


def serving(stack: Stack) -> Release:
    """The release that serves. Raises `Failure` if none is recorded, or if PostgreSQL does not run."""
    known = ledger.releases(stack)
    if not known or not any(each.running for each in replicas(stack.name, "postgres")):
        raise Failure(f"{stack.name} has no release with a database here: `invoke prod` starts it")
    return known[-1]


def make(data: Data, release: Release) -> tuple[str, Contents]:
    """Add a backup to the repository; returns its id, and what it has. The dump is removed from the disk afterwards.

    Raises `Failure` if anything of that fails; there is no new backup then.
    """
    shell.perform(restic.secret_steps(data.stack, data.settings))
    with cleared(data):
        require_repository(data)
        size = shell.run(database.size(data.stack), capture=True).stdout.strip()
        sha256, size_of_dump, contents = _dump(data, size)
        data.notify(f"dump: {contents.title()}, {size_of_dump / 1e6:.1f} MB")
        require_list(data.stack, "the dump")
        found = Manifest(
            *(data.site, str(release.number), release.revision, release.image, sha256, size_of_dump),
            *(restic.folders(data.stack), contents),
        )
        tags = _tags(data, str(release.number), release.revision or "unknown", _why(), contents.server.split(".")[0])
        return restic.snapshot_id(data.restic("add", data.site, *tags, given=found.text())), contents


def _tags(data: Data, release: str, revision: str, why: str, server: str) -> list[str]:
    found = backups.tags(site=data.site, release=release, revision=revision, why=why, database=f"postgresql-{server}")
    return [word for each in found for word in ("--tag", each)]


def _dump(data: Data, size: str) -> tuple[str, int, Contents]:
    """Write the dump where restic's container has it; returns its hash, its size, and what it has."""
    one, two = pipe.run(database.dump(data.stack), restic.command(data.stack, data.settings, "receive", size))
    contents = manifest.contents(one.stderr)
    if (contents is None and "pg_dump: error" in one.stderr) or (one.code and not two.code):
        raise Failure(f"the dump failed: {shell.last_line(one.stderr)}")
    if two.code or contents is None:
        raise Failure(f"the dump could not be written: {shell.last_line(two.stderr) or 'it was cut off'}")
    return (*restic.described(two.stdout), contents)


def require_list(stack: Stack, what: str) -> None:
    """Raise `Failure` unless PostgreSQL can read the list of the dump that is there."""
    command = with_image(stack, stack.compose("run", "--rm", "-T", "data_archive"))
    read = shell.run(command, capture=True, check=False)
    if read.code:
        raise Failure(f"{what} cannot be read by PostgreSQL: {shell.last_line(read.stderr)}")


def with_image(stack: Stack, command: Run, **more: str) -> Run:
    """A command whose containers have the image of the PostgreSQL that runs: their versions always agree."""
    image = next(each.image for each in replicas(stack.name, "postgres") if each.running)
    return replace(command, env={**command.env, "POSTGRES_IMAGE": image, **more}, seconds=limits.COMMAND)


def forget(data: Data, made: str) -> None:
    """Remove the backups that are not to be kept. Raises `Failure` if that fails; nothing good is lost by it."""
    try:
        data.restic(*restic.forget(data.site, data.settings))
    except Failure as failure:
        raise Failure(f"backup {made} was made, but old ones were not removed: {failure.message}") from None


def require_repository(data: Data) -> None:
    """Create the repository if there is none. Raises `Failure` if it had backups and is gone, as with a disk that is
    not mounted, or if the password is not its own."""
    stack, at = data.stack, data.settings
    noted = stack.secrets / KNOWN
    asked = shell.run(restic.command(stack, at, "repository", "cat", "config"), capture=True, check=False)
    if asked.code == restic.NO_REPOSITORY:
        if noted.exists() and noted.read_text().strip() == at.repository:
            raise Failure(
                f"{at.repository} had backups, and has no repository now: mount its disk; to begin another one,"
                f" `rm {noted}`"
            )
        data.restic("repository", "init")
        data.notify(
            f"{at.repository}: created the repository. Keep a copy of {at.file} elsewhere: without BACKUP_PASSWORD, no"
            " backup can be read"
        )
    else:
        restic.checked(asked, at)
    shell.perform([WriteSecret(noted, f"{at.repository}\n")])


# --- What a command leaves ---


@contextmanager
def cleared(data: Data) -> Iterator[None]:
    """Remove what a killed command left before, and the dump afterwards."""
    stop_left(data.stack)
    try:
        yield
    finally:
        with suppress(Failure):
            data.restic("empty")


def stop_left(stack: Stack) -> None:
    """Stop the containers of an earlier command: it was killed, because we hold its lock."""
    form = ["--filter", f"label=com.docker.compose.project={stack.name}", "--format"]
    listed = shell.run(Run(["docker", "ps", *form, '{{.ID}} {{.Label "com.docker.compose.service"}}']), capture=True)
    left = [line.split()[0] for line in listed.stdout.splitlines() if line.split()[-1] in SERVICES]
    if left:
        shell.run(Run(["docker", "stop", *left]), capture=True, check=False)
        shell.run(Run(["docker", "rm", "--force", "--volumes", *left]), capture=True, check=False)
