"""The recipes for continuous integration in the pages; tests/hosts/test_release.py runs their commands."""

import re
import subprocess

import pytest
import yaml

from tests import pages
from tests.rig.recipes import GITHUB, GITLAB, deploying, recipe


def test_what_is_deployed_was_tested_and_staging_comes_before_production() -> None:
    jobs = recipe(GITHUB)["jobs"]
    assert (jobs["staging"]["needs"], jobs["production"]["needs"]) == ("test", "staging")
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == ["python3 tasks.py test"]
    steps = [{key: value for key, value in jobs[name]["steps"][-1].items() if key != "env"} for name in GITHUB.deploy]
    assert steps[0] == steps[1], "production is deployed as staging was"
    lab = recipe(GITLAB)
    assert lab["stages"] == ["test", *GITLAB.deploy]
    assert all((lab[name]["stage"], lab[name]["environment"]) == (name, name) for name in GITLAB.deploy)
    assert lab["production"]["when"] == "manual"


def test_a_pipeline_has_few_rights_a_limit_of_time_and_whole_history() -> None:
    hub = recipe(GITHUB)
    assert hub["permissions"] == {"contents": "read"}
    assert not hub["concurrency"]["cancel-in-progress"]
    for name, job in hub["jobs"].items():
        assert job["timeout-minutes"] <= 60
        [checkout] = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkout["persist-credentials"] is False
        assert name == "test" or checkout["fetch-depth"] == 0
    lab = recipe(GITLAB)
    assert lab["default"]["timeout"] == "1 hour"
    assert lab[".deploy"]["variables"]["GIT_DEPTH"] == 0


@pytest.mark.parametrize("which", [GITHUB, GITLAB], ids=lambda which: which.file)
def test_the_commands_of_a_recipe_exist_and_have_no_secret_among_their_words(which: object) -> None:
    tasks = pages.tasks()
    for script in deploying(which):  # type: ignore[arg-type]
        subprocess.run(["bash", "-n", "-c", script], check=True, timeout=10)
        assert "${{" not in script, "text of a secret in a script is shown by `ps`, and run"
        assert not re.search(r"\$(DEPLOY|SECRET)_KEY", script)
        asked = re.findall(r"tasks\.py (\S+) --(\S+)", script)
        assert [name for name, _ in asked] == ["remote-deploy", "remote-status"]
        assert all(option in pages.options(tasks[name]) for name, option in asked)


def test_a_recipe_is_yaml_as_it_stands_in_the_page() -> None:
    assert yaml.safe_load(GITHUB.text)
    assert yaml.safe_load(GITLAB.text)
