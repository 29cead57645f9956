"""A project's own additions to the machinery, in `deploy/local/`: every runtime reads them, no upgrade touches them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deploy.core import text as texts
from deploy.core.errors import Failure

FOLDER = "deploy/local"
#: The files that there may be, besides units of hosts.
COMPOSE, NGINX, DOCKERFILE = f"{FOLDER}/compose.yaml", f"{FOLDER}/nginx.conf", f"{FOLDER}/Dockerfile"
UNITS = f"{FOLDER}/units"
#: What the stacks of containers are called, each of which may have a compose file more.
KINDS = ("dev", "prod", "swarm")
#: The site's own units on hosts, to which a `.conf` adds.
SITE_UNITS = ("web", "worker", "beat", "release")
#: Names that other units of ours have there.
OUR_UNITS = ("firewall", "redis", "certificate")
#: What stands in nginx's file where the project adds nothing.
NOTHING = "# Nothing of the project's own: deploy/local/nginx.conf is what it adds.\n"
#: The line of the Dockerfile that the project's own lines follow.
MARK = "# --- deploy/local/Dockerfile follows here."
_UNIT = re.compile(r"[a-z][a-z0-9-]*")


def _text(root: Path, name: str) -> str:
    """The text of a file; empty for one that is not there. Raises `Failure` for one that cannot be read."""
    try:
        return texts.read(root / name, name)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}; make it readable") from None


def compose_files(root: Path, kind: str) -> list[str]:
    """The project's own compose files for a kind of stack, in the order in which they are read."""
    names = (COMPOSE, f"{FOLDER}/compose.{kind}.yaml")
    return [name for name in names if (root / name).is_file()]


def nginx(root: Path) -> str:
    """What the project adds to its server in nginx."""
    return _text(root, NGINX) or NOTHING


def nginx_line(text: str) -> str:
    """A message of nginx's, with the file of the project in place of the one that was made from it."""
    return re.sub(r"/etc/nginx/[\w.-]+/local\.conf", NGINX, text)


def dockerfile(root: Path) -> str:
    """The Dockerfile with the project's own lines; empty where there are none.

    Raises `Failure` for a line that would begin another stage, or copy what no build has.
    """
    own = _text(root, DOCKERFILE)
    if not own.strip():
        return ""
    for number, line in enumerate(own.splitlines(), 1):
        word = line.split(" ")[0].upper()
        if word in ("FROM", "COPY", "ADD", "USER", "WORKDIR"):
            raise Failure(
                f"{DOCKERFILE}:{number}: {word} is not possible here: it has lines of the stage that both images begin"
                " with (RUN, ENV, ARG), run as root"
            )
    text = _text(root, "Dockerfile")
    if MARK not in text:
        raise Failure(f"Dockerfile: the line `{MARK}` is missing; take the file of this version of Portico")
    return text.replace(f"{MARK}\n", f"{MARK}\n{own.rstrip()}\n", 1)


def drop_ins(root: Path) -> dict[str, str]:
    """What the project adds to the site's units on hosts, by their kind."""
    return {name: text for name in SITE_UNITS if (text := _text(root, f"{UNITS}/{name}.conf"))}


def services(root: Path) -> dict[str, str]:
    """Units of the project's own on hosts, by name; an empty text means that the unit must go.

    Raises `Failure` for a file that is none of these.
    """
    return {path.stem: _text(root, f"{UNITS}/{path.name}") for path in _units(root) if path.suffix == ".service"}


def _units(root: Path) -> Iterator[Path]:
    for path in sorted((root / UNITS).glob("*")):
        known = path.suffix == ".service" and _UNIT.fullmatch(path.stem) and path.stem not in (*SITE_UNITS, *OUR_UNITS)
        if not path.name.startswith(".") and not known and (path.suffix, path.stem in SITE_UNITS) != (".conf", True):
            names = ", ".join(f"{each}.conf" for each in SITE_UNITS)
            raise Failure(
                f"{UNITS}/{path.name}: must be {names}, or NAME.service with a name of its own in small letters"
            )
        yield path


def misnamed(root: Path) -> dict[str, str]:
    """Files that look like ours and are not read, with the name that would be. Others are the project's own affair."""
    read = {COMPOSE, DOCKERFILE, *(f"{FOLDER}/compose.{kind}.yaml" for kind in KINDS)}
    found = {}
    for path in sorted((root / FOLDER).glob("*")):
        name = f"{FOLDER}/{path.name}"
        if name not in read and re.fullmatch(r"(docker-)?compose.*\.ya?ml", path.name):
            kind = next((kind for kind in KINDS if kind in path.name), "")
            found[name] = f"{FOLDER}/compose.{kind}.yaml" if kind else COMPOSE
        elif name not in read and path.name.lower() == "dockerfile":
            found[name] = DOCKERFILE
    return found
