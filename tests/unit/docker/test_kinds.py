"""The kinds of workers as services of Compose: like the default worker in each compose file, but for what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import yaml

from deploy.core.errors import Failure
from deploy.docker import kinds
from deploy.docker import stack as stacks
from deploy.project.workers import Kind, parse
from tests.unit.project.test_limits import Loader
from tests.unit.stacks import stack

KINDS = parse({"mail": {"queues": ["mail"]}, "billing": {"queues": ["billing"], "alone": True}})


def documents(files: Sequence[str], some: Sequence[Kind] = KINDS) -> list[dict[str, dict[str, dict[str, object]]]]:
    return [yaml.load(each, Loader) for each in kinds.documents(tuple(files), tuple(some))]


def test_without_kinds_compose_gets_no_file_of_ours() -> None:
    assert kinds.documents(("base", "prod"), (Kind(),)) == ()
    assert kinds.documents(("base", "prod"), ()) == ()
    assert stacks.own_text(stack()) == ""


@pytest.mark.parametrize("files", [("base", "dev"), ("base", "prod"), ("base", "prod", "swarm")])
def test_a_kind_is_in_each_file_what_the_default_worker_is_there(files: tuple[str, ...]) -> None:
    *copies, last = documents(files)
    for name, document in zip(files, copies, strict=True):
        services = yaml.load((kinds.FOLDER / f"{name}.yaml").read_text(), Loader)["services"]
        assert document["services"]["celery_worker_mail"] == services["celery_worker"], name
        assert "celery_worker" not in document["services"], name
    command = last["services"]["celery_worker_mail"]["command"]
    assert isinstance(command, list)
    assert command[-7:] == ["-n", "worker_mail@%h", "-c", "2", "-Q", "mail", "--loglevel=info"]
    assert ("deploy.native.reloader" in command) == ("dev" in files)
    for service in ("celery_worker", "celery_worker_mail", "celery_worker_billing"):
        assert last["services"][service]["environment"] == {"PORTICO_KINDS": "default,mail,billing"}


def test_composes_own_tags_stay_in_a_copy() -> None:
    [swarm] = [text for text in kinds.documents(("base", "prod", "swarm"), KINDS) if "start-first" in text]
    assert swarm.count("security_opt: !reset []") == 2


def test_a_kind_that_must_be_alone_is_replaced_in_a_swarm_as_beat_is() -> None:
    for some in (KINDS, (Kind(alone=True),)):
        alone = next(kind.service for kind in some if kind.alone)
        swarm, last = documents(("base", "prod", "swarm"), some)[-2:]
        deploy: Any = swarm["services"][alone]["deploy"]
        assert deploy["update_config"]["order"] == deploy["rollback_config"]["order"] == "stop-first"
        assert last["services"][alone]["deploy"] == {"replicas": 1, "labels": {kinds.ALONE: "true"}}


def test_a_stack_knows_which_services_roll_and_which_are_alone() -> None:
    some = stack(WORKER_REPLICAS="3")
    some = replace(some, project=replace(some.project, workers=KINDS))
    assert some.rolling == ("app", "celery_worker", "celery_worker_mail")
    assert some.alone == ("celery_beat", "celery_worker_billing")
    assert some.replicas({"app": 4, "celery_worker_mail": 2}) == {
        "app": 4,
        "celery_worker": 3,
        "celery_worker_mail": 2,
    }
    assert some.why_not_scaled("celery_worker_billing").endswith("project.workers.billing.alone in invoke.yaml")
    text = stacks.own_text(some)
    assert text.count("\n---\n") == 2, "documents, which Compose merges in their order"
    assert "own-" in " ".join(some.compose("ps").argv)


def test_development_refuses_several_of_what_must_be_alone() -> None:
    from deploy.compose import rollout

    some = stack("dev")
    some = replace(some, project=replace(some.project, workers=KINDS))
    rollout.require_scalable(some, "celery_worker_mail")
    with pytest.raises(Failure, match=r"there must be one: project\.workers\.billing\.alone in invoke\.yaml"):
        rollout.require_scalable(some, "celery_worker_billing")
