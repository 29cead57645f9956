"""The watcher of the front end in development in containers."""

from __future__ import annotations

import json
from dataclasses import replace

import yaml

from deploy.compose import dev
from deploy.docker import stack as stacks
from deploy.docker import watcher
from deploy.docker.stack import Stack
from deploy.project.assets import Assets
from tests.unit.stacks import stack

FRONT = Assets("npm ci", "site/static/dist", "node:22", "npm run watch -- $HOME")


def with_front(front: Assets | None, kind: str) -> Stack:
    made = stack(kind)
    return replace(made, project=replace(made.project, assets=front))


def test_it_runs_beside_the_site_in_development_as_this_user_and_nowhere_else() -> None:
    made = with_front(FRONT, "dev")
    service = json.loads(watcher.document(FRONT))["services"]["assets"]
    assert (service["image"], service["user"]) == ("node:22", "${DEV_USER:-}")
    assert service["command"] == ["sh", "-c", "npm run watch -- $$HOME"], "Compose would replace a single $"
    assert watcher.document(FRONT) in stacks.own_text(made)
    both = replace(made, project=replace(made.project, media="shared", env={}), kind="dev")
    with_values = replace(both, env=both.env.model_copy(update={"own_plain": {"PLACE": "here"}}))
    assert [sorted(each["services"]) for each in yaml.safe_load_all(stacks.own_text(with_values))][-1] == ["assets"]
    assert list(dev.attached(made, 1).argv)[-1] == "assets"
    assert "assets" not in made.site_services, "the site is ready without it"
    assert with_front(FRONT, "prod").watchers == ()
    assert "npm run" not in stacks.own_text(with_front(FRONT, "prod"))


def test_there_is_none_without_a_watcher_or_without_an_image() -> None:
    for front in (None, replace(FRONT, watch=""), replace(FRONT, image="")):
        assert watcher.document(front) == ""
        assert with_front(front, "dev").watchers == ()
