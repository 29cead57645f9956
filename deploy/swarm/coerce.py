"""Normalize the values of a compose document to the one form that `docker stack deploy` accepts."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

TMPFS = re.compile(r"(?P<path>/[^:]*)(:(?P<options>.*))?")
SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)


# --- What a stack file may hold: the keys of these classes, and no others ---


def _text(value: object) -> object:
    """Convert a number or a boolean to text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _octal(value: object) -> object:
    return int(value, 8) if isinstance(value, str) and re.fullmatch("0?[0-7]{3}", value) else value


def _mode(value: int) -> int:
    """Validate a file's mode. Compose 2.26 reads a quoted mode as a decimal number."""
    if value > 0o777 or value in (400, 440, 444):
        raise ValueError(f"is {value:#o}: write it without quotes, as 0440")
    return value


def _one_port(value: object) -> object:
    if isinstance(value, str) and "-" in value:
        raise ValueError("is a range: name each port")
    return int(value) if isinstance(value, str) and value.isdecimal() else value or None


def _hosts(value: object) -> object:
    return [str(each).replace("=", ":", 1) for each in value] if isinstance(value, list) else value


def _address(value: str) -> str:
    """Validate the address of a DNS server; the docker client silently drops invalid ones."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{value} is not an IP address") from None
    return value


def _subnet(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{value} is not a subnet") from None
    return value


def _some(value: list[str] | None) -> list[str] | None:
    if value == []:
        raise ValueError("is empty; a swarm would then use the image's own value")
    return value


def plain(text: str) -> str:
    """Undo the doubling of `$` in text that is not interpolated again."""
    return text.replace("$$", "$")


def _values(value: object) -> object:
    """A mapping without the keys whose value should have come from the client's shell and did not."""
    if not isinstance(value, dict):
        return value
    return {plain(str(key)): each for key, each in value.items() if each is not None}


def _not_of_the_shell(values: dict[str, str]) -> dict[str, str]:
    """Reject empty variables: `docker stack deploy` would fill them from its own environment. Raises ValueError."""
    if empty := [name for name, value in values.items() if not value]:
        raise ValueError(f"{', '.join(empty)} is empty, so the client's shell would set it: leave it out")
    return values


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[dict[str, Text], BeforeValidator(_values)]
Words = list[str]
Call = Annotated[Words | None, AfterValidator(_some)]
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if isinstance(value, str) else value)]
