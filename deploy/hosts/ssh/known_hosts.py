"""The host keys that an environment trusts: those in `deploy/environments/NAME.known_hosts`, and no others.

The file has OpenSSH's known_hosts format, so that `ssh -o UserKnownHostsFile=…` reads it too. This module only maps
text to text. `~/.ssh/known_hosts` and the system's file are ignored: a key that one colleague once accepted is no
reason for the project to send its secrets there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.core.errors import Failure

FOLDER = "deploy/environments"
Verdict = Literal["new", "same", "changed"]
#: The supported kinds of key, the preferred one first.
KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


@dataclass(frozen=True)
class HostKey:
    """A host's public key: its kind, and the key as base64."""

    kind: str
    text: str

    @property
    def fingerprint(self) -> str:
        """Its fingerprint, as OpenSSH prints it: SHA256:…"""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class KnownHost:
    """A line of the file."""

    names: tuple[str, ...]
    key: HostKey


def entry_name(address: str, port: int) -> str:
    """The name of a host in the file. Raises `Failure` for an address that would mean something else there."""
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", address) or address.startswith("-"):
        raise Failure(f"{address!r} is not the address of a host; fix it in the environment's file")
    return address.lower() if port == 22 else f"[{address.lower()}]:{port}"


def compare(pinned: Sequence[HostKey], found: HostKey) -> Verdict:
    """Compare a key with those that are pinned."""
    if not pinned:
        return "new"
    return "same" if found in pinned else "changed"


@dataclass(frozen=True)
class KnownHosts:
    """The keys that an environment trusts."""

    environment: str
    #: The file as it is, with comments.
    text: str
    entries: tuple[KnownHost, ...]

    @property
    def source(self) -> str:
        """The file, as messages name it."""
        return source(self.environment)

    def keys(self, name: str) -> tuple[HostKey, ...]:
        """The keys that are pinned for a name (`entry_name`)."""
        return tuple(entry.key for entry in self.entries if any(_names(each, name) for each in entry.names))

    def with_key(self, name: str, key: HostKey) -> KnownHosts:
        """The same file with one key for a name, which replaces its other keys."""
        kept = [line for line in (_without(each, name) for each in self.text.splitlines()) if line is not None]
        return parse("".join(f"{line}\n" for line in [*kept, f"{name} {key.kind} {key.text}"]), self.environment)


def source(environment: str) -> str:
    """The file of an environment, relative to the project's folder."""
    return f"{FOLDER}/{environment}.known_hosts"


def parse(text: str, environment: str) -> KnownHosts:
    """Parse a file. Raises `Failure` for a line that it cannot parse: an ignored line could be a revocation."""
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                entries.append(_entry(line))
            except ValueError as error:
                where = f"{source(environment)}:{number}"
                raise Failure(f"{where}: {error}; fix the line, or remove it and run remote-trust") from None
    return KnownHosts(environment, text, tuple(entries))


def _entry(line: str) -> KnownHost:
    words = line.split()
    if words[0].startswith("@"):
        raise ValueError(f"{words[0]} is not supported")
    if len(words) < 3:
        raise ValueError("is not a line of known_hosts: names, kind, key")
    if re.search(r"[*?!]", words[0]):
        raise ValueError("has a pattern for a name, but a key is pinned for one host")
    if words[1] not in KINDS:
        raise ValueError(f"{words[1]!r} is not a kind of key; there are: {', '.join(KINDS)}")
    try:
        inner = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        inner = b""
    kind = words[1].encode()
    if not inner.startswith(len(kind).to_bytes(4, "big") + kind):
        raise ValueError(f"has no key of the kind {words[1]}")
    return KnownHost(tuple(words[0].split(",")), HostKey(words[1], words[2]))


def _names(written: str, name: str) -> bool:
    """Whether a name in the file, which may be hashed as by `ssh-keygen -H`, matches."""
    if not written.startswith("|1|"):
        return written.lower() == name.lower()
    salt, _, digest = written[3:].partition("|")
    try:
        own = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(own, base64.b64decode(digest))
    except binascii.Error:
        return False


def _without(line: str, name: str) -> str | None:
    """The line without a host's name; None if it names no other host."""
    words = line.split(maxsplit=1)
    if len(words) < 2 or words[0].startswith("#"):
        return line
    names = words[0].split(",")
    kept = [each for each in names if not _names(each, name)]
    if kept == names:
        return line
    return f"{','.join(kept)} {words[1]}" if kept else None
