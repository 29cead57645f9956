"""`invoke upgrade`: the plan shown or carried out, and the newer machinery asked whether it starts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.core import shell
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Result, Run
from deploy.project.declared import FILE
from deploy.project.upgrade import manifest, origin, swap
from deploy.project.upgrade import plan as plans
from deploy.project.upgrade.manifest import Manifest
from deploy.project.upgrade.plan import Options, Plan

#: For the newer machinery to build its tools, also from source over a slow line.
BUILD_SECONDS = 1800


def upgrade(ours: Path, options: Options, notify: Notify) -> Action:
    """Install a newer Portico in an adopted repository: in ``ours``, where this runs, or in the one that is named.

    Raises `Failure` before anything is written, with all that stands in the way.
    """
    root = Path(options.path).expanduser().resolve() if options.path else ours
    if not root.is_dir():
        raise Failure(f"{root}: there is no such folder")

    def show() -> None:
        with _planned(root, ours, options) as (this, _):
            for line in plans.summary(this) if not this.nothing else [_current(this.before)]:
                print(line)

    def do() -> int | None:
        with swap.locked(root, 0) as free:
            if not free:
                raise Failure(f"another upgrade of {root} runs at this moment; retry when it has finished")
            if swap.is_decided(root):
                swap.finish(root)
            with _planned(root, ours, options) as (this, fresh):
                if this.nothing:
                    notify(_current(this.before))
                    return None
                for line in plans.summary(this):
                    notify(line)
                _exchange(root, this, fresh, notify)
        return _checked(root, this, notify)

    return Action(show, do)


def _current(installed: Manifest) -> str:
    return f"nothing to do: Portico {installed} is installed"


@contextmanager
def _planned(root: Path, ours: Path, options: Options) -> Iterator[tuple[Plan, Path]]:
    """The plan, and the folder with the new files, while the block runs."""
    installed = manifest.read(root)
    if installed is None and (root / "tests" / "rig").is_dir():
        raise Failure(f"{root} is Portico's own repository: `git pull` brings a newer one")
    require_committed(root)
    other = root != ours and not options.source  # the checkout that this runs in is the newer one
    source = origin.address(options.source, str(ours) if other else installed.source if installed else "")
    with origin.fetched(source) as repository, TemporaryDirectory(prefix="portico-") as scratch:
        version = repository.version(options.to)
        before, new = Path(scratch) / "before", Path(scratch) / "new"
        before.mkdir()
        new.mkdir()
        found = installed or plans.nearest(root, repository, before)
        plans.require_newer(repository, found, version, options.to)
        remembered = manifest.of_checkout(ours).source or source if other else source
        after = plans.new(repository, version, new, remembered)
        this = plans.plan(root, repository, found, after, options.replaced)
        if this.moved:
            require_committed(root, FILE)
        yield this, new


def require_committed(root: Path, *more: str) -> None:
    """Raise `Failure` unless Git has all of Portico's files as they are: it brings back what an upgrade replaces."""
    git = ["git", "-C", str(root), "status", "--porcelain", "--no-renames", "-z", "--untracked-files=all", "--"]
    result = shell.run(Run([*git, *manifest.OURS, *more], seconds=manifest.SECONDS), capture=True, check=False)
    if result.code:
        raise Failure(f"{root}: Git brings back what an upgrade replaces: {shell.last_line(result.stderr)}")
    names = [entry[3:] for entry in result.stdout.split("\0") if entry]
    changed = [name for name in names if manifest.is_ours(name) or name in (manifest.FILE, *more)]
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise Failure(f"not committed: {changed[0]}{others}; commit or restore that, then upgrade")


def _exchange(root: Path, this: Plan, fresh: Path, notify: Notify) -> None:
    """Put the new files in place, and the old ones back if the newer machinery does not start.

    Raises `Failure` in that case, and if there is no room for the files.
    """
    (fresh / manifest.FILE).write_text(this.after.render())
    if this.moved:
        (fresh / FILE).write_text(this.settings)
    changed = [*this.written, *this.removed, manifest.FILE, *([FILE] if this.moved else [])]
    affected = swap.units(changed)
    try:
        stage = swap.begin(root)
        put = {each for each in affected if copied(fresh / each, stage / swap.NEW / each)}
        kept = {each for each in affected if copied(root / each, stage / swap.OLD / each)}
    except OSError as error:
        swap.clear(root)
        raise Failure(f"{error.filename or root}: {error.strerror}; nothing was changed") from None
    swap.decide(root, put, affected - put)
    _finish(root)
    try:
        notify("building the tools of the newer version, if they differ")
        started = _asked(root, "--list")
    except BaseException:
        _back(root, kept, affected)
        raise
    if started.code:
        _back(root, kept, affected)
        why = shell.last_line(started.stderr) or shell.last_line(started.stdout)
        raise Failure(f"Portico {this.after} does not start here, and all is as before: {why}")
    swap.clear(root)


def copied(source: Path, target: Path) -> bool:
    """Copy a file or folder, if it is there; returns whether it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*manifest.MADE, "*.pyc"))
    elif source.is_symlink() or source.exists():
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        return False
    return True


def _finish(root: Path) -> None:
    try:
        swap.finish(root)
    except OSError as error:
        reason = f"{error.filename or root}: {error.strerror}"
        raise Failure(f"{reason}; fix that, and the next command finishes the upgrade") from None


def _back(root: Path, kept: set[str], affected: set[str]) -> None:
    swap.decide(root, kept, affected - kept, swap.OLD)
    _finish(root)
    swap.clear(root)


def _asked(root: Path, *words: str) -> Result:
    """What the machinery that is there now answers, in a process of its own, which builds its tools first."""
    # The Python below the tools environment, which the newer version may build again.
    python = str(getattr(sys, "_base_executable", sys.executable))
    return shell.run(Run([python, "tasks.py", *words], cwd=root, seconds=BUILD_SECONDS), capture=True, check=False)


def _checked(root: Path, this: Plan, notify: Notify) -> int:
    """Have the newer version check the project; returns its exit code."""
    result = _asked(root, "check")
    for line in (result.stdout if not result.code else "").splitlines() + result.stderr.splitlines():
        notify(line)
    notify(f"Portico {this.after} is installed; look at `git status`, and commit it")
    return result.code
