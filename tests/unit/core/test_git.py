"""Git: the first commits of a repository, which all of its clones share."""

import subprocess
from pathlib import Path

from deploy.core import git


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
