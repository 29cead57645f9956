"""What a project asks for, in whatever files it says so: packages, and the lowest Python."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass

from deploy.project.source.tree import Location, Tree

Version = tuple[int, int]

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*([^;#]*)")
_LOWEST = re.compile(r"(?:>=|==|~=|\^|>)\s*v?(\d+)\.(\d+)")
_PLAIN = re.compile(r"\s*(?:python-|cpython-)?v?(\d+)\.(\d+)")
#: The Python that Django needs from a version on; its release notes have it.
DJANGO_NEEDS: tuple[tuple[Version, Version], ...] = (((6, 0), (3, 12)), ((5, 0), (3, 10)))


@dataclass(frozen=True)
class Package:
    """A package that is asked for, or locked, and where."""

    name: str
    #: What versions: `==6.0.8`, `>=5,<6`, or nothing.
    versions: str
    at: Location


@dataclass(frozen=True)
class Needed:
    """A lowest Python, who asks for it, and where."""

    version: Version
    by: str
    at: Location
    #: Whether it cannot run on an older one; else it is the one that its authors use.
    firm: bool = True

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Requirements:
    """All that the files say together."""

    #: The files, each with its kind: requirements, pyproject, poetry, Pipfile, uv.lock, …
    files: tuple[tuple[str, str], ...]
    packages: tuple[Package, ...]
    python: tuple[Needed, ...]

    def find(self, *names: str) -> Package | None:
        """The first of these packages that is asked for anywhere."""
        return next((each for each in self.packages if each.name in names), None)

    @property
    def lowest(self) -> Needed | None:
        """The lowest Python that all can run on; the one that is used where no file asks for any."""
        return max(self.python, key=lambda each: (each.firm, each.version), default=None)

    @property
    def used(self) -> Needed | None:
        """The Python that its authors use."""
        return max((each for each in self.python if not each.firm), key=lambda each: each.version, default=None)


def canonical(name: str) -> str:
    """A package's name as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lowest(versions: str) -> Version | None:
    """The lowest version that a specifier allows, in two numbers."""
    found = _LOWEST.search(versions)
    return (int(found[1]), int(found[2])) if found else None


def locked(tree: Tree, path: str) -> dict[str, Package]:
    """The packages of a requirements file or lock, by name."""
    return {each.name: each for each in _requirements(tree, path)}


def read(tree: Tree, folders: Iterable[str]) -> Requirements:
    """What the files in these folders, and in their `requirements/`, ask for."""
    files: list[tuple[str, str]] = []
    packages: list[Package] = []
    python: list[Needed] = []
    for path in sorted(_candidates(tree, set(folders))):
        kind, found, needed = _file(tree, path)
        if kind:
            files.append((path, kind))
            packages += found
            python += needed
    python += (each for package in packages for each in _django(package))
    return Requirements(tuple(files), tuple(packages), tuple(python))


def _candidates(tree: Tree, folders: set[str]) -> Iterator[str]:
    for path in tree.files:
        folder, _, name = path.rpartition("/")
        outer, _, last = folder.rpartition("/")
        near = (folder or ".") in folders or (last == "requirements" and (outer or ".") in folders)
        if near and name not in ("tools.in", "tools.txt", "build.txt"):  # those are the machinery's own
            yield path


def _file(tree: Tree, path: str) -> tuple[str, list[Package], list[Needed]]:  # noqa: PLR0911 - a line for each kind
    """The kind of a file, empty for one that asks for nothing; its packages; its Python."""
    name = path.rsplit("/", 1)[-1]
    match name:
        case "pyproject.toml":
            return _pyproject(tree, path)
        case "Pipfile":
            return _pipfile(tree, path)
        case "Pipfile.lock":
            return name, [], []
        case "setup.cfg" | "setup.py":
            return _setup(tree, path)
        case "poetry.lock" | "uv.lock":
            return _lock(tree, path)
        case ".python-version" | "runtime.txt":
            found = _PLAIN.match(tree.text(path))
            needed = [Needed((int(found[1]), int(found[2])), name, Location(path), firm=False)] if found else []
            return "Python", [], needed
        case _ if name.endswith((".txt", ".in")) and ("requirements" in name or "/requirements/" in f"/{path}"):
            return "requirements", list(_requirements(tree, path)), []
        case _:
            return "", [], []


def _requirements(tree: Tree, path: str) -> Iterator[Package]:
    for number, line in tree.lines(path):
        if line[:1] in ("", "#", "-", " ", "\t"):
            continue
        if found := _REQUIREMENT.match(line):
            yield Package(canonical(found[1]), found[2].strip(" \\"), Location(path, number))


def toml(tree: Tree, path: str) -> dict[str, object]:
    """A parsed file; empty for one that is not TOML."""
    try:
        return tomllib.loads(tree.text(path))
    except tomllib.TOMLDecodeError:
        return {}


def json_table(tree: Tree, path: str) -> dict[str, object]:
    """A parsed file of JSON; empty for one that is none."""
    try:
        return inner(json.loads(tree.text(path)))
    except json.JSONDecodeError:
        return {}


def setup(tree: Tree, path: str) -> tuple[list[str], dict[str, list[str]], str]:
    """What `setup.cfg` or `setup.py` says, as far as it is literal: requirements, those of extras, the Python."""
    if path.endswith(".py"):
        return _setup_call(tree, path)
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(tree.text(path))
    except ConfigError:
        return [], {}, ""
    options = dict(parser["options"]) if parser.has_section("options") else {}
    extras = dict(parser["options.extras_require"]) if parser.has_section("options.extras_require") else {}
    return (
        _rows(options.get("install_requires", "")),
        {name: _rows(lines) for name, lines in extras.items()},
        options.get("python_requires", ""),
    )


