"""A layer is whole if what was asked for is in it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.version import Version

from deploy.core.errors import Failure
from deploy.venvs import build, check, finish_layer, store, views
from deploy.venvs.store import Store


def installed(folder: Path, name: str, version: str = "1.0", script: str = "") -> Path:
    """A distribution with one module, as an installer leaves it; ``script`` is the target of a console script."""
    module, info = folder / f"{name}.py", folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    module.write_text("def main(): ...\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if script:
        (info / "entry_points.txt").write_text(f"[console_scripts]\n{name} = {script}\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(f"{name}.py,sha256={digest},{module.stat().st_size}\n{info.name}/METADATA,,\n")
    return folder


def there(folder: Path) -> list[Distribution]:
    return list(distributions(path=[str(folder)]))


class WithoutMissingFiles(Distribution):
    """A distribution as Python 3.12 shows it: without the files that are missing."""

    def __init__(self, of: Distribution) -> None:
        self.of = of

    def read_text(self, filename: str) -> str | None:
        return self.of.read_text(filename)

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return Path(str(self.of.locate_file(path)))

    @property
    def files(self) -> list[PackagePath]:
        return [each for each in self.of.files or () if Path(str(each.locate())).exists()]


def test_a_pin_that_was_installed_elsewhere_is_named(tmp_path: Path) -> None:
    installed(tmp_path, "six", "1.17.0")
    pins = [["six", "1.17.0", ""], ["django", "5.2", ""], ["colorama", "1", "sys_platform == 'win32'"]]
    assert finish_layer.lacking(pins, there(tmp_path)) == ["django 5.2"]
    with pytest.raises(SystemExit, match=r"dev: the installer ended without an error, but did not install django 5\.2"):
        finish_layer.require_whole("dev", pins, tmp_path, [])


def test_another_version_is_not_what_was_asked_for(tmp_path: Path) -> None:
    installed(tmp_path, "six", "1.16.0")
    assert finish_layer.lacking([["six", "1.17.0", ""]], there(tmp_path)) == ["six 1.17.0 (1.16.0 is there)"]
    assert finish_layer.lacking([["six", "1.16", ""]], there(tmp_path)) == []


def test_a_name_in_another_spelling_is_the_same(tmp_path: Path) -> None:
    installed(tmp_path, "Typing_Extensions")
    assert finish_layer.lacking([["typing-extensions", "1", ""]], there(tmp_path)) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    installed(tmp_path, "six")
    assert finish_layer.incomplete(there(tmp_path), [tmp_path]) == []
    (tmp_path / "six.py").unlink()
    assert finish_layer.incomplete(there(tmp_path), [tmp_path]) == ["six 1.0 lacks six.py"]
    newer = [WithoutMissingFiles(each) for each in there(tmp_path)]
    assert finish_layer.incomplete(newer, [tmp_path]) == ["six 1.0 lacks six.py"], "Python 3.12 hides missing files"


def test_a_script_whose_module_is_in_no_layer_is_named(tmp_path: Path) -> None:
    upper = installed(tmp_path / "upper", "tool", script="engine.cli:main")
    assert finish_layer.incomplete(there(upper), [upper]) == ["tool 1.0 has the script tool, but no module engine.cli"]
    (tmp_path / "lower" / "engine").mkdir(parents=True)
    (tmp_path / "lower" / "engine" / "cli.py").touch()
    assert finish_layer.incomplete(there(upper), [upper, tmp_path / "lower"]) == []


VARIABLES = st.sampled_from(["python_version", "python_full_version", "sys_platform", "os_name", "platform_machine"])
VALUES = st.sampled_from(["3.11", "3.12", "3.9", "3.11.4", "3.13.0", "linux", "win32", "posix", "x86_64", "3"])
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
COMPARED = st.builds(lambda one, op, two: f"{one} {op} '{two}'", VARIABLES, OPERATORS, VALUES)
MARKERS = st.recursive(
    COMPARED,
    lambda inner: st.builds(lambda a, word, b: f"({a} {word} {b})", inner, st.sampled_from(["and", "or"]), inner),
)


@given(MARKERS, st.sampled_from(["3.11.2", "3.12.0", "3.13.1"]))
def test_markers_mean_what_packaging_says(text: str, python: str) -> None:
    environment = {**finish_layer.marker_environment(), "python_full_version": python, "python_version": python[:4]}
    assert finish_layer.selected(text, environment) == Marker(text).evaluate(environment)


def test_what_markers_are_about_is_what_packaging_says() -> None:
    from packaging.markers import default_environment

    ours = finish_layer.marker_environment()
    assert {name: ours[name] for name in default_environment()} == default_environment()


@pytest.mark.parametrize(
    "text", ["python_version", "x == '1'", "(os_name == 'a'", "os_name == 'a' 'b'", "os_name ? 'a'"]
)
def test_a_text_that_is_no_marker_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        finish_layer.selected(text, finish_layer.marker_environment())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(
            ("1.0", "1"),
            ("1.0-beta", "1.0b0"),
            ("2024.01.05", "2024.1.5"),
            ("1.0.post1", "1.0-1"),
            ("v1.2RC1", "1.2rc1"),
        ),
        *(("1!2.0", "1!2"), ("1.0.dev3", "1.0dev3"), ("1.0+local.1", "1.0+local-1"), ("1.0a", "1.0alpha0")),
    ],
)
def test_versions_are_the_same_in_each_spelling(one: str, other: str) -> None:
    assert Version(one) == Version(other)
    assert finish_layer.normal(one) == finish_layer.normal(other)


# --- at a glance ---


def layer(tmp_path: Path) -> tuple[Store, Path]:
    """A store with a finished layer of one package, without a real Python."""
    made = Store(tmp_path, tmp_path)
    path = tmp_path / ".layers" / "dev-0"
    packages = installed(path / "lib" / "python3.11" / "site-packages", "six")
    (path / "bin").mkdir()
    (path / "bin" / "python").touch()
    record = store.Record("dev", "cpython-3.11", "/p", str(path / "bin" / "python"), str(path), [], {"six": "1.0"})
    (path / store.RECORD).write_text(json.dumps(vars(record)))
    (path / store.CONTENTS).write_text(finish_layer.contents(packages, path / "bin"))
    return made, path


def test_a_layer_that_lost_a_package_is_not_complete(tmp_path: Path) -> None:
    _, path = layer(tmp_path)
    assert store.CONTENTS == finish_layer.CONTENTS
    assert store.is_complete(path)
    installed(path / "lib" / "python3.11" / "site-packages", "by_hand")
    assert store.is_complete(path), "venv-check names what was added"
    shutil.rmtree(path / "lib" / "python3.11" / "site-packages" / "six-1.0.dist-info")
    assert not store.is_complete(path)
    shutil.rmtree(path / "lib")
    assert not store.is_complete(path)


def test_a_layer_that_lost_a_script_or_whose_list_is_no_text_is_not_complete(tmp_path: Path) -> None:
    _, path = layer(tmp_path)
    (path / "bin" / "six").touch()
    packages = path / "lib" / "python3.11" / "site-packages"
    (path / store.CONTENTS).write_text(finish_layer.contents(packages, path / "bin"))
    assert store.is_complete(path)
    (path / "bin" / "six").unlink()
    assert not store.is_complete(path)
    (path / store.CONTENTS).write_bytes(b"\xff")
    assert not store.is_complete(path)


def test_a_layer_that_does_not_find_those_below_is_not_complete_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = layer(tmp_path)
    lower = tmp_path / ".layers" / "base-0"
    below = installed(lower / "lib" / "python3.11" / "site-packages", "django")
    record = store.read_record(path)
    assert record is not None
    (path / store.RECORD).write_text(json.dumps({**vars(record), "below": [str(lower)]}))
    (lower / store.RECORD).write_text(json.dumps({**vars(record), "name": "base"}))
    file = path / "lib" / "python3.11" / "site-packages" / store.PATH_FILE
    assert store.PATH_FILE == finish_layer.PATH_FILE
    file.write_text(f"{below}\n")
    assert store.is_complete(path)
    monkeypatch.setattr(check, "python_problems", lambda *_: [])
    (tmp_path / "dev").symlink_to(".layers/dev-0")
    for wrong in (lambda: file.write_text(""), file.unlink):
        wrong()
        assert not store.is_complete(path)
        assert check.check(made, "dev") == [
            "dev: ~layers.pth was changed, and the layers below are not found: `invoke venv --env dev` rebuilds it"
        ]


def test_the_check_names_a_package_with_broken_metadata(tmp_path: Path) -> None:
    _, path = layer(tmp_path)
    record = store.read_record(path)
    assert record is not None
    info = path / "lib" / "python3.11" / "site-packages" / "six-1.0.dist-info"
    (info / "RECORD").write_bytes(b"\xff\xfe")
    assert check.package_problems("dev", record, path) == [
        "dev: six 1.0 has no list of its files (RECORD): `invoke venv --env dev --rebuild`"
    ]
    (info / "METADATA").write_text("")
    found = check.package_problems("dev", record, path)
    assert "None" not in "".join(found)
    assert f"dev: a package in {info.parent} without metadata has no list of its files" in found[1]


def test_the_check_names_files_that_are_gone(tmp_path: Path) -> None:
    _, path = layer(tmp_path)
    record = store.read_record(path)
    assert record is not None
    assert check.package_problems("dev", record, path) == []
    (path / "lib" / "python3.11" / "site-packages" / "six.py").unlink()
    assert check.package_problems("dev", record, path) == [
        "dev: six 1.0 lacks six.py: `invoke venv --env dev --rebuild`"
    ]
    shutil.rmtree(path / "lib")
    assert "six 1.0 was removed by hand" in check.package_problems("dev", record, path)[0]


def test_the_check_names_what_pythonpath_hides(tmp_path: Path) -> None:
    _, path = layer(tmp_path)
    hiding = installed(tmp_path / "mine", "six")
    folders = [path / "lib" / "python3.11" / "site-packages"]
    [line] = check.shadowed("dev", folders, {"PYTHONPATH": f"{hiding}{os.pathsep}/nowhere"})
    assert line == f"dev: PYTHONPATH has {hiding}, which hides six of the environment: unset it"
    assert check.shadowed("dev", folders, {}) == []


# --- an environment of another branch ---


def test_an_environment_whose_in_file_has_gone_is_listed_checked_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = layer(tmp_path)
    (tmp_path / "base.in").touch()
    (tmp_path / "dev").symlink_to(".layers/dev-0")
    assert store.state(made, "dev") == "undeclared"
    listed = views.report(made)
    assert [row[:2] for grid in listed.grids for row in grid.rows] == [("base", "missing"), ("dev", "undeclared")]
    assert listed.remarks == (
        ["dev: there is no requirements/dev.in: it is of another branch, or `invoke venv-remove --env dev` removes it"]
    )
    monkeypatch.setattr(check, "python_problems", lambda *_: [])
    monkeypatch.setattr(check, "dependency_problems", lambda *_: [])
    said: list[str] = []
    check.check_all(made, store.named(made, ""), said.append)
    assert said[-1] == "dev: in order"
    (path / "lib" / "python3.11" / "site-packages" / "six.py").unlink()
    with pytest.raises(Failure, match=r"dev: six 1\.0 lacks six\.py"):
        check.check_all(made, store.named(made, "dev"), said.append)
    build.clear(made, store.named(made, "dev"), unused=False, notify=said.append)
    assert store.built(made) == []
    assert not path.exists()
    with pytest.raises(Failure, match="no environment is called 'dev'; there are: base"):
        store.named(made, "dev")
