"""The actual state of a host: the queries for `scripts/facts.sh`, and its answers as values."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import cast

from pydantic import SecretStr

from deploy.core.errors import Failure
from deploy.hosts.environment.model import Host
from deploy.hosts.setup.diff import Access, Desired, Entry, Facts, Kind, Made, Server

#: States of a unit that starts by itself.
_ENABLED = {"enabled", "enabled-runtime", "generated", "alias"}
_ACTIVE = {"active", "reloading", "activating"}
_KNOWN = {
    *("system", "no-systemd", "python", "ipv6", "port", "package", "user", "keys", "entry", "unit", "served"),
    *("there", "cluster", "listen", "address", "state", "password", "account", "certificate", "pending"),
    *("issued", "handover"),
}


def questions(names: str, host: Host, desired: Desired, addresses: Iterable[str]) -> bytes:
    """The input of `scripts/facts.sh`: everything that ``desired`` is compared with, and addresses to resolve there."""
    files = [file for group in desired.groups for file in group.files]
    lines = [
        f"name {names} {host.user} {' '.join(host.roles)}",
        *(f"package {each}" for each in desired.packages),
        *(f"user {user.name}" for user in desired.users),
        *(f"keys {user.name}" for user in desired.users if not user.system),
        *(f"secret {folder.path} root" for folder in desired.folders),
        *(f"{'secret' if file.secret else 'open'} {file.path} {file.owner}" for file in files),
        *(f"secret {path} root" for path in desired.absent),
        *(f"secret {path} root" for path in (*desired.retired_files, *(path for path, _ in desired.moved))),
        *(f"open {file.path} root" for file in (desired.setup, desired.owner, desired.first_owner) if file),
        *(f"secret {unit.sign} root" for unit in (*desired.idle, *desired.retired) if unit.sign),
        *(f"unit {unit.name}" for unit in desired.units),
        *(f"unit {unit.name}" for unit in (*desired.idle, *desired.retired)),
        *(f"address {each}" for each in addresses),
        *desired.servers,
        "end",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def parse(text: str) -> Facts:
    """Parse the answers. Raises `Failure` for any other line, such as output of a shell's start-up file."""
    *lines, last = text.splitlines() or [""]
    if last != "end":
        raise Failure("its answer is incomplete; run the command again")
    said = defaultdict[str, list[list[str]]](list)
    for line in lines:
        what, *words = line.split(" ")
        if what not in _KNOWN:
            raise Failure(f"unexpected output {line[:60]!r}: check whether a start-up file of its shell prints that")
        said[what].append(words)
    try:
        return _facts(said)
    except (ValueError, IndexError):
        raise Failure("its answer is malformed; run the command again") from None


def _facts(said: dict[str, list[list[str]]]) -> Facts:
    return Facts(
        system=next(((name, version) for name, version in said["system"]), ("unknown", "0")),
        systemd=not said["no-systemd"],
        python=next((_version(words[0]) for words in said["python"]), None),
        ipv6=bool(said["ipv6"]),
        there=tuple((kind, name) for kind, name, *_ in said["there"]),
        clusters=tuple((version, name, int(port)) for version, name, port, *_ in said["cluster"]),
        listening=tuple((int(port), program, reach == "open") for port, program, reach in said["listen"]),
        served=tuple((name, file) for name, file in said["served"]),
        ports=tuple(int(words[0]) for words in said["port"]),
        packages=frozenset(words[0] for words in said["package"]),
        users={name: shell for name, _, shell, *_ in said["user"]},
        groups={name: tuple(groups) for name, _, _, *groups in said["user"]},
        keys=frozenset(words[0] for words in said["keys"]),
        entries={path: _entry(words) for path, *words in said["entry"]},
        units={name: (enabled in _ENABLED, active in _ACTIVE) for name, enabled, active in said["unit"]},
        # A link-local address needs the name of an interface, and means nothing to another host.
        addresses={
            name: tuple(each for each in found if each and not each.startswith("fe80:"))
            for name, *found in said["address"]
        },
        missing={cast(Made, what): " ".join(words).strip() for what, *words in said["state"]},
        access=_access(
            dict(said["password"]), dict(said["certificate"]), {what: (user, at) for what, user, at in said["account"]}
        ),
        issued=next((words[0] for words in said["issued"]), ""),
        handover=next((base64.b64decode(words[0]).decode() for words in said["handover"]), ""),
        pending=tuple((verb, unit) for verb, unit in said["pending"]),
    )


def _access(
    passwords: Mapping[str, str], certificates: Mapping[str, str], accounts: Mapping[str, tuple[str, str]]
) -> dict[Server, Access]:
    """Password and certificate of each server that has both."""
    return {
        cast(Server, server): Access(
            SecretStr(passwords[server]), base64.b64decode(text).decode(), *accounts.get(server, ("", ""))
        )
        for server, text in certificates.items()
        if server in passwords
    }


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _entry(words: list[str]) -> Entry:
    kind, owner, group, mode, digest, content = words
    if kind == "file":
        return Entry("file", owner, group, mode, digest, base64.b64decode(content).decode(errors="replace"))
    return Entry("folder", owner, group, mode) if kind == "folder" else Entry(cast(Kind, kind))
