"""Folders that a project puts on its import path, beside that of manage.py: by `sys.path`, or installed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from deploy.project.source.modules import FAR, Library, Module
from deploy.project.source.tree import Tree, within

VARIABLE = "DJANGO_SETTINGS_MODULE"


def declared(site: str, said: str) -> tuple[str, ...]:
    """The folders that `path` in `invoke.yaml` names, relative to the root."""
    return tuple(str(PurePosixPath(site) / each) for each in said.split())


def find(tree: Tree, site: str, starters: Sequence[str]) -> tuple[str, ...]:
    """The folders, relative to the root; ``starters`` are manage.py, wsgi.py and asgi.py.

    Only folders within that of manage.py count: nothing else reaches an image. A settings module that is named and not
    there is looked for below any folder: a package that is installed (`pip install -e .`) puts one on the path.
    """
    found: dict[str, None] = {}
    for path in starters:
        library = Library(tree, site, tuple(found))
        module = library.module(library.name(path), FAR)
        found.update(dict.fromkeys(_said(tree, site, module)))
    for path in starters:
        library = Library(tree, site, tuple(found))
        module = library.module(library.name(path), FAR)
        for name in [value for variable, value, _ in (module.seeded if module else ()) if variable == VARIABLE]:
            if library.path(name) is None:
                found.update(dict.fromkeys(_of_package(tree, site, name)))
                library = Library(tree, site, tuple(found))
            found.update(dict.fromkeys(_said(tree, site, library.module(name))))
    return tuple(found)


def _said(tree: Tree, site: str, module: Module | None) -> Iterator[str]:
    """The folders that a module adds to `sys.path`."""
    for each in module.paths if module else ():
        absolute = PurePosixPath(tree.root / site / each)  # a relative one is that of the process: manage.py's
        path = tree.relative(absolute)
        if path and path != site and within(path, site) and any(within(file, path) for file in tree.files):
            yield path


def _of_package(tree: Tree, site: str, module: str) -> Iterator[str]:
    """The one folder that has a module of this name below it; none if there are several."""
    stem = module.replace(".", "/")
    ends = (f"/{stem}.py", f"/{stem}/__init__.py")
    found = {each.removesuffix(end) for each in tree.files for end in ends if each.endswith(end) and within(each, site)}
    if len(found) == 1 and not (found & {site}):
        yield found.pop()
