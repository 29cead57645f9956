"""A restore: a fresh database beside the one that is there, checked, then switched by its name; files in the same way.

What is damaged is refused before anything is touched. Until the switch, a failure leaves the site as it was, and after
it, brings it back: what was there is kept until `restore --drop-old`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from deploy.compose import journal, ledger, maintenance, rollout, update
from deploy.compose.containers import (
    START,
    await_healthy,
    await_ready,
    inspect,
    remove,
    replicas,
    require_own,
    scales,
    stop,
)
from deploy.compose.data import database, make, manifest, restic
from deploy.compose.data.make import Data
from deploy.compose.data.manifest import Manifest
from deploy.compose.front import switch_upstream
from deploy.compose.ledger import Release
from deploy.core import git, pipe, shell
from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Remove, Run, WriteSecret
from deploy.docker import env
from deploy.docker.backup_env import FILES, VARIABLES
from deploy.docker.dotenv import load
from deploy.docker.kinds import BEAT
from deploy.docker.stack import Stack, secret_steps
from deploy.project import backups, proxy
from deploy.project.backups import Backup
from deploy.project.config import Project, environment_name

#: What an environment holds that gets another one's data: it would write to real people, and do what is due twice.
HELD = ("mail", "beat")
HOLD = f"HOLD={','.join(HELD)}"


@dataclass(frozen=True)
class Plan:
    """What is restored, the release that serves afterwards, and the one that serves now."""

    backup: Backup
    manifest: Manifest
    release: Release
    now: Release
    #: The environment that gets the data of another; empty for a site's own.
    into: str = ""

    def title(self) -> str:
        """The plan in words."""
        code = "the release that serves now" if self.release == self.now else f"release {self.release.number}"
        forward = "" if self.release.revision == self.backup.revision else ", which brings its migrations"
        held = f" There, mail and beat are held: {HOLD} in .env.{self.into}." if self.into else ""
        after = f"{git.short(self.release.revision)}{forward}"
        return (
            f"This replaces the database and the files of {self.into or self.manifest.site} by {self.backup.title()},"
            f" with {self.manifest.contents.title()}; afterwards {code} runs"
            f" ({after}). The site is down meanwhile; what is there now is kept.{held}"
        )


def code(known: Sequence[Release], of: Backup, *, keep: bool) -> Release:
    """The release that serves after a restore: the one of the backup, or with ``keep`` the one that serves now.

    On another machine, releases have other numbers; there, the same revision counts. Raises `Failure` if it has none.
    """
    if keep:
        return known[-1]
    same = [each for each in known if each.revision == of.revision]
    exact = [each for each in same if str(each.number) == of.release]
    clean = [each for each in same if of.revision != "unknown" and not of.revision.endswith("-changed")]
    if known[-1] in (exact or clean):
        return known[-1]
    if found := exact or clean:
        return found[-1]
    raise Failure(
        f"backup {of.id} is of release {of.release} ({git.short(of.revision)}), which this machine has no more: deploy"
        " that commit first, or take --keep-code: the code that serves now, and its migrations"
    )


def action(project: Project, to: str, notify: Notify, *, into: str, keep_code: bool, drop_old: bool) -> Action:
    """Restore a backup, ``into`` another environment if one is named, or remove what earlier restores put aside."""
    if drop_old:
        return _removal(project, notify)
    return _copy(project, to, into, notify) if into else _restoration(project, to, notify, keep_code=keep_code)


def _restoration(project: Project, to: str, notify: Notify, *, keep_code: bool) -> Action:
    """Restore a backup and bring the code of its time into service. Raises `Failure` if there is no such backup."""
    data = make.of(project, notify)
    now = make.serving(data.stack)
    chosen = backups.choose(data.listed(), to, data.site)
    release = code(ledger.releases(data.stack), chosen, keep=keep_code)
    ledger.require_image(release)
    found = manifest_of(data, chosen)
    plan = Plan(chosen, found, release, now)
    back = replace(data, stack=ledger.environment_of(load(project, data.stack.kind), release))
    return Action(lambda: _show(back, plan), lambda: _restore(back, plan), Question(plan.title(), data.stack.name))


def _copy(project: Project, to: str, into: str, notify: Notify) -> Action:
    """Restore a backup of this site into another environment, whose code stays, and which holds mail and beat.

    Raises `Failure` if that environment does not run, or if it is this one.
    """
    data = make.of(project, notify)
    there = replace(project, environment=environment_name(into))
    if there.environment == project.environment:
        raise Failure(f"--into {into}: is this environment itself; leave it out, or name another one")
    stack = load(there, data.stack.kind)
    require_own(stack)
    if not any(each.running for each in replicas(stack.name, "app")):
        raise Failure(f"--into {into}: it does not run: `invoke prod{there.option}` starts it; then restore again")
    stack = replace(stack, env=stack.env.model_copy(update={"hold": list(HELD)}))
    now = make.serving(stack)
    chosen = backups.choose(data.listed(), to, data.site)
    plan = Plan(chosen, manifest_of(data, chosen), now, now, into)
    copy = replace(data, stack=ledger.environment_of(stack, now), origin=data.site)

    def do() -> None:
        _hold(there, notify)
        shell.perform(restic.secret_steps(copy.stack, copy.settings))
        try:
            _restore(copy, plan)
        finally:  # what opens the repository of another environment stays with that
            shell.perform([Remove(copy.stack.secrets / name) for name in (*FILES.values(), VARIABLES)])

    return Action(lambda: _show(copy, plan), do, Question(plan.title(), stack.name))


def _hold(project: Project, notify: Notify) -> None:
    """Have an environment hold mail and beat from now on, also in its next deploys."""
    path = project.env_path
    text = env.text_of(path)
    lines = [line for line in text.splitlines() if not line.startswith("HOLD=")]
    shell.perform([WriteSecret(path, "\n".join([*lines, HOLD, ""]))])
    notify(f"{path.name}: {HOLD}. Take the line out, and `invoke prod{project.option}` sends mail and runs beat again")


def _show(data: Data, plan: Plan) -> None:
    stack, at, names = data.stack, data.settings, _names(data, plan.manifest)
    print(f"# {plan.title()}")
    there = [database.SITE]
    fetch = ("fetch", plan.backup.id, plan.backup.folders[0], str(plan.manifest.bytes), *names)
    shell.perform(
        [
            restic.command(stack, at, *fetch),
            stack.compose("run", "--rm", "-T", "data_archive"),
            stack.compose("stop", *reversed(stack.site_services)),
            database.create(stack),
        ],
        dry_run=True,
    )
    print(pipe.rendered(restic.command(stack, at, "send"), database.restore(stack)))
    counts = scales(update.wanted(stack, replicas(stack.name)))
    shell.perform(
        [
            restic.command(stack, at, "stage", plan.backup.id, plan.backup.folders[0], *names, service=restic.RESTORES),
            database.switch(stack, *_renames(plan.backup.id, there)),
            restic.command(stack, at, "swap", *names, service=restic.RESTORES),
            Run(["docker", "tag", plan.release.image, stack.image]),
            stack.compose("run", "--rm", "-T", "--no-deps", "release"),
            stack.compose(*START, *counts, *maintenance.free(stack, stack.site_services)),
        ],
        dry_run=True,
    )


def _restore(data: Data, plan: Plan) -> None:
    stack, what = data.stack, f"{plan.backup.id} of {plan.backup.at:%Y-%m-%d %H:%M}"
    with (
        rollout.only_one(stack, "a restore"),
        make.only_one(stack, "a restore"),
        ledger.recorded(stack, "restore", what) as said,
        make.cleared(data),
    ):
        if any(each.running for each in replicas(stack.name, "app")):
            journal.recover(stack, data.notify)
        counts = update.wanted(stack, replicas(stack.name))
        require_whole(data, plan.backup, plan.manifest)
        with _stopped(data):
            renames = _fill(data, plan)
        try:
            data.restic("swap", *_names(data, plan.manifest), service=restic.RESTORES)
            serve(data, plan.release, counts)
        except BaseException as error:
            _back_out(data, plan, renames, counts, error)
            raise
        if plan.release != plan.now:
            _record(stack, plan.release)
        said.append(f"release {plan.release.number} serves with backup {plan.backup.id}")
    kept = f" The database of before is kept as {renames[0][1]}: `invoke restore --drop-old` removes it, and its files."
    data.notify(f"{said[-1]}: {plan.manifest.contents.title()}.{kept if len(renames) > 1 else ''}")
    if plan.release != plan.now and (other := ledger.differs(stack, ledger.text_of(stack, plan.release))):
        data.notify(other)


def _names(data: Data, found: Manifest) -> list[str]:
    """The folders that the backup and this release both have."""
    return [name for name in restic.folders(data.stack) if name in found.folders]


# --- Before anything is touched ---


def manifest_of(data: Data, of: Backup) -> Manifest:
    """The manifest of a backup. Raises `Failure` if it is damaged."""
    with _refusing(of):
        return manifest.parse(data.restic("manifest", of.id, of.folders[0]))


@contextmanager
def _refusing(of: Backup) -> Iterator[None]:
    """A failure inside means that the backup is damaged or out of reach."""
    try:
        yield
    except Failure as failure:
        raise Failure(f"backup {of.id} cannot be used, and nothing was touched: {failure.message}") from None


def require_whole(data: Data, of: Backup, found: Manifest) -> None:
    """Bring the dump to this machine, and read the files. Raises `Failure` if anything of the backup is damaged."""
    data.notify(f"check backup {of.id}")
    words = ("fetch", of.id, of.folders[0], str(found.bytes), *_names(data, found))
    with _refusing(of):
        described = restic.described(data.restic(*words))
        if described != (found.sha256, found.bytes):
            raise Failure("its dump is not the one that was made")
        make.require_list(data.stack, "its dump")


# --- Until the switch ---


@contextmanager
def _stopped(data: Data) -> Iterator[None]:
    """Stop what writes: beat, workers, then web. If what happens inside fails, start the same containers again."""
    running = [each for each in journal.site_replicas(data.stack) if each.running]
    web = [each for each in running if each.service == "app"]
    beat = [each for each in running if each.service == BEAT]
    workers = [each for each in running if each not in web and each not in beat]
    data.notify(f"stop {', '.join(each.name for each in running) or 'nothing: the site does not run'}")
    try:
        for some in filter(None, (beat, workers, web)):
            stop(some)
        yield
    except BaseException:
        if running:
            data.notify("start the site as it was")
            shell.run(Run(["docker", "start", *(each.name for each in running)]), capture=True)
            await_healthy(inspect(running))
        raise


def _fill(data: Data, plan: Plan) -> list[tuple[str, str]]:
    """Restore the database and the files beside those that are there, compare, and switch; returns what was renamed.

    Raises `Failure` if anything of that fails; what is there is untouched then.
    """
    stack, names = data.stack, _names(data, plan.manifest)
    data.notify(f"restore {plan.manifest.contents.title()}, {plan.manifest.bytes / 1e6:.1f} MB")
    try:
        shell.run(database.create(stack), capture=True)
        one, two = pipe.run(restic.command(stack, data.settings, "send"), database.restore(stack))
        if two.code or one.code:
            said = shell.last_line(two.stderr) or shell.last_line(one.stderr)
            raise Failure(f"the dump cannot be restored: {said}")
        shell.run(database.psql(stack, "ANALYZE;", database.FRESH), capture=True)
        counted = manifest.rows(shell.run(database.count(stack, database.FRESH), capture=True).stdout)
        if wrong := manifest.difference(plan.manifest.contents.rows, counted):
            raise Failure(f"the restored database differs from the backup: {wrong}")
        data.restic("stage", plan.backup.id, plan.backup.folders[0], *names, service=restic.RESTORES)
        there = shell.run(database.names(stack), capture=True).stdout.split()
        renames = _renames(plan.backup.id, there)
        shell.run(database.switch(stack, *renames), capture=True)
    except BaseException:
        shell.run(database.drop(stack, database.FRESH), capture=True, check=False)
        undo = restic.command(stack, data.settings, "unstage", plan.backup.id, *names, service=restic.RESTORES)
        shell.run(undo, capture=True, check=False)
        raise
    return renames


def _renames(identifier: str, there: Sequence[str]) -> list[tuple[str, str]]:
    """The names that change: that of the site's database, if there is one, and that of the fresh one."""
    kept = [(database.SITE, database.aside(identifier, list(there)))] if database.SITE in there else []
    return [*kept, (database.FRESH, database.SITE)]


