"""The console blocks of the pages: each is typed in a copy of the project, unless it is marked as not run."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import pages, support

#: Seconds for one command: an environment may have to be built.
PATIENCE_SECONDS = 180
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(support.ROOT)}-{number}")
    for path in pages.pages()
    for number, block in enumerate(pages.blocks(path.read_text()), 1)
    if block.language == "console"
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with our environments."""
    made = support.copy_project(tmp_path_factory.mktemp("pages") / "project")
    shutil.copytree(support.ROOT / ".venvs", made / ".venvs", symlinks=True)
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a copy"]):
        subprocess.run(["git", "-C", str(made), *own, *words], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("block", BLOCKS)
def test_what_a_console_block_shows_can_be_typed(block: pages.Block, project: Path) -> None:
    if block.remark:
        assert block.remark.startswith("not run: "), "a block that is not run says why"
        assert len(block.remark) > len("not run: ")
        return
    assert block.commands, "a console block has commands, each after `$ `"
    script = "set -e\n" + "\n".join(block.commands)
    path = f"{project / '.venvs/tools/bin'}:{support.environment()['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=project,
        env=support.environment(PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    for line in block.body.splitlines():
        if line.strip() and not line.startswith("$ ") and line.strip() != "…":
            expected = ".*".join(re.escape(part.strip()) for part in line.split("…"))
            assert re.search(expected, said), f"{line!r} is not in\n{said}"
