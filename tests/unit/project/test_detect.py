"""What a project is, found in its source: five shapes that people have, and each thing that is read, one by one."""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath

import pytest

from deploy.project.detect import Said, detect, names
from deploy.project.names import Names
from deploy.project.source.modules import Library, Module
from deploy.project.source.packages import Requirements, read
from deploy.project.source.tree import walk
from deploy.project.source.values import Variable, text, truth
from tests.rig.startproject import MANAGE, WSGI
from tests.support import ROOT
from tests.unit import shapes
from tests.unit.shapes import Files, write


def settings(root: Path, source: str, **more: str) -> Module:
    """A settings module of its own, read."""
    write(root, {"shop/settings.py": source, **{f"{name}.py": other for name, other in more.items()}})
    found = Library(walk(root), ".").module("shop.settings")
    assert found
    return found


# --- Five shapes ---


@pytest.mark.parametrize(
    ("files", "site", "development", "production", "test", "base", "celery", "runner"),
    [
        (shapes.ONE_FILE, "web", "shop.settings", "shop.settings", "", "", "", ""),
        (
            shapes.SPLIT,
            ".",
            *("config.settings.local", "config.settings.production", "config.settings.test", "config.settings.base"),
            *("config.celery_app:app", "pytest"),
        ),
        (shapes.AT_THE_ROOT, ".", "shop.settings", "shop.settings", "", "", "", ""),
        (
            shapes.TUTORIAL,
            ".",
            *("mysite.settings", "mysite.settings.production", "", "mysite.settings.settings"),
            *("mysite.celery_app:app", "manage.py test"),
        ),
        (shapes.NEWER, "web", "shop.settings", "shop.settings", "", "", "", ""),
    ],
    ids=list(shapes.SHAPES),
)
def test_a_project_is_known_by_its_source(
    tmp_path: Path,
    files: Files,
    site: str,
    development: str,
    production: str,
    test: str,
    base: str,
    celery: str,
    runner: str,
) -> None:
    found = detect(write(tmp_path, files))
    roles = (found.development, found.production, found.test, found.base, found.runner)
    assert [each.name if each else "" for each in roles] == [development, production, test, base, runner]
    assert [each.name for each in found.sites] == [site]
    assert [each.name for each in found.celery] == ([celery] if celery else [])
    assert found.wsgi
    assert found.wsgi.name == f"{development.partition('.')[0]}.wsgi:application"


def test_the_demonstration_is_known_by_its_source() -> None:
    found = detect(ROOT)
    assert found.site == "site"
    assert found.development
    assert str(found.development.at).startswith("site/manage.py:")
    assert found.production_name == "mysite.settings.production"
    assert [each.name for each in found.celery] == ["mysite.celery_app:app"]
    production = found.module(found.production)
    assert production
    assert {each.name for each in production.reads if each.required} == {"DATABASE_URL", "CELERY_BROKER_URL"}


def test_two_thousand_files_take_less_than_a_second(tmp_path: Path) -> None:
    body = (
        "import os\n\n\nclass View:\n    def get(self, request):\n        return [1, 2, 3]\n" + "x = [1, 2, 3]\n" * 100
    )
    tasks = "from celery import shared_task\n\n\n@shared_task\ndef work():\n    pass\n"
    write(tmp_path, shapes.SPLIT, {f"shop/app{n % 50}/module{n}.py": body for n in range(2000)})
    write(tmp_path, {f"shop/app{n}/tasks.py": tasks + body for n in range(50)})
    fastest = 9.0
    for _ in range(3):  # others use this machine
        began = time.process_time()
        detect(tmp_path)
        fastest = min(fastest, time.process_time() - began)
    assert fastest < 1


# --- Files ---


def test_what_is_not_the_projects_own_source_is_not_read(tmp_path: Path) -> None:
    other = {"manage.py": MANAGE.format(settings="other.settings")}
    skipped = ("node_modules/x", ".venvs/dev", ".git", "frontend/node_modules", "shop/static/vendor", "__pycache__")
    environment = {"python/pyvenv.cfg": "", "python/lib/manage.py": other["manage.py"]}
    write(tmp_path, {f"{folder}/manage.py": other["manage.py"] for folder in skipped}, environment)
    assert detect(tmp_path).sites == ()


