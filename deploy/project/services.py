"""Servers beside the database and the broker, as `services` in `invoke.yaml` declares them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.core.errors import Failure

#: The databases within one Redis: what `cache.clear()` empties must hold neither the broker's queues nor the rest.
SHARED, CACHE, BROKER = 0, 1, 2
_KEYS = ("broker", "memory")


@dataclass(frozen=True)
class Redis:
    """Redis, or Valkey, which speaks the same protocol."""

    #: Whether it is Celery's broker too, in place of RabbitMQ.
    broker: bool = False
    #: Megabytes that its data may take; the server itself may take as much again, while it copies it to its disk.
    memory: int = 256

    @property
    def policy(self) -> str:
        """What it evicts when its memory is full. Queues have no time to live: a broker drops caches, never tasks."""
        return "volatile-lru" if self.broker else "allkeys-lru"


def parse(value: object) -> Redis | None:
    """Redis, if `services` names it. Raises `Failure` naming an invalid key."""
    if value in (None, "", [], {}):
        return None
    named: dict[object, object] = dict.fromkeys(value) if isinstance(value, list | tuple) else _keys("services", value)
    for each in named:
        if each != "redis":
            raise Failure(f"project.services.{each} in invoke.yaml is not a service; there is: redis")
    said = _keys("services.redis", named["redis"] or {})
    for each in said:
        if each not in _KEYS:
            keys = ", ".join(_KEYS)
            raise Failure(f"project.services.redis.{each} in invoke.yaml is not a key; the keys are: {keys}")
    broker = said.get("broker") or False
    if not isinstance(broker, bool):
        raise Failure(f"project.services.redis.broker is {broker!r}, but must be true or false; set it in invoke.yaml")
    return Redis(broker, _memory(said.get("memory")))


def _keys(key: str, value: object) -> dict[object, object]:
    try:
        return dict(value)  # type: ignore[call-overload, no-any-return] # Invoke's mappings are none to a type checker
    except (TypeError, ValueError):
        raise Failure(f"project.{key} is {value!r}, but must be as in `services: {{redis: {{}}}}`") from None


def _memory(value: object) -> int:
    if value in (None, ""):
        return Redis.memory
    found = re.fullmatch(r"([1-9][0-9]{0,5})([MG])", str(value))
    if not found or (megabytes := int(found[1]) * (1024 if found[2] == "G" else 1)) < 32:
        raise Failure(
            f"project.services.redis.memory is {value!r}, but must be a size such as 256M or 1G; set it in invoke.yaml"
        )
    return megabytes


def variables(redis: Redis, address: str) -> Mapping[str, str]:
    """The variables that name it to the site; ``address`` is its URL without a database."""
    broker = {"CELERY_BROKER_URL": f"{address}/{BROKER}"} if redis.broker else {}
    return {"REDIS_URL": f"{address}/{SHARED}", "CACHE_URL": f"{address}/{CACHE}", **broker}


def limits(redis: Redis) -> tuple[str, ...]:
    """The lines of its configuration that say what it keeps, and how much: the same wherever it runs."""
    return (
        f"maxmemory {redis.memory}mb",
        f"maxmemory-policy {redis.policy}",
        'save ""',
        f"appendonly {'yes' if redis.broker else 'no'}",
        "appendfsync always" if redis.broker else "appendfsync no",
        "timeout 0",
        "tcp-keepalive 60",
    )


def configuration(redis: Redis, password: str) -> str:
    """The configuration of the server. A cache begins empty after a restart; a broker writes each task to its disk."""
    return "".join(
        f"{line}\n"
        for line in (
            "bind * -::*",
            "port 6379",
            f"requirepass {password}",
            "dir /data",
            *limits(redis),
        )
    )
