"""`invoke.yaml` and the file of `--config`, looked at before Invoke reads them, where a mistake ends in a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deploy.core import options

#: The section `project`, never edited: what the project is stands in invoke.yaml. The name must be set; the rest is
#: detected.
DEFAULTS = {
    **dict.fromkeys(("name", "site", "wsgi", "asgi", "celery"), ""),
    "port": "8000",  # of the development site, on 127.0.0.1
    "check": "on",  # whether findings of `invoke check` stop a start or a deploy
    "samples": "",  # the management command that fills a new development database
    "run": ".run",  # what the native runtime writes
    "probes": "/readyz /",  # paths that a new release must answer before it gets requests
    "free_gigabytes": "3",  # required free space on the container engine's disk
}
#: Keys of the section `project` that have keys of their own.
NESTED = ("settings", "env", "services", "workers", "assets")
#: The files that Invoke can read, by the end of their names.
KINDS = (".yaml", ".yml", ".json", ".py")


def wrong(root: Path, argv: Sequence[str], yaml: ModuleType, known: Mapping[str, object]) -> str:
    """What keeps Invoke from reading `invoke.yaml`, or the file that the command line or a variable names."""
    if said := problem(root / "invoke.yaml", yaml, known):
        return said
    more = options.values(argv).get("--config") or os.environ.get("INVOKE_RUNTIME_CONFIG")
    return named(Path(more).expanduser(), yaml, known) if more else ""


def named(path: Path, yaml: ModuleType, known: Mapping[str, object]) -> str:
    """What keeps Invoke from reading a file that a user has named; one that is not there it would leave out."""
    if path.suffix not in KINDS:
        return f"--config {path}: must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    if not path.is_file():
        return f"--config {path}: there is no such file"
    return problem(path, yaml, known)


def problem(path: Path, yaml: ModuleType, known: Mapping[str, object]) -> str:
    """What keeps Invoke from reading the file, in a line with its name; empty for a good file or none.

    ``yaml`` is the parser that Invoke brings, which is loaded anyway; ``known`` are Invoke's own sections.
    """
    try:
        return _misshapen(path.name, _read(path, yaml), known)
    except FileNotFoundError:
        return ""
    except OSError as error:
        why = f": {error.strerror}; make it readable"
    except UnicodeDecodeError:
        why = ": is not UTF-8; save it as UTF-8"
    except RecursionError:
        why = ": a value contains itself; write it out"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        why = f":{mark.line + 1 if mark else 1}: {said}; fix the line"
    except _Twice as error:
        why = f"{error}; remove one"
    except (json.JSONDecodeError, SyntaxError) as error:
        why = f":{error.lineno}: {error.msg}; fix the line"
    return f"{path.name}{why}"


def _read(path: Path, yaml: ModuleType) -> object:
    """The values of a file; none of a program, which is only parsed. Raises what its parser raises."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".py":
        compile(text, path.name, "exec")
        return None
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node and (twice := _twice(node, yaml, "")):
            raise _Twice(twice)
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


class _Twice(Exception):
    """A key that is written twice, of which YAML would take the later: line and key."""


def _twice(node: Any, yaml: ModuleType, above: str) -> str:
    """The first key that a mapping has twice, as `:LINE: KEY is defined twice`. Aliases are not followed."""
    if not isinstance(node, yaml.MappingNode):
        return ""
    known: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in known:
            return f":{key.start_mark.line + 1}: {above}{key.value} is defined twice"
        known.add(key.value)
        inner = value.start_mark.index > key.start_mark.index  # else an alias
        if inner and (found := _twice(value, yaml, f"{above}{key.value}.")):
            return found
    return ""


def _misshapen(name: str, said: object, known: Mapping[str, object]) -> str:
    """What is wrong with the shape of its values."""
    if said is None:
        return ""
    if not isinstance(said, dict):
        return f"{name}:1: must have sections, such as `project:`"
    if found := _not_text(said):
        return f"{name}: the key {found[0]!r} must be a text: write it in quotes"
    section = said.get("project", {})
    if not isinstance(section, dict):
        return f"{name}: `project` must have keys below it, such as `name: shop`"
    wrong = next((key for key, value in section.items() if isinstance(value, dict) and key not in NESTED), None)
    if wrong:
        return f"{name}: project.{wrong} must be one value, without keys of its own"
    return _unlike(name, said, known, "")


def _not_text(values: Mapping[object, object]) -> tuple[object, ...]:
    """The first key that is no text; empty without one."""
    for key, value in values.items():
        if not isinstance(key, str):
            return (key,)
        if isinstance(value, dict) and (inner := _not_text(value)):
            return inner
    return ()


def _unlike(name: str, said: Mapping[str, object], known: Mapping[str, object], above: str) -> str:
    """A section where Invoke has one value, or one value where it has a section."""
    for key, value in said.items():
        if key not in known:
            continue
        ours = known[key]
        if isinstance(ours, Mapping) != isinstance(value, dict):
            what = "must have keys below it" if isinstance(ours, Mapping) else "must be one value, without keys"
            return f"{name}: {above}{key} {what}: it is Invoke's own"
        if (
            isinstance(value, dict)
            and isinstance(ours, Mapping)
            and (wrong := _unlike(name, value, ours, f"{above}{key}."))
        ):
            return wrong
    return ""
