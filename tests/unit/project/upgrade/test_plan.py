"""What an upgrade refuses and says, and what it finds in Portico's repository."""

import subprocess
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project.upgrade import manifest, origin, plan, run
from deploy.project.upgrade.manifest import Manifest

A, B, C = (letter * 64 for letter in "abc")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("deploy/compose/base.yaml", "deploy/local/compose.yaml"),
        ("deploy/swarm/render.py", "deploy/local/compose.yaml"),
        ("nginx/site.conf", "deploy/local/nginx.conf"),
        ("Dockerfile", "deploy/local/Dockerfile"),
        ("deploy/hosts/units/web@.service", "deploy/local/units/"),
        ("tasks.py", "project_tasks.py"),
        ("deploy/environments/example.yaml", "a file of its own in deploy/environments/"),
        ("requirements/tools.in", "requirements/dev.in"),
        ("deploy/venvs/build.py", "invoke.yaml"),
    ],
)
def test_an_edited_file_is_refused_with_the_place_where_the_edit_belongs(name: str, place: str) -> None:
    (line,) = plan.refusals({name: A}, {name: B}, {name: C}, ())
    assert line.startswith(f"{name} was edited")
    assert place in line
    assert line.endswith(f"add --replace {name}")
    assert not list(plan.refusals({name: A}, {name: B}, {name: C}, [name]))


def test_what_is_as_installed_or_as_the_new_one_is_not_refused_nor_is_the_lock() -> None:
    there = {"tasks.py": A, "Dockerfile": C, "requirements/tools.txt": B}
    before = {"tasks.py": A, "Dockerfile": A, "requirements/tools.txt": A, "nginx/removed.conf": A}
    assert not list(plan.refusals(before, there, dict.fromkeys(before, C), ()))


def test_a_file_that_is_not_porticos_is_not_taken_away() -> None:
    (line,) = plan.refusals({}, {"deploy/own.sh": A}, {}, ["deploy/own.sh"][:0])
    assert line.startswith("deploy/own.sh is not Portico's: move it")
    assert "deploy/local/" in line


def test_a_name_to_be_replaced_must_be_one_of_porticos() -> None:
    assert list(plan.refusals({"tasks.py": A}, {}, {}, ["task.py"])) == [
        "--replace task.py: there is no such file of Portico's"
    ]


