"""Runs on a host, as the deploy user: the secrets in the environments of all releases that the host keeps.

    python3 -I -c TEXT FOLDER

TEXT is that of this module, which the client sends (`scripts/rekey.sh`): the release that serves may be of an earlier
version. FOLDER is the site's. Standard input has a request as JSON, standard output the answer:

- `look`: the digests of some variables, by release, with a salt that the client has made; no value leaves the host
- `accept`: releases with a SECRET_KEY accept a second one, the new one
- `switch`: the new key signs; the one that the serving release had is accepted
- `finish`: only one key is accepted
- `replace`: another variable gets a new value, in the releases that have it
- `back`, `done`: the environments as they were before the last change, or no copies of those

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

KEY, FALLBACK = "SECRET_KEY", "PORTICO_SECRET_KEY_FALLBACK"
#: The environment of a release, its copy from before a change, and the file with the digests of values that have ended:
#: a line `VARIABLE SALT DIGEST DATE` for each (`scripts/ship.sh` reads it).
ENV, BEFORE, RETIRED, RETIRED_BEFORE = "env", ".env.before", "state/retired", "state/.retired.before"
_RELEASE = re.compile("[0-9]{8}-[0-9]{6}-[0-9a-f]{7,12}")


# --- Pure ---


def parse(text: str) -> dict[str, str]:
    """The variables of an environment, as a shell reads them."""
    return {name: value for name, sign, value in (word.partition("=") for word in shlex.split(text)) if sign}


def text_of(variables: Mapping[str, str]) -> str:
    """The text of an environment: the inverse of `parse`."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())


def digest(salt: str, value: str) -> str:
    """What stands for a value: it can be compared, not read."""
    return hashlib.sha256(f"{salt}{value}".encode()).hexdigest()


def changed(variables: Mapping[str, str], verb: str, name: str, value: str, serving: str) -> dict[str, str]:
    """The environment of a release after a change; ``serving`` is the value that the serving release has."""
    found = dict(variables)
    if name not in found:
        return found
    if verb == "replace":
        found[name] = value
        return found
    before = found.pop(FALLBACK, "")
    if verb == "accept":
        second = before if found[KEY] == value else value
        return {**found, FALLBACK: second} if second else found
    if verb == "switch":
        found[KEY] = value
        second = before if serving == value else serving
        return {**found, FALLBACK: second} if second and second != value else found
    return found


def ended(lines: list[str], name: str, values: tuple[str, str], salt: str, date: str) -> list[str]:
    """The lines about values that have ended, with the first of these and without the second, which is the new one."""
    old, new = values
    kept = [
        line
        for line in lines
        if len(words := line.split()) == 4 and not (words[0] == name and digest(words[1], new) == words[2])
    ]
    return [*kept, f"{name} {salt} {digest(salt, old)} {date}"] if old and old != new else kept


# --- On the host ---


def _write(path: Path, text: str, mode: int = 0o640) -> None:
    coming = path.with_name(f".{path.name}.new")
    coming.unlink(missing_ok=True)
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    coming.rename(path)


def answer(folder: Path, request: dict[str, str]) -> object:
    """Do what a request asks, and return what is said of it."""
    releases = [each for each in sorted((folder / "releases").iterdir()) if _RELEASE.fullmatch(each.name)]
    releases = [each for each in releases if (each / ENV).is_file()]
    verb, name = request["verb"], request.get("name", "")
    if verb == "look":
        known = {each.name: parse((each / ENV).read_text()) for each in releases}
        names = request["names"].split()
        return {
            each: {one: digest(request["salt"], has[one]) for one in names if one in has} for each, has in known.items()
        }
    if verb in ("back", "done"):
        copies = [(each / BEFORE, each / ENV) for each in releases]
        for copy, path in [*copies, (folder / RETIRED_BEFORE, folder / RETIRED)]:
            if copy.is_file():
                copy.rename(path) if verb == "back" else copy.unlink()
        return {}
    current = (folder / "state" / "current").resolve()
    serving, value = parse((current / ENV).read_text()).get(name, ""), request.get("value", "")
    for each in releases:
        text = (each / ENV).read_text()
        if (new := text_of(changed(parse(text), verb, name, value, serving))) != text:
            _write(each / BEFORE, text)
            _write(each / ENV, new)
    if verb in ("switch", "replace"):
        file = folder / RETIRED
        lines = file.read_text().splitlines() if file.is_file() else []
        _write(folder / RETIRED_BEFORE, "".join(f"{line}\n" for line in lines), 0o600)
        now = f"{datetime.now(UTC):%Y-%m-%d}"
        after = ended(lines, name, (serving, value), secrets.token_hex(16), now)
        _write(file, "".join(f"{line}\n" for line in after), 0o600)
    return {}


if __name__ == "__main__":
    print(json.dumps(answer(Path(sys.argv[1]), json.load(sys.stdin))))
