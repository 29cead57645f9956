"""What a release is recorded with, so that a rollback brings it back whatever the work tree says by then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.compose import ledger
from deploy.docker import recorded
from deploy.docker.stack import stack_of
from deploy.project import local
from deploy.project.services import Redis
from deploy.project.workers import Kind
from tests.unit.stacks import PROJECT, VALUES, stack

KINDS = (Kind(), Kind("mail", ("mail",), 2, options=("--pool=threads",)), Kind("billing", ("billing",), alone=True))
THEN = replace(
    PROJECT, workers=KINDS, redis=Redis(broker=True), env={"TOKEN": "secret"}, egress=False, probes=("/readyz", "/up")
)


def test_a_project_comes_back_as_it_was_deployed() -> None:
    back = recorded.project_of(PROJECT, recorded.text(THEN))
    assert (back.workers, back.redis, back.env, back.egress, back.probes) == (
        (KINDS, THEN.redis, THEN.env, False, THEN.probes)
    )
    assert (back.names, back.media_url, back.root) == (THEN.names, "", PROJECT.root)
    without = replace(PROJECT, declared=replace(PROJECT.names, celery="none"))
    assert recorded.project_of(PROJECT, recorded.text(without)).kinds == ()


def test_what_is_no_record_is_an_error() -> None:
    for text in ("", "{}", '{"names": 1}'):
        with pytest.raises(ValueError):  # noqa: PT011 - any of its kinds
            recorded.project_of(PROJECT, text)


def test_a_rollback_has_the_workers_and_the_additions_of_its_release(tmp_path: Path) -> None:
    (tmp_path / local.FOLDER).mkdir(parents=True)
    (tmp_path / local.COMPOSE).write_text("services: {app: {environment: {A: then}}}\n")
    (tmp_path / local.NGINX).write_text("location = /then { return 204; }\n")
    env = "".join(f"{key}={value}\n" for key, value in VALUES.items())
    made = replace(stack(), project=replace(PROJECT, root=tmp_path, workers=KINDS))
    release = ledger.Release(7, 7, "sha256:1", "abc", "a", "2026-01-02T03:04:05+00:00")
    ledger.stage(made, release, env)
    (tmp_path / local.NGINX).unlink()
    (tmp_path / local.COMPOSE).write_text("services: {app: {environment: {A: now}}}\n")
    now = replace(made, project=replace(made.project, workers=(Kind(),)))
    (tmp_path / ".secrets" / "releases" / "00007" / "env").chmod(0o600)
    back = ledger.environment_of(now, release)
    assert back.workers == made.workers
    assert back.alone == ("celery_beat", "celery_worker_billing")
    assert "/then" in back.front().own
    (path,) = back.own_files
    assert "then" in Path(path).read_text()
    assert path in back.compose("ps").argv
    assert now.own_files == [local.COMPOSE]
    assert stack_of(now.project, "prod", now.env).workers == ("celery_worker",)


def test_a_release_of_an_earlier_version_has_what_the_work_tree_has(tmp_path: Path) -> None:
    made = replace(stack(), project=replace(PROJECT, root=tmp_path))
    release = ledger.Release(7, 7, "sha256:1", "abc", "a", "2026-01-02T03:04:05+00:00")
    ledger.stage(made, release, "".join(f"{key}={value}\n" for key, value in VALUES.items()))
    (tmp_path / ".secrets" / "releases" / "00007" / recorded.FILE).unlink()
    assert ledger.environment_of(made, release).earlier is None
