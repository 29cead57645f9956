"""The Celery application of a project: which it is, and what it is told, in the settings or by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from deploy.project.source.expressions import Expressions, Scope
from deploy.project.source.modules import Library, Module
from deploy.project.source.tree import Location, Tree
from deploy.project.source.values import Assigned

#: The names that settings had before Celery 4, which it still reads from settings without a namespace.
OLD_NAMES = {
    "task_acks_late": "CELERY_ACKS_LATE",
    "task_always_eager": "CELERY_ALWAYS_EAGER",
    "broker_url": "BROKER_URL",
    "beat_scheduler": "CELERYBEAT_SCHEDULER",
    "beat_schedule": "CELERYBEAT_SCHEDULE",
    "result_backend": "CELERY_RESULT_BACKEND",
    "task_routes": "CELERY_ROUTES",
    "task_queues": "CELERY_QUEUES",
    "task_default_queue": "CELERY_DEFAULT_QUEUE",
}
#: Words of `Celery(…)` that are settings.
GIVEN = {"broker": "broker_url", "backend": "result_backend"}


@dataclass(frozen=True)
class Task:
    """A task, and what its decorator says: whether it is acknowledged late, and its queue."""

    at: Location
    late: bool
    queue: str


@dataclass(frozen=True)
class App:
    """A Celery application."""

    module: str
    variable: str
    at: Location
    #: The prefix of its settings among Django's; None when it does not read them.
    namespace: str | None = None
    #: What it is told by `app.conf` and its own words, by the setting's name.
    own: dict[str, Assigned] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As `celery -A` takes it."""
        return f"{self.module}:{self.variable}"

    def setting(self, settings: Module, name: str) -> Assigned | None:
        """A setting of Celery's, by its name of today in small letters, wherever it is made."""
        return self.own.get(name) or self._of(settings, name)

    def spelled(self, name: str) -> str:
        """What a setting is called among Django's."""
        return f"{self.namespace}_{name.upper()}" if self.namespace else OLD_NAMES.get(name, name.upper())

    def _of(self, settings: Module, name: str) -> Assigned | None:
        if self.namespace is None:
            return None
        return settings.get(self.spelled(name))


def apps(tree: Tree, library: Library) -> tuple[App, ...]:
    """The applications that modules of the site make where they are imported."""
    found = []
    for path in tree.containing(library.folder, "Celery("):
        parsed = tree.parse(path)
        for statement in parsed.body if parsed else []:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if (call := _made(value)) and parsed:
                    found.append(_app(library, path, parsed, name, call))
                case ast.AnnAssign(target=ast.Name(id=name), value=value) if (call := _made(value)) and parsed:
                    found.append(_app(library, path, parsed, name, call))
    return tuple(found)


def tasks(tree: Tree, folder: str) -> Iterator[Task]:
    """The tasks of the site."""
    for path in tree.containing(folder, "shared_task", "app.task", "celery.task"):
        parsed = tree.parse(path)
        for node in ast.walk(parsed) if parsed else ():
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if _is_task(decorator):
                    words = decorator.keywords if isinstance(decorator, ast.Call) else []
                    said = {each.arg: each.value.value for each in words if isinstance(each.value, ast.Constant)}
                    queue = said.get("queue")
                    late = said.get("acks_late") is True
                    yield Task(Location(path, decorator.lineno), late, queue if isinstance(queue, str) else "")


#: Methods that send a task, or say how it will be sent, with the queue as a word.
_SENDING = ("apply_async", "send_task", "signature", "subtask", "set")


def sent(tree: Tree, folder: str) -> Iterator[tuple[str, Location]]:
    """The queues that the site's code names where it sends a task, and where."""
    for path in tree.containing(folder, "queue="):
        parsed = tree.parse(path)
        for node in ast.walk(parsed) if parsed else ():
            match node:
                case ast.Call(func=ast.Attribute(attr=name), keywords=words) if name in _SENDING:
                    for word in words:
                        if word.arg == "queue" and isinstance(word.value, ast.Constant) and word.value.value:
                            yield str(word.value.value), Location(path, node.lineno)


def _is_task(decorator: ast.expr) -> bool:
    name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return name.rsplit(".", 1)[-1] == "shared_task" or name in ("app.task", "celery_app.task", "celery.task")


def _made(node: ast.expr | None) -> ast.Call | None:
    made = isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == "Celery"
    return node if made and isinstance(node, ast.Call) else None


def _app(library: Library, path: str, parsed: ast.Module, variable: str, call: ast.Call) -> App:
    module = library.name(path)
    known = library.module(module)
    scope = Scope(path, PurePosixPath(path), dict(known.names) if known else {})
    expressions = Expressions(scope)
    namespace: str | None = None
    own: dict[str, Assigned] = {}

    def told(name: str, node: ast.expr) -> None:
        own[name.lower()] = Assigned(expressions.value(node), scope.at(node))

    for word in call.keywords:
        if word.arg in GIVEN:
            told(GIVEN[word.arg], word.value)
    for node in ast.walk(parsed):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="config_from_object")) if name == variable:
                namespace = _namespace(node, expressions) if "django.conf" in ast.unparse(node) else namespace
            case ast.Call(func=ast.Attribute(attr="update", value=owner)) if _is_conf(owner, variable):
                for word in node.keywords:
                    if word.arg:
                        told(word.arg, word.value)
            case ast.Assign(targets=[ast.Attribute(value=owner, attr=name)]) if _is_conf(owner, variable):
                told(name, node.value)
            case ast.Assign(targets=[ast.Subscript(value=owner, slice=ast.Constant(value=str() as name))]) if _is_conf(
                owner, variable
            ):
                told(name, node.value)
    return App(module, variable, Location(path, call.lineno), namespace, own)


def _is_conf(node: ast.expr, variable: str) -> bool:
    return ast.unparse(node) == f"{variable}.conf"


def _namespace(node: ast.Call, expressions: Expressions) -> str:
    """The prefix that Celery is given; empty for none."""
    given = [each.value for each in node.keywords if each.arg == "namespace"]
    found = expressions.value(given[0]) if given else ""
    return found if isinstance(found, str) else ""
