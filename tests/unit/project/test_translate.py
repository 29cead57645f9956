"""Requirements in every form that projects have them become layers, with the versions that were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.project.source import packages
from deploy.project.source.tree import walk
from deploy.project.translate import Translated, layer_of, specifier, translate


def of(tmp_path: Path, **files: str) -> Translated:
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tree = walk(tmp_path)
    return translate(tree, packages.read(tree, {"."}).files)


def test_files_by_their_names(tmp_path: Path) -> None:
    made = of(
        tmp_path,
        requirements__base_DOT_txt="# all\nDjango==5.2.8  # the site\ncelery[redis]>=5.5 ; python_version >= '3.11'\n",
        requirements__local_DOT_txt="-r base.txt\nipdb\n",
        requirements__production_DOT_txt="-r base.txt\ngunicorn==25.0.0\npsycopg[c]==3.2\n",
    )
    texts = made.texts()
    assert texts["base.in"] == "Django==5.2.8\ncelery[redis]>=5.5 ; python_version >= '3.11'\n"
    assert texts["dev.in"] == "-r base.in\nipdb\npsycopg2-binary\nwatchfiles\n"
    assert texts["prod.in"] == "-r base.in\ngunicorn==25.0.0\npsycopg[c]==3.2\n", "a driver is there"
    assert texts["test.in"] == "-r dev.in\n", "what tests need is with the rest of development"


def test_a_compiled_file_only_says_versions(tmp_path: Path) -> None:
    locked = "django==5.2.8 \\\n    --hash=sha256:00\n    # via -r requirements.in\nasgiref==3.9.1 --hash=sha256:01\n"
    made = of(tmp_path, requirements_DOT_in="django\n", requirements_DOT_txt=locked)
    assert made.texts()["base.in"] == "django\n"
    assert made.lock() == "asgiref==3.9.1\ndjango==5.2.8\n"


def test_exact_versions_beside_in_files_of_another_folder_are_a_lock_too(tmp_path: Path) -> None:
    made = of(
        tmp_path,
        requirements__base_DOT_in="Django\ncelery\n",
        requirements__prod_DOT_in="-r base.in\ngunicorn\npsycopg2\n",
        requirements_DOT_txt="Django==5.2.8\ngunicorn==25.0.0\nvine==5.1.0\n",
    )
    assert made.texts()["base.in"] == "Django\ncelery\n"
    assert made.texts()["prod.in"] == "-r base.in\ngunicorn\npsycopg2\n"
    assert made.lock() == "django==5.2.8\ngunicorn==25.0.0\nvine==5.1.0\n"


def test_a_bare_name_beside_one_with_a_version_says_nothing(tmp_path: Path) -> None:
    made = of(tmp_path, requirements_DOT_txt="Django==5.2.8\ncelery\ndjango\n")
    assert made.texts()["base.in"] == "Django==5.2.8\ncelery\n"


def test_a_pyproject_with_groups_and_the_lock_of_uv(tmp_path: Path) -> None:
    project = """
[project]
name = "shop"
dependencies = ["django>=5.2", "celery"]
[project.optional-dependencies]
production = ["gunicorn"]
s3 = ["boto3"]
[dependency-groups]
dev = ["ruff"]
test = ["pytest", {include-group = "dev"}]
"""
    lock = """
version = 1
[[package]]
name = "shop"
version = "1"
source = { editable = "." }
[[package]]
name = "django"
version = "5.2.8"
"""
    made = of(tmp_path, pyproject_DOT_toml=project, uv_DOT_lock=lock)
    assert made.texts()["base.in"] == "django>=5.2\ncelery\n"
    assert made.texts()["dev.in"].startswith("-r base.in\nruff\n")
    assert made.texts()["test.in"] == "-r base.in\npytest\nruff\n", "with the group that it includes"
    assert made.texts()["prod.in"] == "-r base.in\ngunicorn\npsycopg2\n"
    assert made.lock() == "django==5.2.8\n"
    assert made.left == ["pyproject.toml: the extra s3 is not installed by default: add what you use of it by hand"]


def test_poetry_and_pipenv(tmp_path: Path) -> None:
    poetry = """
[tool.poetry.dependencies]
python = "^3.12"
django = "^5.1"
celery = {version = "~5.4", extras = ["redis", "gevent"]}
[tool.poetry.group.test.dependencies]
pytest = "*"
"""
    made = of(tmp_path / "a", pyproject_DOT_toml=poetry)
    assert made.texts()["base.in"] == "django>=5.1,<6\ncelery[redis,gevent]>=5.4,<5.5\n"
    assert made.texts()["test.in"] == "-r base.in\npytest\n"
    pipfile = '[packages]\ndjango = "==5.2.8"\n[dev-packages]\nblack = "*"\n'
    made = of(tmp_path / "b", Pipfile=pipfile)
    assert made.texts()["base.in"] == "django==5.2.8\n"
    assert "black\n" in made.texts()["dev.in"]


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("^5.1", ">=5.1,<6"),
        ("^0.3.2", ">=0.3.2,<0.4"),
        ("~5.4", ">=5.4,<5.5"),
        ("~5", ">=5,<6"),
        ("*", ""),
        ("5.2.8", "==5.2.8"),
        (">=5,<6", ">=5,<6"),
        ("~=5.2", "~=5.2"),
    ],
)
def test_versions_of_poetrys_mean_the_same_to_pip(said: str, means: str) -> None:
    assert specifier(said) == means


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *(("requirements", "base"), ("common", "base"), ("requirements-dev", "dev"), ("local", "dev")),
        *(("production", "prod"), ("requirements_test", "test"), ("ci", "test"), ("devices", "base")),
    ],
)
def test_the_name_of_a_file_says_its_layer(name: str, layer: str) -> None:
    assert layer_of(name) == layer


LEFT = (
    "a lock with hashes cannot have it: build its wheel once, `pip wheel --no-deps -w requirements/wheels …`,"
    " and write NAME==VERSION into requirements/base.in"
)


@pytest.mark.parametrize(
    "line", ["-e .", "git+https://example.org/x", "./vendor/x", "../x", "x @ file:./x", "x[a]@git+ssh://example.org/x"]
)
def test_what_a_lock_with_hashes_cannot_have_is_named(tmp_path: Path, line: str) -> None:
    made = of(tmp_path, requirements_DOT_txt=f"django\n{line}\n")
    assert made.texts()["base.in"] == "django\n"
    assert made.left == [f"requirements.txt: {line}: {LEFT}"]


def test_an_option_that_is_not_carried_is_named(tmp_path: Path) -> None:
    made = of(tmp_path, requirements_DOT_txt="django\n--index-url https://example.org\n")
    assert made.left == [
        "requirements.txt: --index-url https://example.org: this option is not carried to where the lock is installed"
    ]


def test_a_package_that_is_not_taken_from_an_index_is_not_taken_from_one(tmp_path: Path) -> None:
    """Under its name an index may have another one."""
    project = """
