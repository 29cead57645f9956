"""`deploy/MANIFEST`: what of Portico is installed, and which files those are."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project import adopt
from deploy.project.upgrade import manifest
from deploy.project.upgrade.manifest import Manifest
from tests import support
from tests.rig.startproject import MANAGE
from tests.support import ROOT

COMMIT = "87e1a94d" * 5


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("tasks.py", True),
        ("deploy/core/shell.py", True),
        ("nginx/site.conf", True),
        ("Dockerfile", True),
        ("requirements/tools.txt", True),
        ("deploy/environments/example.yaml", True),
        ("deploy/environments/production.yaml", False),
        ("deploy/local/compose.yaml", False),
        ("deploy/local/README.md", True),
        ("deploy/MANIFEST", False),
        ("requirements/base.in", False),
        ("invoke.yaml", False),
        (".env.example", False),
        ("site/deploy/x.py", False),
        ("nginx-notes.txt", False),
    ],
)
def test_each_file_has_one_owner(name: str, ours: bool) -> None:
    assert manifest.is_ours(name) == ours


def test_what_is_written_is_read_again_and_sha256sum_can_check_it(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "tasks.py").write_text("x\n")
    files = manifest.digests(tmp_path, ["tasks.py"])
    this = Manifest("2026-11-27", COMMIT, "https://git.example.org/portico", files)
    (tmp_path / manifest.FILE).write_text(this.render())
    assert manifest.read(tmp_path) == this
    assert str(this) == "2026-11-27 (87e1a94d87e1)"
    check = ["sha256sum", "--check", "--strict", manifest.FILE]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / "tasks.py").write_text("y\n")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def test_a_line_that_is_none_is_named() -> None:
    with pytest.raises(Failure, match="deploy/MANIFEST:2: is neither a hash"):
        manifest.parse("# version: 1\n<<<<<<< ours\n")


def test_a_password_in_an_address_is_not_recorded() -> None:
    assert manifest.without_password("https://ci:t0ken@git.example.org/p") == "https://git.example.org/p"
    assert manifest.without_password("ssh://git@git.example.org/p") == "ssh://git@git.example.org/p"
    assert manifest.without_password("git@git.example.org:p") == "git@git.example.org:p"


def test_adopt_records_what_it_copies_and_porticos_own_repository_has_no_record(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (root / ".git").mkdir()
    (root / "manage.py").write_text(MANAGE.format(settings="shop.settings"))
    plan = adopt.plan(ROOT, root, "")
    written = manifest.parse(plan.texts[manifest.FILE])
    assert replace(written, files={}) == manifest.of_checkout(ROOT)
    assert set(written.files) == {name for name in plan.copies if manifest.is_ours(name)}
    assert {"tasks.py", "deploy/core/shell.py", "nginx/site.conf", manifest.EXAMPLE} <= set(written.files)
    assert written.files["tasks.py"] == manifest.digest(ROOT / "tasks.py")
    # A record that every change of a file would have to change would be a conflict for all who work on it.
    assert manifest.FILE not in support.project_files()
