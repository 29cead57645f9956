"""Continues in the tools environment: builds `.venvs/tools` if needed and restarts the command there.

tasks.py imports it first, however it is started: by `python3 tasks.py` on a machine that has only Python, by an
`invoke` installed elsewhere, or by the `invoke` of the tools environment. Standard library only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy import OLDEST

ROOT = Path(__file__).resolve().parent.parent
#: The environment variable with our process id once we have restarted in the tools environment. It prevents an endless
#: loop of restarts if that environment is broken.
ENTERED = "PORTICO_ENTERED"
#: Variables of Git's about one repository, which it sets for hooks; ours is the project's
#: (`git rev-parse --local-env-vars`).
OF_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
#: What starts Invoke.
DOOR = Path(__file__).with_name("core") / "door.py"
#: An upgrade that was killed half-way: what was decided, and the program that finishes it (`project/upgrade/swap.py`).
HALF_WAY, FINISH = ".portico-upgrade/plan.json", ".portico-upgrade/swap.py"


def inside(root: Path) -> bool:
    """Whether this runs in the tools environment, built from the current lock. True is certain, False is not."""
    tools = root / ".venvs" / "tools"
    try:
        unchanged = (tools / "lock.txt").read_bytes() == (root / "requirements" / "tools.txt").read_bytes()
        packages = next(path for path in sys.path if path.startswith(sys.prefix) and path.endswith("site-packages"))
        there = {*os.listdir(packages), *(f"bin/{name}" for name in os.listdir(tools / "bin"))}
        whole = set((tools / "contents.txt").read_text().splitlines()) <= there
    except (OSError, UnicodeDecodeError, StopIteration):
        return False
    return unchanged and whole and os.path.realpath(sys.prefix) == os.path.realpath(tools)


def reopen_streams() -> None:
    """Open /dev/null in place of a closed standard stream, for us and for what we start.

    Otherwise the next file that is opened, such as a lock, has its number, and gets what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def enter(*, as_script: bool) -> None:
    """Return only inside an up-to-date tools environment; otherwise build it and restart the command there.

    ``as_script``: run as `python3 tasks.py …`, and not by Invoke. Ends the process with a one-line error if the
    environment cannot be built.
    """
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        sys.exit(f"This needs Python {wanted} or newer; {sys.executable} is {sys.version.split()[0]}.")

    reopen_streams()
    for name in OF_GIT:
        os.environ.pop(name, None)
    # Before any other import: a half of the machinery may not be there.
    if (ROOT / HALF_WAY).exists():
        os.execv(sys.executable, [sys.executable, str(ROOT / FINISH), *sys.orig_argv])

    if not as_script and inside(ROOT):
        return

    from deploy.core import options
    from deploy.core.errors import Failure
    from deploy.venvs import build as venvs
    from deploy.venvs import layers
    from deploy.venvs import store as layer_store

    store = layer_store.Store.of(ROOT)
    try:
        tools = layers.resolve(
            store.requirements, layer_store.TOOLS, layer_store.chosen_python(store, layer_store.TOOLS).tag
        )
        current = layer_store.is_current(store, tools)
        if current and not as_script and os.path.realpath(sys.prefix) == str(store.path(tools)):
            return
        if os.environ.get(ENTERED) == str(os.getpid()) and not as_script:
            raise Failure(f"cannot restart in {store.link(layer_store.TOOLS)}; remove .venvs and repeat the command")
        if "--complete" in sys.argv and not current:
            sys.exit(0)  # a Tab key must not install anything
        if not current:
            venvs.ensure(store, layer_store.TOOLS, notify=lambda line: print(line, file=sys.stderr, flush=True))
    except Failure as failure:
        print(failure.message, file=sys.stderr)
        sys.exit(failure.code)
    except KeyboardInterrupt:
        sys.exit(130)
    python, invoke = (str(store.link(layer_store.TOOLS) / "bin" / name) for name in ("python", "invoke"))
    arguments = sys.argv[1:]
    if as_script:
        if said := options.wrong(sys.argv):  # before Invoke reads its own options
            sys.exit(said)
        arguments = ["--search-root", str(ROOT), *(arguments or ["--list"])]
    os.environ[ENTERED] = str(os.getpid())
    # Packages found there must not shadow those of the tools. What the task starts still gets the variables.
    alone = sys.flags.isolated or any(name in os.environ for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH"))
    os.execv(python, [python, "-I" if alone else "-P", str(DOOR), invoke, *arguments])
