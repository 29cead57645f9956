"""A project's requirements, in whatever files it has them, as the lines of `requirements/*.in`. Pure.

Versions are kept as they are written. What a lock has (`uv.lock`, `poetry.lock`, a compiled file) is kept too: as the
text of a first lock, whose versions the resolver prefers.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from deploy.project.names import WHEELS
from deploy.project.source.packages import canonical, inner, json_table, setup, toml
from deploy.project.source.tree import Tree

#: Keys of poetry's, Pipenv's and uv's that say where a package is taken from in place of an index.
_ELSEWHERE = {"git", "path", "url", "file"}
LAYERS = ("base", "dev", "prod", "test")
#: The layer of a file or group, by a word of its name. What has none of these words is everybody's.
WORDS = {
    "dev": ("dev", "develop", "development", "local", "lint", "docs", "debug"),
    "prod": ("prod", "production", "live", "deploy", "heroku"),
    "test": ("test", "tests", "testing", "ci"),
}
DRIVERS = ("psycopg", "psycopg2", "psycopg2-binary", "psycopg-binary", "psycopg-c")
#: What the runtimes need in a layer, unless the project asks for it or for what stands in for it.
NEEDED = {
    "dev": (("psycopg2-binary", DRIVERS), ("watchfiles", ("watchfiles",))),
    "prod": (("psycopg2", DRIVERS), ("gunicorn", ("gunicorn",))),
}
#: The same for a site that ASGI serves.
ASYNCHRONOUS = {
    "dev": (("uvicorn", ("uvicorn", "daphne", "uvicorn-worker")), ("websockets", ("websockets", "wsproto", "daphne"))),
    "prod": (("uvicorn-worker", ("uvicorn-worker",)), ("websockets", ("websockets", "wsproto"))),
}

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*==\s*([^\s;*]+)")


@dataclass
class Translated:
    """The lines of each layer, the versions that locks have, and what could not be taken over."""

    lines: dict[str, list[str]] = field(default_factory=lambda: {layer: [] for layer in LAYERS})
    pins: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def texts(self, *, asynchronous: bool = False) -> dict[str, str]:
        """The `.in` files; ``asynchronous`` for a site that ASGI serves."""
        found = {}
        base = {name_of(line) for line in self.lines["base"]}
        more = ASYNCHRONOUS if asynchronous else {}
        needed = {layer: (*NEEDED.get(layer, ()), *more.get(layer, ())) for layer in LAYERS}
        for layer in LAYERS:
            own = list(dict.fromkeys(self.lines[layer]))
            said = {name_of(line) for line in own if name_of(line) != canonical(line)}
            own = [line for line in own if canonical(line) not in said]  # a bare name beside one with a version
            if layer != "base":
                own = [line for line in own if name_of(line) not in base]
            there = base | {name_of(line) for line in own}
            own += [package for package, others in needed.get(layer, ()) if not there & set(others)]
            # Without a group for tests, what they need is with the rest of development.
            below = "dev" if layer == "test" and not own and self.lines["dev"] else "base"
            head = [] if layer == "base" else [f"-r {below}.in"]
            found[f"{layer}.in"] = "".join(f"{line}\n" for line in [*head, *own])
        return found

    def lock(self) -> str:
        """A first lock, from which the resolver takes the versions that it prefers."""
        return "".join(f"{name}=={version}\n" for name, version in sorted(self.pins.items()))


def name_of(line: str) -> str:
    """The package that a line asks for."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return canonical(found[0]) if found else line