def test_a_package_that_is_called_like_built_files_is_read(tmp_path: Path) -> None:
    write(tmp_path, shapes.SPLIT, {"media/__init__.py": "", "media/tasks.py": "@shared_task\ndef t(): ..."})
    assert [str(each.at) for each in detect(tmp_path).tasks] == ["media/tasks.py:1"]


def test_several_sites_are_all_named_and_the_one_that_is_said_comes_first(tmp_path: Path) -> None:
    write(tmp_path, {f"{name}/manage.py": MANAGE.format(settings=f"{name}.settings") for name in ("api", "shop")})
    assert [each.name for each in detect(tmp_path).sites] == ["api", "shop"]
    assert [each.name for each in detect(tmp_path, Said(site="shop")).sites] == ["shop", "api"]


def test_a_file_that_is_no_python_stops_nothing(tmp_path: Path) -> None:
    found = detect(write(tmp_path, shapes.SPLIT, {"shop/tasks.py": "@shared_task\nprint 'old'", "shop/x.py": "\0"}))
    assert found.tasks == ()


def test_an_expression_of_very_many_parts_stops_nothing(tmp_path: Path) -> None:
    detect(write(tmp_path, shapes.SPLIT, {"config/settings/base.py": f"X = {' + '.join(['A'] * 900)}\n"}))


# --- Values ---


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("X = ['a'] + ['b']", ("a", "b")),
        ("A = ('a',)\nX = [*A, 'b']", ("a", "b")),
        ("X = ['a']\nX += ['b']\nX.append('c')\nX.insert(0, 'd')\nX.remove('a')", ("b", "c", "d")),
        ("NAME = 'x'\nX = f'redis://{NAME}:6379/{unknown}'", "redis://x:6379/{unknown}"),
        ("DEBUG = False\nX = 1\nif DEBUG:\n    X = 2", 1),
        ("DEBUG = True\nif DEBUG:\n    X = 2\nelse:\n    X = 3", 2),
        ("X = 1\nX = unknown()", 1),
        ("X = 24 * 60 * 60", 86400),
    ],
)
def test_a_value_is_followed_through_the_module(tmp_path: Path, source: str, value: object) -> None:
    assert settings(tmp_path, source).value("X") == value


@pytest.mark.parametrize(
    "expression",
    [
        "Path(__file__).resolve().parent.parent / 'media'",
        "Path(__file__).parents[1].joinpath('media')",
        "os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'media')",
        "(environ.Path(__file__) - 2)('media')",
        "str(Path(__file__).parent.parent / 'media')",
        "env.path('MEDIA', default=Path(__file__).parent.parent / 'media')",
    ],
)
def test_a_path_is_followed_however_it_is_made(tmp_path: Path, expression: str) -> None:
    source = f"import os\nimport environ\nfrom pathlib import Path\nenv = environ.Env()\nX = {expression}\n"
    value = settings(tmp_path, source).value("X")
    assert text(value) == str(PurePosixPath(tmp_path) / "media")


def test_a_value_under_a_condition_does_not_hide_the_one_that_is_certain(tmp_path: Path) -> None:
    found = settings(tmp_path, "import os\nX = 1\nif os.environ.get('Y'):\n    X = 2\n")
    assert found.value("X") == 1
    assert [(each.value, each.sometimes) for each in found.every("X")] == [(1, False), (2, True)]


def test_names_come_through_relative_and_absolute_imports(tmp_path: Path) -> None:
    source = "from .base import *\nfrom shop.base import A as B\nX = [*A, *B]"
    found = settings(tmp_path, source, **{"shop/base": "A = ['a']\n_HIDDEN = 1\n"})
    assert found.value("X") == ("a", "a")
    assert found.get("_HIDDEN") is None
    assert found.parents == ("shop.base",)
    assert str(found.get("A").at if found.get("A") else "") == "shop/base.py:1"  # type: ignore[union-attr]


def test_modules_far_from_the_settings_are_not_read(tmp_path: Path) -> None:
    chain = {f"shop/m{n}": f"import os\nfrom shop.m{n + 1} import X\nY{n} = os.environ['Y{n}']\n" for n in range(9)}
    found = settings(tmp_path, "from shop.m0 import Y0\n", **chain)
    assert [each.name for each in found.reads] == ["Y1", "Y0"]


