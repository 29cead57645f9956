"""Expressions of Python, evaluated as far as reading tells; whatever reads the environment is noted on the way."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from deploy.project.source.tree import Location
from deploy.project.source.values import (
    UNKNOWN,
    Assigned,
    External,
    Read,
    Reader,
    Table,
    Unknown,
    Value,
    Variable,
    compared,
    switched,
    truth,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What `Env` classes are called: django-environ's (a second word is a cast) and environs' (it is the default).
ENVIRON = frozenset({"environ.Env", "environ.FileAwareEnv"})
ENVIRONS = frozenset({"environs.Env", "environs.FileAwareEnv"})
#: What pydantic's settings are called, now and before its second version.
PYDANTIC = frozenset({"pydantic_settings.BaseSettings", "pydantic.BaseSettings", "pydantic.v1.BaseSettings"})
DECOUPLE = frozenset({"decouple.Config", "decouple.AutoConfig"})
#: Functions whose outcome is the same path.
PASSING = frozenset(f"os.path.{name}" for name in ("abspath", "realpath", "normpath", "expanduser"))
#: Readers that are functions of packages.
FUNCTIONS = {"os.getenv": "get", "os.environ.get": "get", "decouple.config": "decouple"}
#: The variable that a method of django-environ reads when none is named.
NAMELESS = {
    **dict.fromkeys(("db", "db_url"), "DATABASE_URL"),
    **dict.fromkeys(("cache", "cache_url"), "CACHE_URL"),
    **dict.fromkeys(("email", "email_url"), "EMAIL_URL"),
    **dict.fromkeys(("search", "search_url"), "SEARCH_URL"),
    **dict.fromkeys(("channels", "channels_url"), "CHANNELS_URL"),
}
#: Where the default stands among the words of a method of django-environ; second where nothing is said.
DEFAULT_AT = {"": -1, "list": 2, "tuple": 2, "dict": 2, "get_value": 2}
#: Methods of an `Env` that read no variable.
NOT_READING = frozenset({"read_env", "prefixed", "seal", "parse_value", "db_url_config", "cache_url_config"})


@dataclass
class Scope:
    """The names of a module while it is read."""

    #: The file, relative to the root, and the absolute path that `__file__` is.
    path: str
    file: PurePosixPath
    names: dict[str, tuple[Assigned, ...]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    #: Variables that the module itself gives a value where they have none, with that value.
    seeded: list[tuple[str, str, Location]] = field(default_factory=list)
    #: Folders that it puts on `sys.path`.
    paths: list[str | PurePosixPath] = field(default_factory=list)
    #: What names of variables begin with at this place: `with env.prefixed("SHOP_"):`.
    prefixes: list[str] = field(default_factory=list)
    #: The name that is being given a value.
    setting: str = ""
    #: How many conditions, that cannot be decided, one is inside of.
    depth: int = 0

    def at(self, node: ast.expr | ast.stmt) -> Location:
        return Location(self.path, node.lineno)

    def look_up(self, name: str) -> Value:
        """The last value of a name that is not under a condition, else the last."""
        found = self.names.get(name, ())
        certain = [each for each in found if not each.sometimes]
        return (certain or found)[-1].value if found else UNKNOWN

    def assign(self, name: str, value: Value, at: Location) -> None:
        """Give a name a value. Under a condition, or where the value is not known, it keeps the earlier ones too."""
        sometimes = bool(self.depth) or isinstance(value, Unknown)
        earlier = self.names.get(name, ()) if sometimes else ()
        self.names[name] = (*earlier, Assigned(value, at, sometimes))

    @contextmanager
    def perhaps(self, really: bool = True) -> Iterator[None]:
        """What happens inside may not happen."""
        self.depth += really
        try:
            yield
        finally:
            self.depth -= really


class Expressions:
    """Evaluates expressions in a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def value(self, node: ast.expr | None) -> Value:  # noqa: PLR0911, PLR0912 - a case for each kind
        """The value of an expression. One of a kind that is not known here is still searched for what it reads."""
        match node:
            case None:
                return UNKNOWN
            case ast.Constant(value=bool() | int() | float() | str() | None as constant):
                return constant
            case ast.Name(id=name):
                return self.scope.file if name == "__file__" else self.scope.look_up(name)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return self._sequence(elements)
            case ast.Dict():
                return self._table(node)
            case ast.JoinedStr(values=parts):
                return "".join(map(self._part, parts))
            case ast.BinOp(left=left, op=operator, right=right):
                return self._combined(self.value(left), operator, self.value(right))
            case ast.BoolOp():
                return self._either(node)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return switched(self.value(operand), lambda value: not truth(value))
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return compared(self.value(left), operator, self.value(right))
            case ast.IfExp():
                return self._if(node)
            case ast.Attribute():
                return self.attribute(self.value(node.value), node.attr)
            case ast.Subscript():
                return self._item(node)
            case ast.Call():
                return Calls(self).value(node)
            case ast.NamedExpr(target=target, value=expression):
                found = self.value(expression)
                self.scope.assign(target.id, found, self.scope.at(node))
                return found
            case ast.Lambda():
                return UNKNOWN
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child)
                return UNKNOWN

    def read(self, node: ast.expr, name: str, *, required: bool, default: Value = None) -> Variable:
        """Note that a variable is read, and give its value."""
        seeded = next((value for variable, value, _ in self.scope.seeded if variable == name), None)
        if required and seeded is not None:  # the module itself has given it one
            required, default = False, seeded
        really = required and not self.scope.depth
        self.scope.reads.append(Read(name, self.scope.at(node), really, default))
        return Variable(name, default, really)

    def _sequence(self, elements: Sequence[ast.expr]) -> tuple[Value, ...]:
        found: list[Value] = []
        for element in elements:
            if isinstance(element, ast.Starred):
                inner = self.value(element.value)
                found += inner if isinstance(inner, tuple) else (UNKNOWN,)
            else:
                found.append(self.value(element))
        return tuple(found)

    def _table(self, node: ast.Dict) -> Table:
        made = Table({}, {})
        for key, value in zip(node.keys, node.values, strict=True):
            inner = self.value(value)
            if key is None:
                made = made.merged(inner) if isinstance(inner, Table) else made
            elif isinstance(name := self.value(key), str):
                made = made.set((name,), inner, self.scope.at(key))
        return made

    def _part(self, part: ast.expr) -> str:
        """A piece of an f-string; one that is not known, as it is written."""
        if isinstance(part, ast.FormattedValue):
            found = self.value(part.value)
            found = found.default if isinstance(found, Variable) and isinstance(found.default, str) else found
            return str(found) if isinstance(found, str | int | PurePosixPath) else f"{{{ast.unparse(part.value)}}}"
        found = self.value(part)
        return found if isinstance(found, str) else ""

    def _combined(self, left: Value, operator: ast.operator, right: Value) -> Value:  # noqa: PLR0911
        match left, operator, right:
            case tuple(), ast.Add(), tuple():
                return (*left, *right)
            case tuple(), ast.Add(), _:
                return (*left, UNKNOWN)
            case _, ast.Add(), tuple():
                return (UNKNOWN, *right)
            case int(), ast.Mult(), int():
                return left * right
            case str(), ast.Add(), str():
                return left + right
            case PurePosixPath(), ast.Div(), str() | PurePosixPath():
                return left / right
            case PurePosixPath(), ast.Sub(), int():  # environ.Path
                return left.parents[right - 1] if 0 < right <= len(left.parents) else UNKNOWN
            case Table(), ast.BitOr(), Table():
                return left.merged(right)
            case Variable(), _, _:
                return Variable(left.name, UNKNOWN, left.required) if isinstance(left.default, Unknown) else left
            case _:
                return UNKNOWN

    def _either(self, node: ast.BoolOp) -> Value:
        first = self.value(node.values[0])
        with self.scope.perhaps():
            others = [self.value(each) for each in node.values[1:]]
        if isinstance(node.op, ast.And):
            found = [truth(each) for each in (first, *others)]
            return False if False in found else UNKNOWN if None in found else others[-1]
        if isinstance(first, Variable) and truth(first) is False:
            return Variable(first.name, others[-1])
        return others[-1] if truth(first) is False else first

    def _if(self, node: ast.IfExp) -> Value:
        decided = self.decide(node.test)
        with self.scope.perhaps(decided is None):
            if decided is False:
                return self.value(node.orelse)
            found = self.value(node.body)
            other = self.value(node.orelse) if decided is None else UNKNOWN
        return other if isinstance(found, Unknown) else found

    def decide(self, test: ast.expr) -> bool | None:
        """Whether a condition holds, where that does not hang on the environment."""
        found = self.value(test)
        return None if isinstance(found, Variable) else truth(found)

    def attribute(self, owner: Value, name: str) -> Value:
        """An attribute of a value."""
        if isinstance(owner, External):
            return External(f"{owner.name}.{name}")
        if isinstance(owner, Table):
            return owner.entries.get(name, UNKNOWN)
        if isinstance(owner, PurePosixPath):
            return owner.parent if name == "parent" else owner.name if name == "name" else UNKNOWN
        return UNKNOWN

    def _item(self, node: ast.Subscript) -> Value:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
            owner, number = self.value(node.value.value), self.value(node.slice)
            if isinstance(owner, PurePosixPath) and isinstance(number, int) and 0 <= number < len(owner.parents):
                return owner.parents[number]
            return UNKNOWN
        owner, key = self.value(node.value), self.value(node.slice)
        if owner == External("os.environ") and isinstance(key, str):
            return self.read(node, key, required=isinstance(node.ctx, ast.Load))
        if isinstance(owner, Table) and isinstance(key, str):
            return owner.entries.get(key, UNKNOWN)
        if isinstance(owner, tuple) and isinstance(key, int) and -len(owner) <= key < len(owner):
            return owner[key]
        return owner if isinstance(owner, Variable) else UNKNOWN


