"""Functions of a project that read a variable which they are given: whether one must have a value."""

from __future__ import annotations

import ast


def names(node: ast.expr | None) -> list[ast.Name]:
    return [each for each in ast.walk(node) if isinstance(each, ast.Name)] if node else []


def raises_without(node: ast.FunctionDef | ast.AsyncFunctionDef, parameter: str) -> bool:
    """Whether a function raises when the variable that it is to read is missing.

    It does so where it catches that, or tests what it has read: `if not value: raise …`, `if value is None: raise …`,
    `if name not in os.environ: raise …`.
    """
    read = {
        target.id
        for each in ast.walk(node)
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value and mentions(each.value, parameter)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if isinstance(target, ast.Name)
    }
    for each in ast.walk(node):
        match each:
            case ast.ExceptHandler(body=body):
                if any(isinstance(inner, ast.Raise) for one in body for inner in ast.walk(one)):
                    return True
            case ast.If(
                test=ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name))
                | ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.Eq()]),
                body=body,
            ):
                if name in read and any(isinstance(one, ast.Raise) for one in body):
                    return True
            case ast.If(test=ast.Compare(ops=[ast.NotIn()]) as test, body=body):
                if is_test(test, parameter) and any(isinstance(one, ast.Raise) for one in body):
                    return True
    return False


def mentions(node: ast.expr, name: str) -> bool:
    return any(each.id == name for each in names(node))


def is_test(node: ast.Compare, parameter: str) -> bool:
    """Whether it is asked if a variable is there: `name in os.environ`."""
    return isinstance(node.ops[0], ast.In | ast.NotIn) and mentions(node.left, parameter)
