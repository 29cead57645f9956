"""What reaches the production image: the files that Git knows, whatever the layout of the project."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker import context
from deploy.project.assets import Assets

MACHINERY = ["Dockerfile", "requirements/prod.txt", "requirements/prod.in", "deploy/kit/portico_site/health.py"]
MACHINERY += ["deploy/places.py", "nginx/site.conf", "tasks.py", "invoke.yaml", ".env.example", "tests/test_x.py"]


def test_a_project_in_a_folder_of_its_own() -> None:
    names = [
        *MACHINERY,
        "backend/manage.py",
        "backend/.env",
        "backend/shop/.env.prod",
        "backend/.coverage",
        "other/x.py",
    ]
    names += ["requirements/wheels/x-1-py3-none-any.whl", "requirements/wheels/README.md"]
    assert context.places([*names, "backend/static/.well-known/x"], "backend") == {
        "Dockerfile": "Dockerfile",
        "requirements/wheels/x-1-py3-none-any.whl": "requirements/wheels/x-1-py3-none-any.whl",
        "requirements/prod.txt": "requirements/prod.txt",
        "deploy/kit/portico_site/health.py": "kit/portico_site/health.py",
        "backend/manage.py": "site/manage.py",
        "backend/static/.well-known/x": "site/static/.well-known/x",
    }


def test_a_project_at_the_root() -> None:
    found = context.places([*MACHINERY, "manage.py", "shop/settings.py", ".git/config", "requirements.txt"], ".")
    assert set(found.values()) == {
        *("Dockerfile", "requirements/prod.txt", "kit/portico_site/health.py", "site/manage.py"),
        *("site/shop/settings.py", "site/tests/test_x.py", "site/requirements.txt"),
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {
        ".gitignore": "*.sqlite3\nmedia/\n",
        "site/manage.py": "#",
        "site/secrets.sqlite3": "x",
        "Dockerfile": "FROM x",
    }
    for name, text in {**files, "site/media/upload": "x", "site/new.py": "x = 1", "site/gone.py": "#"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "site" / "manage.py").chmod(0o700)
    (tmp_path / "site" / "link").symlink_to("manage.py")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "site/manage.py", "site/gone.py"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "site" / "gone.py").unlink()
    return tmp_path


def test_only_what_git_knows_is_in_the_archive(repository: Path) -> None:
    output = io.BytesIO()
    context.write(repository, "site", output)
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        found = {entry.name: entry for entry in archive}
    assert set(found) == {"Dockerfile", "site/manage.py", "site/new.py", "site/link", "assets"}
    assert (found["site/manage.py"].mode, found["site/new.py"].mode) == (0o755, 0o644)
    assert {(entry.uid, entry.mtime) for entry in found.values()} == {(0, context.TIME)}
    assert found["site/link"].linkname == "manage.py"


def test_the_inputs_of_a_front_end_are_in_a_folder_of_their_own(repository: Path) -> None:
    output = io.BytesIO()
    context.write(repository, "site", output, Assets("x", "site/static", inputs=("site/new.py",)))
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        names = set(archive.getnames())
    assert {each for each in names if each.startswith("assets/")} == {"assets/site/new.py"}
    assert "site/new.py" in names
    command = context.command(repository, "site", Assets("x", "site/static"))
    assert command.argv[2:] == ["deploy.docker.context", "site", "."]


def test_files_of_a_submodule_are_in_it(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "inside.py").write_text("x")
    git = ["git", "-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, "-C", str(other), *words], check=True)
    subprocess.run([*git, "-C", str(repository), "submodule", "--quiet", "add", str(other), "site/sub"], check=True)
    assert "site/sub/inside.py" in list(context.known(repository))


def test_without_git_the_reason_and_the_remedy_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"Git says which files .*not a git repository.*; `git init`"):
        list(context.known(tmp_path))


def test_a_command_gets_what_another_one_writes(tmp_path: Path) -> None:
    source = Run(["printf", "a b"])
    assert shell.run(Run(["cat"], source=source), capture=True).stdout == "a b"
    with pytest.raises(Failure, match="no such thing"):
        shell.run(Run(["cat"], source=Run(["sh", "-c", "echo no such thing >&2; exit 3"])), capture=True)