def _rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _setup_call(tree: Tree, path: str) -> tuple[list[str], dict[str, list[str]], str]:
    parsed = tree.parse(path)
    said: dict[str, object] = {}
    names: dict[str, object] = {}
    for node in ast.walk(parsed) if parsed else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = _literal(value, names)
            case ast.Call(func=function, keywords=words) if ast.unparse(function).rpartition(".")[2] == "setup":
                said |= {word.arg: _literal(word.value, names) for word in words if word.arg}
    listed, python = said.get("install_requires"), said.get("python_requires")
    extras = inner(said.get("extras_require"))
    return (
        [str(each) for each in listed] if isinstance(listed, list | tuple) else [],
        {name: [str(each) for each in lines] for name, lines in extras.items() if isinstance(lines, list | tuple)},
        python if isinstance(python, str) else "",
    )


def _literal(node: ast.expr, names: Mapping[str, object]) -> object:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None


def _setup(tree: Tree, path: str) -> tuple[str, list[Package], list[Needed]]:
    listed, extras, python = setup(tree, path)
    packages = list(_listed(tree, path, [*listed, *(line for lines in extras.values() for line in lines)]))
    asked = lowest(python)
    needed = [Needed(asked, path.rsplit("/", 1)[-1], where(tree, path, python))] if asked else []
    return ("setup" if packages or needed else ""), packages, needed


def inner(values: object, *keys: str) -> dict[str, object]:
    """A table inside of a parsed file; an empty one where there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return {str(key): value for key, value in values.items()} if isinstance(values, Mapping) else {}


def _listed(tree: Tree, path: str, lines: object) -> Iterator[Package]:
    """Requirements in a list of texts."""
    for line in lines if isinstance(lines, list) else []:
        if isinstance(line, str) and (found := _REQUIREMENT.match(line)):
            yield Package(canonical(found[1]), found[2].strip(), where(tree, path, line))


def _tabled(tree: Tree, path: str, table: Mapping[str, object]) -> Iterator[Package]:
    """Requirements as poetry and Pipenv have them: name = version, or name = {version = …}."""
    for name, said in table.items():
        versions = said if isinstance(said, str) else inner(said).get("version", "")
        if canonical(name) != "python":
            yield Package(canonical(name), str(versions), where(tree, path, name))


def where(tree: Tree, path: str, words: str) -> Location:
    """The line that has the words."""
    return Location(path, next((number for number, line in tree.lines(path) if words in line), 1))


def _pyproject(tree: Tree, path: str) -> tuple[str, list[Package], list[Needed]]:
    values = toml(tree, path)
    project, poetry = inner(values, "project"), inner(values, "tool", "poetry")
    packages = list(_listed(tree, path, project.get("dependencies")))
    for group in [*inner(project, "optional-dependencies").values(), *inner(values, "dependency-groups").values()]:
        packages += _listed(tree, path, group)
    for table in ("dependencies", "dev-dependencies"):
        packages += _tabled(tree, path, inner(poetry, table))
    for name in inner(poetry, "group"):
        packages += _tabled(tree, path, inner(poetry, "group", name, "dependencies"))
    needed = [
        Needed(version, "pyproject.toml", where(tree, path, str(said)))
        for said in (project.get("requires-python"), inner(poetry, "dependencies").get("python"))
        if isinstance(said, str) and (version := lowest(said))
    ]
    kind = "poetry" if poetry else "pyproject" if packages or needed else ""
    return kind, packages, needed


def _pipfile(tree: Tree, path: str) -> tuple[str, list[Package], list[Needed]]:
    values = toml(tree, path)
    packages = [*_tabled(tree, path, inner(values, "packages")), *_tabled(tree, path, inner(values, "dev-packages"))]
    said = inner(values, "requires").get("python_version", inner(values, "requires").get("python_full_version"))
    found = _PLAIN.match(str(said)) if said else None
    at = where(tree, path, str(said))
    needed = [Needed((int(found[1]), int(found[2])), "Pipfile", at, firm=False)] if found else []
    return "Pipfile", packages, needed


def _lock(tree: Tree, path: str) -> tuple[str, list[Package], list[Needed]]:
    """poetry.lock has the Python of each package, uv.lock that of all."""
    values, name = toml(tree, path), path.rsplit("/", 1)[-1]
    packages, needed = [], []
    listed = values.get("package")
    for each in (inner(one) for one in (listed if isinstance(listed, list) else [])):
        title, version = str(each.get("name", "")), str(each.get("version", ""))
        at = where(tree, path, f'name = "{title}"')
        if inner(each, "source").get("virtual") != "." and inner(each, "source").get("editable") != ".":
            packages.append(Package(canonical(title), f"=={version}", at))
        if found := lowest(str(each.get("python-versions", ""))):
            needed.append(Needed(found, f"{title} {version}", at))
    for said in (values.get("requires-python"), inner(values, "metadata").get("python-versions")):
        if isinstance(said, str) and (found := lowest(said)):
            needed.append(Needed(found, name, where(tree, path, said)))
    return name, packages, needed


def _django(package: Package) -> Iterator[Needed]:
    """What Django's version needs of Python, where no file says it."""
    asked = lowest(package.versions) if package.name == "django" else None
    if asked:
        for version, python in DJANGO_NEEDS:
            if asked >= version:
                yield Needed(python, f"Django {asked[0]}.{asked[1]}", package.at)
                return
