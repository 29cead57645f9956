"""Other teams' projects: seconds from a repository without Portico to a site that is ready, and lines written for it.

Needs an engine with the rig's images (`tests/rig/up`). The package cache is warm, as on a machine of a developer.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.project.check import findings, known
from tests import support
from tests.adopt.projects import EXAMPLES
from tests.adopt.repository import Adopted, adopt, give_values, has_python
from tests.figures import Figures
from tests.rig.engine import docker
from tests.rig.ports import free_port
from tests.support import Dev

FILES = 2000


def seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def native(this: Adopted, run: Path) -> float:
    """Seconds from `dev --native` in the adopted repository to the ready line, environments included."""
    began = time.perf_counter()
    with Dev(this.root, run, seconds=300):
        return time.perf_counter() - began


def production(this: Adopted) -> float:
    """Seconds of the first `prod`, the build included."""
    try:
        return seconds(lambda: this.must("prod", "--detach"))
    finally:
        this.invoke("down", "--volumes", "--yes", "--on", "prod")
        docker("image", "rm", "-f", f"{this.name}:latest", check=False)


def main() -> None:
    figures = Figures("adopt", ".venvs/test/bin/python -m tests.bench.adopt")
    for name, example in EXAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            this = adopt(Path(folder), f"bench{name}", example)
            figures.add(f"{name}: `adopt`, with its locks", time.perf_counter() - began, "s")
            lines = [line for line in (this.root / "invoke.yaml").read_text().splitlines() if line.strip()]
            figures.note(
                f"{name}: lines of `invoke.yaml`; lines of the project that changed", f"{len(lines)}; 0", goal="10; 0"
            )
            give_values(this, HTTP_PORT=str(free_port()), HTTPS_PORT=str(free_port()))
            if has_python(example):
                figures.add(f"{name}: `dev --native`, to Ready", native(this, Path(folder) / "run"), "s")
            figures.add(f"{name}: `prod`, to Serving", production(this), "s")
    with tempfile.TemporaryDirectory() as folder:
        root = support.copy_project(Path(folder) / "large")
        for number in range(FILES):
            path = root / "site" / "polls" / f"part{number % 50}" / f"module{number}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"import os\n\n\ndef value{number}():\n    return os.getpid() + {number}\n")
        figures.add(
            f"`check` of {FILES} files", seconds(lambda: findings(known(root, {}, "", {}))), "s", goal="at most 1"
        )
    figures.save()


if __name__ == "__main__":
    main()
