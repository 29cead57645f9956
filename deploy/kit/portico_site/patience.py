"""Migrations that wait for the locks of a PostgreSQL database without freezing the site that it serves meanwhile.

A statement that waits for a lock on a table makes every later query of that table wait behind it. So none waits longer
than `LOCK_TIMEOUT`; it is tried again for `RETRY_SECONDS`, with pauses in which the site's queries run. After that, the
release fails and names who holds the lock.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The lock that `one_at_a_time` holds; no other program uses this number in this database.
MIGRATIONS_LOCK = 0x506F7274
#: How long a statement may wait for a lock, in PostgreSQL's notation: nobody's request waits longer behind it.
LOCK_TIMEOUT = "1500ms"
#: Seconds for which a migration is tried again, and between two tries: what has queued behind it is served then.
RETRY_SECONDS, PAUSE_SECONDS = 60, 2
#: Seconds to wait for the migrations of another process; less than the hour that every runtime gives to a release.
OTHERS_SECONDS = 3000
#: SQLSTATE of a statement that has waited too long for a lock.
_LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def one_at_a_time(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Hold the lock of migrations, once nobody else does. Exits with a message if that takes too long.

    The lock is polled: a session that waits for it has a snapshot, for which CREATE INDEX CONCURRENTLY of the holder
    would wait, for ever. PostgreSQL releases it with the connection, however we end.
    """
    if connection.vendor != "postgresql":
        yield
        return
    deadline, told = time.monotonic() + OTHERS_SECONDS, False
    while not _value(connection, "SELECT pg_try_advisory_lock(%s)", MIGRATIONS_LOCK):
        if time.monotonic() > deadline:
            who = _value(connection, _MIGRATING, MIGRATIONS_LOCK) or "it has just ended"
            sys.exit(f"LockError: another process has migrated this database for {OTHERS_SECONDS} s: {who}")
        if not told:
            print("another process migrates this database; waiting for it", flush=True)
            told = True
        time.sleep(1)
    try:
        yield
    finally:
        with suppress(Exception):  # a lost connection has released it
            _value(connection, "SELECT pg_advisory_unlock(%s)", MIGRATIONS_LOCK)


def patiently(connection: BaseDatabaseWrapper, migrate: Callable[[], object]) -> None:
    """Migrate, with short waits for locks that are repeated. Exits with a message that names who held one too long."""
    if connection.vendor != "postgresql":
        migrate()
        return
    from django.db import OperationalError

    _run(connection, "SELECT set_config('lock_timeout', %s, false)", LOCK_TIMEOUT)
    with _Watch(connection) as watch, connection.execute_wrapper(_Statements(watch)):
        while True:
            try:
                migrate()
                break
            except OperationalError as error:
                if not is_lock_timeout(error):
                    raise
                watch.pause()
    _run(connection, "SELECT set_config('lock_timeout', '0', false)")


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement has waited too long for a lock; psycopg 2 and 3 name the code differently."""
    cause = error.__cause__
    return _LOCK_NOT_AVAILABLE in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))


class _Statements:
    """Executes the statements of migrations that are not atomic: each is repeated by itself.

    The migration as a whole could not be, as its first statements are done.
    """

    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection = context["connection"]
        if connection.in_atomic_block:
            return execute(sql, params, many, context)
        if "CONCURRENTLY" in str(sql).upper():
            # It waits for the end of transactions, with nobody behind it, and a broken index stays if it gives up.
            self.watch.let_wait(connection, True)
            try:
                return execute(sql, params, many, context)
            finally:
                self.watch.let_wait(connection, False)
        from django.db import OperationalError

        while True:
            try:
                return execute(sql, params, many, context)
            except OperationalError as error:
                if not is_lock_timeout(error):
                    raise
                self.watch.pause()


class _Watch:
    """Watches from a connection of its own who holds the locks that the migrations wait for."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.blocker = ""
        self.deadline = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self.process = _value(self.connection, "SELECT pg_backend_pid()")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)

    def pause(self) -> None:
        """Let others run, before another try. Exits with a message if there were enough."""
        now = time.monotonic()
        self.deadline = self.deadline or now + RETRY_SECONDS
        held = self.blocker or "a session that ended meanwhile"
        if now > self.deadline:
            print(flush=True)  # after "Applying …"
            sys.exit(f"LockError: no lock on a table within {RETRY_SECONDS} s, held by {held}: end that, and repeat")
        print(f"\nwaiting for a lock, held by {held}", flush=True)
        time.sleep(PAUSE_SECONDS)

    def let_wait(self, connection: BaseDatabaseWrapper, long: bool) -> None:
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", ["0" if long else LOCK_TIMEOUT])

    def _look(self) -> None:
        other = self.connection.copy()
        try:
            while not self._over.wait(0.3):
                with suppress(Exception), other.cursor() as cursor:  # who blocks is good to know, and no more
                    cursor.execute(_BLOCKER, [self.process])
                    if row := cursor.fetchone():
                        self.blocker = row[0]
        finally:
            with suppress(Exception):
                other.close()


#: Who blocks a session, in words. Of another user's session, only some may see user, age and query.
_BLOCKER = """
SELECT format('pid %%s, user %%s, for %%s s, query: %%s', pid, coalesce(usename, 'unknown'),
              coalesce(round(extract(epoch FROM clock_timestamp() - xact_start))::text, 'unknown'),
              left(regexp_replace(coalesce(query, ''), '\\s+', ' ', 'g'), 200))
FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s)) ORDER BY xact_start NULLS LAST LIMIT 1
"""
_MIGRATING = """
SELECT format('pid %%s, user %%s, query: %%s', a.pid, coalesce(usename, 'unknown'), left(query, 200))
FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE locktype = 'advisory' AND granted AND objid = %s LIMIT 1
"""


def _run(connection: BaseDatabaseWrapper, sql: str, *values: str | int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))


def _value(connection: BaseDatabaseWrapper, sql: str, *values: str | int) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
        row = cursor.fetchone()
    return row[0] if row else None
