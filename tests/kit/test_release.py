"""The one-time steps of a release before it serves."""

import gzip
import json
import os
import time
from pathlib import Path

import pytest

from deploy.core.shell import Result, Run, run
from tests import demonstration, support
from tests.demonstration import GOOD


def release(*words: str, **values: str) -> Result:
    python = str(support.ROOT / ".venvs" / "test" / "bin" / "python")
    command = [python, "-m", "portico_site.release", *words]
    return run(Run(command, values, cwd=support.ROOT / "site"), capture=True, check=False)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("static")
    result = release("collect", **GOOD, STATIC_ROOT=str(root))
    assert result.code == 0, result.stdout + result.stderr
    return root


def test_each_static_file_has_a_name_with_a_hash(collected: Path) -> None:
    names = json.loads((collected / "staticfiles.json").read_text())["paths"]
    assert names
    assert all((collected / name).is_file() for name in names.values())


def test_what_gains_by_it_lies_compressed_beside_its_source(collected: Path) -> None:
    compressed = set(collected.rglob("*.gz"))
    wanted = {
        path.with_name(f"{path.name}.gz")
        for path in collected.rglob("*.*")
        if path.suffix in (".css", ".js", ".svg", ".txt", ".json") and path.stat().st_size > 512
    }
    assert compressed == wanted != set()
    for path in compressed:
        source = path.with_suffix("")
        assert gzip.decompress(path.read_bytes()) == source.read_bytes()
        assert (path.stat().st_mode, path.stat().st_mtime) == (source.stat().st_mode, source.stat().st_mtime)


def test_the_same_file_is_compressed_to_the_same_bytes(collected: Path) -> None:
    before = {path: path.read_bytes() for path in collected.rglob("*.gz")}
    for path in collected.rglob("*"):
        os.utime(path, (time.time() + 60, time.time() + 60))
    assert release("collect", **GOOD, STATIC_ROOT=str(collected)).code == 0
    assert {path: path.read_bytes() for path in collected.rglob("*.gz")} == before


def test_what_is_published_compressed_is_taken_from_there_unless_it_is_damaged(collected: Path, tmp_path: Path) -> None:
    """Damaged as by a power failure. What has no hash in its name may be another file there."""
    published, again = tmp_path / "published", tmp_path / "again"
    before = {path.relative_to(collected): path.read_bytes() for path in collected.rglob("*.gz")}
    values = {**GOOD, "PUBLISHED_STATIC": str(published)}
    assert release("publish", **values, STATIC_ROOT=str(collected)).code == 0
    whole, empty, cut, *_ = sorted(path for path in published.rglob("*.css.gz") if len(path.name.split(".")) == 4)
    whole.write_bytes(gzip.compress(gzip.decompress(whole.read_bytes()), 1, mtime=0))
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-9])
    for path in published.rglob("*.css.gz"):
        if len(path.name.split(".")) == 3:
            path.write_bytes(gzip.compress(b"another file"))
    assert release("collect", **values, STATIC_ROOT=str(again)).code == 0
    after = {path.relative_to(again): path.read_bytes() for path in again.rglob("*.gz")}
    taken = whole.relative_to(published)
    assert after[taken] == whole.read_bytes() != before[taken]
    assert after.keys() == before.keys()
    assert all(gzip.decompress(text) == gzip.decompress(before[path]) for path, text in after.items())


def test_a_site_whose_checks_fail_is_not_collected(tmp_path: Path) -> None:
    lines = ["from mysite.settings.production import *", "STATICFILES_DIRS = [str(STATIC_ROOT)]"]
    (tmp_path / "twisted.py").write_text("\n".join(lines))
    settings = {**GOOD, "PORTICO_SETTINGS": "twisted", "PYTHONPATH": f"{demonstration.KIT}:{tmp_path}"}
    result = release("collect", **settings, STATIC_ROOT=str(tmp_path / "static"))
    assert result.code != 0
    assert "STATICFILES_DIRS setting should not contain the STATIC_ROOT" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "static").exists()


def test_static_files_without_a_list_of_names_are_no_release(tmp_path: Path) -> None:
    lines = ["from mysite.settings.production import *", "STORAGES['staticfiles'] = {'BACKEND': 'plain.Plain'}"]
    (tmp_path / "plain_settings.py").write_text("\n".join(lines))
    lines = [
        "from django.contrib.staticfiles.storage import StaticFilesStorage",
        "class Plain(StaticFilesStorage): pass",
    ]
    (tmp_path / "plain.py").write_text("\n".join(lines))
    settings = {**GOOD, "PORTICO_SETTINGS": "plain_settings", "PYTHONPATH": f"{demonstration.KIT}:{tmp_path}"}
    result = release("collect", **settings, STATIC_ROOT=str(tmp_path / "static"))
    assert result.code != 0
    assert "staticfiles.json: collectstatic did not create it" in result.stderr


def test_a_step_that_is_not_known_is_refused() -> None:
    result = release("colect")
    assert result.code != 0
    assert "there are: collect, publish, migrate" in result.stderr
