"""Classes of pydantic's settings: which variables an instance reads, and which of them must have a value.

https://docs.pydantic.dev/latest/concepts/pydantic_settings/
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from deploy.project.source.expressions import PYDANTIC, Expressions
from deploy.project.source.values import UNKNOWN, External, Reader, Value


def settings(node: ast.ClassDef, bases: Sequence[Value], expressions: Expressions) -> Reader | None:
    """The class as something that reads; None for a class of another kind."""
    above = [each for each in bases if isinstance(each, Reader) and each.kind == "pydantic"]
    if not above and not any(isinstance(each, External) and each.name in PYDANTIC for each in bases):
        return None
    prefix = next(_prefixes(node.body, expressions), above[0].prefix if above else "")
    fields = {name: field for each in above for name, field in each.fields.items()}
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if (
                name != "model_config" and "ClassVar" not in ast.unparse(statement.annotation)
            ):
                fields[name] = _field(name, prefix, value, expressions)
    return Reader("pydantic", fields=fields, prefix=prefix)


def _prefixes(body: Sequence[ast.stmt], expressions: Expressions) -> Iterator[str]:
    """`env_prefix`, in `model_config` or in a class `Config`."""
    for node in (each for statement in body for each in ast.walk(statement)):
        match node:
            case (
                ast.keyword(arg="env_prefix", value=value)
                | ast.Assign(targets=[ast.Name(id="env_prefix")], value=value)
            ):
                if isinstance(found := expressions.value(value), str):
                    yield found
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "env_prefix":
                        yield str(expressions.value(value))


def _field(name: str, prefix: str, value: ast.expr | None, expressions: Expressions) -> tuple[str, bool, Value]:
    """A field's variable, whether it must have a value, and its default."""
    variable, required, default = f"{prefix}{name}".upper(), value is None, UNKNOWN if value is None else None
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "Field":
        words = {each.arg: each.value for each in value.keywords}
        for alias in ("validation_alias", "alias", "env"):
            if isinstance(said := words.get(alias), ast.Constant) and isinstance(said.value, str):
                variable = said.value.upper()
        given = value.args[0] if value.args else words.get("default")
        required = given is None and "default_factory" not in words
        required = required or (isinstance(given, ast.Constant) and given.value is ...)
        return variable, required, UNKNOWN if required or given is None else expressions.value(given)
    return variable, required, default if value is None else expressions.value(value)
