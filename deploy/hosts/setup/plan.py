"""The plan of a setup as a person reads it: a summary, and with details each change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deploy.hosts.layout import MARKS
from deploy.hosts.setup.diff import Change


def render(name: str, changes: Iterable[Change], *, details: bool) -> str:
    """The changes of a host, for people: a summary, and with ``details`` each of them, with the texts of files."""
    every = list(changes)
    if not every:
        return f"{name}: no change"
    shown = [
        *summary(every),
        *([change.body or change.title for change in every if not change.note] if details else []),
    ]
    return "\n".join([f"{name}:", *(f"  {line}" for text in shown for line in text.splitlines())])


def summary(changes: Iterable[Change]) -> list[str]:
    """What changes that was there before, a line each; what restarts; what is new, by count. Pure."""
    before, restarts, rest, new = list[str](), list[str](), list[str](), Counter[str]()
    for change in changes:
        sign, _, what = change.title.partition(" ")
        if change.note or sign in ("~", "-", "disable") or what.startswith(f"{MARKS}/") or ".before-portico" in what:
            before.append(change.title)
        elif sign in ("restart", "reload"):
            restarts.append(f"{what.replace('@%PG%', '')}{' (reload)' if sign == 'reload' else ''}")
        elif sign == "+":
            kind, _, names = what.partition(": ")
            number = len(names.split()) if kind == "packages" else 1
            new[kind if kind == "packages" else _kind(what)] += number
        elif sign in ("database:", "broker:", "redis:", "order", "get"):
            rest.append(change.title)
    counted = [
        f"{number} {kind if number != 1 else _ONE.get(kind, kind.removesuffix('s'))}" for kind, number in new.items()
    ]
    lines = [*before, *rest, *([f"restarts: {', '.join(restarts)}"] if restarts else [])]
    return [*lines, *([f"new: {', '.join(counted)}"] if counted else [])]


_ONE = {"lists of keys": "list of keys"}


def _kind(what: str) -> str:
    """The kind of a new thing, by its title."""
    first = what.split(maxsplit=1)[0]
    if first in ("user", "keys"):
        return "users" if first == "user" else "lists of keys"
    return "folders" if first.endswith("/") else "files"