def layer_of(name: str) -> str:
    """The layer for a file or group."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((layer for layer, known in WORDS.items() if words & set(known)), "base")


def translate(tree: Tree, files: Iterable[tuple[str, str]]) -> Translated:
    """Read the files, each with its kind as `packages.read` has it."""
    made, files = Translated(), list(files)
    abstract = any(kind == "requirements" and path.endswith(".in") for path, kind in files)
    own = {str(PurePosixPath(path).parent) for path, kind in files if kind in ("pyproject", "poetry", "setup")}
    for path, kind in files:
        if kind == "requirements":
            stem = path.rsplit("/", 1)[-1].removesuffix(".txt").removesuffix(".in")
            _requirements(tree, path, layer_of(stem), made, abstract=abstract, own=own)
        elif kind in ("pyproject", "poetry"):
            _pyproject(tree, path, made)
        elif kind == "Pipfile":
            values = toml(tree, path)
            made.lines["base"] += _table(path, inner(values, "packages"), made)
            made.lines["dev"] += _table(path, inner(values, "dev-packages"), made)
        elif kind == "setup":
            listed, extras, _ = setup(tree, path)
            _distribution(path, listed, extras, made)
        elif kind in ("uv.lock", "poetry.lock"):
            _lock(tree, path, made)
        elif kind == "Pipfile.lock":
            values = json_table(tree, path)
            for section in (inner(values, each) for each in ("default", "develop")):
                for name in section:
                    _pin(f"{name}{inner(section, name).get('version', '')}", made)
    return made


def _requirements(tree: Tree, path: str, layer: str, made: Translated, *, abstract: bool, own: Collection[str]) -> None:
    """A requirements file. One that was compiled from a `.in` file only says versions.

    ``abstract``: there are `.in` files somewhere. A `.txt` file of nothing but exact versions then comes from them.
    ``own``: the folders whose own requirements are read too. `-e .`, which asks for these, asks for nothing else.
    """
    text = re.sub(r"\\\n", " ", "\n".join(line for _, line in tree.lines(path)))
    lines = [
        re.sub(r"\s+(--hash=\S+\s*)+", "", re.sub(r"(^|\s)#.*", "", line)).strip()
        for line in map(str.strip, text.splitlines())
    ]
    exact = abstract and all(_PIN.match(line) for line in lines if line)
    compiled = path.endswith(".txt") and (exact or f"{path.removesuffix('.txt')}.in" in tree.files)
    for plain in lines:
        if not plain or re.match(r"-r\b|--requirement\b|-c\b|--constraint\b", plain):
            continue
        if plain.startswith("-") and not re.match(r"-e\b|--editable\b", plain):
            made.left.append(f"{path}: {plain}: this option is not carried to where the lock is installed")
        elif _names_own(plain, path, own):
            continue
        elif _is_direct(plain):
            made.left.append(_left(path, plain))
        elif compiled:
            _pin(plain, made)
        else:
            made.lines[layer].append(plain)


def _names_own(requirement: str, path: str, own: Collection[str]) -> bool:
    """Whether a requirement is the project itself, from the folder of the file or from the repository's."""
    found = re.fullmatch(r"(?:(?:-e|--editable)[ =]*)?(\.[./\w-]*)(?:\[[^]]*\])?", requirement)
    starts = (PurePosixPath("."), PurePosixPath(path).parent)
    return bool(found) and any(posixpath.normpath(str(start / found[1])) in own for start in starts if found)


def _is_direct(requirement: str) -> bool:
    """Whether a requirement names a file, a folder or a repository."""
    return "://" in requirement or re.match(r"-|\.{0,2}/|[^;\[]*(\[[^\]]*\])?\s*@", requirement) is not None


def _left(path: str, what: str) -> str:
    return (
        f"{path}: {what}: a lock with hashes cannot have it: build its wheel once,"
        f" `pip wheel --no-deps -w {WHEELS} …`, and write NAME==VERSION into requirements/base.in"
    )


def _pin(line: str, made: Translated) -> None:
    if found := _PIN.match(line):
        made.pins[canonical(found[1])] = found[2]


