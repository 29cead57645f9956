"""The types of single values in an environment file.

A document contains only text, lists and mappings (`yaml_lines`). Each type here converts one of them, or raises
`ValueError` with the remedy; the message never repeats a value that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator, SecretStr, ValidationInfo

from deploy.core.errors import Failure
from deploy.project import backups, config, sources, workers
from deploy.project.sources import Source
from deploy.project.values import SCHEMES, url_problem

Role = Literal["web", "worker", "beat", "database", "broker", "redis"]
ROLES: tuple[Role, ...] = get_args(Role)

T = TypeVar("T")
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#: The last label has a letter: what resolvers take for an address, as `10.1` and `010.0.0.1`, is no name.
_HOST_NAME = re.compile(rf"(?!(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)$){_LABEL}(\.{_LABEL})*")
_USER = re.compile("[a-z_][a-z0-9_-]{0,31}")
_BATCH = re.compile("[1-9][0-9]{0,3}|([1-9][0-9]?|100)%")
_JUMP = re.compile(r"([^@]+)@(\[[^\]]+\]|[^:\[\]@]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class Jump:
    """A jump host."""

    user: str
    host: str
    port: int = 22


@dataclass(frozen=True)
class OpenPort:
    """A port that is open to everybody."""

    protocol: Literal["tcp", "udp"]
    number: int


def whole(low: int, high: int) -> BeforeValidator:
    """A validator for a whole number within bounds."""

    def check(value: object) -> int:
        if not isinstance(value, str) or not re.fullmatch("[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return BeforeValidator(check)


def _matching(pattern: re.Pattern[str], meaning: str) -> BeforeValidator:
    def check(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f"must be a {meaning}")
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not a {meaning}")
        return value

    return BeforeValidator(check)


def _variable(value: object) -> object:
    # The name is not repeated: without the space after its colon, a secret would be part of it.
    if not isinstance(value, str) or not re.fullmatch("[A-Z][A-Z0-9_]*", value):
        raise ValueError("is not the name of a variable; write it in capital letters")
    return value


def _role(value: object) -> object:
    if value not in ROLES:
        raise ValueError(f"{value!r} is not a role; there are: {', '.join(ROLES)}")
    return value


def _kinds(value: object) -> tuple[str, ...]:
    """The names of kinds of workers. Whether `invoke.yaml` declares them is known when the project is."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of kinds of workers, such as [default, mail]")
    for each in value:
        if not isinstance(each, str) or not workers.NAME.fullmatch(each):
            raise ValueError(f"{each!r} is not the name of a kind of workers")
    return tuple(value)


def _some(value: tuple[Role, ...]) -> tuple[Role, ...]:
    if not value:
        raise ValueError("is empty; name at least one")
    return value