# --- After the switch ---


def serve(data: Data, release: Release, counts: Mapping[str, int]) -> None:
    """Start a release on the database that is there: its one-shot service, then all others. Raises `Failure`."""
    stack = data.stack
    shell.run(Run(["docker", "tag", release.image, stack.image]), capture=True)
    shell.perform(secret_steps(stack))
    remove([each for each in journal.site_replicas(stack) if not each.running])
    update.up(stack, *stack.datastores, recreate=False)
    if stack.redis and not stack.redis.broker:  # what is cached is of another time
        shell.run(stack.compose("restart", "redis"), capture=True)
    update.release(stack, data.notify)
    data.notify(f"start release {release.number}")
    services = maintenance.free(stack, stack.site_services)
    shell.run(stack.compose(*START, *scales(counts), *services), capture=True)
    await_healthy(replicas(stack.name, *services))
    update.up(stack, "nginx", recreate=False)
    switch_upstream(stack, proxy.ALL)
    for each in replicas(stack.name, "app"):
        await_ready(each, stack.project.probes)


def _back_out(
    data: Data, plan: Plan, renames: Sequence[tuple[str, str]], counts: Mapping[str, int], error: BaseException
) -> None:
    """Put back what was there before the switch, if there was something. Raises `Failure` if that fails too."""
    if len(renames) < 2:
        return
    stack = data.stack
    data.notify("the restored site does not start: put back what was there")
    try:
        if running := [each for each in journal.site_replicas(stack) if each.running]:
            stop(running)
        [(site, kept), (fresh, _)] = renames
        shell.run(database.switch(stack, (site, fresh), (kept, site)), capture=True)
        data.restic("unswap", plan.backup.id, *_names(data, plan.manifest), service=restic.RESTORES)
        before = replace(data, stack=ledger.serving(stack))
        serve(before, plan.now, counts)
        shell.run(database.drop(stack, fresh), capture=True)
        data.restic("unstage", plan.backup.id, *_names(data, plan.manifest), service=restic.RESTORES)
    except Failure as failure:
        said = error.message if isinstance(error, Failure) else "interrupted"
        raise Failure(
            f"{said}; and what was there could not be put back: {failure.message}. The database of before is kept as"
            f" {renames[0][1]}: `invoke prod` or `invoke restore` again"
        ) from None


def _record(stack: Stack, release: Release) -> None:
    """Record that an earlier release serves again."""
    coming = ledger.coming(stack, release.image, release.revision, release.of)
    ledger.stage(stack, coming, ledger.text_of(stack, release))
    ledger.add(stack, coming)
    ledger.prune(stack)


# --- What was there before ---


def _removal(project: Project, notify: Notify) -> Action:
    """Remove the databases and files that restores have put aside."""
    data = make.of(project, notify)
    shell.perform(restic.secret_steps(data.stack, data.settings))
    there = shell.run(database.names(data.stack), capture=True).stdout.split()
    old = [name for name in there if name.startswith(database.BEFORE)]
    steps = [
        *([database.drop(data.stack, *old)] if old else []),
        restic.command(data.stack, data.settings, "drop", service=restic.RESTORES),
    ]

    def do() -> None:
        with rollout.only_one(data.stack, "a removal"), make.only_one(data.stack, "a removal"):
            for each in steps:
                shell.run(each, capture=True)
        notify(f"removed: {', '.join(old) or 'no database'}, and the files of before")

    what = f"This removes {', '.join(old) or 'no database'} and the files that restores have put aside."
    return Action(lambda: shell.perform(steps, dry_run=True), do, Question(what, data.stack.name))
