"""`rename`: which names the demonstration may get, and what becomes of each file."""

from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.project import rename
from deploy.project.rename import Names
from tests.support import ROOT, project_files
from tests.unit.examples import PROJECT

OLD = Names("portico", "mysite", "site")
NEW = Names("my-shop", "my_shop", "backend")


def test_what_is_not_given_follows_from_the_name_or_stays() -> None:
    assert rename.wanted(OLD, "my-shop", "", "", ()) == Names("my-shop", "my_shop", "site")
    assert rename.wanted(OLD, "test", "shop", "backend", ()) == Names("test", "shop", "backend")
    assert rename.wanted(OLD, "shop", "mysite", "", ()) == Names("shop", "mysite", "site")


@pytest.mark.parametrize(
    ("name", "package", "folder", "words"),
    [
        ("Shop", "", "", "--name Shop: must be a short name in lower case"),
        ("--yes", "", "", "must be a short name"),
        ("class", "", "", "the package class is no name of a Python module"),
        ("shop", "match", "", "--package match is no name of a Python module"),
        ("shop", "my-shop", "", "--package my-shop is no name of a Python module"),
        ("shop", "a.b", "", "is no name of a Python module"),
        ("shop", "Shop", "", "is no name of a Python module"),
        ("test", "", "", "the package test is a module of Python's standard library; choose another with --package"),
        ("site", "", "", "is a module of Python's standard library"),
        ("shop", "json", "", "is a module of Python's standard library"),
        ("django", "", "", "is a module that is there already"),
        ("polls", "", "", "is a module that is there already"),
        ("shop", "deploy", "", "is a module that is there already"),
        ("shop", "", "tests", "--folder tests: must be one folder at the top"),
        ("shop", "", "../shop", "must be one folder at the top"),
        ("shop", "", ".venvs", "must be one folder at the top"),
    ],
)
def test_a_name_that_cannot_be_one_is_one_line(name: str, package: str, folder: str, words: str) -> None:
    with pytest.raises(Failure, match=words) as failed:
        rename.wanted(OLD, name, package, folder, rename.modules(ROOT, ROOT / "site", "mysite"))
    assert "\n" not in failed.value.message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("site/manage.py", '"mysite.settings"', '"my_shop.settings"'),
        (
            "site/mysite/celery_app.py",
            'Celery("mysite")\nfrom mysite import x',
            'Celery("my_shop")\nfrom my_shop import x',
        ),
        ("site/x.py", "import site\nnot_mysite = mysites", "import site\nnot_mysite = mysites"),
        (
            "pyproject.toml",
            'exclude = ["^site/"]\n"site/mysite/a.py"',
            'exclude = ["^backend/"]\n"backend/my_shop/a.py"',
        ),
        ("pyproject.toml", 'mypy_path = "site:deploy/kit"', 'mypy_path = "backend:deploy/kit"'),
        ("pyproject.toml", '[".", "site", "deploy/kit"]', '[".", "backend", "deploy/kit"]'),
        ("pyproject.toml", '"deploy/kit/portico_site/x.py"', '"deploy/kit/portico_site/x.py"'),
        (".gitignore", "/site/protected/\n", "/backend/protected/\n"),
        ("invoke.yaml", "project:\n  name: portico  # x\n", "project:\n  name: my-shop  # x\n"),
        (".env.example", "STACK=portico\nIMAGE=portico\nX=portico\n", "STACK=my-shop\nIMAGE=my-shop\nX=portico\n"),
        ("requirements/test.in", "-r base.in\n-r tools.in\npytest\nselenium\n", "-r base.in\npytest\n"),
    ],
)
def test_a_file_gets_the_new_names_and_keeps_the_rest(name: str, text: str, expected: str) -> None:
    assert rename.rewritten(name, text, OLD, NEW) == expected


def test_the_site_stays_with_its_tests_and_what_is_porticos_own_goes() -> None:
    this = rename.plan(ROOT, PROJECT, NEW, project_files())
    there = {*this.texts, *this.moved.values()}
    assert {"backend/manage.py", "backend/my_shop/wsgi.py", "backend/polls/models.py", "tests/test_polls.py"} <= there
    assert {"tests/settings.py", "README.md", "pyproject.toml", "invoke.yaml"} <= set(this.texts)
    assert {"tests/unit/test_structure.py", "tests/site/test_settings.py", "AGENTS.md"} <= set(this.removed)
    touched = {*there, *this.removed, *this.moved}
    assert not [name for name in touched if name == "tasks.py" or name.startswith(("deploy/", "nginx/"))]
    assert not [name for name, text in this.texts.items() if "mysite" in text]
    assert not [name for name in this.moved if "mysite" in (ROOT / name).read_text()]
    compile(this.texts["tests/settings.py"], "settings.py", "exec")


def test_only_a_clone_of_portico_is_renamed(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="this is no clone of Portico"):
        rename.renaming(PROJECT, "shop", "", "", print)
