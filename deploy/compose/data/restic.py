"""The containers with restic: how they are started, and what their errors mean."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Result, Run, Step
from deploy.docker.backup_env import Settings, secret_texts
from deploy.docker.stack import MEDIA, Stack, files_of
from deploy.project import backups, limits
from deploy.project.backups import Backup

#: Where the containers have what a snapshot has.
SET = "/backup/set"
PROTECTED = "protected"
#: The services that have restic: one adds to a repository, the other puts files back.
ADDS, RESTORES = "data_backup", "data_restore"
#: restic's exit codes (https://restic.readthedocs.io/en/stable/075_scripting.html#exit-codes).
NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 10, 11, 12


def folders(stack: Stack) -> tuple[str, ...]:
    """The folders of files in a backup of this stack, each a volume."""
    return (PROTECTED, *([MEDIA] if stack.media_url else []))


def command(stack: Stack, settings: Settings, *words: str, service: str = ADDS) -> Run:
    """Run a word of `restic.sh` in a container of its own."""
    mounts = [f"{settings.folder}:/repository"] if settings.folder else []
    if stack.media_url:
        mounts.append(f"{stack.name}_{MEDIA}:{SET}/{MEDIA}{':ro' if service == ADDS else ''}")
    run = stack.compose("run", "--rm", "-T", *(word for each in mounts for word in ("-v", each)), service, *words)
    return replace(run, env={**run.env, **_place(settings)}, seconds=limits.COMMAND)


def _place(settings: Settings) -> dict[str, str]:
    here = bool(settings.folder)
    return {
        "BACKUP_ADDRESS": "/repository" if here else settings.repository,
        "BACKUP_NETWORK": "none" if here else "bridge",
    }


def secret_steps(stack: Stack, settings: Settings) -> list[Step]:
    """The steps that write the secret files of these containers. Raises `Failure` for a secret that is not there."""
    return files_of(stack, secret_texts(settings, stack.project.root, os.environ))


def run(stack: Stack, settings: Settings, *words: str, given: str = "", service: str = ADDS) -> str:
    """Run a word, and return what it prints. Raises `Failure` with the reason if it fails."""
    run = replace(command(stack, settings, *words, service=service), input=given)
    return checked(shell.run(run, capture=True, check=False), settings)


def checked(result: Result, settings: Settings) -> str:
    """What a command printed. Raises `Failure` with the reason, in one line, if it failed."""
    if result.code:
        raise Failure(reason(result, settings))
    return result.stdout


def reason(result: Result, settings: Settings) -> str:
    """Why restic failed, and what to do."""
    if result.code == WRONG_PASSWORD:
        where = settings.repository
        return f"BACKUP_PASSWORD in {settings.file} is not the password of {where}; nothing was changed there"
    if result.code == NO_REPOSITORY:
        return f"{settings.repository}: there is no repository; `invoke backup` creates one"
    if result.code == LOCKED:
        return (
            f"{settings.repository}: another program uses the repository, or one that was killed has left its lock,"
            " which lapses after 30 minutes: retry then"
        )
    said = shell.last_line(result.stderr) or f"exit code {result.code}"
    return f"{settings.repository}: {said.removeprefix('Fatal: ')}"


def listed(stack: Stack, settings: Settings, site: str) -> tuple[Backup, ...]:
    """The backups of a site in the repository, oldest first."""
    answer = run(stack, settings, "repository", "snapshots", "--json", "--no-lock", "--tag", "portico")
    return tuple(each for each in backups.read(answer) if each.site == site)


def forget(site: str, settings: Settings) -> tuple[str, ...]:
    """The words that remove what is not to be kept of one site, whatever machine its backups came from."""
    tags = f"portico,site={site}"
    return ("forget", "--tag", tags, "--group-by", "", *settings.keep.arguments(), "--prune")


def snapshot_id(printed: str) -> str:
    """The id of the snapshot in restic's last message. Raises `Failure` if there is none."""
    for line in reversed(printed.splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("snapshot_id"):
            return str(said["snapshot_id"])[:8]
    raise Failure("restic does not say that it made a snapshot; nothing was removed")


def described(printed: str) -> tuple[str, int]:
    """The hash and the size of a dump, as `restic.sh` prints them."""
    words: Sequence[str] = printed.split()
    if len(words) != 2 or not words[1].isdecimal():
        raise Failure("the dump was not described; is the engine's disk well?")
    return words[0], int(words[1])