def test_a_module_under_a_condition_that_looks_at_files_is_not_missed(tmp_path: Path) -> None:
    source = "import os\nfrom pathlib import Path\nif {}:\n    from .local import *\n"
    for test in ("os.path.exists(__file__)", "(Path(__file__) / 'x').exists()", "Path(__file__).is_file()"):
        assert settings(tmp_path, source.format(test)).missing == (), test


def test_modules_that_import_each_other_are_read_once(tmp_path: Path) -> None:
    found = settings(tmp_path, "from shop.base import *\nX = 1", **{"shop/base": "from shop.settings import *\nA = 1"})
    assert (found.value("X"), found.value("A")) == (1, 1)


def test_an_entry_of_a_dictionary_that_is_set_later_is_seen(tmp_path: Path) -> None:
    source = "X = {'default': {'HOST': 'a'}}\nX['default']['HOST'] = 'b'\nX['default'].update(PORT=1)"
    value = settings(tmp_path, source).value("X")
    assert not isinstance(value, tuple | str | int | None)
    assert str(value).count("'b'") == 1


# --- Variables ---

READERS = (
    "import os\nimport environ\nimport dj_database_url\nfrom os import getenv\nfrom decouple import config\n"
    "env = environ.Env(SCHEMED=(bool, True))\n"
)


@pytest.mark.parametrize(
    ("expression", "name", "required", "default"),
    [
        ("os.environ['A']", "A", True, None),
        ("os.environ.get('A')", "A", False, None),
        ("os.environ.get('A', 'x')", "A", False, "x"),
        ("getenv('A', 'x')", "A", False, "x"),
        ("os.getenv(key, 'x') if (key := 'A') else 1", "A", False, "x"),
        ("env('A')", "A", True, None),
        ("env('A', default='x')", "A", False, "x"),
        ("env('A', str)", "A", True, None),
        ("env.str('A', 'x')", "A", False, "x"),
        ("env.bool('A')", "A", True, None),
        ("env.int('A', default=3)", "A", False, 3),
        ("env.list('A', str)", "A", True, None),
        ("env.list('A', default=[])", "A", False, ()),
        ("env.db()", "DATABASE_URL", True, None),
        ("env.db('A', default='sqlite:///x')", "A", False, "sqlite:///x"),
        ("env.cache()", "CACHE_URL", True, None),
        ("env('SCHEMED')", "SCHEMED", False, True),
        ("config('A')", "A", True, None),
        ("config('A', default=False, cast=bool)", "A", False, False),
        ("config('A', 'x')", "A", False, "x"),
        ("dj_database_url.config(default='sqlite:///x')", "DATABASE_URL", False, "sqlite:///x"),
        ("{'a': [os.environ['A'].split(',')]}", "A", True, None),
        ("os.environ['A'] if unknown else 1", "A", False, None),
        ("'A' in os.environ and os.environ['A']", "A", False, None),
    ],
)
def test_a_variable_is_required_where_it_has_no_default(
    tmp_path: Path, expression: str, name: str, required: bool, default: object
) -> None:
    (found,) = settings(tmp_path, f"{READERS}X = {expression}\n").reads
    assert (found.name, found.required) == (name, required)
    assert found.default == default
    assert str(found.at) == "shop/settings.py:7"


