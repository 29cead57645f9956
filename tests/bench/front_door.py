"""What the front door costs: `invoke --list` beside an empty tasks.py, and `venv` with nothing to do beside that."""

import tempfile
from pathlib import Path

from deploy.core.shell import Run, run
from tests.bench.measure import contest
from tests.figures import Figures
from tests.support import ROOT, TOOLS

EMPTY = """\
from invoke import task


@task
def nothing(c):
    pass
"""
INVOKE = str(TOOLS / "invoke")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.py").write_text(EMPTY)

        def task(root: Path, *words: str) -> None:
            run(Run([INVOKE, *words], cwd=root), capture=True)

        run(Run([INVOKE, "venv", "--env", "dev"], cwd=ROOT), capture=True)
        listing = contest(
            "`invoke --list` / the same with an empty tasks.py",
            lambda: task(ROOT, "--list"),
            lambda: task(Path(folder), "--list"),
            runs=15,
        )
        nothing = contest(
            "`invoke venv --env dev`, nothing to do / `invoke --list`",
            lambda: task(ROOT, "venv", "--env", "dev"),
            lambda: task(ROOT, "--list"),
            runs=15,
        )
    figures = Figures("front_door", ".venvs/test/bin/python -m tests.bench.front_door")
    listing.into(figures, "at most 1.15")
    difference = sorted(a - b for a, b in zip(nothing.ours, nothing.rival, strict=True))[len(nothing.ours) // 2]
    nothing.into(figures, f"at most 60 ms more; it is {difference * 1000:.0f} ms")
    figures.save()


if __name__ == "__main__":
    main()
