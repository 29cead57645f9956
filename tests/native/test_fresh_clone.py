"""A person with Python and nothing else: the README's two commands."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.core.shell import Run, run
from tests import support
from tests.support import Dev

#: Seconds for the first start, which installs everything from the package index.
FIRST_SECONDS = 300
ORDINARY = "nobody"


def bare_path() -> str:
    """The system's own PATH: no uv, no invoke, no other Python."""
    return "/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users can enter: each start of pytest closes the one that it uses by default."""
    with tempfile.TemporaryDirectory(prefix="fresh-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def clone(open_folder: Path) -> Path:
    """A clone with the files of a commit, under a path with a space."""
    return support.copy_project(open_folder / "a fresh clone")


@pytest.fixture
def ordinary_user(open_folder: Path, clone: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """A command prefix that runs a command as an ordinary user, and its environment. That user owns the clone."""
    if os.geteuid():
        yield [], {}
        return
    user = pwd.getpwnam(ORDINARY)
    home = open_folder / "home"
    home.mkdir()
    run(Run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(open_folder)]))
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    yield words, {"HOME": str(home), "USER": ORDINARY, "XDG_CACHE_HOME": str(home / ".cache")}


def test_one_command_runs_the_site_for_an_ordinary_user_from_a_subfolder_of_a_path_with_a_space(
    clone: Path, open_folder: Path, ordinary_user: tuple[list[str], dict[str, str]]
) -> None:
    if shutil.which("python3", path=bare_path()) is None:
        pytest.skip("there is no system Python on this machine")
    prefix, env = ordinary_user
    env = {**env, "PATH": bare_path()}
    with Dev(clone, open_folder / "run", cwd=clone / "site", prefix=prefix, env=env, seconds=FIRST_SECONDS) as dev:
        assert "tools: installing" in dev.output
        assert "with pip" in dev.output  # there was no uv, and no invoke
        name, password = "acceptance", "correct-horse-battery"
        command = ["python3", str(clone / "tasks.py"), "manage", "--", "createsuperuser", "--noinput"]
        values = {
            "INVOKE_PROJECT_RUN": str(open_folder / "run"),
            "DJANGO_SUPERUSER_USERNAME": name,
            "DJANGO_SUPERUSER_PASSWORD": password,
            "DJANGO_SUPERUSER_EMAIL": "a@example.org",
        }
        environment = support.environment(**env, **values)
        subprocess.run([*prefix, *command], check=True, cwd=clone, env=environment)
        # The whole contract, over HTTP, as `python3 tasks.py test` runs it.
        words = [*prefix, "python3", str(clone / "tasks.py"), "test", "--suite", "acceptance", "--require", "all", "--"]
        pytest_words = ["-p", "no:cacheprovider", "--base-url", dev.url, "--admin", f"{name}:{password}"]
        done = subprocess.run(
            [*words, *pytest_words], cwd=clone / "site", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert dev.stop() == 0
        assert not dev.processes()
    if prefix:
        foreign = [path for path in clone.rglob("*") if path.lstat().st_uid == 0]
        assert not foreign


def test_the_second_command_passes_the_tests(clone: Path, open_folder: Path) -> None:
    done = support.invoke(clone / "site" / "..", "test", "--suite", "site", cwd=clone / "site")
    assert done.code == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
