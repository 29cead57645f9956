"""Git: the first commits of a repository, which all of its clones share."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy.core import git
from deploy.core.errors import Failure


def commit(folder: Path, *words: str) -> str:
    who = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*who, "commit", "-q", "--allow-empty", *words], check=True)
    return subprocess.run([*who, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def test_all_clones_of_a_repository_share_its_first_commit_and_a_shallow_one_does_not_know_it(tmp_path: Path) -> None:
    first = tmp_path / "first"
    subprocess.run(["git", "init", "-q", str(first)], check=True)
    assert git.roots(first) == ()
    began = commit(first, "-m", "one")
    commit(first, "-m", "two")
    assert git.roots(first) == (began,)
    for name, words in (("whole", []), ("shallow", ["--depth=1"])):
        subprocess.run(["git", "clone", "-q", *words, f"file://{first}", str(tmp_path / name)], check=True)
    assert git.roots(tmp_path / "whole") == (began,)
    assert git.roots(tmp_path / "shallow") == ()
    assert git.roots(tmp_path) == ()


def test_settings_of_the_user_do_not_change_what_the_revision_is(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for setting in ("log.showSignature=true", "log.decorate=full", "color.ui=always", "status.showUntrackedFiles=no"):
        subprocess.run(["git", "-C", str(tmp_path), "config", *setting.split("=")], check=True)
    began = commit(tmp_path, "-m", "one")
    assert git.revision(tmp_path).name == began
    (tmp_path / "new").touch()
    assert git.revision(tmp_path).name == f"{began}-changed"


def test_a_repository_of_another_user_is_named_with_the_remedy(tmp_path: Path) -> None:
    git.require_ours(tmp_path, "fatal: not a git repository")
    said = "fatal: detected dubious ownership\n\tgit config --global --add safe.directory '/x y'"
    allow = re.escape("`git config --global --add safe.directory '/x y'`")
    with pytest.raises(Failure, match=f"^/x y: another user owns this repository, and Git refuses it: {allow}"):
        git.require_ours(Path("/x y"), said)
