"""The front end: its keys, what its hash depends on, and a build in a clean checkout."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project import assets
from deploy.project.assets import Assets

FRONT = Assets("mkdir -p static/dist && cp front/a.js static/dist/", "static/dist", inputs=("front",))


def test_it_is_read_from_the_configuration() -> None:
    said = {"image": "node:22", "run": "npm ci && npm run build", "output": "static/dist/", "inputs": ["front"]}
    assert assets.parse(said) == Assets("npm ci && npm run build", "static/dist", "node:22", "", ("front",))
    assert assets.parse({}) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"run": "x"}, "project.assets.output is missing"),
        ({"output": "x"}, "project.assets.run is missing"),
        ({"run": "x", "output": "y", "wach": "z"}, "project.assets.wach in invoke.yaml is not a key; the keys are"),
        ({"run": "x", "output": "../y"}, "must be a path within the repository"),
        ({"run": "x", "output": "/y"}, "must be a path within the repository"),
        ({"run": "x", "output": "."}, "must be a path within the repository"),
        ({"run": ["x"], "output": "y"}, "project.assets.run is .*, but must be one line"),
        ({"run": "x", "output": "y", "image": "a b"}, "project.assets.image is 'a b', but must be one line"),
        ({"run": "x", "output": "y", "inputs": "front"}, "project.assets.inputs is 'front', but must be a list"),
    ],
)
def test_a_wrong_key_is_one_line(said: Mapping[str, object], words: str) -> None:
    with pytest.raises(Failure, match=words):
        assets.parse(said)


def test_an_image_gets_it_by_arguments_and_must_have_it_in_the_sites_folder() -> None:
    front = replace(FRONT, image="node:22", output="backend/static/dist")
    assert assets.build_arguments(front, "backend") == {
        "ASSETS_IMAGE": "node:22",
        "ASSETS_RUN": front.run,
        "ASSETS_OUTPUT": "backend/static/dist",
        "ASSETS_PLACE": "static/dist",
    }
    assert assets.build_arguments(front, ".")["ASSETS_PLACE"] == "backend/static/dist"
    assert assets.build_arguments(None, ".") == {}
    with pytest.raises(Failure, match=r"must be in the folder of manage\.py, site/"):
        assets.build_arguments(front, "site")
    with pytest.raises(Failure, match=r"project\.assets\.image is missing"):
        assets.build_arguments(FRONT, ".")


def test_its_inputs_are_the_projects_files_within_what_is_named() -> None:
    assert FRONT.reads("front/a.js")
    assert not FRONT.reads("frontier/a.js")
    everything = replace(FRONT, inputs=())
    assert everything.reads("package.json")
    assert not [
        name for name in ("deploy/core/shell.py", "tasks.py", ".env", "front/.env.local") if everything.reads(name)
    ]


def test_the_hash_follows_command_and_inputs_alone() -> None:
    listing = ["100644 blob aa\tfront/a.js", "100644 blob bb\tsite/views.py"]
    same = assets.key(FRONT, [listing[0], "100644 blob cc\tsite/views.py"])
    assert assets.key(FRONT, listing) == same
    assert assets.key(FRONT, ["100644 blob dd\tfront/a.js"]) != same
    assert assets.key(replace(FRONT, run="other"), listing) != same


def test_a_container_is_used_where_an_engine_answers_and_an_image_is_named() -> None:
    front = replace(FRONT, image="node:22")
    inside = assets.command(front, Path("/clean"), engine=True).argv
    assert list(inside[:4]) == ["docker", "run", "--rm", "--init"]
    assert list(inside[-4:]) == ["node:22", "sh", "-c", FRONT.run]
    assert assets.command(front, Path("/clean"), engine=False).cwd == Path("/clean")
    assert assets.command(FRONT, Path("/clean"), engine=True).argv[0] == "sh"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "front").mkdir(parents=True)
    (root / "front" / "a.js").write_text("first")
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *words], check=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")


def test_it_is_built_from_the_commit_and_again_only_when_an_input_changes(repository: Path, tmp_path: Path) -> None:
    front = replace(FRONT, run="echo run >>../../../../count; " + FRONT.run)
    (repository / "front" / "a.js").write_text("not committed")
    told: list[str] = []
    built = assets.built(front, repository, tmp_path / "run", "HEAD", told.append)
    assert (built / "a.js").read_text() == "first"
    assert told[0].startswith("assets: ")
    (repository / "views.py").write_text("x")
    git(repository, "add", "views.py")
    git(repository, "commit", "-q", "-m", "x")
    assert assets.built(front, repository, tmp_path / "run", "HEAD", told.append) == built
    assert len(told) == 1
    commit(repository)
    again = assets.built(front, repository, tmp_path / "run", "HEAD", told.append)
    assert (again / "a.js").read_text() == "not committed"
    assert len(told) == 2


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("echo no such script >&2; exit 1", "the front end was not built: no such script; the full output is in"),
        ("true", "project.assets.output is static/dist, but `true` made no such folder"),
    ],
)
def test_a_build_that_fails_is_one_line_and_leaves_nothing(
    repository: Path, tmp_path: Path, run: str, words: str
) -> None:
    with pytest.raises(Failure, match=words):
        assets.built(replace(FRONT, run=run), repository, tmp_path / "run", "HEAD", lambda _: None)
    assert not list((tmp_path / "run" / "assets").iterdir())
