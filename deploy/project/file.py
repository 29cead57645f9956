"""`invoke.yaml`, looked at before Invoke reads it: there, a mistake in it ends in a traceback."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

#: Keys of the section `project` that have keys of their own.
NESTED = ("settings", "env", "services", "workers", "assets")


def problem(path: Path, yaml: ModuleType) -> str:
    """What keeps Invoke from reading the file, in a line with its name; empty for a good file or none.

    ``yaml`` is the parser that Invoke brings, which is loaded anyway.
    """
    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path.name}: {error.strerror}; make it readable"
    except UnicodeDecodeError:
        return f"{path.name}: is not UTF-8; save it as UTF-8"
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        return f"{path.name}:{line}: {getattr(error, 'problem', None) or error}; fix the line"
    return _misshapen(path.name, said)


def _misshapen(name: str, said: object) -> str:
    """What is wrong with the shape of its values."""
    if said is None:
        return ""
    if not isinstance(said, dict):
        return f"{name}:1: must have sections, such as `project:`"
    section = said.get("project", {})
    if not isinstance(section, dict):
        return f"{name}: `project` must have keys below it, such as `name: shop`"
    wrong = next((key for key, value in section.items() if isinstance(value, dict) and key not in NESTED), None)
    return f"{name}: project.{wrong} must be one value, without keys of its own" if wrong else ""