[project]
name = "shop"
dependencies = ["django", "ours>=1", "direct @ git+https://example.org/direct"]
[dependency-groups]
loop = ["six", {include-group = "loop"}]
[tool.uv.sources]
ours = { git = "https://example.org/ours" }
django = { index = "corporate" }
[tool.poetry.dependencies]
mine = { path = "../mine" }
[tool.poetry.group.dev.dependencies]
theirs = { git = "https://example.org/theirs", rev = "0123" }
"""
    made = of(tmp_path, pyproject_DOT_toml=project)
    assert made.texts()["base.in"] == "django\n"
    assert made.texts()["dev.in"].startswith("-r base.in\nsix\n")
    whats = ["ours>=1", "direct @ git+https://example.org/direct", "mine", "theirs"]
    assert made.left == [f"pyproject.toml: {what}: {LEFT}" for what in whats]


def test_a_site_that_asgi_serves_gets_its_server_unless_it_has_one(tmp_path: Path) -> None:
    made = of(tmp_path, requirements_DOT_txt="django\nchannels\n").texts(asynchronous=True)
    assert made["dev.in"] == "-r base.in\npsycopg2-binary\nwatchfiles\nuvicorn\nwebsockets\n"
    assert made["prod.in"] == "-r base.in\npsycopg2\ngunicorn\nuvicorn-worker\nwebsockets\n"
    own = of(tmp_path, requirements_DOT_txt="django\ndaphne\nuvicorn-worker\nwebsockets\n").texts(asynchronous=True)
    assert own["dev.in"] == "-r base.in\npsycopg2-binary\nwatchfiles\n"


SETUP_CFG = """
[options]
python_requires = >=3.11
package_dir =
    = src
install_requires =
    # the site
    django>=5.2
    celery[redis]>=5.4 ; python_version >= "3.11"
    ours @ git+https://example.org/ours

[options.extras_require]
dev =
    ipdb
pdf =
    weasyprint
"""
SETUP_PY = """
from setuptools import setup

REQUIRES = ["django>=5.2", "celery"]
setup(name="shop", install_requires=REQUIRES, extras_require={"test": ["pytest"]}, python_requires=">=3.12")
"""


def test_setup_cfg(tmp_path: Path) -> None:
    made = of(tmp_path, setup_DOT_cfg=SETUP_CFG, requirements_DOT_txt="-e .[dev]\n")
    assert made.texts()["base.in"] == 'django>=5.2\ncelery[redis]>=5.4 ; python_version >= "3.11"\n'
    assert "ipdb\n" in made.texts()["dev.in"]
    assert made.left == [
        f"setup.cfg: ours @ git+https://example.org/ours: {LEFT}",
        "setup.cfg: the extra pdf is not installed by default: add what you use of it by hand",
    ], "the project itself is no package that a lock lacks"


def test_setup_py(tmp_path: Path) -> None:
    made = of(tmp_path, setup_DOT_py=SETUP_PY)
    assert made.texts()["base.in"] == "django>=5.2\ncelery\n"
    assert "pytest\n" in made.texts()["test.in"]
    assert [each.text for each in packages.read(walk(tmp_path), {"."}).python] == ["3.12", "3.10"]


def test_the_project_itself_is_named_from_another_folder(tmp_path: Path) -> None:
    made = of(
        tmp_path, pyproject_DOT_toml='[project]\ndependencies = ["django"]\n', requirements__dev_DOT_txt="-e ..\n"
    )
    assert made.texts()["base.in"] == "django\n"
    assert made.left == []


def test_versions_of_a_lock_of_pipenv_are_kept(tmp_path: Path) -> None:
    develop = '{"Ipdb": {"version": "==0.13.0"}, "x": {"path": "."}}'
    lock = f'{{"default": {{"django": {{"version": "==5.2.1"}}}}, "develop": {develop}}}'
    made = of(tmp_path, Pipfile='[packages]\ndjango = "*"\n', Pipfile_DOT_lock=lock)
    assert made.texts()["base.in"] == "django\n"
    assert made.lock() == "django==5.2.1\nipdb==0.13.0\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_windows_has_written(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `pip freeze > requirements.txt` makes UTF-16, and pip reads it."""
    (tmp_path / "requirements.txt").write_bytes("Django==5.2.8\r\npytz\r\n".encode(encoding))
    assert of(tmp_path).texts()["base.in"] == "Django==5.2.8\npytz\n"
