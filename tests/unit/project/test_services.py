"""Redis as a project declares it: what its server is told, and what the site is."""

from __future__ import annotations

import pytest

from deploy.core.errors import Failure
from deploy.project import services
from deploy.project.services import Redis, parse


def test_redis_is_declared_by_its_name_or_with_keys() -> None:
    assert parse(None) is None
    assert parse(["redis"]) == parse({"redis": None}) == parse({"redis": {}}) == Redis()
    assert parse({"redis": {"broker": True, "memory": "1G"}}) == Redis(broker=True, memory=1024)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["mongo"], "services.mongo in invoke.yaml is not a service; there is: redis"),
        ("redis", "project.services is 'redis', but must be as in"),
        ({"redis": {"size": 1}}, "services.redis.size in invoke.yaml is not a key; the keys are: broker, memory"),
        ({"redis": {"broker": "yes"}}, "services.redis.broker is 'yes', but must be true or false"),
        ({"redis": {"memory": "lots"}}, "services.redis.memory is 'lots', but must be a size such as 256M"),
        ({"redis": {"memory": "16M"}}, "must be a size such as 256M"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(value: object, words: str) -> None:
    with pytest.raises(Failure, match=words):
        parse(value)


def test_a_cache_may_lose_all_of_it_and_a_broker_no_task() -> None:
    cache = services.configuration(Redis(memory=64), "secret").splitlines()
    assert {"maxmemory 64mb", "maxmemory-policy allkeys-lru", "appendonly no", "requirepass secret"} <= set(cache)
    broker = services.configuration(Redis(broker=True), "secret").splitlines()
    assert {"maxmemory-policy volatile-lru", "appendonly yes", "appendfsync always"} <= set(broker)


def test_a_cache_that_is_cleared_takes_no_task_with_it() -> None:
    named = services.variables(Redis(broker=True), "redis://redis:6379")
    assert set(named) == {"REDIS_URL", "CACHE_URL", "CELERY_BROKER_URL"}
    assert len({url.rpartition("/")[2] for url in named.values()}) == 3
    assert "CELERY_BROKER_URL" not in services.variables(Redis(), "redis://redis:6379")