@pytest.mark.parametrize(
    ("body", "required"),
    [
        ("    return os.environ[name]\n", True),
        ("    return os.environ.get(name)\n", False),
        ("    try:\n        return os.environ[name]\n    except KeyError:\n        raise RuntimeError(name)\n", True),
        ("    try:\n        return os.environ[name]\n    except KeyError:\n        return None\n", False),
        (
            "    value = os.getenv(name, default)\n    if not value:\n        raise RuntimeError\n    return value\n",
            True,
        ),
        ("    value = os.getenv(name, default)\n    if value == 'x':\n        pass\n    return value\n", False),
        ("    if name not in os.environ:\n        return default\n    return os.environ[name]\n", False),
        ("    if name not in os.environ:\n        raise RuntimeError\n    return os.environ[name]\n", True),
        ("    if path := os.getenv(name + '_FILE'):\n        raise RuntimeError\n    return os.getenv(name)\n", False),
    ],
)
def test_a_function_of_the_project_that_reads_variables_is_followed(tmp_path: Path, body: str, required: bool) -> None:
    source = f"import os\n\ndef get(name, default=None):\n{body}\nX = get('A')\nY = get('B', 'x')\n"
    assert [(each.name, each.required) for each in settings(tmp_path, source).reads] == [("A", required), ("B", False)]


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    X = os.environ['A']\nexcept KeyError:\n    X = ''",
        "if 'A' in os.environ:\n    X = os.environ['A']",
        "def later():\n    return os.environ['A']",
        "try:\n    from .local import *\nexcept ImportError:\n    pass",
    ],
)
def test_a_variable_that_is_read_perhaps_or_later_is_not_required(tmp_path: Path, source: str) -> None:
    found = settings(tmp_path, f"import os\n{source}\n", **{"shop/local": "import os\nY = os.environ['A']"})
    assert [(each.name, each.required) for each in found.reads] == [("A", False)]
    assert found.missing == ()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("os.environ.get('DEBUG', 'True') == 'True'", True),
        ("os.environ.get('DEBUG') == '1'", False),
        ("bool(int(os.environ.get('DEBUG', '1')))", True),
        ("bool(strtobool(os.getenv('DEBUG', 'false')))", False),
        ("not os.environ.get('PRODUCTION')", True),
        ("os.environ.get('DEBUG', 'yes').lower() in ('yes', '1')", True),
        ("os.environ['DEBUG']", None),
    ],
)
def test_a_switch_has_its_default_of_the_environment(tmp_path: Path, expression: str, value: bool | None) -> None:
    found = settings(tmp_path, f"import os\nX = {expression}\n").value("X")
    assert isinstance(found, Variable)
    assert truth(found) is value


def test_variables_outside_of_the_settings_are_found(tmp_path: Path) -> None:
    write(tmp_path, shapes.SPLIT, {"shop/views.py": "import os\n\nKEY = os.environ['STRIPE_KEY']\n"})
    assert [(each.name, str(each.at)) for each in detect(tmp_path).elsewhere] == [("STRIPE_KEY", "shop/views.py:3")]


# --- Settings modules ---


@pytest.mark.parametrize(
    ("manage", "wsgi", "names", "development", "production"),
    [
        ("dev", "prod", ("dev", "prod", "base"), "dev", "prod"),
        ("local", "local", ("local", "production"), "local", "production"),
        ("base", "production", ("base", "local", "production", "test"), "local", "production"),
        ("production", "production", ("development", "production"), "development", "production"),
        ("dev", "", ("dev", "live"), "dev", "live"),
        ("heroku", "heroku", ("heroku",), "heroku", "heroku"),
    ],
)
def test_settings_are_told_apart_by_who_names_them_and_by_their_names(
    tmp_path: Path, manage: str, wsgi: str, names: tuple[str, ...], development: str, production: str
) -> None:
    files = {f"conf/{name}.py": "INSTALLED_APPS = []\n" for name in names}
    files |= {"manage.py": MANAGE.format(settings=f"conf.{manage}")}
    files |= {"shop/wsgi.py": WSGI.format(settings=f"conf.{wsgi}")} if wsgi else {}
    found = detect(write(tmp_path, files))
    assert [each.name if each else "" for each in (found.development, found.production)] == [
        f"conf.{development}",
        f"conf.{production}",
    ]


def test_what_invoke_yaml_says_goes_before_what_is_found(tmp_path: Path) -> None:
    write(tmp_path, shapes.SPLIT)
    found = detect(tmp_path, Said(dev="config.settings.test", prod="config.settings.local", celery="none"))
    assert (found.development and found.development.name, found.production_name) == (
        "config.settings.test",
        "config.settings.local",
    )
    assert found.celery == ()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = config.settings.ci\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = -q --ds=config.settings.ci\n"),
        ("tox.ini", "[pytest]\naddopts = --ds config.settings.ci\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nDJANGO_SETTINGS_MODULE = 'config.settings.ci'\n"),
        ("pyproject.toml", "[tool.pytest]\naddopts = ['-q', '--ds=config.settings.ci']\n"),
    ],
)
def test_the_settings_and_the_runner_of_tests_are_what_pytest_is_told(tmp_path: Path, path: str, source: str) -> None:
    found = detect(write(tmp_path, shapes.SPLIT, {"pyproject.toml": "", path: source}))
    assert found.test
    assert found.runner
    assert (found.test.name, str(found.test.at)) == ("config.settings.ci", f"{path}:2")
    assert (found.runner.name, str(found.runner.at)) == ("pytest", f"{path}:1")


