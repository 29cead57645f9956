"""The steps that build a layer."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.venvs import build as venvs
from deploy.venvs.installers import Sources
from deploy.venvs.layers import Layer, Pin
from deploy.venvs.store import Python, Store, describe_running, is_complete
from tests.support import ROOT, TOOLS
from tests.unit.test_checks import STORE

LAYER = Layer("dev", "cpython-3.11", (Pin("six", "1", "", ("--hash=sha256:00",)),))


def test_the_difference_is_installed_with_hashes_and_nothing_else() -> None:
    command = venvs.installation(STORE, LAYER, Path("/b"), "/uv", sources=Sources())
    assert command.argv[:3] == ["/uv", "pip", "install"]
    assert {"--no-deps", "--require-hashes"} <= set(command.argv)
    assert command.env == {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1", "PYTHONPATH": "/b/build-backends"}
    assert "--no-build-isolation" in command.argv, "nothing is fetched to build a package"


@pytest.mark.parametrize("uv", ["/uv", None])
def test_what_builds_packages_is_locked_and_is_wheels_alone(uv: str | None) -> None:
    words = list(venvs.backends(STORE, Path("/b"), uv, keep=(), sources=Sources()).argv)
    assert {"--require-hashes", "--no-deps"} <= set(words)
    assert words[words.index("--only-binary") + 1] == ":all:"
    assert words[words.index("--target") + 1] == "/b/build-backends"
    wanted = [line for line in (ROOT / "deploy" / "venvs" / "build.in").read_text().split("\n") if line[:1] not in "#"]
    locked = (ROOT / "requirements" / venvs.BACKENDS).read_text()
    assert wanted
    assert all(f"\n{name}==" in f"\n{locked}" for name in wanted)


def test_without_uv_the_tools_environments_pip_installs_into_the_others() -> None:
    command = venvs.installation(STORE, LAYER, Path("/b"), None, sources=Sources())
    assert command.argv[:5] == ["/p q/.venvs/tools/bin/python", "-m", "pip", "--python", "/b/bin/python"]


@pytest.mark.parametrize("uv", ["/uv", None])
def test_packages_are_compiled_where_those_who_run_them_may_not_write(uv: str | None) -> None:
    for store, compiled in ((STORE, False), (replace(STORE, compiled=True), True)):
        words = venvs.installation(store, LAYER, Path("/b"), uv, sources=Sources()).argv
        assert ("--compile-bytecode" in words or (uv is None and "--no-compile" not in words)) == compiled


def test_a_layer_gets_its_name_last() -> None:
    steps = venvs.building_steps(STORE, LAYER, Python("/usr/bin/python3", "cpython-3.11"), "/uv")
    assert steps[-1].render() == f"mv '{STORE.building(LAYER)}' '{STORE.path(LAYER)}'"


@dataclass(frozen=True)
class Ends:
    """A step at which a build ends."""

    how: Callable[[], None]

    def render(self) -> str:
        return "a step"

    def perform(self) -> None:
        self.how()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", [kill, fill])
def test_a_build_that_ends_at_any_step_leaves_no_layer_and_the_next_one_makes_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]
) -> None:
    store, python = Store(tmp_path / ".venvs", tmp_path / "requirements"), describe_running()
    layer, real = Layer("dev", python.tag, ()), venvs.building_steps
    store.requirements.mkdir()
    (store.requirements / "dev.txt").touch()
    monkeypatch.setattr(venvs, "find_uv", lambda _: str(TOOLS / "uv"))
    count = len(real(store, layer, python, None))
    for number in range(count):
        monkeypatch.setattr(venvs, "building_steps", lambda *_, n=number, **__: [*real(*_)[:n], Ends(how)])
        if how is fill:
            with pytest.raises(Failure, match=r"^environment dev was not built: a step: No space left on device; fix"):
                venvs.build(store, layer, python, (), lambda _: None)
        elif (child := os.fork()) == 0:
            venvs.build(store, layer, python, (), lambda _: None)
            os._exit(0)
        else:
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert not is_complete(store.path(layer))
    monkeypatch.setattr(venvs, "building_steps", real)
    venvs.build(store, layer, python, (), lambda _: None)
    assert is_complete(store.path(layer))
    assert [path.name for path in (tmp_path / ".venvs" / ".layers").iterdir()] == [layer.folder]


def test_a_uv_that_does_not_run_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, good = tmp_path / "broken", tmp_path / "uv"
    broken.write_text("#!/nowhere\n")
    good.write_text("#!/bin/sh\n")
    for each in (broken, good):
        each.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert venvs.working(str(broken)) == str(good)
    good.write_text("#!/bin/sh\nexit 1\n")
    assert venvs.working(str(broken)) is None
    assert venvs.working(None) is None, "pip was asked for"
