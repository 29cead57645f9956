"""Portico's repository, fetched into a temporary folder: its versions, their files, and what changed between them."""

from __future__ import annotations

import os
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.running import printable
from deploy.core.shell import Result, Run
from deploy.project.upgrade import manifest

#: For all of a repository over a slow line.
FETCH_SECONDS = 600
#: What every version of Portico has, and no other repository all of.
MARKS = frozenset({"tasks.py", "Dockerfile", "deploy/bootstrap.py", "requirements/tools.txt"})


@dataclass(frozen=True)
class Version:
    """A commit of Portico."""

    commit: str
    #: Seconds since 1970.
    time: int
    #: Whether it was named so that it is this commit for ever: by its id, or a tag.
    fixed: bool

    def __str__(self) -> str:
        return f"{manifest.day(self.time)} ({self.commit[:12]})"


@dataclass(frozen=True)
class Origin:
    """A bare copy of Portico's repository."""

    source: str
    folder: Path

    def git(self, *words: str, check: bool = True) -> Result:
        """Ask the copy. Raises `Failure` if Git fails and ``check`` is set."""
        # No conversion of line ends: the files are compared by their content.
        argv = ["git", "--git-dir", str(self.folder), "-c", "core.autocrlf=false", "-c", "tar.umask=user", *words]
        return shell.run(Run(argv, seconds=manifest.SECONDS), capture=True, check=check)

    def version(self, ref: str) -> Version:
        """A branch, tag or commit; without one, the newest of the default branch. Raises `Failure` if it is none."""
        name = ref or "HEAD"
        found = self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
        commit = found.stdout.strip()
        if found.code or not commit:
            raise Failure(f"--to {name}: there is no such branch, tag or commit in {self.source}")
        self._require_portico(commit)
        time = int(self.git("log", "-1", "--format=%ct", commit).stdout)
        is_tag = self.git("show-ref", "--verify", "--quiet", f"refs/tags/{ref}", check=False).code == 0
        return Version(commit, time, is_tag or bool(re.fullmatch(r"[0-9a-f]{7,40}", ref) and commit.startswith(ref)))

    def _require_portico(self, commit: str) -> None:
        names = set(self.names(commit))
        if not names >= MARKS:
            raise Failure(
                f"{self.source}: {commit[:12]} is not Portico: it has no {min(MARKS - names)}; "
                "name Portico's repository with --from URL or PATH"
            )
        if manifest.FILE in names:
            raise Failure(
                f"{self.source} is a project with Portico in it; name Portico's repository with --from URL or PATH"
            )

    def names(self, commit: str) -> list[str]:
        """The files of a version, by their names."""
        return [name for name in self.git("ls-tree", "-r", "-z", "--name-only", commit).stdout.split("\0") if name]

    def extract(self, commit: str, folder: Path) -> list[str]:
        """Write Portico's files of a version into a folder; returns their names."""
        wanted = [name for name in self.names(commit) if manifest.is_ours(name)]
        archive = folder / "portico.tar"
        self.git("archive", "--format=tar", f"--output={archive}", commit, "--", *wanted)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()
        return wanted

    def text(self, commit: str, name: str) -> str:
        """A file of a version; empty if it has none."""
        return self.git("show", f"{commit}:{name}", check=False).stdout if commit else ""

    def has(self, commit: str) -> bool:
        """Whether a commit is there."""
        return self.git("cat-file", "-e", f"{commit}^{{commit}}", check=False).code == 0

    def is_before(self, one: str, other: str) -> bool:
        """Whether a commit is an ancestor of another."""
        return self.git("merge-base", "--is-ancestor", one, other, check=False).code == 0

    def nearest(self, blobs: Mapping[str, str]) -> str:
        """The newest commit whose files differ least from these, given by name and Git's hash; empty for none."""
        log = self.git("log", "--all", "--format=%H", "--", *manifest.OURS).stdout.split()
        best, fewest = "", len(blobs)
        for commit in log:
            there = self._blobs(commit)
            number = sum(there.get(name) != blob for name, blob in blobs.items())
            number += sum(name not in blobs for name in there)
            if number < fewest:
                best, fewest = commit, number
            if not number:
                break
        return best

    def _blobs(self, commit: str) -> dict[str, str]:
        listed = self.git("ls-tree", "-r", "-z", commit, "--", *manifest.OURS).stdout
        found = (entry.partition("\t") for entry in listed.split("\0") if entry)
        return {name: about.split()[2] for about, _, name in found if manifest.is_ours(name)}


def blobs(root: Path, names: list[str]) -> dict[str, str]:
    """Git's hash of each file of a work tree."""
    asked = Run(
        ["git", "-C", str(root), "hash-object", "--stdin-paths"],
        input="".join(f"{name}\n" for name in names),
        seconds=manifest.SECONDS,
    )
    return dict(zip(names, shell.run(asked, capture=True).stdout.split(), strict=True))


@contextmanager
def fetched(source: str) -> Iterator[Origin]:
    """Portico's repository from a URL or a folder, while the block runs. Raises `Failure` if it cannot be fetched."""
    if manifest.without_password(source) != source:
        raise Failure(
            "--from: the address has a password in it, which others here can read; use Git's credential helper"
        )
    with TemporaryDirectory(prefix="portico-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "portico.git"
        # Without a terminal, a question for a password would wait for nobody.
        quiet = {} if sys.stdin.isatty() else {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": _ssh()}
        clone = Run(["git", "clone", "--quiet", "--bare", "--", source, str(folder)], env=quiet, seconds=FETCH_SECONDS)
        result = shell.run(clone, capture=True, check=False)
        if result.code:
            raise Failure(f"{source}: {reason(result.stderr)}; name Portico's repository with --from URL or PATH")
        yield Origin(source, folder)


def _ssh() -> str:
    return os.environ.get("GIT_SSH_COMMAND") or "ssh -o BatchMode=yes"


def reason(said: str) -> str:
    """Why Git could not fetch: its first line that is no warning."""
    lines = [printable(line) for line in said.splitlines() if line.strip() and not line.startswith("warning:")]
    return (lines or ["cannot be fetched"])[0].removeprefix("fatal: ")


def address(given: str, remembered: str) -> str:
    """Where Portico is fetched from: what is given, else what is remembered. A folder is made absolute.

    Raises `Failure` if there is neither.
    """
    source = given or remembered
    if not source:
        raise Failure("where Portico came from is not recorded; name its repository with --from URL or PATH")
    if given and "://" not in given and Path(given).expanduser().exists():
        return str(Path(given).expanduser().resolve())
    return source


def entries(text: str) -> list[tuple[str, str]]:
    """The entries of a change log, each with its headings: a list item, or a paragraph, in one line."""
    found: list[tuple[str, str]] = []
    headings: list[str] = []
    fresh = True
    for line in text.splitlines():
        if heading := re.match(r"(##+) (.*)", line):
            headings = [*headings[: len(heading[1]) - 2], heading[2]]
            fresh = True
        elif not line.strip():
            fresh = True
        elif line.startswith("- ") or fresh:
            found.append((", ".join(headings), line.removeprefix("- ").strip()))
            fresh = False
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def news(before: str, after: str) -> list[str]:
    """What a change log says that an earlier one did not, each entry as a line below its heading."""
    old = {what for _, what in entries(before)}
    lines: list[str] = []
    heading = None
    for under, what in entries(after):
        if what not in old and under:
            lines += [f"{under}:"] if under != heading else []
            lines.append(f"  {what}")
            heading = under
    return lines
