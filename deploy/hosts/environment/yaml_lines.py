"""YAML whose values know their lines, so that an error can name the line.

Scalars are read as plain text and never converted: most of them become host names and environment variables, where
`1.10` is not 1.1 and `no` is not false. The models that validate the document convert numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import yaml

from deploy.core.errors import Failure

#: The keys and list positions that lead to a value.
Place = tuple[str | int, ...]
#: A key that may be shown in an error. Anything else may be a value whose colon lacks its space: `{SECRET_KEY:…}`.
_KEY = re.compile(r"\w[\w.-]{0,62}")
#: The tags of values that have none.
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
#: What PyYAML quotes from the document in its messages, except single letters and its own token names.
_QUOTED = re.compile(r"'[^'<]{2,}'")


class Problem(NamedTuple):
    """What is wrong with a value, and the remedy."""

    path: Place
    text: str


class Problems(ValueError):
    """Several problems at once, each with its own place."""

    def __init__(self, found: Sequence[Problem]) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True)
class Document:
    """A document as text in mappings and lists, with the problems of its YAML."""

    source: str
    value: object
    node: yaml.Node | None
    problems: tuple[Problem, ...]

    def __contains__(self, path: Place) -> bool:
        return self._find(path)[1]

    def line(self, path: Place) -> int:
        """The line of a value's key; if the value is missing, the line of the mapping or list that should have it."""
        return self._find(path)[0]

    def _find(self, path: Place) -> tuple[int, bool]:
        node = self.node
        line = node.start_mark.line + 1 if node else 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == part]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                found = [(node.value[part], node.value[part])]
            else:
                found = []
            if not found:
                return line, False
            key, node = found[-1]
            line = key.start_mark.line + 1
        return line, True

    def failure(self, problems: Iterable[Problem]) -> Failure:
        """One line for each problem, including those of the YAML itself, in the order of the document."""
        broken = {problem.path for problem in self.problems}
        every = [*self.problems, *(problem for problem in problems if problem.path not in broken)]
        lines = [(self.line(path), ": ".join(filter(None, [_shown(path), text]))) for path, text in every]
        return Failure("\n".join(f"{self.source}:{line}: {text}" for line, text in sorted(dict.fromkeys(lines))))


def _shown(path: Place) -> str:
    words = [part for part in path if isinstance(part, str)]
    return ".".join(word if _KEY.fullmatch(word) else "…" for word in words)


def read(text: str, source: str) -> Document:
    """Parse a document. Raises `Failure` with the line of a YAML error; the message quotes nothing of the document."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = _QUOTED.sub("this", (error.problem or "is not YAML").replace(r"character '\t'", "a tab"))
        raise Failure(f"{source}:{line}: column {column}: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Failure(f"{source}:{line}: has a control character; remove it") from None
    except RecursionError:
        raise Failure(f"{source}: its lists and mappings lie too deep in each other; write them flatter") from None
    problems: list[Problem] = []
    value = _value(node, (), set(), problems) if node else {}
    return Document(source, value, node, tuple(problems))


def _value(node: yaml.Node, path: Place, seen: set[int], problems: list[Problem]) -> object:
    if id(node) in seen:
        problems.append(Problem(path, "an &anchor is not supported; write the value where it is needed"))
        return ""
    seen.add(id(node))
    if node.tag not in _PLAIN:
        problems.append(Problem(path, "a !tag is not supported; write the value without it"))
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*path, number), seen, problems) for number, each in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return str(node.value)
    result: dict[str, object] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            problems.append(Problem(path, "a key must be a word, not a list or mapping"))
            continue
        if key.value == "<<":
            problems.append(Problem((*path, key.value), "a merge key (<<) is not supported; write the values"))
            continue
        if key.value in result:
            problems.append(Problem((*path, key.value), "is defined twice; remove one"))
        result[key.value] = _value(value, (*path, key.value), seen, problems)
    return result