def test_a_wsgi_module_may_be_a_package(tmp_path: Path) -> None:
    module = {
        "shop/wsgi/__init__.py": WSGI.format(settings="shop.settings"),
        "shop/settings.py": "ROOT_URLCONF = 'x'",
    }
    found = detect(write(tmp_path, {"manage.py": MANAGE.format(settings="shop.settings")}, module))
    assert found.wsgi
    assert found.wsgi.name == "shop.wsgi:application"
    assert str(found.production and found.production.at) == "shop/wsgi/__init__.py:5"


# --- Celery ---


def test_settings_of_celery_are_found_wherever_they_are_made(tmp_path: Path) -> None:
    own = shapes.CELERY.format(settings="config.settings.local") + (
        "app.conf.task_acks_late = True\napp.conf.update(beat_scheduler='x:Y')\napp.conf['result_backend'] = 'rpc://'\n"
    )
    found = detect(write(tmp_path, shapes.SPLIT, {"config/celery_app.py": own}))
    (app,) = found.celery
    module = found.module(found.production)
    assert module
    assert app.namespace == "CELERY"
    for name in ("task_acks_late", "beat_scheduler", "result_backend", "broker_url"):
        assert app.setting(module, name), name
    assert app.setting(module, "task_always_eager") is None


def test_settings_of_celery_have_their_old_names_without_a_namespace(tmp_path: Path) -> None:
    app = (
        "from celery import Celery\napp = Celery(broker='redis://r')\napp.config_from_object('django.conf:settings')\n"
    )
    more = shapes.SPLIT["config/settings/base.py"] + "CELERY_ALWAYS_EAGER = True\n"
    found = detect(write(tmp_path, shapes.SPLIT, {"config/celery_app.py": app, "config/settings/base.py": more}))
    module = found.module(found.production)
    assert module
    eager, broker = (found.celery[0].setting(module, name) for name in ("task_always_eager", "broker_url"))
    assert eager
    assert broker
    assert (eager.value, broker.value) == (True, "redis://r")


def test_an_application_of_the_tests_is_none_of_the_site(tmp_path: Path) -> None:
    write(tmp_path, shapes.SPLIT, {"shop/tests/app.py": "from celery import Celery\napp = Celery()\n"})
    assert len(detect(tmp_path).celery) == 1


# --- Packages, Python, front end ---


def requirements(root: Path, files: Files) -> Requirements:
    return read(walk(write(root, files)), ["."])


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("requirements.txt", "Django==5.2.8\n# Gone==1\n--hash=x\ncelery[redis]>=5.4 ; python_version > '3'\n"),
        ("requirements/base.txt", "Django==5.2.8\ncelery[redis]>=5.4\n"),
        ("pyproject.toml", "[project]\ndependencies = ['Django==5.2.8']\n[dependency-groups]\ndev = ['celery>=5.4']\n"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nDjango = '5.2.8'\ncelery = {version = '>=5.4'}\n"),
        ("Pipfile", "[packages]\nDjango = '==5.2.8'\n[dev-packages]\ncelery = '>=5.4'\n"),
        ("uv.lock", "[[package]]\nname = 'django'\nversion = '5.2.8'\n[[package]]\nname = 'celery'\nversion = '5.4'\n"),
        (
            "poetry.lock",
            "[[package]]\nname = 'Django'\nversion = '5.2.8'\n[[package]]\nname = 'celery'\nversion='5.4'\n",
        ),
    ],
)
def test_packages_are_found_in_each_kind_of_file(tmp_path: Path, path: str, source: str) -> None:
    found = requirements(tmp_path, {path: source})
    assert [name for name, _ in found.files] == [path]
    assert [each.name for each in found.packages] == ["django", "celery"]
    assert "5.2.8" in found.packages[0].versions


