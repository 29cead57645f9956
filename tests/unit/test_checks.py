"""The commands that check the code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy import checks
from deploy.core.errors import Failure
from deploy.venvs.store import Store
from tests.conftest import FLEETS, LONGEST, TOGETHER, next_unit, position, unit_of
from tests.support import ROOT
from tests.unit.examples import PROJECT

STORE = Store.of(PROJECT.root)


def test_required_suites_are_passed_on() -> None:
    command = checks.pytest(PROJECT, STORE, "unit,site", "all", ["-k", "vote"])
    assert command.argv[1:] == [
        *["-m", "pytest", "--require", "unit,kit,site,native,acceptance,browser,adopt,docker,swarm,hosts"],
        *["tests/unit", "tests/site", "-k", "vote"],
    ]


def test_all_suites_share_several_processes_and_what_is_named_has_one() -> None:
    def shared(suite: str, *words: str, processes: int | None = None) -> list[str]:
        argv = list(checks.pytest(replace(PROJECT, root=ROOT), STORE, suite, "", [*words], processes=processes).argv)
        return argv[3:7] if "-n" in argv else []

    assert shared("") == ["-n", "3", "--dist", "loadfile"]
    assert shared("", "-k", "vote") == ["-n", "3", "--dist", "loadfile"]
    assert shared("docker,swarm") == shared("", "tests/unit/test_checks.py") == shared("", processes=1) == []
    assert shared("docker,swarm", processes=2) == ["-n", "2", "--dist", "loadfile"]


def test_the_files_that_are_begun_first_exist() -> None:
    assert [
        name for name in (*LONGEST, *FLEETS, *TOGETHER, *TOGETHER.values()) if not (ROOT / "tests" / name).is_file()
    ] == []


def test_files_of_minutes_begin_first_then_other_real_ones_and_the_quick_suites_are_last() -> None:
    names = ("hosts/test_release_faults.py", "hosts/test_connect.py", "docker/test_mistakes.py", "unit/test_checks.py")
    positions = [position(ROOT / "tests" / name) for name in names]
    assert positions == sorted(set(positions))


def test_files_that_share_a_set_up_are_given_to_one_process_and_follow_each_other() -> None:
    for name, other in TOGETHER.items():
        assert unit_of(f"tests/{name}::test_a") == unit_of(f"tests/{other}::test_b[c]")
        assert position(ROOT / "tests" / name) == position(ROOT / "tests" / other)
    assert unit_of("tests/unit/test_checks.py::test_a") != unit_of("tests/unit/test_pages.py::test_a")


def test_of_the_files_with_several_machines_one_runs_at_a_time() -> None:
    waiting = ["swarm/test_swarm.py", "docker/test_prod.py", "unit/test_checks.py"]
    assert next_unit(waiting, 0) == "swarm/test_swarm.py"
    assert next_unit(waiting, 1) == "docker/test_prod.py"
    assert next_unit(waiting[:1], 1) == "swarm/test_swarm.py", "nothing else is left"
    assert next_unit(waiting[:1], 2) is None, "a third would starve them"
    assert next_unit(waiting, 2) == "docker/test_prod.py"


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Failure, match=r"--suite bogus: .* unit, kit, site, native, acceptance, browser"):
        checks.pytest(PROJECT, STORE, "bogus", "", [])


def test_an_adopted_project_s_tests_end_with_its_health_unless_some_of_them_are_chosen() -> None:
    project = replace(PROJECT, test="pytest -q")
    chosen = checks.tests(project, STORE, "", "", ["-k", "vote"])
    assert len(chosen) == 1
    own, health = checks.tests(project, STORE, "", "", [])
    assert health.argv[1:] == ["-m", "portico_site.self_check", *PROJECT.probes]
    assert (health.env, health.cwd) == (own.env, PROJECT.site_folder)
