"""Redis in containers: which services a stack has, what the site is given, and where the password is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.docker import dotenv, images
from deploy.docker import stack as stacks
from deploy.docker.stack import Stack
from deploy.project.services import Redis
from tests.support import ROOT
from tests.unit.stacks import PROJECT, VALUES, stack

PASSWORD = "h" * 24


def with_redis(redis: Redis, kind: str = "prod", **values: str) -> Stack:
    made = stack(kind, REDIS_PASSWORD=PASSWORD, **values)
    return replace(made, project=replace(made.project, redis=redis))


def test_a_cache_runs_beside_the_broker_and_a_broker_in_its_place() -> None:
    assert stack().datastores == ("postgres", "rabbitmq")
    cache, broker = with_redis(Redis()), with_redis(Redis(broker=True))
    assert cache.datastores == ("postgres", "rabbitmq", "redis")
    assert broker.datastores == ("postgres", "redis")
    assert cache.compose("ps").env["COMPOSE_PROFILES"] == "celery,redis"
    assert cache.compose("ps").env["REDIS_LIMIT"] == "512m"
    from deploy.swarm.stack import external

    assert external(broker) == ["rabbitmq"]
    assert external(cache) == []


def test_its_urls_are_secrets_of_the_site_and_its_password_is_nowhere_else() -> None:
    made = with_redis(Redis(broker=True))
    texts = stacks.secret_texts(made)
    assert texts["own.REDIS_URL"] == f"redis://:{PASSWORD}@redis:6379/0"
    assert texts["broker_url"] == f"redis://:{PASSWORD}@redis:6379/2"
    assert stacks.secret_texts(with_redis(Redis()))["broker_url"].startswith("amqp://")
    document = json.loads(stacks.own_text(made))
    for service in ("release", "app", "celery_worker", "celery_beat"):
        assert document["services"][service]["environment"]["CACHE_URL_FILE"] == "/run/secrets/CACHE_URL"
    assert PASSWORD not in stacks.own_text(made) + made.compose("up").render() + repr(made)


def test_a_broker_of_ones_own_is_kept_on_a_swarm() -> None:
    made = with_redis(Redis(broker=True), "swarm", CELERY_BROKER_URL="amqps://u:p@broker.example/x")
    assert stacks.secret_texts(made)["broker_url"] == "amqps://u:p@broker.example/x"


def test_a_release_from_before_redis_can_be_gone_back_to() -> None:
    made = replace(stack(), project=replace(PROJECT, redis=Redis()))
    assert made.redis is None
    assert made.datastores == ("postgres", "rabbitmq")
    assert stacks.own_text(made) == ""


def test_a_password_that_is_missing_is_named_or_added(tmp_path: Path) -> None:
    made = replace(stack(), project=replace(PROJECT, redis=Redis()))
    with pytest.raises(Failure, match=r"\.env: REDIS_PASSWORD is missing, which project\.services\.redis needs: `"):
        stacks.check(made)
    project = replace(PROJECT, root=tmp_path, redis=Redis())
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()))
    (tmp_path / ".env").chmod(0o600)
    said: list[str] = []
    assert dotenv.prepare(project, "prod", dry_run=False, notify=said.append).redis == Redis()
    assert "added REDIS_PASSWORD" in said[0]
    assert dotenv.prepare(project, "prod", dry_run=False, notify=said.append).redis == Redis()
    assert len(said) == 1


def test_a_build_gets_a_stand_in_for_its_urls() -> None:
    command = images.build(replace(PROJECT, redis=Redis()), "app", ["x"], None)
    url = "redis://build@build.invalid/1"
    assert f"OWN=CACHE_URL={url} REDIS_URL={url}" in command.argv
