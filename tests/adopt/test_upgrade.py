"""A newer Portico in an adopted repository: what is the project's own stays, and a kill leaves no half of anything."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import support
from tests.adopt.projects import EXAMPLES
from tests.adopt.repository import Adopted, adopt, committed, git, unchanged
from tests.support import Dev

#: What a project adds, one in each place that is its own.
OWN = {
    "deploy/local/compose.yaml": "services: {}\n",
    "deploy/environments/production.yaml": "domain: www.example.org\n",
    "project_tasks.py": "from invoke import task\n\n\n@task\ndef greet(c):\n    print('hello of theirs')\n",
    "requirements/dev.in": "-r base.in\n# a line of ours\n",
    "tests/test_own.py": "",
}
#: Invoke, killed before its n-th rename within the exchange.
KILLED = """
import os, signal, sys
left = int(sys.argv.pop(1))
def counted(real):
    def replaced(source, *more, **named):
        global left
        if ".portico-upgrade" in f"{source}{more}":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return real(source, *more, **named)
    return replaced
os.rename, os.replace = counted(os.rename), counted(os.replace)
from invoke.main import program
program.run()
"""


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This work tree as a repository of its own."""
    root = support.copy_project(tmp_path_factory.mktemp("portico") / "portico")
    git(root, "init", "-q", "-b", "main")
    committed(root, "older")
    return root


@pytest.fixture(scope="module")
def shop(portico: Path, tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    """A project that was adopted from it and has additions of its own, and a newer version there."""
    this = adopt(tmp_path_factory.mktemp("upgrade"), "shop", EXAMPLES["plain"], portico)
    for name, text in OWN.items():
        (this.root / name).parent.mkdir(parents=True, exist_ok=True)
        (this.root / name).write_text(text)
    yaml = this.root / "invoke.yaml"
    yaml.write_text(f"# ours\n{yaml.read_text()}  package: former  # of an earlier version\n")
    committed(this.root, "adopted")

    log = portico / "CHANGELOG.md"
    log.write_text(log.read_text().replace("### New\n", "### New\n\n- **News** of the newer version.\n", 1))
    (portico / "deploy" / "added").mkdir()
    (portico / "deploy" / "added" / "__init__.py").write_text('"""New."""\n')
    (portico / "nginx" / "README.md").unlink()
    (portico / "deploy" / "core" / "git.py").open("a").write("# newer\n")
    committed(portico, "newer")
    return this


@pytest.fixture
def again(shop: Adopted) -> Iterator[Adopted]:
    """The project, put back afterwards."""
    head = git(shop.root, "rev-parse", "HEAD").strip()
    yield shop
    git(shop.root, "reset", "-q", "--hard", head)
    git(shop.root, "clean", "-qfd")


def as_after(root: Path) -> None:
    assert unchanged(root)
    assert (root / "deploy" / "added" / "__init__.py").is_file()
    assert not (root / "nginx" / "README.md").exists()
    assert (root / "deploy" / "core" / "git.py").read_text().endswith("# newer\n")
    assert "# ours\n" in (root / "invoke.yaml").read_text()
    assert "package" not in (root / "invoke.yaml").read_text()
    for name, text in OWN.items():
        assert (root / name).read_text() == text


def test_a_dry_run_lists_all_and_writes_nothing(again: Adopted) -> None:
    shown = again.must("upgrade", "--dry-run").stdout
    assert "  **News** of the newer version." in shown
    assert "write  deploy/added/__init__.py" in shown
    assert "write  deploy/core/git.py" in shown
    assert "remove nginx/README.md" in shown
    assert "project.package is removed: nothing reads it any more" in shown
    assert git(again.root, "status", "--porcelain") == ""


def test_an_edited_file_is_refused_and_the_place_for_the_edit_named(again: Adopted) -> None:
    (again.root / "deploy" / "compose" / "prod.yaml").open("a").write("# edited\n")
    assert "not committed: deploy/compose/prod.yaml" in again.invoke("upgrade").stderr
    committed(again.root, "edited")
    done = again.invoke("upgrade")
    assert done.code != 0
    assert "deploy/compose/prod.yaml was edited" in done.stderr
    assert "belongs in deploy/local/compose.yaml" in done.stderr
    assert git(again.root, "status", "--porcelain") == ""
    again.must("upgrade", "--replace", "deploy/compose/prod.yaml")
    as_after(again.root)


@pytest.mark.parametrize("step", [1, 2, 4, 6])
def test_killed_half_way_it_is_as_before_or_the_next_command_makes_it_as_after(again: Adopted, step: int) -> None:
    python = again.root / ".venvs" / "tools" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", KILLED, str(step), "upgrade"], cwd=again.root, capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert again.must("project.greet").stdout == "hello of theirs\n"
    if step == 1:
        assert git(again.root, "status", "--porcelain") == ""
        return
    as_after(again.root)


def test_a_version_that_does_not_start_is_taken_back(again: Adopted, portico: Path) -> None:
    front = portico / "tasks.py"
    good = front.read_text()
    front.write_text("raise SystemExit('broken on purpose')\n")
    committed(portico, "broken")
    try:
        done = again.invoke("upgrade")
        assert done.code != 0
        assert done.stderr.strip().endswith("does not start here, and all is as before: broken on purpose")
        assert git(again.root, "status", "--porcelain") == ""
        assert again.must("project.greet").stdout == "hello of theirs\n"
    finally:
        git(portico, "reset", "-q", "--hard", "HEAD~1")
    assert front.read_text() == good


def test_the_site_is_served_by_the_newer_version_and_can_go_back(again: Adopted, portico: Path, tmp_path: Path) -> None:
    again.must("upgrade")
    as_after(again.root)
    with Dev(again.root, tmp_path / "run", seconds=300) as dev:
        assert httpx.get(f"{dev.url}/", headers={"Host": "localhost"}, trust_env=False).text.startswith("1 notes")
    committed(again.root, "newer")
    assert "nothing to do" in again.must("upgrade").stderr
    older = git(portico, "rev-parse", "HEAD~1").strip()
    assert f"name it: --to {older[:12]}" in again.invoke("upgrade", "--to", "main~1").stderr
    again.must("upgrade", "--to", older)
    assert unchanged(again.root)
    assert (again.root / "nginx" / "README.md").is_file()
    assert (again.root / "deploy" / "local" / "compose.yaml").read_text() == OWN["deploy/local/compose.yaml"]


def test_a_project_without_a_manifest_is_upgraded_from_a_checkout_of_the_newer_version(
    again: Adopted, portico: Path
) -> None:
    git(again.root, "rm", "-q", "deploy/MANIFEST")
    committed(again.root, "as adopted by an earlier version")
    done = support.invoke(portico, "upgrade", "--path", str(again.root))
    assert done.code == 0, done.stderr
    as_after(again.root)