def _pyproject(tree: Tree, path: str, made: Translated) -> None:
    values = toml(tree, path)
    project, poetry = inner(values, "project"), inner(values, "tool", "poetry")
    sources = inner(values, "tool", "uv", "sources")
    elsewhere = {canonical(name) for name in sources if _ELSEWHERE & inner(sources, name).keys()}

    def add(layer: str, listed: object) -> None:
        _add(path, layer, _texts(listed), made, elsewhere)

    add("base", project.get("dependencies"))
    groups = inner(values, "dependency-groups")
    for name in groups:
        layer = layer_of(name)
        add("dev" if layer == "base" else layer, _group(groups, name, ()))
    extras = {name: _texts(group) for name, group in inner(project, "optional-dependencies").items()}
    _distribution(path, [], extras, made, elsewhere)
    made.lines["base"] += _table(path, inner(poetry, "dependencies"), made)
    made.lines["dev"] += _table(path, inner(poetry, "dev-dependencies"), made)
    for name in inner(poetry, "group"):
        layer = layer_of(name)
        table = inner(poetry, "group", name, "dependencies")
        made.lines["dev" if layer == "base" else layer] += _table(path, table, made)


def _add(path: str, layer: str, lines: Iterable[str], made: Translated, elsewhere: Collection[str] = ()) -> None:
    for line in lines:
        if _is_direct(line) or name_of(line) in elsewhere:
            made.left.append(_left(path, line))
        else:
            made.lines[layer].append(line)


def _distribution(
    path: str,
    listed: Sequence[str],
    extras: Mapping[str, Sequence[str]],
    made: Translated,
    elsewhere: Collection[str] = (),
) -> None:
    """What a distribution asks for, and its extras: one whose name says that it is for a layer is in it."""
    _add(path, "base", listed, made, elsewhere)
    for name, lines in extras.items():
        if (layer := layer_of(name)) != "base":
            _add(path, layer, lines, made, elsewhere)
        else:
            made.left.append(f"{path}: the extra {name} is not installed by default: add what you use of it by hand")


def _group(groups: Mapping[str, object], name: str, above: tuple[str, ...]) -> list[str]:
    """The lines of a dependency group, with those of the groups that it includes (PEP 735)."""
    found = []
    listed = next((group for each, group in groups.items() if canonical(each) == canonical(name)), [])
    for each in listed if isinstance(listed, list) and name not in above else []:
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict) and isinstance(each.get("include-group"), str):
            found += _group(groups, each["include-group"], (*above, name))
    return found


def _texts(listed: object) -> list[str]:
    return [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


def _table(path: str, table: Mapping[str, object], made: Translated) -> Iterator[str]:
    """Requirements as poetry and Pipenv have them: name = version, or name = {version = …, extras = […]}."""
    for name, said in table.items():
        if canonical(name) == "python":
            continue
        more = inner(said)
        if _ELSEWHERE & more.keys():  # the package of this name on an index may be another one
            made.left.append(_left(path, name))
            continue
        extras = more.get("extras")
        version = str(said if isinstance(said, str) else more.get("version", ""))
        marker = more.get("markers")
        joined = f"[{','.join(map(str, extras))}]" if isinstance(extras, list) else ""
        yield f"{name}{joined}{specifier(version)}{f' ; {marker}' if marker else ''}"


def specifier(version: str) -> str:
    """A version of poetry's as pip reads it: `^5.1` allows what does not change the leftmost number that is not 0."""
    parts = []
    for each in (one.strip() for one in version.split(",")):
        found = re.fullmatch(r"([\^~])\s*(\d+(?:\.\d+)*)\S*", each)
        if each in ("", "*"):
            continue
        if not found or each.startswith("~="):
            parts.append(f"=={each}" if each[0].isdigit() else each)
            continue
        numbers = [int(number) for number in found[2].split(".")]
        if found[1] == "~":
            at = min(1, len(numbers) - 1)
        else:
            at = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
        upper = [*numbers[:at], numbers[at] + 1]
        parts.append(f">={found[2]},<{'.'.join(map(str, upper))}")
    return ",".join(parts)


def _lock(tree: Tree, path: str, made: Translated) -> None:
    listed = toml(tree, path).get("package")
    for each in map(inner, listed if isinstance(listed, list) else []):
        source = inner(each, "source")
        if (
            each.get("name")
            and each.get("version")
            and not {"virtual", "editable", "git", "path", "url", "directory"} & source.keys()
        ):
            made.pins[canonical(str(each["name"]))] = str(each["version"])
