"""The accounts of the stack's own servers, and their passwords: who has one of these cannot compute another. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import quote

#: The role of the database that changes rows, for web and workers. `site` owns the tables; releases have it.
DATA = "site_data"
#: The accounts of the broker that web and beat have, and workers. `site` declares queues; releases have it.
PUBLISHER, WORKER = "site_publisher", "site_worker"
#: What the publisher may write to: all but the exchanges by which workers are commanded (Celery's remote control).
_NO_COMMANDS = r"^(?!(reply\.)?celery\.pidbox$|celeryev).*"
#: The rights of each account in RabbitMQ: to declare and delete, to send, to take.
_RIGHTS = {"site": (".*", ".*", ".*"), WORKER: (".*", ".*", ".*"), PUBLISHER: ("^$", _NO_COMMANDS, "^$")}


def derived(password: str, account: str) -> str:
    """The password of an account, made from that of `.env`: a release that is gone back to has the same ones."""
    digest = hmac.digest(password.encode(), f"portico {account}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def database_url(role: str, password: str) -> str:
    """The address of the stack's own database, for a role."""
    return f"postgres://{role}:{quote(password, safe='')}@postgres:5432/site"


def broker_url(account: str, password: str) -> str:
    """The address of the stack's own RabbitMQ, for an account."""
    return f"amqp://{account}:{quote(password, safe='')}@rabbitmq:5672//"


def broker_definitions(password: str) -> str:
    """The accounts of the stack's own RabbitMQ as it reads them at its start: none is administrator.

    The password of `site` is that of `.env`, as in the volumes of earlier versions; those of the others are derived.
    """
    passwords = {name: derived(password, name) if name != "site" else password for name in _RIGHTS}
    users = [
        {"name": name, "password_hash": _kept(name, each), "hashing_algorithm": _HASHING, "tags": [], "limits": {}}
        for name, each in passwords.items()
    ]
    permissions = [
        {"user": name, "vhost": "/", "configure": declare, "write": send, "read": take}
        for name, (declare, send, take) in _RIGHTS.items()
    ]
    found = {"users": users, "vhosts": [{"name": "/"}], "permissions": permissions}
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


#: The secret file with these, and the command that gives them, from its input, to a broker that runs.
DEFINITIONS = "rabbitmq_definitions.json"
IMPORT = "umask 077; f=$(mktemp) && cat >$f && rabbitmqctl --quiet import_definitions $f; c=$?; rm -f $f; exit $c"
_HASHING = "rabbit_password_hashing_sha256"


def _kept(name: str, password: str) -> str:
    """What RabbitMQ keeps of a password (https://www.rabbitmq.com/docs/passwords), with the same salt every time."""
    salt = hmac.digest(password.encode(), f"salt {name}".encode(), "sha256")[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
