"""What PostgreSQL is told for backups and restores: commands and statements. Pure.

Each runs within the database's own container, as the superuser, who signs in there only and has no password.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deploy.core.shell import Run
from deploy.docker.stack import Stack
from deploy.project import limits

#: The site's database; the one that a restore fills; and the beginning of those that restores have put aside.
SITE, FRESH, BEFORE = "site", "site_restore", "site_before_"
#: Starts a program as the superuser, whatever the name: the first role of a cluster always has this number.
_AS_ADMIN = (
    'PGUSER=$(psql -XAtq -U site -d postgres -c "SELECT rolname FROM pg_roles WHERE oid = 10")'
    ' && export PGUSER && exec "$@"'
)
#: One line for each table with its rows. What belongs to an extension is not in a dump.
ROWS = """
SELECT format('SELECT ''rows'', %L, count(*) FROM %s', c.oid::regclass, c.oid::regclass)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY c.oid::regclass::text COLLATE "C" \\gexec
"""
_END_SESSIONS = """SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = ANY(string_to_array(:'names', ' '))"""
#: Seconds for a statement that only looks or renames; a dump or a restore has `limits.COMMAND`.
_SECONDS = 300


def _inside(stack: Stack, *words: str, given: str = "", seconds: float = _SECONDS) -> Run:
    command = stack.compose("exec", "-T", "--user", "postgres", "postgres", "sh", "-c", _AS_ADMIN, "-", *words)
    return replace(command, input=given, seconds=seconds)


def psql(stack: Stack, sql: str, database: str = "postgres", *, seconds: float = _SECONDS, **values: str) -> Run:
    """Statements, in which ``:'name'`` is the value of that name; each row that they return is a line."""
    given = [word for name, value in values.items() for word in ("-v", f"{name}={value}")]
    words = ("psql", "-XAtq", "-F", " ", "-v", "ON_ERROR_STOP=1", *given, "-d", database)
    return _inside(stack, *words, given=f"{sql.strip()}\n", seconds=seconds)


def dump(stack: Stack) -> Run:
    """Write a dump to standard output, and what is in it to standard error."""
    sql = (Path(__file__).parent / "dump.sql").read_text().replace("-- ROWS", ROWS.strip())
    return psql(stack, sql, SITE, seconds=limits.COMMAND)


def restore(stack: Stack) -> Run:
    """Fill the fresh database with the dump on standard input."""
    words = ("pg_restore", "--exit-on-error", "--dbname", FRESH)
    return _inside(stack, *words, seconds=limits.COMMAND)


def count(stack: Stack, database: str) -> Run:
    """Count the rows of each table."""
    return psql(stack, f"SET search_path = '';\n{ROWS.strip()}", database, seconds=limits.COMMAND)


def size(stack: Stack) -> Run:
    """Ask how many bytes the site's database has; 0 without one."""
    asked = "SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database WHERE datname = :'name'"
    return psql(stack, asked, name=SITE)


def names(stack: Stack) -> Run:
    """Ask which databases there are."""
    return psql(stack, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")


def drop(stack: Stack, *databases: str) -> Run:
    """Drop databases that there are, and end who uses them."""
    return psql(stack, "".join(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);\n" for name in databases))


def create(stack: Stack) -> Run:
    """Create the fresh database, as empty as `template0`: an earlier one that was left is dropped."""
    return psql(
        stack,
        f"DROP DATABASE IF EXISTS {FRESH} WITH (FORCE);\nCREATE DATABASE {FRESH} OWNER site TEMPLATE template0;",
    )


def switch(stack: Stack, *renames: tuple[str, str]) -> Run:
    """Rename databases, all or none of them, and end who uses them."""
    statements = [
        _END_SESSIONS,
        "BEGIN",
        *(f"ALTER DATABASE {old} RENAME TO {new}" for old, new in renames),
        "COMMIT",
    ]
    return psql(stack, "".join(f"{each};\n" for each in statements), names=" ".join(old for old, _ in renames))


def aside(identifier: str, there: list[str]) -> str:
    """The name under which the site's database is kept: after the backup that replaces it."""
    name = f"{BEFORE}{identifier}"
    number = 2
    while name in there:
        name = f"{BEFORE}{identifier}_{number}"
        number += 1
    return name
