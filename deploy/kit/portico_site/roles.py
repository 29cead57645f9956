"""The rights in the stack's own PostgreSQL: the release owns the tables, web and workers only change their rows.

The container creates its first role as a superuser, and as the site's: `site`. The first release takes that right away.
Superuser is then `postgres`, without a password: it signs in only within the database's own container. The role `site`
owns the database and migrates; the role in PORTICO_DATA_URL reads and writes rows, if it is another. Volumes of earlier
versions are brought over in the same way, in one transaction: the release that serves meanwhile keeps its sessions and
its password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The variable with the URL of the role that web and workers have, and the one that says that the server is our own.
DATA_URL, OWN = "PORTICO_DATA_URL", "PORTICO_OWN_DATABASE"
#: PostgreSQL's own number of rounds, and the bytes of its salts.
ROUNDS, SALT_BYTES = 4096, 16
_NAME = re.compile("[a-z_][a-z0-9_]{0,62}")
_NO_RIGHTS = "NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS"
#: The role that the container has created: the first of a cluster always has this number, and stays superuser.
_FIRST = 10


def verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password (RFC 5803): with it, no statement and so no log contains the password."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(ROUNDS, *encoded)


def prepare(connection: BaseDatabaseWrapper, url: str) -> None:
    """Create the roles, if that has not been done, and give the one that ``url`` names its rights.

    Exits with a message if the database has the roles in another way.
    """
    from portico_site import overlay, patience

    named = overlay.database(url, {})
    owner, data = str(connection.settings_dict["USER"]), str(named["USER"])
    if connection.vendor != "postgresql":
        return
    for name in (owner, data):
        if not _NAME.fullmatch(name):
            sys.exit(f"roles: {name!r}: a role's name has lower-case letters, digits and _")
    if _value(connection, "SELECT current_user") != owner:
        connection.close()  # another process has done it while we waited
    if _value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", owner):
        kept = verifier(str(named["PASSWORD"]), os.urandom(SALT_BYTES))
        patience.patiently(connection, lambda: _separate(connection, owner, data, kept))
        connection.close()  # this session is still the superuser's
        print(f"roles: {owner} owns the tables, {data} changes rows, neither is superuser", flush=True)
    if owner == data:
        return
    if not _value(connection, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", data):
        sys.exit(
            f"roles: there is no role {data}, and {owner} may not create it: run"
            f" `docker compose exec postgres psql -U postgres -c 'ALTER ROLE {owner} SUPERUSER'`, then deploy again"
        )
    patience.patiently(connection, lambda: _run(connection, _GRANTS.format(data=data)))


def _separate(connection: BaseDatabaseWrapper, owner: str, data: str, kept: str) -> None:
    """In one transaction: who comes to lock or fail half-way leaves everything as it was."""
    from django.db import transaction

    development = os.environ.get("PORTICO_MODE") == "development"  # a test runner creates a database
    rights = f"LOGIN {_NO_RIGHTS} {'CREATEDB' if development else 'NOCREATEDB'}"
    with transaction.atomic(using=connection.alias):
        if _value(connection, "SELECT oid = %s FROM pg_roles WHERE rolname = %s", _FIRST, owner):
            admin = _value(connection, _FREE_NAME)
            _run(connection, _RENAMED.format(owner=owner, admin=admin, rights=rights))
            _run(connection, _OWNED.format(owner=owner, first=_FIRST))
        else:
            _run(connection, f"ALTER ROLE {owner} WITH {rights}")
        if owner == data:
            return
        create = _value(connection, "SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", data)
        _run(
            connection,
            f"{'CREATE' if create else 'ALTER'} ROLE {data} WITH LOGIN {_NO_RIGHTS} NOCREATEDB PASSWORD '{kept}'",
        )


def _run(connection: BaseDatabaseWrapper, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _value(connection: BaseDatabaseWrapper, sql: str, *values: str | int) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchone()[0]


_FREE_NAME = """
SELECT CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') THEN 'portico_superuser' ELSE 'postgres' END
"""
#: Nobody may rename the role of the session, so another is taken for a moment. The password stays the owner's.
_RENAMED = """
CREATE ROLE portico_setup SUPERUSER;
SET SESSION AUTHORIZATION portico_setup;
ALTER ROLE {owner} RENAME TO {admin};
CREATE ROLE {owner} WITH {rights};
DO $do$ BEGIN
    EXECUTE format('ALTER ROLE {owner} PASSWORD %L', (SELECT rolpassword FROM pg_authid WHERE rolname = '{admin}'));
END $do$;
ALTER ROLE {admin} PASSWORD NULL;
RESET SESSION AUTHORIZATION;
DROP ROLE portico_setup;
"""
#: What the site has created until now. `REASSIGN OWNED` refuses to do this for the first role of a cluster. Objects of
#: extensions stay, and a sequence of a column follows its table.
_OWNED = """
DO $do$
DECLARE item record;
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO {owner}', current_database());
    FOR item IN
        SELECT class, id FROM (
            SELECT 'pg_namespace'::regclass AS class, oid AS id, nspowner AS owner FROM pg_namespace
            UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class
                WHERE relkind IN ('r', 'p', 'v', 'm', 'f') OR relkind = 'S' AND NOT EXISTS (
                    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                    AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
            UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
            UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type
                WHERE typtype IN ('d', 'e', 'r')
                OR typtype = 'c' AND EXISTS (SELECT FROM pg_class WHERE oid = typrelid AND relkind = 'c')
            UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
            UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
            UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
            UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
            UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
            UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
            UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
            UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
        ) AS found
        WHERE owner = {first} AND id >= 16384 AND NOT EXISTS (
            SELECT FROM pg_depend WHERE classid = class AND objid = id AND deptype = 'e')
    LOOP
        EXECUTE (
            SELECT format('ALTER %s %s OWNER TO {owner}', replace(type, 'statistics object', 'statistics'), identity)
            FROM pg_identify_object(item.class, item.id, 0)
        );
    END LOOP;
END $do$;
"""


#: The rights of the role that changes rows: on what there is, and on what a later migration creates.
_GRANTS = """
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {data};
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {data};
ALTER DEFAULT PRIVILEGES GRANT SELECT, UPDATE, USAGE ON SEQUENCES TO {data};
DO $do$
DECLARE item record;
BEGIN
    FOR item IN
        SELECT format('SCHEMA %I', nspname) AS name, 'USAGE' AS rights FROM pg_namespace
            WHERE pg_has_role(nspowner, 'USAGE') AND NOT has_schema_privilege('{data}', oid, 'USAGE')
        UNION ALL SELECT format('TABLE %s', oid::regclass), 'SELECT, INSERT, UPDATE, DELETE' FROM pg_class
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_has_role(relowner, 'USAGE')
            AND NOT (has_table_privilege('{data}', oid, 'SELECT') AND has_table_privilege('{data}', oid, 'INSERT')
                     AND has_table_privilege('{data}', oid, 'UPDATE') AND has_table_privilege('{data}', oid, 'DELETE'))
        UNION ALL SELECT format('SEQUENCE %s', oid::regclass), 'SELECT, UPDATE, USAGE' FROM pg_class
            WHERE relkind = 'S' AND pg_has_role(relowner, 'USAGE')
            AND NOT (has_sequence_privilege('{data}', oid, 'UPDATE') AND has_sequence_privilege('{data}', oid, 'USAGE'))
    LOOP
        EXECUTE format('GRANT %s ON %s TO {data}', item.rights, item.name);
    END LOOP;
    IF pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'public'), 'USAGE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END $do$;
"""
