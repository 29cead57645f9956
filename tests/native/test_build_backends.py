"""A package that comes as source only is built with locked back-ends: an index that serves others gains nothing."""

import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.venvs import build
from deploy.venvs.store import Store
from tests import support

SETUP = """
import setuptools, pathlib
pathlib.Path("made.py").write_text("BY = " + repr(setuptools.__version__))
setuptools.setup(name="made", version="1.0", py_modules=["made"])
"""
LOCK = support.ROOT / "requirements" / build.BACKENDS
LOCKED = next(line.split()[0].partition("==")[2] for line in LOCK.read_text().splitlines() if "setuptools==" in line)


@pytest.fixture(params=["uv", "pip"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with our tools, for a project whose only package has no wheel. `FIND_LINKS` is the index."""
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{support.TOOLS}:{os.environ['PATH']}")
    if request.param == "pip":
        monkeypatch.setenv("PORTICO_INSTALLER", "pip")
    (tmp_path / "index").mkdir()
    (tmp_path / "requirements").mkdir()
    shutil.copy(LOCK, tmp_path / "requirements")
    (tmp_path / ".venvs").mkdir()
    (tmp_path / ".venvs" / "tools").symlink_to((support.ROOT / ".venvs" / "tools").resolve())
    return Store(tmp_path / ".venvs", tmp_path / "requirements")


def source(store: Store, backend: str = "setuptools.build_meta", requires: str = "setuptools") -> None:
    """Put the package into the index, as source, and lock it."""
    path = store.requirements.parent / "index" / "made-1.0.tar.gz"
    project = f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
    info = "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {"setup.py": SETUP, "pyproject.toml": project, "PKG-INFO": info}.items():
            entry = tarfile.TarInfo(f"made-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    (store.requirements / "x.in").write_text("made\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (store.requirements / "x.txt").write_text(f"made==1.0 \\\n    --hash=sha256:{digest}\n")


def attacker(store: Store, name: str, version: str, module: str) -> Path:
    """Put a wheel into the index that leaves a mark when it is imported; returns the mark."""
    mark, info = store.requirements.parent / "mark", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(store.requirements.parent / "index" / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(module, f"open({str(mark)!r}, 'w')\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", f"{module},,\n")
    return mark


def test_a_newer_build_backend_of_an_index_is_ignored(store: Store) -> None:
    source(store)
    mark = attacker(store, "setuptools", "999.0", "setuptools/__init__.py")
    build.ensure(store, "x", notify=lambda _: None)
    assert not mark.exists()
    [made] = (store.link("x") / "lib").glob("python*/site-packages/made.py")
    assert made.read_text() == f"BY = {LOCKED!r}"
    assert {path.name for path in made.parent.iterdir() if "setuptools" in path.name or "wheel" in path.name} == set()
    assert not list(store.link("x").glob("build-backends*"))


def test_a_build_backend_that_was_changed_is_refused_by_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    source(store)
    mark = attacker(store, "setuptools", LOCKED, "setuptools/__init__.py")
    monkeypatch.setenv("UV_NO_INDEX", "1")  # the attacker's is the only index
    with pytest.raises(
        Failure, match=r"What builds packages from source \(requirements/build.txt\) could not be installed"
    ):
        build.ensure(store, "x", notify=lambda _: None)
    assert not mark.exists()
    assert "setuptools" in capfd.readouterr().err


def test_another_build_backend_is_not_fetched_and_is_named(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    source(store, "evil", "evil")
    mark = attacker(store, "evil", "1.0", "evil.py")
    with pytest.raises(Failure, match="environment x was not built"):
        build.ensure(store, "x", notify=lambda _: None)
    assert not mark.exists()
    assert "evil" in capfd.readouterr().err
