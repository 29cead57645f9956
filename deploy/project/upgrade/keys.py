"""Keys of `invoke.yaml` that have another name in a newer version, or none: a table, and the file rewritten by it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from deploy.core.errors import Failure
from deploy.project.declared import FILE, SECTION

#: Dotted names within the section `project`, and what each is called now; empty for what nothing reads any more. A new
#: name is at the place of the old one, so only its last word differs. An older version reads this table of a newer one
#: as text: literal strings only.
MOVED: Mapping[str, str] = {
    "package": "",
}


def table(source: str) -> dict[str, str]:
    """The table in the text of another version's module; empty if it has none."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "MOVED":
            return dict(ast.literal_eval(node.value)) if node.value else {}
    return {}


def migrated(text: str, moved: Mapping[str, str]) -> tuple[str, list[str]]:
    """`invoke.yaml` with the new names, everything else as it was, and a line that tells of each change.

    Raises `Failure` for what a person has to decide.
    """
    told: list[str] = []
    for _ in range(len(moved)):
        found = next((each for each in _keys(text, moved)), None)
        if found is None:
            break
        text, line = _change(text, found)
        told.append(line)
    return text, told


@dataclass(frozen=True)
class _Found:
    """A key of the table that the file has."""

    old: str
    new: str
    key: yaml.Node
    value: yaml.Node
    within: yaml.MappingNode


def _keys(text: str, moved: Mapping[str, str]) -> Iterator[_Found]:
    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:  # `check` says what is wrong with it
        return
    waiting: list[tuple[tuple[str, ...], yaml.MappingNode]] = [((), top)] if isinstance(top, yaml.MappingNode) else []
    while waiting:
        parents, node = waiting.pop()
        for key, value in node.value:
            here = (*parents, str(key.value))
            name = ".".join(here[1:])
            if here[0] == SECTION and name in moved:
                yield _Found(name, moved[name], key, value, node)
            if isinstance(value, yaml.MappingNode):
                waiting.append((here, value))


def _change(text: str, this: _Found) -> tuple[str, str]:
    start, number = this.key.start_mark, this.key.start_mark.line + 1
    at = f"{FILE}:{number}: {SECTION}.{this.old}"
    if this.new:
        last = this.new.rpartition(".")[2]
        if any(each.value == last for each, _ in this.within.value):
            raise Failure(f"{at} is now called {this.new}, which is there too; remove one of them, and repeat")
        return text[: start.index] + last + text[this.key.end_mark.index :], f"{at} becomes {this.new}"
    if this.within.flow_style or len(this.within.value) == 1:
        raise Failure(f"{at} is no key any more; remove it, and repeat")
    lines = text.splitlines(keepends=True)
    del lines[number - 1 : max(_end(this.value), number)]
    return "".join(lines), f"{at} is removed: nothing reads it any more"


def _end(value: yaml.Node) -> int:
    """The number of its last line. What is nested ends where the next key begins, so its last part tells."""
    if isinstance(value, yaml.CollectionNode) and value.value and not value.flow_style:
        last = value.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(value.end_mark.line) + (value.end_mark.column > 0)