class Calls:
    """Evaluates calls: those that read the environment, make paths, or pass on what they are given."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions

    def value(self, node: ast.Call) -> Value:  # noqa: PLR0911 - a line for each kind
        evaluate = self.expressions.value
        words = [evaluate(each) for each in node.args]
        named = {each.arg: evaluate(each.value) for each in node.keywords if each.arg}
        owner: Value = UNKNOWN
        method = ""
        if isinstance(node.func, ast.Attribute):  # what the method is of is evaluated once: it may read something
            owner, method = evaluate(node.func.value), node.func.attr
            function = self.expressions.attribute(owner, method)
        else:
            function = evaluate(node.func)
        if isinstance(owner, Reader):
            return self._read(node, owner, method, words, named)
        if isinstance(function, Reader) and function.kind == "pydantic":
            return self._instance(node, function, named)
        if isinstance(function, Reader):
            return self._read(node, function, "", words, named)
        if isinstance(function, External):
            return self._external(node, function.name, words, named)
        if isinstance(owner, PurePosixPath):
            same = method in ("resolve", "absolute", "expanduser", "as_posix")
            return owner if same else _joined(owner, words) if method in ("joinpath", "path") else UNKNOWN
        if isinstance(function, PurePosixPath):  # environ.Path
            return _joined(function, words)
        if isinstance(owner, Variable):  # a text's own method
            return owner
        if isinstance(node.func, ast.Name) and node.func.id in ("str", "bool", "int", "list", "tuple", "set"):
            return words[0] if words else UNKNOWN
        return words[0] if words and isinstance(words[0], Variable) else UNKNOWN

    def _external(  # noqa: PLR0911 - a line for each package
        self, node: ast.Call, name: str, words: list[Value], named: Mapping[str, Value]
    ) -> Value:
        if name in ENVIRON:
            schemes = {key: each for key, each in named.items() if isinstance(each, tuple) and len(each) == 2}
            return Reader("environ", {key: each[1] for key, each in schemes.items()})
        if name in ENVIRONS:
            return Reader("environs")
        if name in DECOUPLE:
            return Reader("decouple")
        if name in FUNCTIONS:
            return self._read(node, Reader(FUNCTIONS[name]), "", words, named)
        if name == "os.environ.setdefault" and isinstance(words[0], str) and isinstance(words[-1], str):
            scope = self.expressions.scope
            scope.seeded.append((words[0], words[-1], scope.at(node)))
            return UNKNOWN
        if name in ("sys.path.insert", "sys.path.append", "site.addsitedir") and words:
            if isinstance(words[-1], str | PurePosixPath):
                self.expressions.scope.paths.append(words[-1])
            return UNKNOWN
        if name == "split_settings.tools.optional":
            return words[0] if words else UNKNOWN
        if name.startswith("configurations.values."):
            return self._configured(node, name.rpartition(".")[2], words, named)
        if name == "dj_database_url.config":
            variable = named.get("env", "DATABASE_URL")
            default = named.get("default", words[0] if words else None)
            return self.expressions.read(node, str(variable), required=False, default=default)
        if name in ("pathlib.Path", "pathlib.PurePath", "environ.Path", "os.path.join"):
            first = words[0] if words else UNKNOWN
            start = PurePosixPath(first) if isinstance(first, str) else first
            return _joined(start, words[1:]) if isinstance(start, PurePosixPath) else start
        if name == "os.path.dirname" and words and isinstance(words[0], PurePosixPath):
            return words[0].parent
        passed = words and (name in PASSING or isinstance(words[0], Variable))
        return words[0] if passed else UNKNOWN

    def _configured(self, node: ast.Call, kind: str, words: list[Value], named: Mapping[str, Value]) -> Value:
        """A value of django-configurations: its variable is called as the setting, which the caller knows."""
        default = named.get("default", words[0] if words else None)
        required = kind == "SecretValue" or named.get("environ_required") is True
        said = named.get(
            "environ_name", "DATABASE_URL" if kind == "DatabaseURLValue" else self.expressions.scope.setting
        )
        if not isinstance(said, str) or not said or named.get("environ") is False:
            return default
        usual = None if kind.endswith("URLValue") else "DJANGO"
        prefix = named.get("environ_prefix", usual)
        name = f"{prefix}_{said}" if prefix else said
        return self.expressions.read(node, name, required=required, default=default)

    def _instance(self, node: ast.Call, made: Reader, named: Mapping[str, Value]) -> Table:
        """An instance of pydantic's settings: each field that is not given is read."""
        found = {}
        for name, (variable, required, default) in made.fields.items():
            given = named.get(name)
            read = self.expressions.read(node, variable, required=required, default=default) if given is None else given
            found[name] = read
        return Table(found, {})

    def _read(
        self, node: ast.Call, reader: Reader, method: str, words: list[Value], named: Mapping[str, Value]
    ) -> Value:
        if method in NOT_READING:
            return words[0] if words else UNKNOWN
        name = named.get("var", named.get("name", words[0] if words else NAMELESS.get(method, UNKNOWN)))
        if not isinstance(name, str):
            return UNKNOWN
        if reader.kind == "environs":
            name = "".join(self.expressions.scope.prefixes) + name
        place = DEFAULT_AT.get(method, 1) if reader.kind == "environ" else 1
        given = ["default"] if "default" in named else []
        default = named.get("default")
        if not given and 0 < place < len(words):
            given, default = ["default"], words[place]
        if not given and name in reader.defaults:
            given, default = ["default"], reader.defaults[name]
        required = not given and reader.kind not in ("get", "optional")
        return self.expressions.read(node, name, required=required, default=default)


def _joined(start: PurePosixPath, words: Sequence[Value]) -> Value:
    for word in words:
        if not isinstance(word, str | PurePosixPath):
            return UNKNOWN
        start /= word
    return start