def test_the_news_are_the_entries_that_were_not_there() -> None:
    before = "# Changes\n\nIntroduction.\n\n## Unreleased\n\n### New\n\n- **One** thing.\n- Two.\n"
    after = before.replace("- Two.", "- Three, in\n  two lines.\n- Two.") + "\n### Changed\n\nA paragraph.\n"
    assert origin.news(before, after) == [
        "Unreleased, New:",
        "  Three, in two lines.",
        "Unreleased, Changed:",
        "  A paragraph.",
    ]
    assert origin.news(after, after) == []


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three versions, as small as Portico can be; the second has a tag."""
    root = tmp_path_factory.mktemp("portico")
    git(root, "init", "-q", "-b", "main")
    for number, name in enumerate(("first", "second", "third"), start=1):
        for each in (*origin.MARKS, plan.PROGRAM, "README.md"):
            (root / each).parent.mkdir(parents=True, exist_ok=True)
            (root / each).write_text(f"{name}\n")
        (root / ".env.example").write_text("A=\n" if number < 3 else "A=\nB=\n")
        (root / "nginx").mkdir(exist_ok=True)
        (root / "nginx" / name).write_text("server {}\n")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", name)
        if number == 2:
            git(root, "tag", "v2")
    return root


def versions(portico: Path) -> list[str]:
    return git(portico, "log", "--reverse", "--format=%H").split()


def test_the_newest_version_is_the_default_and_an_older_one_must_be_named(portico: Path) -> None:
    first, second, third = versions(portico)
    installed = Manifest("2026-01-01", third)
    with origin.fetched(str(portico)) as repository:
        assert repository.version("").commit == third
        for named in ("v2", second, second[:10]):
            plan.require_newer(repository, installed, repository.version(named), named)
        for named, commit in (("main~1", second), ("main~2", first)):
            with pytest.raises(Failure, match=rf"older than what is installed.*: --to {commit[:12]}"):
                plan.require_newer(repository, installed, repository.version(named), named)
        plan.require_newer(repository, Manifest("2026-01-01", first), repository.version("main~1"), "main~1")
        with pytest.raises(Failure, match="older"):  # of another history: the days are compared
            plan.require_newer(repository, Manifest("2999-01-01", "f" * 40), repository.version(""), "")


def test_what_an_earlier_version_installed_is_found_by_its_files(portico: Path, tmp_path: Path) -> None:
    second = versions(portico)[1]
    with origin.fetched(str(portico)) as repository:
        (tmp_path / "shop").mkdir()
        repository.extract(second, tmp_path / "shop")
        git(tmp_path / "shop", "init", "-q")
        (tmp_path / "shop" / "Dockerfile").write_text("edited\n")
        (tmp_path / "found").mkdir()
        found = plan.nearest(tmp_path / "shop", repository, tmp_path / "found")
        assert found.commit == second
        there = manifest.digests(tmp_path / "shop", manifest.present(tmp_path / "shop"))
        (line,) = plan.refusals(found.files, there, {}, ())
        assert line.startswith("Dockerfile was edited")


def test_a_plan_lists_what_is_written_removed_and_seeded(portico: Path, tmp_path: Path) -> None:
    first, _, third = versions(portico)
    root, fresh = tmp_path / "shop", tmp_path / "new"
    root.mkdir()
    fresh.mkdir()
    with origin.fetched(str(portico)) as repository:
        names = repository.extract(first, root)
        before = Manifest("2026-01-01", first, "", manifest.digests(root, names))
        (root / ".env.example").write_text("A=\nOWN=\n")
        (root / "invoke.yaml").write_text("project:\n  name: shop\n")
        after = plan.new(repository, repository.version(third), fresh, "there")
        this = plan.plan(root, repository, before, after, ())
    assert set(this.written) == {*origin.MARKS, plan.PROGRAM, "nginx/second", "nginx/third"}
    assert this.removed == ()
    assert this.seeds == (".env.example is yours and stays; the new one differs from the one before by:", "  +B=")
    assert this.after.source == "there"
    assert "write  nginx/third" in list(plan.summary(this))
    assert not this.nothing


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("rm Dockerfile", "is not Portico: it has no Dockerfile; name Portico's repository with --from"),
        ("touch deploy/MANIFEST", "is a project with Portico in it; name Portico's repository with --from"),
    ],
)
def test_what_is_not_portico_is_refused(portico: Path, tmp_path: Path, prepare: str, words: str) -> None:
    git(tmp_path, "clone", "-q", str(portico), "other")
    subprocess.run(["sh", "-c", prepare], cwd=tmp_path / "other", check=True)
    git(tmp_path / "other", "add", "-A")
    git(tmp_path / "other", "commit", "-q", "-m", "other")
    with origin.fetched(str(tmp_path / "other")) as repository, pytest.raises(Failure, match=words):
        repository.version("")


@pytest.mark.parametrize("ref", ["v3", "-x", "main:README.md", "ffffffffffff", "--help"])
def test_a_version_that_there_is_not_is_one_line(portico: Path, ref: str) -> None:
    with origin.fetched(str(portico)) as repository, pytest.raises(Failure, match="there is no such branch, tag or"):
        repository.version(ref)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/at/all", "repository '/nowhere/at/all' does not exist; name Portico's"),
        ("--upload-pack=false", "does not exist; name"),
        ("https://ci:t0ken@git.invalid/portico", "has a password in it"),
    ],
)
def test_a_source_that_cannot_be_fetched_is_one_line(source: str, words: str) -> None:
    with pytest.raises(Failure, match=words) as failed, origin.fetched(source):
        pass
    assert "t0ken" not in failed.value.message


def test_a_source_is_what_is_given_else_what_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "portico").mkdir()
    assert origin.address("portico", "there") == str(tmp_path / "portico")
    assert origin.address("git@git.example.org:portico", "there") == "git@git.example.org:portico"
    assert origin.address("", "there") == "there"
    with pytest.raises(Failure, match="--from"):
        origin.address("", "")


def test_what_git_could_not_bring_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="Git brings back what an upgrade replaces"):
        run.require_committed(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "deploy" / "local").mkdir(parents=True)
    (tmp_path / "deploy" / "local" / "compose.yaml").write_text("own")
    run.require_committed(tmp_path)
    (tmp_path / "tasks.py").write_text("x")
    with pytest.raises(Failure, match=r"not committed: tasks\.py"):
        run.require_committed(tmp_path)
    git(tmp_path, "add", "tasks.py")
    git(tmp_path, "commit", "-q", "-m", "x")
    run.require_committed(tmp_path)
