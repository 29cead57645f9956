"""The one reader of `.env` files: each line is understood, or refused by its number. Values are never shown."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from deploy.core import text
from deploy.core.errors import Failure

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def values(content: str, name: str) -> dict[str, str]:
    """The variables of a file's text, with `$` taken literally; the later of two lines counts.

    ``name`` is the file in messages. Raises `Failure` with a line for each line that is not understood.
    """
    found: dict[str, str] = {}
    problems = []
    for binding in parse_stream(StringIO(content.replace("\r\n", "\n"))):
        # The original text begins with the empty lines before the binding.
        start = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string.count("\n", 0, start)
        if said := _problem(binding):
            problems.append(f"{name}:{line}: {said}")
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    if problems:
        raise Failure("\n".join(problems))
    return found


def _problem(binding: Binding) -> str:
    """What is wrong with a line; empty for one that is understood, a comment or an empty line."""
    raw = binding.original.string.strip(" \t\n")
    if not binding.error and binding.key is None:
        return ""
    if (found := text.hidden(_unquoted(raw))) and not binding.error:
        return f"has the hidden character {found}; remove it, or quote the value"
    given = re.match(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)?\s*([=:]?)\s*(['\"]?)", raw)
    key, sign, quote = (given[1] or "", given[2], given[3]) if given else ("", "", "")
    if key and sign == ":":
        return f"{key}: is followed by a colon; write {key}=VALUE"
    if binding.error and sign == "=" and quote:
        return f"{key}: its quote is not closed, or something follows it; write {key}={quote}VALUE{quote}"
    if binding.error or binding.key is None or not _NAME.fullmatch(binding.key):
        return "is not understood; write NAME=VALUE, or # before a comment"
    return f"{binding.key}: has no =; write {binding.key}=VALUE" if binding.value is None else ""


def _unquoted(raw: str) -> str:
    """The name of a line, and its value if that is not in quotes, without a comment."""
    name, sign, value = raw.partition("=")
    return name if value.lstrip(" \t")[:1] in ("'", '"') else re.sub(r"\s#.*", "", f"{name}{sign}{value}")


def load(path: Path) -> dict[str, str]:
    """The variables of a file; none without a file. Raises `Failure` as `values` does, and for another encoding."""
    try:
        return values(text.read(path), path.name) if path.exists() else {}
    except OSError as error:
        raise Failure(f"{path.name}: {error.strerror}; make it readable") from None
