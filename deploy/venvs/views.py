"""Showing: the environments as a table and as a tree. Reads, never changes."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from deploy.venvs import layers
from deploy.venvs import store as layer_store
from deploy.venvs.store import Store


def size(folder: Path) -> int:
    """The bytes on disk of a folder's own files, as `du` counts them; hard links once."""
    seen = set()
    total = 0
    for base, _, files in os.walk(folder):
        for file in files:
            status = os.lstat(os.path.join(base, file))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def show_list(store: Store) -> None:
    """Print one row for each environment that requirements/ describes."""
    graph = layers.read_graph(store.requirements)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("environment", "state", "python", "packages", "MB", "stands on"):
        table.add_column(heading, justify="right" if heading in ("packages", "MB") else "left")
    for name in layers.order(graph, graph):
        record = store.record(name)
        table.add_row(
            name,
            layer_store.state(store, name),
            layer_store.short(record.python) if record else "",
            f"+{len(record.installed)}" if record else "",
            f"{size(Path(os.path.realpath(store.link(name)))) / 1e6:.0f}" if record else "",
            ", ".join(graph[name]) or "Python alone",
        )
    Console().print(table)


def show_tree(store: Store) -> None:
    """Print the layer graph with the number of packages that each layer adds."""
    graph = layers.read_graph(store.requirements)
    tag = layer_store.describe_running().tag
    added = {name: len(layers.resolve(store.requirements, name, tag).pins) for name in graph}

    def grow(branch: Tree, name: str, parent: str = "") -> None:
        others = [other for other in graph[name] if other != parent]
        also = f", also on {', '.join(others)}" if parent and others else ""
        twig = branch.add(f"{name}  +{added[name]} package{'' if added[name] == 1 else 's'}{also}")
        for upper in graph:
            if name in graph[upper]:
                grow(twig, upper, name)

    tree = Tree("Python")
    for name in graph:
        if not graph[name]:
            grow(tree, name)
    Console().print(tree)
