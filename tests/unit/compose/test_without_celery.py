"""A project without Celery has no worker, beat or broker; and a stack of another checkout is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.compose import containers, dev, rollout, update
from deploy.compose.containers import Replica
from deploy.core.errors import Failure
from deploy.core.shell import Result
from deploy.docker.stack import Stack
from tests.unit.stacks import Engine, stack

CELERY = ("rabbitmq", "celery")


def alone(kind: str = "prod") -> Stack:
    made = stack(kind)
    return replace(made, project=replace(made.project, declared=replace(made.project.declared, celery="none")))


def test_neither_worker_nor_beat_nor_broker_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {})
    lines = [each.render() for each in rollout.first_steps(alone(), "v1")]
    started = [line for line in lines if " up " in line]
    assert len(started) == 3
    assert not any(word in line.partition("docker compose")[2] for line in started for word in CELERY)
    assert all("COMPOSE_PROFILES=celery" not in line for line in lines)


def test_with_celery_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, {})
    lines = [each.render() for each in rollout.first_steps(stack(), "v1")]
    assert any("postgres rabbitmq" in line and "COMPOSE_PROFILES=celery" in line for line in lines)
    assert any("app celery_worker celery_beat" in line for line in lines)


def test_development_runs_the_app_alone() -> None:
    words = dev.attached(alone("dev"), 3).argv
    assert words[-1] == "app"
    assert "--scale" not in words
    assert dev.not_ready([], alone("dev").site_services, 3) == ["app"]


def test_workers_that_are_not_there_cannot_be_scaled() -> None:
    with pytest.raises(Failure, match="prod can scale only app"):
        rollout.require_scalable(alone(), "celery_worker")
    with pytest.raises(Failure, match="dev can scale only nothing"):
        rollout.require_scalable(alone("dev"), "app")


def test_an_update_that_drops_celery_takes_the_old_workers_away() -> None:
    old: list[Replica] = []
    assert update.wanted(alone(), old) == {"app": 2}
    assert alone().site_services == ("app",)


# --- Whose stack it is ---


def owned(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    Engine(monkeypatch, {"docker ps -a": Result(0, "".join(f"{folder}/deploy/compose\n" for folder in folders))})


def test_the_stack_of_another_checkout_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").touch()
    owned(monkeypatch, tmp_path)
    with pytest.raises(Failure, match=rf"shop runs from {tmp_path}, and this is /p: run the command there, or give"):
        containers.require_own(stack())


def test_our_own_stack_and_that_of_a_checkout_that_is_gone_are_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owned(monkeypatch, Path("/p"), tmp_path / "moved away")
    containers.require_own(stack())
    owned(monkeypatch)
    containers.require_own(stack())
