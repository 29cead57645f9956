"""The kinds of Celery workers: which queues each takes from, and how. Pure.

`workers` in `invoke.yaml` declares them. The kind `default` is always there, and takes from Celery's default queue.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.core.errors import Failure

DEFAULT = "default"
#: The service of the default kind in containers, its process elsewhere, and what the names of the others begin with.
SERVICE, PROCESS = "celery_worker", "worker"
#: Tasks that one worker of a container or of this machine runs in parallel, unless its kind says otherwise.
CONCURRENCY = 2
#: Names are parts of those of services and of units: no hyphen, which separates a unit's kind from the project's name.
NAME = re.compile("[a-z][a-z0-9_]{0,29}")
_QUEUE = re.compile("[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
_KEYS = ("queues", "concurrency", "alone", "celery")

_NUMBER, _FLAG = re.compile("[0-9]{1,9}"), re.compile("")
#: The options of `celery worker` that a kind may have, with the values of each. Others are the place's own, such as the
#: node's name, or would take from it what it relies on: heartbeats, the main process, waiting tasks.
OPTIONS = {
    "--pool": re.compile("prefork|threads|gevent|eventlet"),
    "--max-tasks-per-child": _NUMBER,
    "--max-memory-per-child": _NUMBER,
    "--time-limit": _NUMBER,
    "--soft-time-limit": _NUMBER,
    "--prefetch-multiplier": _NUMBER,
    "--autoscale": re.compile("[0-9]{1,3},[0-9]{1,3}"),
    "--optimization": re.compile("default|fair"),
    "--loglevel": re.compile("(?i:debug|info|warning|error|critical)"),
    "--task-events": _FLAG,
    "--without-gossip": _FLAG,
    "--without-mingle": _FLAG,
}
_SHORT = {"-P": "--pool", "-O": "--optimization", "-l": "--loglevel", "-E": "--task-events"}
#: What to do instead of some options.
_INSTEAD = {
    "-Q": "set queues",
    "--queues": "set queues",
    "-c": "set concurrency",
    "--concurrency": "set concurrency",
    "--pool=solo": "set concurrency: 1, because a worker of this pool sends no heartbeat while it runs a task",
    "-B": "beat is a process of its own",
    "--beat": "beat is a process of its own",
}


@dataclass(frozen=True)
class Kind:
    """A kind of workers."""

    name: str = DEFAULT
    #: The queues that it takes from; empty for Celery's default queue.
    queues: tuple[str, ...] = ()
    #: Tasks in parallel; None for what the place decides.
    concurrency: int | None = None
    #: Whether there must never be two workers of it: the old one stops before the new one starts.
    alone: bool = False
    #: Options of `celery worker`, each one word.
    options: tuple[str, ...] = ()

    @property
    def service(self) -> str:
        """Its service in containers."""
        return SERVICE if self.name == DEFAULT else f"{SERVICE}_{self.name}"

    @property
    def process(self) -> str:
        """Its process on this machine, and the kind of its units on hosts."""
        return PROCESS if self.name == DEFAULT else f"{PROCESS}_{self.name}"

    def parallel(self, otherwise: int) -> int:
        """Tasks in parallel: a worker that must be alone runs one task at a time unless it says otherwise."""
        return self.concurrency or (1 if self.alone else otherwise)

    @property
    def more(self) -> tuple[str, ...]:
        """The arguments of `celery worker` that come from `invoke.yaml`, apart from the concurrency."""
        loglevel = () if any(each.startswith("--loglevel") for each in self.options) else ("--loglevel=info",)
        return (*(("-Q", ",".join(self.queues)) if self.queues else ()), *self.options, *loglevel)

    def words(self, otherwise: int = CONCURRENCY, process: str = "") -> tuple[str, ...]:
        """The arguments of `celery worker`; ``process`` is the name of its node, without the host."""
        return ("-n", f"{process or self.process}@%h", "-c", str(self.parallel(otherwise)), *self.more)


#: What there is if `invoke.yaml` declares none.
ONE = (Kind(),)


def parse(values: Mapping[str, object]) -> tuple[Kind, ...]:
    """The kinds of the section `workers`, the default one first. Raises `Failure` naming an invalid key."""
    found = {str(name): _kind(str(name), said) for name, said in values.items()}
    return (found.pop(DEFAULT, Kind()), *found.values())


def _kind(name: str, said: object) -> Kind:
    key = f"project.workers.{name}"
    if not NAME.fullmatch(name):
        raise Failure(
            f"{key}: the name of a kind has small letters, digits and _, at most 30, and begins with a letter;"
            " rename it in invoke.yaml"
        )
    try:
        values = dict(said or {})  # type: ignore[call-overload] # Invoke's mappings are none to a type checker
    except (TypeError, ValueError):
        raise _wrong(key, said, "have keys of its own, such as queues; {} for none") from None
    for each in values:
        if each not in _KEYS:
            near = difflib.get_close_matches(str(each), _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(_KEYS)}"
            raise Failure(f"{key}.{each} in invoke.yaml is not a key; {hint}")
    alone = values.get("alone") or False
    if not isinstance(alone, bool):
        raise _wrong(f"{key}.alone", alone, "be true or false")
    concurrency = _concurrency(f"{key}.concurrency", values.get("concurrency"))
    options = tuple(_options(f"{key}.celery", values.get("celery")))
    if concurrency and any(each.startswith("--autoscale") for each in options):
        raise Failure(f"{key}: concurrency and --autoscale exclude each other; remove one of the two in invoke.yaml")
    queues = tuple(_queues(f"{key}.queues", name, values.get("queues")))
    return Kind(name, queues, concurrency, alone, options)


def _wrong(key: str, value: object, must: str) -> Failure:
    return Failure(f"{key} is {value!r}, but must {must}; set it in invoke.yaml")


def _concurrency(key: str, value: object) -> int | None:
    if value in (None, ""):
        return None
    text = "" if isinstance(value, bool) else str(value)
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise _wrong(key, value, "be a number from 1 to 1000")
    return int(text)


def _queues(key: str, name: str, value: object) -> Iterator[str]:
    if value in (None, "", []) and name != DEFAULT:
        raise Failure(f"{key} is missing: name the queues that this kind takes from, as in [{name}], in invoke.yaml")
    named = [value] if isinstance(value, str) and value else value or []
    if not isinstance(named, list | tuple):
        raise _wrong(key, value, f"be a list, such as [{name}]")
    for each in named:
        if not isinstance(each, str) or not _QUEUE.fullmatch(each):
            raise Failure(f"{key}: {each!r} is not the name of a queue: letters, digits, and _ . : - between them")
        yield each


def _options(key: str, value: object) -> Iterator[str]:
    """The options, each as one word. Raises `Failure` for one that a kind may not have."""
    if value in (None, "", []):
        return
    try:
        words = shlex.split(value) if isinstance(value, str) else [str(each) for each in _listed(key, value)]
    except ValueError as error:
        raise Failure(f"{key}: {error}; quote it as in a shell") from None
    rest = iter(words)
    for word in rest:
        name, sign, given = word.partition("=")
        if not word.startswith("--") and len(word) > 2:  # as in -Ofair
            name, sign, given = word[:2], "=", word[2:]
        name = _SHORT.get(name, name)
        if name in OPTIONS and not sign and OPTIONS[name] is not _FLAG:
            given = next(rest, "")
        elif OPTIONS.get(name) is _FLAG and sign:
            raise Failure(f"{key}: {name} takes no value; remove it in invoke.yaml")
        joined = f"{name}={given}" if given else name
        if name not in OPTIONS or not OPTIONS[name].fullmatch(given):
            instead = _INSTEAD.get(joined) or _INSTEAD.get(name)
            fits = f"{name} takes {OPTIONS[name].pattern}" if name in OPTIONS else f"there are: {', '.join(OPTIONS)}"
            raise Failure(f"{key}: {joined} is not an option of a kind; {instead or fits}")
        yield joined


def _listed(key: str, value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise _wrong(key, value, "be options of `celery worker`, such as --pool=threads")
    return value


def is_worker(service: str) -> bool:
    """Whether a service of containers is a kind of workers, of this release or another."""
    return service == SERVICE or service.startswith(f"{SERVICE}_")