def _host_name(value: object) -> str:
    """A host name, or an IPv4 address in its place."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a host name")
    try:
        IPv4Address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is not a host name") from None
    return value


def _address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a host name or an address")
    if not _HOST_NAME.fullmatch(value):
        try:
            ip_address(value)
        except ValueError:
            raise ValueError(f"{value!r} is neither a host name nor an address") from None
    return value


def _network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise ValueError("must be an address or a network")
    return ip_network(value)


def _jump(value: object) -> Jump:
    found = _JUMP.fullmatch(value) if isinstance(value, str) else None
    if not found or not _USER.fullmatch(found[1]) or not 0 < int(found[3] or 22) < 65536:
        raise ValueError(f"{value!r} is not a jump host; write user@host or user@host:port")
    return Jump(found[1], _address(found[2].strip("[]")), int(found[3] or 22))


def _open_port(value: object) -> OpenPort:
    protocol, _, number = value.partition("/") if isinstance(value, str) else ("", "", "")
    if protocol in ("tcp", "udp") and re.fullmatch("[0-9]{1,5}", number) and 0 < int(number) < 65536:
        return OpenPort("tcp" if protocol == "tcp" else "udp", int(number))
    raise ValueError(f"{value!r} is not a port; write tcp/9100 or udp/51820")


def _local_path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be the path of a file")
    try:
        return Path(info.context["root"] if info.context else "", Path(value).expanduser())
    except RuntimeError:
        raise ValueError("begins with the ~ of an unknown user; fix the path") from None


def _memory(value: object) -> str:
    found = re.fullmatch("([1-9][0-9]{0,5})([MG])", value) if isinstance(value, str) else None
    if not found or (found[2] == "M" and int(found[1]) < 100):
        raise ValueError("must be a size such as 512M or 2G, at least 100M")
    return found[0]


def _setting(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("must be text in one line")
    if re.search(r"://[^/\s]*:[^/\s]*@", value):
        raise ValueError("contains a password; move it to secrets")
    return value


def _service(kind: str) -> PlainValidator:
    def check(value: object) -> Source | SecretStr:
        if not isinstance(value, str) or not re.match(r"\w*://", value):
            return sources.parse(value)
        if said := url_problem(value, SCHEMES[kind]):
            raise ValueError(said)
        if urlsplit(value).password:
            raise ValueError(f"contains a password, which must not be in this file; name a source: {sources.SOURCES}")
        return SecretStr(value)

    return PlainValidator(check)


def _repository(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be the address of a restic repository")
    return _said_by(lambda: backups.repository(value, ""))


def _keep(value: object) -> backups.Keep:
    if not isinstance(value, str):
        raise ValueError("must be like daily:7,weekly:5,monthly:12")
    return _said_by(lambda: backups.Keep.parse(value, ""))


def _said_by(read: Callable[[], T]) -> T:
    """What a reader of `deploy.project` reads; its `Failure` without the place, which the document names."""
    try:
        return read()
    except Failure as failure:
        raise ValueError(failure.message.removeprefix(": ")) from None


def _directory(value: object) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if not isinstance(value, str) or not parts or parts.scheme != "https" or not parts.hostname or parts.username:
        raise ValueError("must be the address of an ACME directory, such as https://acme.example.org/directory")
    if re.search(r"[^!-~]|['\"\\`$]", value):
        raise ValueError("has letters that no address has")
    return value


Port = Annotated[int, whole(1, 65535)]
Count = Annotated[int, whole(1, 64)]
Seconds = Annotated[int, whole(1, 3600)]
RoleName = Annotated[Role, BeforeValidator(_role)]
Kinds = Annotated[tuple[str, ...], PlainValidator(_kinds)]
Roles = Annotated[tuple[RoleName, ...], AfterValidator(_some)]
HostName = Annotated[str, BeforeValidator(_host_name)]
Address = Annotated[str, PlainValidator(_address)]
SiteName = Annotated[str, _matching(config.HOST, "host name; .example.org stands for all below it")]
UserName = Annotated[str, _matching(_USER, "user name")]
Variable = Annotated[str, BeforeValidator(_variable)]
Batch = Annotated[str, _matching(_BATCH, "number of hosts or percentage such as 50%")]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network)]
LocalPath = Annotated[Path, PlainValidator(_local_path)]
Memory = Annotated[str, PlainValidator(_memory)]
Setting = Annotated[str, PlainValidator(_setting)]
Words = Annotated[tuple[str, ...], PlainValidator(sources.words)]
SecretSource = Annotated[Source, PlainValidator(sources.parse)]
Database = Annotated[Source | SecretStr, _service("database")]
Broker = Annotated[Source | SecretStr, _service("broker")]
Redis = Annotated[Source | SecretStr, _service("redis")]
Repository = Annotated[str, PlainValidator(_repository)]
Keep = Annotated[backups.Keep, PlainValidator(_keep)]
Email = Annotated[str, _matching(re.compile(r"[\w.+-]+@[A-Za-z0-9.-]+\.[A-Za-z0-9-]+"), "mail address")]
Directory = Annotated[str, PlainValidator(_directory)]
Time = Annotated[str, _matching(re.compile("([01][0-9]|2[0-3]):[0-5][0-9]"), 'time of day, such as "03:30"')]
OpenPorts = tuple[Annotated[OpenPort, PlainValidator(_open_port)], ...]
Jumps = Annotated[
    tuple[Annotated[Jump, PlainValidator(_jump)], ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]
