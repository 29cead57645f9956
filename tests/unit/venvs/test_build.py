"""The steps that build a layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.venvs import build as venvs
from deploy.venvs.installers import Sources
from deploy.venvs.layers import Layer, Pin
from deploy.venvs.store import Python
from tests.unit.test_checks import STORE

LAYER = Layer("dev", "cpython-3.11", (Pin("six", "1", "", ("--hash=sha256:00",)),))


def test_the_difference_is_installed_with_hashes_and_nothing_else() -> None:
    command = venvs.installation(STORE, LAYER, Path("/b"), "/uv", sources=Sources())
    assert command.argv[:3] == ["/uv", "pip", "install"]
    assert {"--no-deps", "--require-hashes"} <= set(command.argv)
    assert command.env == {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_CONFIG": "1"}


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
