"""Sessions that hold a lock on a table of the site's database in a container, as a report or a dump does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rig.database import psql
from tests.support import wait_until

TABLE = "polls_question"
#: What makes a dump so large that it waits for its reader.
FILLER = "CREATE TABLE IF NOT EXISTS filler AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 2000)"
#: A migration that needs a moment of the table for itself, and suits the release before.
MIGRATION = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("polls", "0002_schedule")]
    operations = [migrations.RunSQL("ALTER TABLE polls_question ADD COLUMN IF NOT EXISTS spare integer")]
"""


def waits(container: str) -> bool:
    """Whether a session waits for a lock."""
    return psql(container, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != "0"


@contextmanager
def transaction(container: str) -> Iterator[None]:
    """A transaction that has read the table, and stays open within the context."""
    with _session(container, 'psql -X -q -U "$POSTGRES_USER" "$POSTGRES_DB"') as child:
        assert child.stdin
        child.stdin.write(f"BEGIN;\nSELECT count(*) FROM {TABLE};\n")
        child.stdin.flush()
        _wait_held(container)
        yield


@contextmanager
def dump(container: str) -> Iterator[None]:
    """A dump of the whole database, whose reader pauses within the context."""
    psql(container, FILLER)
    # The reader waits for a line of ours, or for the end of our input.
    reader = "{ read -r _ <&3 || true; cat >/dev/null; }"
    with _session(container, f'exec 3<&0; pg_dump -U "$POSTGRES_USER" "$POSTGRES_DB" </dev/null | {reader}'):
        _wait_held(container)
        yield


@contextmanager
def _session(container: str, command: str) -> Iterator[subprocess.Popen[str]]:
    words = ["docker", "exec", "-i", container, "sh", "-c", command]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        yield child
    finally:
        assert child.stdin
        child.stdin.close()
        child.wait(60)


def _wait_held(container: str) -> None:
    held = f"relation = '{TABLE}'::regclass AND granted AND mode = 'AccessShareLock'"
    asked = f"SELECT count(*) FROM pg_locks WHERE {held}"
    wait_until(lambda: psql(container, asked) != "0", 30, f"{TABLE} is held")
