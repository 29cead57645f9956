"""`metrics` and `observe` in invoke.yaml: what they must be, and how each runtime hands them to the site."""

import json
import re
from dataclasses import replace

import pytest

from deploy.core.errors import Failure
from deploy.docker import recorded
from deploy.docker.stack import own_text
from deploy.project import config, file, site
from tests.support import ROOT
from tests.unit.stacks import PROJECT, stack

VALUES = {**file.DEFAULTS, "name": "shop"}
SEEN = replace(PROJECT, metrics=True, observe="shop.observe")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metrics": "yes"}, "project.metrics is 'yes', but must be true or false; set it in invoke.yaml"),
        ({"observe": "shop/observe.py"}, "project.observe is 'shop/observe.py', but must be a Python module; set it"),
        ({"observe": "shop:init"}, "project.observe is 'shop:init', but must be a Python module; set it in"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(Failure, match=f"^{re.escape(said)}"):
        config.load(ROOT, {**VALUES, **values})


def test_without_a_word_there_is_neither() -> None:
    made = config.load(ROOT, VALUES)
    assert (made.metrics, made.observe) == (False, "")
    assert not {"PORTICO_METRICS", "PORTICO_OBSERVE"} & set(site.variables(PROJECT, site.PRODUCTION))


def test_a_developer_s_page_is_not_observed() -> None:
    assert site.seeing(SEEN, site.DEVELOPMENT) == {"PORTICO_METRICS": "1"}
    assert site.variables(SEEN, site.PRODUCTION)["PORTICO_OBSERVE"] == "shop.observe"


def test_containers_get_both_and_nginx_the_address() -> None:
    made = replace(stack(), project=SEEN)
    [text] = [each for each in own_text(made).split("---\n") if "PORTICO_OBSERVE" in each]
    for service in ("app", "celery_worker", "celery_beat"):
        assert json.loads(text)["services"][service]["environment"] == {"PORTICO_OBSERVE": "shop.observe"}
    assert (made.compose("ps").env["METRICS"], stack().compose("ps").env["METRICS"]) == ("1", "0")
    assert own_text(replace(stack(), project=replace(PROJECT, metrics=True))) == "", (
        "no file for what the demonstration is"
    )
    assert made.front().metrics
    assert not stack().front().metrics


def test_a_rollback_brings_both_back_and_a_record_of_an_earlier_version_has_neither() -> None:
    back = recorded.project_of(PROJECT, recorded.text(SEEN))
    assert (back.metrics, back.observe) == (True, "shop.observe")
    earlier = {
        key: value for key, value in json.loads(recorded.text(SEEN)).items() if key not in ("metrics", "observe")
    }
    back = recorded.project_of(SEEN, json.dumps(earlier))
    assert (back.metrics, back.observe) == (False, "")