@pytest.mark.parametrize(
    ("path", "source", "version"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\nrequires-python = '>=3.12,<4'\n", (3, 12)),
        ("pyproject.toml", "[tool.poetry.dependencies]\npython = '^3.13'\n", (3, 13)),
        (".python-version", "3.13.2\n", (3, 13)),
        ("runtime.txt", "python-3.12.1\n", (3, 12)),
        ("Pipfile", "[requires]\npython_version = '3.12'\n", (3, 12)),
        ("uv.lock", "requires-python = '>=3.12'\n", (3, 12)),
        ("poetry.lock", "[[package]]\nname = 'x'\nversion = '1'\npython-versions = '>=3.12'\n", (3, 12)),
        ("requirements.txt", "django==6.0.8\n", (3, 12)),
        ("requirements.txt", "django>=5.2,<5.3\n", (3, 10)),
    ],
)
def test_the_lowest_python_is_found_in_each_kind_of_file(
    tmp_path: Path, path: str, source: str, version: tuple[int, int]
) -> None:
    lowest = requirements(tmp_path, {path: source}).lowest
    assert lowest
    assert lowest.version == version


def test_a_front_end_is_found_with_its_build(tmp_path: Path) -> None:
    write(tmp_path, shapes.SPLIT, {"assets/package.json": '{\n  "scripts": {\n    "build": "x"\n  }\n}\n'})
    write(tmp_path, {"package.json": "no JSON"})
    assert [(each.build, str(each.at)) for each in detect(tmp_path).frontends] == [
        ("npm run build", "assets/package.json:3")
    ]


@pytest.mark.parametrize(
    ("files", "said", "expected"),
    [
        ({}, "", ""),
        ({"config/asgi.py": "application = ProtocolTypeRouter({})\n"}, "", "config.asgi:application"),
        ({}, "config.asgi:application", "config.asgi:application"),
    ],
)
def test_an_asgi_module_alone_is_no_sign_of_a_site_that_needs_it(
    tmp_path: Path, files: dict[str, str], said: str, expected: str
) -> None:
    shapes.write(tmp_path, shapes.SPLIT, {"config/asgi.py": "application = get_asgi_application()\n", **files})
    assert names(tmp_path, Names(asgi=said)).asgi == expected


# --- Folders beside that of manage.py ---

PUTS = {
    "manage.py, beside it": 'sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))',
    "by words": 'sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "src"))',
    "relative to the process": 'sys.path.append("src")',
    "nowhere, as the package is installed": "",
}


@pytest.mark.parametrize("line", PUTS.values(), ids=list(PUTS))
def test_a_folder_that_is_put_on_the_import_path_is_known(tmp_path: Path, line: str) -> None:
    """The names are those that the project itself imports its modules by."""
    root = write(
        tmp_path,
        {
            "back/manage.py": f"import os, sys\nfrom pathlib import Path\n{line}\n"
            + MANAGE.format(settings="shop.settings"),
            "back/src/shop/__init__.py": "",
            "back/src/shop/settings.py": "INSTALLED_APPS = []\nROOT_URLCONF = 'shop.urls'\n",
            "back/src/shop/wsgi.py": WSGI.format(settings="shop.settings"),
            "back/src/shop/celery.py": shapes.CELERY.format(settings="shop.settings"),
        },
    )
    assert names(root, Names()) == Names(
        *("back", "shop.settings", "shop.settings", "shop.wsgi:application", "", "shop.celery:app", "src")
    )
    assert names(root, Names(path="src")).prod == "shop.settings"


def test_a_folder_of_apps_that_settings_put_there_is_known(tmp_path: Path) -> None:
    base = "import sys\nfrom pathlib import Path\nBASE = Path(__file__).resolve().parents[2]\nsys.path[:0]\n"
    root = write(
        tmp_path,
        {
            "manage.py": MANAGE.format(settings="shop.settings.local"),
            "shop/settings/local.py": "from .base import *\n",
            "shop/settings/base.py": f"{base}sys.path.insert(0, f'{{BASE}}/apps')\nINSTALLED_APPS = ['bills']\n"
            "sys.path.insert(0, '/opt/others')\nsys.path.insert(0, str(BASE / 'away'))\nfrom bills.more import LIMIT\n",
            "apps/bills/more.py": "import os\nLIMIT = os.environ['LIMIT']\n",
        },
    )
    found = detect(root)
    assert found.paths == ("apps",), "what is outside of the repository, or not there, is left out"
    module = found.module(found.development)
    assert module
    assert [each.name for each in module.reads if each.required] == ["LIMIT"]
    assert module.missing == ()


