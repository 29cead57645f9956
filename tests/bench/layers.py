"""What layers save: time of `dev` over a built base, and disk of four environments, beside full environments.

Everything is done once before it is counted, so that the package cache is warm for all.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.core.shell import Run, run
from deploy.venvs import build as venvs
from deploy.venvs import store as layer_store
from deploy.venvs.views import size
from tests import support
from tests.bench.measure import contest
from tests.figures import Figures
from tests.support import TOOLS

UV = str(TOOLS / "uv")
FOUR = ("base", "dev", "prod", "test")


def uv_full(folder: Path, requirements: Path, name: str, mode: str) -> None:
    """A whole environment of the usual kind, by uv."""
    run(Run([UV, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder)]), capture=True)
    python = str(folder / "bin" / "python")
    command = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--no-deps",
        "--require-hashes",
        "--link-mode",
        mode,
    ]
    run(Run([*command, "-r", str(requirements / f"{name}.txt")]), capture=True)


def pip_full(folder: Path, requirements: Path, name: str) -> None:
    """A whole environment of the usual kind, by Python's own means."""
    run(Run([sys.executable, "-m", "venv", str(folder)]), capture=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(Run([*command, "--require-hashes", "-r", str(requirements / f"{name}.txt")]), capture=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        project = support.copy_project(root / "project")
        requirements = project / "requirements"
        store = layer_store.Store.of(project)
        os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"  # uv, as the bootstrap finds it
        quiet: Callable[[str], None] = lambda line: None  # noqa: E731
        venvs.ensure(store, "base", notify=quiet)

        def forget() -> None:
            for path in [*(store.folder / ".layers").glob("dev-*"), root / "full"]:
                shutil.rmtree(path, ignore_errors=True)

        def ours() -> None:
            venvs.ensure(store, "dev", notify=quiet)

        contests = [
            (
                contest(
                    f"dev over a built base / uv, the full environment, {mode}",
                    ours,
                    full(root, requirements, mode),
                    before=forget,
                ),
                goal,
            )
            for mode, goal in (("copy", "at most 0.5"), ("hardlink", "at most 1"))
        ]
        contests.append(
            (
                contest(
                    "dev over a built base / `python -m venv` and pip",
                    ours,
                    lambda: pip_full(root / "full", requirements, "dev"),
                    runs=3,
                    before=forget,
                ),
                "at most 0.1",
            )
        )
        figures = Figures("layers", ".venvs/test/bin/python -m tests.bench.layers")
        for each, goal in contests:
            each.into(figures, goal)
        disk(root, requirements, figures)
        figures.save()


def full(root: Path, requirements: Path, mode: str) -> Callable[[], None]:
    return lambda: uv_full(root / "full", requirements, "dev", mode)


def disk(root: Path, requirements: Path, figures: Figures) -> None:
    """Four environments, each file counted as a copy: as layers (with the tools that test stands on), and in full."""
    os.environ["UV_LINK_MODE"] = "copy"
    store = layer_store.Store(root / "store", requirements)
    for name in FOUR:
        venvs.ensure(store, name, notify=lambda line: None)
        uv_full(root / "whole" / name, requirements, name, "copy")
    layered, whole = size(root / "store" / ".layers"), size(root / "whole")
    without_tools = layered - sum(size(path) for path in (root / "store" / ".layers").glob("tools-*"))
    for what, ours in (("", without_tools), (" and tools", layered)):
        figures.add(
            f"disk of {', '.join(FOUR)}{what} as layers",
            ours / 1e6,
            "MB",
            rival="four full environments",
            theirs=[whole / 1e6],
            goal="" if what else "at most 0.5",
        )


if __name__ == "__main__":
    main()
