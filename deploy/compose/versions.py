"""The version of PostgreSQL whose data a stack has: a server of another major version does not read it, and ends.

(https://www.postgresql.org/docs/current/upgrading.html)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deploy.compose.containers import Replica
from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.docker.additions import image_of
from deploy.docker.stack import Stack

#: Where the server's image keeps its data, and the file there that names the major version.
DATA, FILE = "/var/lib/postgresql/data", "PG_VERSION"
#: Seconds to read it, in a container whose image may have to be pulled.
_SECONDS = 300
HOW = "A newer PostgreSQL in deploy/compose/README.md"


def major(image: str) -> int:
    """The major version that the tag of an image names, as in `postgres:17.12` or `postgis/postgis:17-3.5`; else 0."""
    name, _, tag = image.partition("@")[0].rpartition(":")
    found = re.search(r"(?:^|pg|-)(\d{2})(?![\d])", tag) if name and "/" not in tag else None
    return int(found[1]) if found else 0


def refusal(image: str, has: str, volume: str) -> str:
    """Why a server of this image cannot have the data of version ``has``; empty if it can, or if that is unknown."""
    wants = major(image)
    if not wants or not has.isdecimal() or int(has) == wants:
        return ""
    return (
        f"{image} does not read the data of PostgreSQL {has} in the volume {volume}: name an image of {has},"
        f" or bring the data over ({HOW})"
    )


def require_readable(stack: Stack, running: Sequence[Replica]) -> None:
    """Raise `Failure` if the database's server would start with another major version's data."""
    if "postgres" not in stack.datastores or any(each.service == "postgres" and each.running for each in running):
        return
    volume = f"{stack.name}_postgres"
    if shell.run(Run(["docker", "volume", "inspect", volume]), capture=True, check=False).code:
        return
    image = image_of(stack, "postgres")
    words = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", "--mount"]
    mount = f"type=volume,source={volume},target={DATA},readonly"
    found = shell.run(Run([*words, mount, image, f"{DATA}/{FILE}"], seconds=_SECONDS), capture=True, check=False)
    if why := refusal(image, found.stdout.strip(), volume):
        raise Failure(why)


def replacement(stack: Stack) -> str:
    """What to do when the definition of the running server has changed."""
    image = image_of(stack, "postgres")
    asked = stack.compose("exec", "-T", "postgres", "cat", f"{DATA}/{FILE}")
    has = shell.run(asked, capture=True, check=False).stdout.strip()
    return refusal(image, has, f"{stack.name}_postgres") or replaced("postgres")


def replaced(service: str) -> str:
    """The command that replaces a server, whose definition has changed."""
    return f"`docker compose up -d --no-deps {service}` replaces it, with a pause"