def test_a_manage_py_that_names_django_in_capitals_only_is_one(tmp_path: Path) -> None:
    line = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\nfrom configurations import management\n'
    assert detect(write(tmp_path, {"manage.py": line})).sites


CLASSES = """
from configurations import Configuration, values

class Common(Configuration):
    INSTALLED_APPS = ["shop"]
    DEBUG = True
    DATABASES = values.DatabaseURLValue("sqlite:///db")
    NAME = values.Value("Shop", environ_prefix=None)

class Live(Common):
    DEBUG = False
    SECRET_KEY = values.SecretValue()
    TOKEN = values.Value(environ_prefix="SHOP", environ_required=True)

class Other:
    pass
"""


def test_settings_that_are_classes_are_named_with_the_class(tmp_path: Path) -> None:
    seed = 'import os\nos.environ.setdefault("DJANGO_CONFIGURATION", "Common")\n'
    root = write(
        tmp_path,
        {
            "manage.py": seed + MANAGE.format(settings="shop.settings"),
            "shop/wsgi.py": WSGI.format(settings="shop.settings"),
            "shop/settings.py": CLASSES,
        },
    )
    found = detect(root)
    assert found.development
    assert (found.development.name, found.production_name) == ("shop.settings:Common", "shop.settings:Live")
    live = found.module(found.production)
    assert live
    assert (live.value("DEBUG"), found.apps(live)) == (False, ("shop",))
    assert {each.name: each.required for each in live.reads} == {
        "DATABASE_URL": False,
        "NAME": False,
        "DJANGO_SECRET_KEY": True,
        "SHOP_TOKEN": True,
    }


# --- Encodings ---


def test_a_byte_order_mark_is_no_part_of_the_source(tmp_path: Path) -> None:
    found = settings(tmp_path, "\ufeffDEBUG = True\n")
    assert found.value("DEBUG") is True


# --- Readers of variables ---


def test_fields_of_pydantics_settings_are_variables(tmp_path: Path) -> None:
    source = """
from typing import ClassVar
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

class Common(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_file=".env")
    kind: ClassVar[str] = "x"
    secret_key: str
    debug: bool = False
    hosts: list[str] = Field(default_factory=list)

class Own(Common):
    token: str = Field(..., validation_alias="API_TOKEN")
    dsn: str | None = Field(default=None)
    given: str

class NotRead(BaseSettings):
    nothing: str

own = Own(given="here")
DEBUG = own.debug
SECRET_KEY = own.secret_key.get_secret_value()
"""
    found = settings(tmp_path, source)
    read = {each.name: each.required for each in found.reads}
    assert read == {
        "SHOP_SECRET_KEY": True,
        "SHOP_DEBUG": False,
        "SHOP_HOSTS": False,
        "API_TOKEN": True,
        "SHOP_DSN": False,
    }
    assert found.value("DEBUG") == Variable("SHOP_DEBUG", False)


def test_what_is_read_with_a_prefix_has_it_in_its_name(tmp_path: Path) -> None:
    source = """
from environs import Env
env = Env()
with env.prefixed("SHOP_"):
    KEY = env("KEY")
    with env.prefixed("MAIL_"):
        HOST = env.str("HOST", "localhost")
NAME = env("NAME")
"""
    found = settings(tmp_path, source)
    assert [(each.name, each.required) for each in found.reads] == [
        ("SHOP_KEY", True),
        ("SHOP_MAIL_HOST", False),
        ("NAME", True),
    ]


# --- Tests of a project in a folder of a larger repository ---


def test_pytests_configuration_between_the_root_and_manage_py_is_known(tmp_path: Path) -> None:
    project = (
        '[project]\ndependencies = ["django"]\n[tool.pytest.ini_options]\nDJANGO_SETTINGS_MODULE = "shop.testing"\n'
    )
    files = {
        "services/api/src/manage.py": MANAGE.format(settings="shop.settings"),
        "services/api/pyproject.toml": project,
    }
    found = detect(write(tmp_path, files))
    assert found.runner
    assert (found.runner.name, found.runner.at.path) == ("pytest", "services/api/pyproject.toml")
    assert found.test
    assert found.test.name == "shop.testing"
    assert found.requirements.find("django")
