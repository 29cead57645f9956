"""The values that expressions of a settings module can have, as far as reading tells."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeAlias

from deploy.project.source.tree import Location

Value: TypeAlias = (
    "bool | int | float | str | PurePosixPath | Unknown | Variable | Reader | External | Table"
    " | tuple[Value, ...] | None"
)


@dataclass(frozen=True)
class Unknown:
    """What only a run of the project could tell."""


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Variable:
    """A value from the environment, with the default that it has there."""

    name: str
    default: Value = None
    required: bool = False


@dataclass(frozen=True)
class Reader:
    """What is called with the name of a variable: an `Env`, decouple's `config`, a function of the project."""

    kind: str
    #: Defaults that the variables have by themselves: `Env(DEBUG=(bool, False))`.
    defaults: Mapping[str, Value] = field(default_factory=dict)
    #: Of a class of pydantic's settings: for each field its variable, whether it must have a value, and its default.
    fields: Mapping[str, tuple[str, bool, Value]] = field(default_factory=dict)
    #: What the names of its variables begin with.
    prefix: str = ""


@dataclass(frozen=True)
class External:
    """Something that is imported from elsewhere, by its dotted name."""

    name: str


@dataclass(frozen=True)
class Table:
    """A dictionary with texts as keys, and where each entry is written."""

    entries: Mapping[str, Value]
    places: Mapping[str, Location]

    def get(self, key: str) -> Value:
        return self.entries.get(key)

    def table(self, key: str) -> Table:
        """An entry that is a dictionary itself; an empty one where it is not."""
        found = self.entries.get(key)
        return found if isinstance(found, Table) else Table({}, {})

    def set(self, keys: tuple[str, ...], value: Value, at: Location) -> Table:
        """The same dictionary with one entry, at a path of keys, set; what is inside of something unknown stays so."""
        first, *rest = keys
        if rest and not isinstance(self.entries.get(first, Table({}, {})), Table):
            return self
        inner = self.table(first).set(tuple(rest), value, at) if rest else value
        return Table({**self.entries, first: inner}, {**self.places, first: at})

    def merged(self, other: Table) -> Table:
        return Table({**self.entries, **other.entries}, {**self.places, **other.places})


@dataclass(frozen=True)
class Assigned:
    """A value that a name has, and where it gets it; ``sometimes`` under a condition that reading cannot decide."""

    value: Value
    at: Location
    sometimes: bool = False


@dataclass(frozen=True)
class Read:
    """A variable of the environment that is read; ``required`` where the import fails without it."""

    name: str
    at: Location
    required: bool
    default: Value = None


FALSE = frozenset({"", "0", "false", "no", "off", "n", "f", "none"})


def truth(value: Value) -> bool | None:
    """Whether a value counts as true, a variable's by its default; None where that is not known.

    Texts are read as switches of the environment: `"false"` is false.
    """
    if isinstance(value, Variable):
        return None if value.required else truth(value.default)
    if isinstance(value, str):
        return value.strip().lower() not in FALSE
    if isinstance(value, Unknown | Reader | External):
        return None
    if isinstance(value, tuple | Table):
        inside = value if isinstance(value, tuple) else value.entries
        return bool(inside)
    return bool(value)


def text(value: Value) -> str:
    """A value as text, a variable's by its default; empty where it is not known."""
    if isinstance(value, Variable):
        return text(value.default)
    return value if isinstance(value, str) else str(value) if isinstance(value, PurePosixPath) else ""


def texts(value: Value) -> tuple[str, ...]:
    """The texts of a list, as far as they are known."""
    return tuple(text(each) for each in value if text(each)) if isinstance(value, tuple) else ()


def switched(value: Value, change: Callable[[Value], bool]) -> Value:
    """A yes or no that is made of a value; of a variable, one that has that of its default as default."""
    if isinstance(value, Variable):
        return Variable(value.name, change(value.default), value.required)
    return UNKNOWN if truth(value) is None else change(value)


def compared(left: Value, operator: ast.cmpop, right: Value) -> Value:
    """The outcome of a comparison with something known."""
    known = not isinstance(right, Unknown | Variable | Reader | External | Table)
    match operator:
        case ast.Eq() | ast.Is() if known:
            return switched(left, lambda value: value == right)
        case ast.NotEq() | ast.IsNot() if known:
            return switched(left, lambda value: value != right)
        case ast.In() if isinstance(right, tuple):
            return switched(left, lambda value: value in right)
        case _:
            return UNKNOWN
