"""What tests ask the site's database itself, in its container."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.rig.engine import docker


def psql(container: str, sql: str, engine: Callable[..., str] = docker) -> str:
    """The output of SQL, as the owner of the site's database; to ask the site's shell boots Django each time.

    ``engine`` is the container's, as a function that runs a docker command.
    """
    words = ["psql", "-X", "-A", "-t", "-q", "-c", sql]
    return engine("exec", container, "sh", "-c", 'exec "$@" -U "$POSTGRES_USER" "$POSTGRES_DB"', "sh", *words).strip()


def votes(container: str, engine: Callable[..., str] = docker) -> int:
    """The number of votes."""
    return int(psql(container, "SELECT count(*) FROM polls_vote", engine))


def states(container: str, exports: Iterable[str], engine: Callable[..., str] = docker) -> list[str]:
    """The states of exports, by id."""
    ids = ", ".join(f"'{each}'" for each in exports)
    return psql(container, f"SELECT state FROM polls_export WHERE id IN ({ids})", engine).split()
