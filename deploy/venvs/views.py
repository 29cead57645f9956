"""Shows the environments as a table and as a tree. Changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from rich.tree import Tree

from deploy.core.report import Grid, Report
from deploy.core.screen import console
from deploy.venvs import layers
from deploy.venvs.store import AWAY, Record, Store, built, describe_running, short, state


def size(folder: Path) -> int:
    """The disk usage of a folder in bytes, as `du` counts it: hard links count once."""
    seen = set()
    total = 0
    for base, _, files in os.walk(folder):
        for file in files:
            status = os.lstat(os.path.join(base, file))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def report(store: Store) -> Report:
    """A table with a row for each environment, in requirements/ or built."""
    graph = layers.read_graph(store.requirements)
    rows = []
    undeclared = [name for name in built(store) if name not in graph]
    for name in [*layers.order(graph, graph), *undeclared]:
        record = store.record(name)
        rows.append(
            (
                name,
                state(store, name),
                short(record.python) if record else "",
                f"+{len(record.installed)}" if record else "",
                f"{size(Path(os.path.realpath(store.link(name)))) / 1e6:.0f}" if record else "",
                ", ".join(graph[name] if name in graph else names_below(record)) or "Python alone",
            )
        )
    headings = ("environment", "state", "python", "packages", "MB", "stands on")
    remarks = [f"{name}: there is no requirements/{name}.in: {AWAY.format(name=name)}" for name in undeclared]
    return Report([Grid(headings, rows, numbers=("packages", "MB"))], remarks)


def names_below(record: Record | None) -> list[str]:
    """The environments that a built one stands on."""
    return [Path(folder).name.rpartition("-")[0] for folder in record.below] if record else []


def show_tree(store: Store) -> None:
    """Print the layer graph, with the number of packages that each layer adds."""
    graph = layers.read_graph(store.requirements)
    tag = describe_running().tag
    added = {name: len(layers.resolve(store.requirements, name, tag).pins) for name in graph}

    def add_branch(branch: Tree, name: str, parent: str = "") -> None:
        others = [other for other in graph[name] if other != parent]
        also = f", also on {', '.join(others)}" if parent and others else ""
        twig = branch.add(f"{name}  +{added[name]} package{'' if added[name] == 1 else 's'}{also}")
        for upper in graph:
            if name in graph[upper]:
                add_branch(twig, upper, name)

    tree = Tree("Python")
    for name in graph:
        if not graph[name]:
            add_branch(tree, name)
    console().print(tree)
