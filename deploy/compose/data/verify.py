"""The proof of a backup: it is restored into a server of its own, and the release of its time runs on that.

Neither has a network: they share a loopback interface. Nothing of the site that serves is touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from deploy.compose import ledger
from deploy.compose.containers import replicas
from deploy.compose.data import database, make, manifest, restic
from deploy.compose.data.make import Data
from deploy.compose.data.manifest import Manifest
from deploy.compose.data.restore import manifest_of, require_whole
from deploy.core import shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.docker.images import image_id
from deploy.docker.stack import Stack
from deploy.project import backups, limits, site
from deploy.project.config import Project


def action(project: Project, to: str, notify: Notify, *, verify: bool) -> Action:
    """Make a backup, or with ``verify`` prove one. Raises `Failure` for ``to`` without that."""
    if to and not verify:
        raise Failure(f"--to {to}: names the backup to prove, with --verify; `invoke restore --to {to}` restores it")
    return _proof_of(project, to, notify) if verify else make.backup(project, notify)


def _proof_of(project: Project, to: str, notify: Notify) -> Action:
    """Prove that a backup can be restored: ``to``, or the latest. Raises `Failure` if there is no such backup."""
    data = make.of(project, notify)
    chosen = backups.choose(data.listed(), to or "latest", data.site)

    def do() -> None:
        began = time.monotonic()
        with make.only_one(data.stack, "a proof"), ledger.recorded(data.stack, "proof", f"backup {chosen.id}") as said:
            make.serving(data.stack)
            found = manifest_of(data, chosen)
            with make.cleared(data):
                require_whole(data, chosen, found)
                with _scratch(data.stack):
                    _fill(data.stack, found)
                    notify(f"restored {found.contents.title()} into a server of their own")
                    _ask(data, found)
            said.append(f"proven: backup {chosen.id}, {found.contents.title()}, {time.monotonic() - began:.0f} s")
        notify(said[-1])

    def show() -> None:
        fetch = restic.command(data.stack, data.settings, "fetch", chosen.id, chosen.folders[0], "BYTES")
        steps = [fetch, _up(data.stack), *_restores(data.stack, ()), _proof(data, "IMAGE", migrate=False)]
        shell.perform([*steps, _down(data.stack)], dry_run=True)

    return Action(show, do)


# --- The server ---


def _up(stack: Stack) -> Run:
    return stack.compose("up", "-d", "--no-deps", "data_scratch")


def _down(stack: Stack) -> Run:
    return stack.compose("rm", "--stop", "--force", "--volumes", "data_scratch")


@contextmanager
def _scratch(stack: Stack) -> Iterator[None]:
    """A new server; it is removed with its data. Raises `Failure` if it does not start."""
    try:
        shell.run(make.with_image(stack, _up(stack)), capture=True)
        [server] = (each.name for each in replicas(stack.name, "data_scratch"))
        ready = Run(["docker", "exec", server, "pg_isready", "-q", "-h", "127.0.0.1"], seconds=30)
        deadline = time.monotonic() + limits.HEALTHY
        while shell.run(ready, capture=True, check=False).code:
            if time.monotonic() > deadline:
                said = shell.run(stack.compose("logs", "--no-log-prefix", "data_scratch"), capture=True, check=False)
                raise Failure(f"the scratch server is not ready: {shell.last_line(said.stdout)}")
            time.sleep(0.5)
        yield
    finally:
        shell.run(_down(stack), capture=True, check=False)


def _inside(stack: Stack, *words: str, given: str = "") -> Run:
    return replace(stack.compose("exec", "-T", "data_scratch", *words), input=given, seconds=limits.COMMAND)


def _psql(stack: Stack, sql: str, name: str = "postgres") -> Run:
    words = ("psql", "-XAtq", "-F", " ", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", name)
    return _inside(stack, *words, given=f"{sql.strip()}\n")


def _restores(stack: Stack, roles: tuple[str, ...]) -> list[Run]:
    """The commands that fill the server, as a restore does."""
    quoted = [name.replace('"', '""') for name in roles if name != "postgres"]
    made = "".join(f'CREATE ROLE "{name}" LOGIN;\n' for name in quoted)
    words = (
        "pg_restore",
        "--exit-on-error",
        "-U",
        "postgres",
        "--dbname",
        database.SITE,
        f"{restic.SET}/database.dump",
    )
    return [
        _psql(stack, f"{made}CREATE DATABASE {database.SITE} OWNER site TEMPLATE template0;"),
        _inside(stack, *words),
    ]


def _fill(stack: Stack, found: Manifest) -> None:
    for each in _restores(stack, found.contents.roles):
        done = shell.run(each, capture=True, check=False)
        if done.code:
            raise Failure(f"the backup cannot be restored: {shell.last_line(done.stderr)}")
    counting = _psql(stack, f"SET search_path = '';\n{database.ROWS.strip()}", database.SITE)
    counted = manifest.rows(shell.run(counting, capture=True).stdout)
    if wrong := manifest.difference(found.contents.rows, counted):
        raise Failure(f"the restored database differs from the backup: {wrong}")


# --- The site on it ---


def _ask(data: Data, found: Manifest) -> None:
    """Run the release of the backup on that server, or where it is gone, the one that serves and its migrations."""
    here = image_id(found.image)
    if not here:
        data.notify(f"the image of release {found.release} is gone: the one that serves runs, with its migrations")
    image = here or ledger.releases(data.stack)[-1].image
    asked = shell.run(_proof(data, image, migrate=not here), capture=True, check=False)
    if asked.code:
        said = shell.last_line(asked.stderr) or shell.last_line(asked.stdout)
        raise Failure(f"release {found.release} does not run on the restored database: {said}")


def _proof(data: Data, image: str, *, migrate: bool) -> Run:
    stack = data.stack
    values = {**site.stand_ins(stack.project), **({"MIGRATE": "1"} if migrate else {})}
    given = [word for name, value in values.items() for word in ("-e", f"{name}={value}")]
    run = stack.compose("run", "--rm", "-T", "--no-deps", *given, "data_proof", *stack.project.probes)
    if image == "IMAGE":
        return run
    return make.with_image(stack, run, PROOF_IMAGE=image)
