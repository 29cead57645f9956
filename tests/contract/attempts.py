"""What a compromised process of the site may try: runs within it, and prints the attempts that succeeded, as JSON.

It is read from standard input by a Python of the site (`python - web`), so it imports nothing of the tests. A worker
takes tasks, and so may do more with the broker than web.
"""

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

Attempt = Callable[[], object]
TABLE = "polls_question"
#: In the database, with the site's own address. Each must be refused by the server.
SQL = {
    "become superuser": "ALTER ROLE CURRENT_USER SUPERUSER",
    "create a role": "CREATE ROLE more",
    "take the owner's role": "SET ROLE site",
    "take the superuser's role": "SET ROLE postgres",
    "create a table": "CREATE TABLE mine (id int)",
    "create a schema": "CREATE SCHEMA mine",
    "create an extension": "CREATE EXTENSION pg_trgm",
    "change a table": f"ALTER TABLE {TABLE} ADD COLUMN mine int",
    "drop a table": f"DROP TABLE {TABLE} CASCADE",
    "truncate a table": f"TRUNCATE {TABLE} CASCADE",
    "plant a trigger": f"CREATE TRIGGER mine BEFORE INSERT ON {TABLE} EXECUTE FUNCTION lo_manage()",
    "run a program beside the data": f"COPY {TABLE} FROM PROGRAM 'id'",
    "write a file beside the data": f"COPY {TABLE} TO '/tmp/mine'",
    "read a file beside the data": "SELECT pg_read_file('/etc/passwd')",
    "read password hashes": "SELECT rolpassword FROM pg_authid",
    "change the server's settings": "ALTER SYSTEM SET log_statement = 'all'",
    "load the server's settings": "SELECT pg_reload_conf()",
    "replicate the server": "SELECT pg_create_physical_replication_slot('mine')",
}
#: Files that must not be readable, and folders that must not be writable.
UNREADABLE = {
    "the owner's database": "/run/secrets/database_owner_url",
    "the owner's broker": "/run/secrets/owner_broker_url",
    "the database's password": "/run/secrets/postgres_password",
    "the broker's accounts": "/run/secrets/rabbitmq_definitions",
    "passwords": "/etc/shadow",
    "the certificate's key": "/etc/nginx/site/tls.key",
    "the engine": "/var/run/docker.sock",
}
UNWRITABLE = (
    "/app",
    "/opt/kit",
    "/opt/venv",
    "/usr/share/static",
    "/srv/static",
    "/etc",
    "/run/secrets",
    "/proc/sys/kernel",
)
#: Ports of servers that are for nobody but themselves.
CLOSED = {"Erlang's protocol": ("rabbitmq", 25672), "Erlang's name server": ("rabbitmq", 4369)}


def sql(url: str, statement: str) -> None:
    import psycopg2  # type: ignore[import-untyped]

    connection = psycopg2.connect(url, connect_timeout=5)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


def as_role(url: str, role: str) -> None:
    parts = urlsplit(url)
    sql(f"postgres://{role}@{parts.hostname}:{parts.port or 5432}{parts.path}", "SELECT 1")


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def on_channel(do: Callable[[Any], object]) -> None:
    from portico_site.celery import app

    with app.connection_for_write(connect_timeout=5) as connection:
        do(connection.default_channel)


def shut_workers_down() -> None:
    from portico_site.celery import app

    app.control.broadcast("ping_not_known", connect_timeout=5)


def write(folder: str) -> None:
    with open(f"{folder}/of-an-attacker", "w"):
        pass


def connect(address: tuple[str, int]) -> None:
    socket.create_connection(address, 3).close()


def system(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno())


def attempts(who: str) -> dict[str, Attempt]:
    """The attempts of a process: `web`, or `worker`."""
    database = os.environ.get("DATABASE_URL") or read(os.environ["DATABASE_URL_FILE"]).decode().strip()
    found: dict[str, Attempt] = {what: partial(sql, database, text) for what, text in SQL.items()}
    for role in ("postgres", "site"):
        found[f"sign in as {role} without a password"] = partial(as_role, database, role)
    for what, path in UNREADABLE.items():
        found[f"read {what}"] = partial(read, path)
    for folder in UNWRITABLE:
        found[f"write to {folder}"] = partial(write, folder)
    for what, address in CLOSED.items():
        found[f"reach {what}"] = partial(connect, address)
    found |= {
        "become root": lambda: os.setuid(0),
        "change the root folder": lambda: os.chroot("/tmp"),
        "mount a file system": lambda: system("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "set the clock": lambda: system("settimeofday", (ctypes.c_long * 2)(1, 0), None),
        "set the host's name": lambda: system("sethostname", b"mine", 4),
    }
    if who == "web":
        found |= {
            "read the workers' broker": lambda: read("/run/secrets/worker_broker_url"),
            "declare a queue": lambda: on_channel(lambda channel: channel.queue_declare("mine")),
            "delete the queue of tasks": lambda: on_channel(lambda channel: channel.queue_delete("celery")),
            "empty the queue of tasks": lambda: on_channel(lambda channel: channel.queue_purge("celery")),
            "take a task": lambda: on_channel(lambda channel: channel.basic_get("celery")),
            "command workers": shut_workers_down,
        }
    return found


def needed() -> dict[str, Attempt]:
    """What the same process must be able to do, in the same ways: otherwise its refusals would show nothing."""
    database = os.environ.get("DATABASE_URL") or read(os.environ["DATABASE_URL_FILE"]).decode().strip()
    return {
        "change rows": lambda: sql(database, f"UPDATE {TABLE} SET id = id WHERE false; SELECT 1 FROM {TABLE}"),
        "open a channel": lambda: on_channel(lambda channel: channel.queue_declare("celery", passive=True)),
        "read its own secret": lambda: read("/run/secrets/secret_key"),
        "write to /tmp": lambda: write("/tmp"),
    }


def main() -> None:
    succeeded = []
    for attempt in needed().values():
        attempt()
    tried = attempts(sys.argv[1])
    for what, attempt in tried.items():
        try:
            attempt()
        except Exception:  # refused, each by what guards it
            continue
        succeeded.append(what)
    print(json.dumps({"tried": len(tried), "succeeded": succeeded}))


if __name__ == "__main__":
    main()
