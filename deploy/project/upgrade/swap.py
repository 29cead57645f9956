"""Exchanges files and folders so that a kill leaves them as before or as after. Standard library only.

`.portico-upgrade/` in the repository holds everything new, and a copy of everything old, before anything is touched.
From the moment that `plan.json` is in it, the exchange is decided: renames within one file system follow, and whoever
comes next finishes them. `deploy/bootstrap.py` looks for that file before it imports the rest of the machinery, which
may be half there, and runs the copy of this module in the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Named in `deploy/bootstrap.py` too, which may import nothing of this.
STAGE, PLAN, PROGRAM = ".portico-upgrade", "plan.json", "swap.py"
NEW, OLD, GONE = "new", "old", "gone"
#: Put last, in this order: what each command runs before it finds out that an exchange is to be finished.
LAST = ("tasks.py", "deploy/__init__.py", "deploy/bootstrap.py")
#: Seconds for another process to finish the same exchange, which is some hundred renames.
WAIT_SECONDS = 60


def unit(name: str) -> str:
    """What is exchanged in one rename: a file, or the folder within `deploy`, or `nginx`, that a file lies in."""
    parts = name.split("/")
    if parts[0] == "deploy" and parts[1] not in ("environments", "local"):
        return "/".join(parts[:2])
    return parts[0] if parts[0] == "nginx" else name


def units(names: Iterable[str]) -> set[str]:
    """The units of these files."""
    return {unit(name) for name in names}


@contextmanager
def locked(root: Path, seconds: float) -> Iterator[bool]:
    """Hold the lock on a repository's upgrades; gives whether it was free within ``seconds``. Ends with the process."""
    folder = os.open(root, os.O_RDONLY)
    try:
        yield _lock(folder, time.monotonic() + seconds)
    finally:
        os.close(folder)


def _lock(folder: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def begin(root: Path) -> Path:
    """An empty folder for the files to exchange. Git does not see it."""
    stage = root / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    for name in (NEW, OLD, GONE):
        (stage / name).mkdir(parents=True)
    (stage / ".gitignore").write_text("*\n")
    shutil.copyfile(__file__, stage / PROGRAM)
    return stage


def decide(root: Path, put: Iterable[str], remove: Iterable[str], source: str = NEW) -> None:
    """Decide an exchange: these units from ``source`` in their places, and those away."""
    stage = root / STAGE
    plan = {"source": source, "put": sorted(put, key=_order), "remove": sorted(remove)}
    fresh = stage / f"{PLAN}.new"
    with fresh.open("w") as file:
        json.dump(plan, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, stage / PLAN)


def _order(name: str) -> tuple[int, str]:
    return (LAST.index(name) + 1 if name in LAST else 0, name)


def is_decided(root: Path) -> bool:
    """Whether an exchange was decided, and not finished."""
    return (root / STAGE / PLAN).exists()


def finish(root: Path) -> None:
    """Carry out what was decided; what is done already is left as it is. The caller holds the lock.

    Raises OSError, after which it can be called again.
    """
    stage = root / STAGE
    plan = json.loads((stage / PLAN).read_text())
    for name in plan["put"]:
        source = stage / plan["source"] / name
        if os.path.lexists(source):
            _put(source, root / name, stage / GONE)
    for name in plan["remove"]:
        _away(root / name, stage / GONE)
    os.unlink(stage / PLAN)


def _put(source: Path, target: Path, gone: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_folder(source) or _is_folder(target):
        _away(target, gone)
    os.replace(source, target)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _away(path: Path, gone: Path) -> None:
    """Out of its place in one rename; a folder cannot be replaced by another that has something in it."""
    if not os.path.lexists(path):
        return
    number = 0
    while os.path.lexists(to := gone / f"{path.name}.{number}"):
        number += 1
    os.rename(path, to)


def clear(root: Path) -> None:
    """Remove the folder, once nothing is decided any more."""
    shutil.rmtree(root / STAGE, ignore_errors=True)


def main() -> None:
    """Finish what a killed upgrade had decided, and run the command that was asked for: our arguments."""
    root = Path(__file__).resolve().parent.parent
    try:
        with locked(root, WAIT_SECONDS) as free:
            if not free:
                sys.exit(f"{root}: an upgrade runs here; repeat the command when it has ended")
            if is_decided(root):
                finish(root)
                clear(root)
                with suppress(OSError):
                    sys.stderr.write("an upgrade that was stopped half-way is finished now\n")
    except OSError as error:
        reason = f"{error.filename or root}: {error.strerror}"
        sys.exit(f"{reason}: an upgrade was stopped half-way and cannot be finished; fix that and repeat the command")
    sys.stderr.flush()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
