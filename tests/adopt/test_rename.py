"""A clone of Portico becomes a project of its own name: nothing of the old one is left, and its tests pass."""

from pathlib import Path

from tests import support
from tests.adopt.repository import committed, git, unchanged
from tests.support import one_line


def test_a_clone_becomes_a_project_whose_tests_pass(tmp_path: Path) -> None:
    root = support.copy_project(tmp_path / "clone")
    git(root, "init", "-q")
    committed(root, "portico")
    (root / "site" / "db.sqlite3").write_text("of this machine, ignored by Git")
    (root / "left.txt").write_text("x")
    assert "not committed: left.txt" in one_line(support.invoke(root, "rename", "--name", "shop", "--yes"))
    (root / "left.txt").unlink()

    done = support.invoke(root, "rename", "--name", "shop", "--folder", "backend", "--yes")
    assert done.code == 0, done.stdout + done.stderr
    committed(root, "shop")
    names = [name for name in git(root, "ls-files", "-z").split("\0") if name and not name.startswith("deploy/")]
    assert not [name for name in names if "mysite" in f"{name} {(root / name).read_text()}"]
    assert not (root / "site").exists()
    assert (root / "backend" / "db.sqlite3").exists()
    tested = support.invoke(root, "test", "--", "tests/test_polls.py", "tests/test_logging.py")
    assert tested.code == 0, tested.stdout + tested.stderr
    linted = support.invoke(root, "lint")
    assert linted.code == 0, linted.stdout + linted.stderr
    assert unchanged(root), "it is an adopted project from then on, which `upgrade` knows"
