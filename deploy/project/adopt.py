"""`adopt`: puts Portico into a repository that has a Django project, and changes no file of that project.

`plan` looks and decides; `adoption` shows the plan or carries it out. Nothing is overwritten: a file that is in the way
gets a proposal, which `--set-aside` carries out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.core import shell
from deploy.core import text as texts
from deploy.core.action import Action
from deploy.core.errors import Failure
from deploy.core.running import Notify, confirm
from deploy.core.shell import MakeFolder, Move, Run, Step, Write
from deploy.project import check
from deploy.project.config import NAME
from deploy.project.declared import FILE
from deploy.project.detect import detect, is_asynchronous
from deploy.project.findings import Finding, apply
from deploy.project.names import EXAMPLE, OWN_EXAMPLE
from deploy.project.translate import LAYERS, translate
from deploy.project.upgrade import manifest

#: What is copied once, and is the project's from then on.
SEEDED = (".env.example", ".dockerignore", "deploy/local/README.md")
#: What is in the way in a folder of requirements: a file of theirs with one of these names, or that of its lock.
INPUTS = tuple(f"requirements/{layer}.in" for layer in (*LAYERS, "tools", "build"))
#: Lines of `.gitignore`: what is made on a machine, or is secret.
IGNORED = ("/.venvs", "/.run/", "/.env", "/.env.*", "!/.env.example", "/.secrets/", "__pycache__/")
#: The end of the name of what is set aside; `tasks.py` becomes the file whose tasks Portico's adds to its own.
ASIDE, OWN_TASKS = ".before-portico", "project_tasks.py"


@dataclass(frozen=True)
class Plan:
    """What is written into a repository."""

    root: Path
    name: str
    #: Files of ours by their names there.
    copies: Mapping[str, Path]
    texts: Mapping[str, str]
    #: What is in the way, and the name that is proposed for it.
    moves: Mapping[str, str]
    left: tuple[str, ...]


def plan(ours: Path, target: Path, name: str) -> Plan:
    """Look at a repository. Raises `Failure` for one without a Django project or without Git, or with Portico in it."""
    root = target.resolve()
    if not root.is_dir():
        raise Failure(f"{target}: there is no such folder")
    if root == ours.resolve() or ours.resolve() in root.parents:
        raise Failure(
            f"{target} is in this checkout of Portico: name the folder of the repository that it should go into"
        )
    if not (root / ".git").exists():
        raise Failure(f"{target} is not the top of a Git repository: `git init` makes one; Git says what is deployed")
    found = detect(root)
    if not found.sites:
        raise Failure(f"{target}: there is no manage.py of a Django project in it")
    if (root / "deploy" / "bootstrap.py").exists():
        there = "upgrade` there" if manifest.read(root) else f"upgrade --path {target}` here"
        raise Failure(f"{target} has Portico already: `python3 tasks.py {there} installs a newer one")
    if name and not re.fullmatch(NAME, name):
        raise Failure(f"--name {name}: must be a short name in lower case: letters, digits, - and _")
    copies = {each: ours / each for each in (*manifest.present(ours), *SEEDED)}
    if (root / EXAMPLE).exists():  # the project's own: ours lies beside the project's additions
        copies[OWN_EXAMPLE] = copies.pop(EXAMPLE)
    translated = translate(found.tree, found.requirements.files)
    needed = translated.texts(asynchronous=is_asynchronous(found))
    texts = {f"requirements/{file}": text for file, text in needed.items()}
    if lock := translated.lock():
        texts["requirements/base.txt"] = lock
    in_the_way = [
        each for each in ("tasks.py", "Dockerfile", ".dockerignore", "deploy", "nginx") if (root / each).exists()
    ]
    locks = [each.replace(".in", ".txt") for each in INPUTS]  # `lock` would write these
    if any((root / each).exists() for each in (*INPUTS, *locks)):
        in_the_way.append("requirements")
    return Plan(
        root=root,
        name=name or name_of(root.name),
        copies=copies,
        texts={
            **texts,
            FILE: _invoke_yaml(root, name or name_of(root.name)),
            manifest.FILE: replace(manifest.of_checkout(ours), files=_hashes(copies)).render(),
        },
        moves={each: OWN_TASKS if each == "tasks.py" else f"{each}{ASIDE}" for each in in_the_way},
        left=tuple(translated.left),
    )


def name_of(folder: str) -> str:
    """A project's name from its folder's."""
    plain = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"site-{plain}".rstrip("-")


def _hashes(copies: Mapping[str, Path]) -> dict[str, str]:
    return {name: manifest.digest(path) for name, path in copies.items() if manifest.is_ours(name)}


def _invoke_yaml(root: Path, name: str) -> str:
    text = texts.read(root / FILE) if (root / FILE).exists() else ""
    if re.search(r"^project:", text, re.MULTILINE):
        raise Failure(f"{root / FILE} has a section `project` already; rename it, or remove it")
    return f"{text}project:\n  name: {name}\n"


def adoption(
    ours: Path,
    target: str,
    name: str,
    notify: Notify,
    *,
    set_aside: bool,
    confirmed: bool,
) -> Action:
    """Put Portico into a repository, lock its requirements there, and say what is left to do.

    Raises `Failure` for what is in the way, with the proposal for each.
    """
    this = plan(ours, Path(target).expanduser(), name)
    if this.moves and not set_aside:
        lines = [f"{old} is the project's own: `git mv {old} {new}` sets it aside" for old, new in this.moves.items()]
        raise Failure("\n".join([*lines, "--set-aside does that; nothing was written"]))

    def show() -> None:
        for line in summary(this):
            print(line)

    def do() -> None:
        for line in summary(this):
            notify(line)
        confirm(f"This writes into {this.root}.", this.name, confirmed)
        shell.perform(steps(this))
        settle(this.root)
        shell.run(Run(["python3", "tasks.py", "lock"], cwd=this.root))
        for line in (*this.left, *map(str, _findings(this.root))):
            notify(line)
        notify(f"{this.root}: next, `python3 tasks.py check`, then `python3 tasks.py dev`")

    return Action(show, do)


def summary(this: Plan) -> Iterator[str]:
    """What is written, a line for each file or folder."""
    for old, new in this.moves.items():
        yield f"move   {old} to {new}"
    folders: dict[str, int] = {}
    for name in this.copies:
        top = name.split("/")[0] if not name.startswith("requirements/") else name
        folders[top] = folders.get(top, 0) + 1
    for top, number in folders.items():
        yield f"copy   {top}" + (f"/ ({number} files)" if number > 1 else "")
    for name in this.texts:
        yield f"write  {name}"
    yield "extend .gitignore"


def steps(this: Plan) -> list[Step]:
    """The steps that write it. Files of the Django project are not among them."""
    made: list[Step] = [Move(this.root / old, this.root / new) for old, new in this.moves.items()]
    folders = {(this.root / name).parent for name in (*this.copies, *this.texts)}
    made += [MakeFolder(folder) for folder in sorted(folders)]
    for name, source in this.copies.items():
        if not (name in SEEDED and (this.root / name).exists()):
            made.append(Run(["cp", "-p", "--", str(source), str(this.root / name)]))
    made += [Write(this.root / name, text) for name, text in this.texts.items()]
    ignored = this.root / ".gitignore"
    text = texts.read(ignored) if ignored.exists() else ""
    lines = [line for line in IGNORED if line not in text.splitlines() and line.strip("/") not in text.splitlines()]
    more = "".join(f"{line}\n" for line in lines)
    if more:
        made.append(Write(ignored, f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{more}"))
    return made


def settle(root: Path) -> None:
    """Write into `invoke.yaml` what detection should be told: values, packages and code are decided by people."""
    for _ in range(20):  # one finding may hide another; this is more than there are kinds
        ready = [each for each in _findings(root) if each.remedy and all(edit.file == FILE for edit in each.remedy)]
        if not ready:
            return
        apply(ready[0].remedy, root)


def _findings(root: Path) -> list[Finding]:
    return check.findings(check.known(root, {}, "", {}))
