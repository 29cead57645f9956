"""How tasks get groups of options (`groups`); and Invoke's own options, as our tasks treat them.

Our tasks do not start commands through Invoke, so an option of Invoke's about such commands is honored here or refused.
`tasks.py` says which were given.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Literal

from deploy.core.errors import Failure


def signature(body: Callable[..., object]) -> inspect.Signature:
    """What Invoke shall take for the signature of a task: a parameter that is a group is the group's options."""
    known = inspect.signature(body)
    return known.replace(parameters=[each for one in known.parameters.values() for each in _expanded(one)])


def meanings(body: Callable[..., object]) -> dict[str, str]:
    """What the options of a task's groups mean, where a group says it."""
    groups = [kind for kind in body.__annotations__.values() if dataclasses.is_dataclass(kind)]
    fields = [field for group in groups for field in dataclasses.fields(group)]
    return {field.name: field.metadata["help"] for field in fields if "help" in field.metadata}


def _expanded(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    if not dataclasses.is_dataclass(parameter.annotation):
        yield parameter
        return
    for field in dataclasses.fields(parameter.annotation):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(field.name, parameter.kind, default=default, annotation=field.type)


def grouped(body: Callable[..., object], given: Mapping[str, object]) -> dict[str, object]:
    """The arguments of a task, from the options that Invoke gives by name: those of a group as that group."""
    known, rest = {}, dict(given)
    for name, kind in body.__annotations__.items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            theirs = {field.name for field in dataclasses.fields(kind)}
            known[name] = kind(**{option: rest.pop(option) for option in theirs & rest.keys()})
    return {**rest, **known}


#: Where Invoke's configuration has the options that only concern commands which Invoke itself starts.
WITHOUT_EFFECT = {
    ("run", "echo"): "--echo",
    ("run", "hide"): "--hide",
    ("run", "pty"): "--pty",
    ("run", "warn"): "--warn-only",
    ("sudo", "password"): "--prompt-for-sudo-password",
    ("timeouts", "command"): "--command-timeout",
}
#: The tasks that change nothing, and so need no dry run.
READING = frozenset(
    [
        "status",
        "logs",
        "releases",
        "backups",
        "doctor",
        "check",
        "swarm-render",
        "swarm-status",
        "venv-list",
        "venv-tree",
        "venv-check",
        "remote-releases",
        "remote-backups",
        "remote-status",
        "remote-logs",
    ]
)
#: What to use in their place.
INSTEAD = {"--echo": "; --dry-run prints the commands of a task that has it"}


def dry_run(
    body: Callable[..., object], given: Mapping[str, Mapping[str, object]], *, dry: bool
) -> dict[str, Literal[True]]:
    """The arguments that a task gets because of Invoke's `--dry` (``dry``): that of its own dry run.

    ``given``: the options of Invoke's on the command line, by section and key of its configuration. Raises `Failure`
    for an option that the task cannot honor.
    """
    task = body.__name__.replace("_", "-")
    for (section, key), option in WITHOUT_EFFECT.items():
        if given.get(section, {}).get(key):
            instead = INSTEAD.get(option, "")
            raise Failure(f"{option}: Invoke's option has no effect on {task}; leave it out{instead}")
    if not dry:
        return {}
    if "dry_run" in body.__annotations__:
        return {"dry_run": True}
    if task not in READING:
        raise Failure(f"--dry: {task} has no dry run; nothing was done")
    return {}


#: Invoke's options with a value, by their letters.
WITH_VALUE = {
    "-T": "--command-timeout",
    "-D": "--list-depth",
    "-F": "--list-format",
    "-f": "--config",
    "-c": "--collection",
    "-r": "--search-root",
}
NUMBERS = ("--command-timeout", "--list-depth")
FORMATS = ("flat", "nested", "json")
ASKS = "--prompt-for-sudo-password"


def values(argv: Sequence[str]) -> dict[str, str]:
    """The values of Invoke's options in a command line; a project's own tasks have options of theirs after them."""
    found: dict[str, str | None] = {}
    words = iter(argv[1:])
    for word in words:
        if word == "--" or word.startswith("project."):
            break
        name, equals, value = word.partition("=")
        if word == ASKS:
            found[word] = ""
        elif name in WITH_VALUE.values():
            found[name] = value if equals else next(words, None)
        elif not word.startswith("--") and word[:2] in WITH_VALUE:
            found[WITH_VALUE[word[:2]]] = word[2:].removeprefix("=") or next(words, None)
    return {name: value for name, value in found.items() if value is not None}  # Invoke itself says what is missing


def wrong(argv: Sequence[str]) -> str:
    """What Invoke would answer with a traceback, in one line; empty for a good command line."""
    given = values(argv)
    for name in NUMBERS:
        if name in given and not given[name].isdecimal():
            return f"{name} is {given[name]!r}, but must be a whole number"
    if (form := given.get("--list-format")) is not None and form not in FORMATS:
        return f"--list-format is {form!r}, but must be one of: {', '.join(FORMATS)}"
    if ASKS in given:
        return f"{ASKS}: Invoke's option has no effect here; leave it out"
    return ""


#: Names of tasks that are the names of places too.
PLACES = ("dev", "prod")


def misread(argv: Sequence[str], flags: Callable[[str], Mapping[str, bool] | None]) -> str:
    """What Invoke would take for another task, in one line: a second value of an option, or a place without `--on`.

    Otherwise `invoke venv --env dev --env prod` would deploy. ``flags``: a task's options by its name, and whether each
    has a value; None for what is no task. Options of a project's own tasks are not looked at.
    """
    words = list(takewhile(lambda word: word != "--", argv[1:]))
    task, known, seen = "", None, set[str]()
    position = 0
    while position < len(words):
        word, position = words[position], position + 1
        name, equals, _ = word.partition("=")
        if known is not None and name in known:
            if known[name] and name in seen:
                return f"{task}: {name} is given twice; give it once"
            seen.add(name)
            position += known[name] and not equals
        elif (found := flags(word)) is not None:
            before = words[position - 2] if position > 1 else ""
            if word in PLACES and known is not None and before == task and {"--on", "--env", "--for"} & known.keys():
                option = next(each for each in ("--on", "--env", "--for") if each in known)
                return f"{task} {word}: would be two tasks; write {task} {option} {word}, or two commands"
            task, known, seen = word, found, set[str]()
    return ""


def told_in_one_line(root: Path) -> None:
    """From now on, an error within Invoke, such as in a variable INVOKE_…, is one line; with --debug it is shown whole.

    ``root``: the project; an error in code of its own keeps its traceback.
    """
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, BrokenPipeError):  # as in `invoke --list | head`
            return
        frames = [Path(frame.filename) for frame in traceback.extract_tb(trace)]
        others = (root / ".venvs", root / "deploy" / "core" / "door.py")
        ours = any(root in path.parents and not {path, *path.parents}.intersection(others) for path in frames)
        within = any("invoke" in path.parts for path in frames)
        if ours or not within or not issubclass(kind, Exception) or {"-d", "--debug"} & set(sys.argv):
            usual(kind, error, trace)
            return
        said = " ".join(str(error).split()) or kind.__name__
        sys.stderr.write(
            f"invoke: {said}; check its options, the variables INVOKE_… and its files, such as ~/.invoke.yaml and"
            " /etc/invoke.yaml; --debug shows where\n"
        )

    sys.excepthook = hook
