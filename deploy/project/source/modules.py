"""Modules of the project, read as Python would run them: names, what they take from others, what they ask for."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from deploy.project.source import pydantic
from deploy.project.source.expressions import Expressions, Scope
from deploy.project.source.readers import is_test, names, raises_without
from deploy.project.source.tree import Location, Tree
from deploy.project.source.values import UNKNOWN, Assigned, External, Read, Reader, Table, Value

#: What a missing variable, or module, raises: code that catches one of these goes on without it.
CAUGHT = ("KeyError", "Exception", "ImproperlyConfigured", "UndefinedValueError", "ImportError", "ModuleNotFoundError")
#: Named imports away from where reading began, from which on no further ones are followed.
FAR = 2


@dataclass(frozen=True)
class Module:
    """What a module says when it is imported."""

    name: str
    path: str
    names: Mapping[str, tuple[Assigned, ...]]
    reads: tuple[Read, ...]
    #: Variables that it gives a value where they have none: (name, value, where).
    seeded: tuple[tuple[str, str, Location], ...]
    #: Modules of the project whose names it takes over all together.
    parents: tuple[str, ...]
    #: Modules of the project that it imports and that are not there.
    missing: tuple[tuple[str, Location], ...]
    #: Folders that it puts on `sys.path`.
    paths: tuple[str | PurePosixPath, ...] = ()
    #: Its classes of settings (django-configurations), with the names that each has.
    classes: Mapping[str, Mapping[str, tuple[Assigned, ...]]] = field(default_factory=dict)

    def every(self, name: str) -> tuple[Assigned, ...]:
        """All values that a name may have."""
        return self.names.get(name, ())

    def get(self, name: str) -> Assigned | None:
        """The value of a name: one that is not under a condition, if there is one."""
        found = self.every(name)
        certain = [each for each in found if not each.sometimes]
        return (certain or found)[-1] if found else None

    def value(self, name: str) -> Value:
        """The value of a name; None where it has none."""
        found = self.get(name)
        return found.value if found else None


class Library:
    """The modules below a folder that is on the import path, each read once.

    ``paths``: folders of it that are on the import path too, relative to the root.
    """

    def __init__(self, tree: Tree, folder: str, paths: Sequence[str] = ()) -> None:
        self.tree, self.folder, self.paths = tree, folder, tuple(paths)
        self._read: dict[tuple[str, int], Module | None] = {}
        self._known: dict[str, bool] = {}

    def path(self, name: str) -> str | None:
        """The file of a module or package; None where there is none."""
        stems = [_below(folder, name.replace(".", "/")) for folder in (*self.paths, self.folder)]
        files = (each for stem in stems for each in (f"{stem}.py", f"{stem}/__init__.py"))
        return next((each for each in files if each in self.tree.files), None)

    def name(self, path: str) -> str:
        """The dotted name of a file below the folder."""
        folder = next((each for each in self.paths if path.startswith(f"{each}/")), self.folder)
        inner = path if folder == "." else path.removeprefix(f"{folder}/")
        return inner.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    def is_ours(self, name: str) -> bool:
        """Whether the first part of a dotted name is a package or module of the project."""
        first = name.partition(".")[0]
        if first not in self._known:
            prefixes = [_below(folder, first) for folder in (*self.paths, self.folder)]
            inside = tuple(f"{each}/" for each in prefixes)
            self._known[first] = any(f"{each}.py" in self.tree.files for each in prefixes) or any(
                each.startswith(inside) for each in self.tree.files
            )
        return self._known[first]

    def module(self, name: str, away: int = 0) -> Module | None:
        """A module by its dotted name; None for one that is not here, or that imports itself just now.

        `module:Class` is a class of settings (django-configurations) as the module that is made of it.

        ``away`` counts the named imports that led to it: from FAR on, those of its own are not followed. Else settings
        that import one function of the project would have all of it read.
        """
        whole, _, chosen = name.partition(":")
        if chosen:
            found = self.module(whole, away)
            known = found is not None and chosen in found.classes
            return replace(found, name=name, names=found.classes[chosen]) if found and known else None
        if (name, away) not in self._read:
            self._read[name, away] = None
            path = self.path(name)
            parsed = self.tree.parse(path) if path else None
            if path and parsed:
                with suppress(RecursionError):  # an expression of hundreds of parts
                    self._read[name, away] = _Reading(self, name, path, away).run(parsed)
        return self._read[name, away]


class _Reading:
    """One module, statement by statement."""

    def __init__(self, library: Library, name: str, path: str, away: int) -> None:
        self.library, self.name, self.path, self.away = library, name, path, away
        self.scope = Scope(path, PurePosixPath(library.tree.root) / path)
        self.expressions = Expressions(self.scope)
        self.parents: list[str] = []
        self.missing: list[tuple[str, Location]] = []
        self.classes: dict[str, Mapping[str, tuple[Assigned, ...]]] = {}

    def run(self, parsed: ast.Module) -> Module:
        self.statements(parsed.body)
        scope = self.scope
        return Module(
            *(self.name, self.path, scope.names, tuple(scope.reads), tuple(scope.seeded)),
            *(tuple(self.parents), tuple(self.missing), tuple(scope.paths), dict(self.classes)),
        )

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:  # noqa: PLR0912 - a case for each kind
        value = self.expressions.value
        match node:
            case ast.Assign(targets=targets, value=expression):
                self.scope.setting = ast.unparse(targets[0])
                found = value(expression)
                for target in targets:
                    self.assign(target, found)
            case ast.AnnAssign(target=target, value=ast.expr() as expression):
                self.assign(target, value(expression))
            case ast.AugAssign(target=ast.Name() as target):
                both = ast.BinOp(ast.Name(target.id, ast.Load(), lineno=node.lineno), node.op, node.value)
                self.assign(target, value(both))
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) as call):
                found = value(call)
                self.changed(name, method, call)
            case ast.Expr(value=ast.Call() as call) if value(call.func) == External("split_settings.tools.include"):
                self.included(call)
            case ast.Expr(value=expression):
                value(expression)
            case ast.If():
                self.choice(node)
            case ast.Try():
                self.attempt(node)
            case ast.With(items=items, body=body):
                prefixes = [each for item in items if (each := self.prefix(item.context_expr))]
                self.scope.prefixes += prefixes
                self.statements(body)
                del self.scope.prefixes[len(self.scope.prefixes) - len(prefixes) :]
            case ast.For(iter=expression, body=body) | ast.While(test=expression, body=body):
                value(expression)
                with self.scope.perhaps():
                    self.statements(body)
            case ast.Import() | ast.ImportFrom():
                self.imported(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.function(node)
            case ast.ClassDef(body=body):
                bases = [value(each) for each in node.bases]
                self.settings_class(node, bases)
                if made := pydantic.settings(node, bases, self.expressions):
                    self.scope.assign(node.name, made, self.scope.at(node))
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        value(child)

    def prefix(self, node: ast.expr) -> str:
        """What `with env.prefixed("SHOP_"):` puts before the names of variables; empty for anything else."""
        found = self.expressions.value(node)
        is_prefix = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "prefixed"
        return found if is_prefix and isinstance(found, str) else ""

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.scope.assign(name, value, self.scope.at(target))
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                for number, element in enumerate(elements):
                    known = isinstance(value, tuple) and number < len(value)
                    self.assign(element, value[number] if known and isinstance(value, tuple) else UNKNOWN)
            case ast.Subscript():
                self.assign_item(target, value)

    def assign_item(self, target: ast.Subscript, value: Value) -> None:
        """`DATABASES["default"]["HOST"] = …`, and a variable of the environment that is set."""
        keys: list[str] = []
        owner: ast.expr = target
        while isinstance(owner, ast.Subscript):
            key = self.expressions.value(owner.slice)
            if not isinstance(key, str):
                return
            keys.insert(0, key)
            owner = owner.value
        at = self.scope.at(target)
        if self.expressions.value(owner) == External("os.environ") and isinstance(value, str):
            self.scope.seeded.append((keys[0], value, at))
        elif isinstance(owner, ast.Name) and isinstance(table := self.scope.look_up(owner.id), Table):
            self.scope.assign(owner.id, table.set(tuple(keys), value, at), at)

    def changed(self, name: str, method: str, call: ast.Call) -> None:
        """A list or dictionary that is changed in place."""
        before, words = self.scope.look_up(name), [self.expressions.value(each) for each in call.args]
        after: Value = UNKNOWN
        if isinstance(before, tuple) and words:
            more = words[-1]
            match method:
                case "append" | "insert" | "add":
                    after = (*before, more)
                case "extend":
                    after = (*before, *(more if isinstance(more, tuple) else (UNKNOWN,)))
                case "remove":
                    after = tuple(each for each in before if each != more)
        elif isinstance(before, Table) and method == "update" and words and isinstance(words[0], Table):
            after = before.merged(words[0])
        if isinstance(after, tuple | Table):
            self.scope.assign(name, after, self.scope.at(call))

    def choice(self, node: ast.If) -> None:
        decided = self.expressions.decide(node.test)
        # What only a type checker or a direct start does is not what an import does.
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return
        with self.scope.perhaps(decided is None):
            if decided is not False:
                self.statements(node.body)
            if decided is not True:
                self.statements(node.orelse)

    def attempt(self, node: ast.Try) -> None:
        caught = {name.id for each in node.handlers for name in names(each.type)}
        everything = any(each.type is None for each in node.handlers)
        with self.scope.perhaps(everything or bool(caught & set(CAUGHT))):
            self.statements([*node.body, *node.orelse])
        with self.scope.perhaps():
            for handler in node.handlers:
                self.statements(handler.body)
        self.statements(node.finalbody)

    def settings_class(self, node: ast.ClassDef, bases: Sequence[Value]) -> None:
        """A class: its names do not become the module's. One of django-configurations has those of its bases too."""
        above = [ast.unparse(each) for each in node.bases]
        inherited: dict[str, tuple[Assigned, ...]] = {}
        for each in reversed(above):
            inherited.update(self.classes.get(each, {}))
        is_settings = any(each in self.classes for each in above) or External("configurations.Configuration") in bases
        before = dict(self.scope.names)
        self.scope.names.update(inherited)
        self.statements(node.body)
        if is_settings:
            after = self.scope.names
            own = {name: found for name, found in after.items() if found is not before.get(name)}
            self.classes[node.name] = {**inherited, **own}
        self.scope.names = before

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """A function runs later, if at all; one that reads the variable that it is given is a reader itself."""
        for each in [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)]:
            self.expressions.value(each)
        before = dict(self.scope.names)
        parameters = [each.arg for each in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        marks = {name: f"\0{name}" for name in parameters}
        for name, mark in marks.items():
            self.scope.names[name] = (Assigned(mark, self.scope.at(node)),)
        seen, depth = len(self.scope.reads), self.scope.depth
        self.scope.depth = 0  # what is required then, is required when the function is called
        self.statements(node.body)
        self.scope.depth = depth
        inside = self.scope.reads[seen:]
        self.scope.reads[seen:] = [replace(each, required=False) for each in inside if "\0" not in each.name]
        self.scope.names = before
        value: Value = UNKNOWN
        own = [each for each in inside if parameters and each.name == marks[parameters[0]]]
        if own:
            guarded = any(isinstance(each, ast.Compare) and is_test(each, parameters[0]) for each in ast.walk(node))
            needed = any(each.required for each in own) and not guarded
            needed = needed or raises_without(node, parameters[0])
            value = Reader("required" if needed else "optional")
        self.scope.assign(node.name, value, self.scope.at(node))

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        at = self.scope.at(node)
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.scope.assign(alias.asname or name, External(name), at)
            return
        source = self.absolute(node)
        if not self.library.is_ours(source):
            for alias in node.names:
                self.scope.assign(alias.asname or alias.name, External(f"{source}.{alias.name}"), at)
            return
        everything = any(alias.name == "*" for alias in node.names)
        module = self.library.module(source, self.away + (not everything)) if everything or self.away < FAR else None
        if module is None and self.library.path(source) is None and not self.scope.depth:
            self.missing.append((source, at))
        for alias in node.names:
            self.take(module, source, alias, at)
        if module:
            self.classes |= {
                name: each for name, each in module.classes.items() if everything or self.brings(node, name)
            }
            seen = set(self.scope.reads)
            certain = not self.scope.depth
            more = (Read(each.name, each.at, each.required and certain, each.default) for each in module.reads)
            self.scope.reads += [each for each in more if each not in seen]
            self.scope.seeded += [each for each in module.seeded if each not in self.scope.seeded]
            self.scope.paths += [each for each in module.paths if each not in self.scope.paths]
            self.missing += [each for each in module.missing if certain and each not in self.missing]

    def brings(self, node: ast.ImportFrom, name: str) -> bool:
        """Whether an import brings a name under itself."""
        return any(alias.name == name and alias.asname in (None, name) for alias in node.names)

    def take(self, module: Module | None, source: str, alias: ast.alias, at: Location) -> None:
        """What an import brings: all names, one, or a module."""
        if alias.name == "*":
            if module:
                self.parents.append(source)
                for name, found in module.names.items():
                    if not name.startswith("_"):
                        kept = self.scope.names.get(name, ()) if self.scope.depth else ()
                        sometimes = bool(self.scope.depth)
                        self.scope.names[name] = (
                            *kept,
                            *(Assigned(each.value, each.at, each.sometimes or sometimes) for each in found),
                        )
            return
        name = alias.asname or alias.name
        if module and alias.name in module.names:
            self.scope.names[name] = module.names[alias.name]
        else:
            self.scope.assign(name, UNKNOWN, at)

    def included(self, call: ast.Call) -> None:
        """Files of django-split-settings: their statements, as if they stood here. One may be missing (`optional`)."""
        here, folder = self.scope.path, PurePosixPath(self.scope.path).parent
        for each in call.args:
            inside = each.value if isinstance(each, ast.Starred) else each
            found = self.expressions.value(inside.args[0] if isinstance(inside, ast.Call) and inside.args else inside)
            patterns = found if isinstance(found, tuple) else (found,)
            for pattern in [str(folder / one) for one in patterns if isinstance(one, str)]:
                for path in sorted(self.library.tree.files):
                    if path != here and PurePosixPath(path).match(pattern):
                        parsed = self.library.tree.parse(path)
                        self.scope.path, self.scope.file = path, PurePosixPath(self.library.tree.root) / path
                        self.statements(parsed.body if parsed else [])
        self.scope.path, self.scope.file = here, PurePosixPath(self.library.tree.root) / here

    def absolute(self, node: ast.ImportFrom) -> str:
        """The dotted name of the module that is imported from."""
        if not node.level:
            return node.module or ""
        package = self.name.split(".")
        if not self.path.endswith("/__init__.py"):
            package = package[:-1]
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])


def _below(folder: str, path: str) -> str:
    return path if folder == "." else f"{folder}/{path}"
