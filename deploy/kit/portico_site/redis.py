"""The Redis of the place, in caches and channel layers that name another: a fixed host, or one of their own variables.

Pure functions. Only where the place brings a Redis: it sets REDIS_URL and CACHE_URL, which then name one server.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

CACHES = ("django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache")
LAYERS = "channels_redis."
#: The first database for caches beside the first: before it are what is shared, that first cache, and the broker's.
#: `cache.clear()` empties a database.
FREE = 3
#: Seconds. channels_redis waits five for a message, which is redis-py 8's own limit: a quiet websocket would end.
SOCKET_SECONDS = 30


def laid_over(own: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """CACHES and CHANNEL_LAYERS, where they name another server."""
    url, cache = environ.get("REDIS_URL", ""), environ.get("CACHE_URL", "")
    if not url or not cache or _server(url) != _server(cache):
        return
    caches = own.get("CACHES")
    if isinstance(caches, Mapping) and (changed := dict(_caches(caches, cache))):
        yield "CACHES", {**caches, **changed}
    layers = own.get("CHANNEL_LAYERS")
    if isinstance(layers, Mapping) and (changed := dict(_layers(layers, url))):
        yield "CHANNEL_LAYERS", {**layers, **changed}


def result_backend(own: object, environ: Mapping[str, str]) -> str:
    """Where Celery keeps results, if that is a Redis that the place does not have; else empty."""
    url, cache = environ.get("REDIS_URL", ""), environ.get("CACHE_URL", "")
    brought = bool(url and cache) and _server(url) == _server(cache)
    is_redis = isinstance(own, str) and urlsplit(own).scheme in ("redis", "rediss")
    return url if brought and is_redis and _server(str(own)) != _server(url) else ""


def _caches(caches: Mapping[str, Any], url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = [name for name, each in caches.items() if isinstance(each, Mapping) and each.get("BACKEND") in CACHES]
    for number, name in enumerate(sorted(found, key=lambda each: each != "default")):
        location = caches[name].get("LOCATION")
        named = location if isinstance(location, str) else next(iter(location or ()), "")
        if _server(str(named)) != _server(url):
            database = url if number == 0 else f"{url.rpartition('/')[0]}/{FREE + number - 1}"
            yield name, {**caches[name], "LOCATION": database}


def _layers(layers: Mapping[str, Any], url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in layers.items():
        if not isinstance(each, Mapping) or not str(each.get("BACKEND", "")).startswith(LAYERS):
            continue
        config = each.get("CONFIG") or {}
        host = next(iter(config.get("hosts") or ()), None)
        more = (
            {key: value for key, value in host.items() if key not in ("host", "port", "db", "password", "path")}
            if (isinstance(host, Mapping))
            else {}
        )
        address = more.get("address", host)
        if not isinstance(address, str) or _server(address) != _server(url):
            hosts = [{"socket_timeout": SOCKET_SECONDS, **more, "address": url}]
            yield name, {**each, "CONFIG": {**config, "hosts": hosts}}


def _server(url: str) -> tuple[str | None, int]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or 6379
    except ValueError:
        return None, 0
