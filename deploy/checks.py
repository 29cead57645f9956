"""The commands that check the code: pytest with its suites, and the linters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project.config import Project
from deploy.venvs.store import Store

SCRIPTS = (
    ".ci/run",
    "tests/rig/up",
    "tests/rig/down",
    "tests/rig/images/host-entrypoint",
    "tests/rig/images/node-entrypoint",
    "tests/rig/images/postgres-entrypoint",
    "tests/rig/images/rabbitmq-entrypoint",
)
#: Processes that share the files of all suites. On two processors, three processes were slower than two.
PROCESSES = 2
SUITES = ("unit", "kit", "site", "native", "acceptance", "browser", "docker", "swarm", "hosts")


def suites(text: str, option: str) -> list[str]:
    """The suites of a comma-separated list. Raises `Failure` for an unknown suite."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SUITES:
            raise Failure(f"{option} {name}: there is no such suite; there are: {', '.join(SUITES)}")
    return names


def pytest(
    project: Project, store: Store, suite: str, require: str, arguments: list[str], *, processes: int | None = None
) -> Run:
    """The command that runs tests: the suites (default: all), the suites in which no test may skip, pytest's arguments.

    Several processes share the work by test file. Without ``processes``, a run of all suites uses `PROCESSES`; a run
    of named suites or files uses one.
    """
    required = list(SUITES) if require == "all" else suites(require, "--require")
    folders = [f"tests/{name}" for name in suites(suite, "--suite") or SUITES]
    named = any(not word.startswith("-") and Path(project.root, word.split("::")[0]).exists() for word in arguments)
    number = processes or (1 if suite or named else PROCESSES)
    return Run(
        [
            *[str(store.link("test") / "bin" / "python"), "-m", "pytest"],
            *(["-n", str(number), "--dist", "loadfile", "--no-loadscope-reorder"] if number > 1 else []),
            *(["--require", ",".join(required)] if required else []),
            *([] if named else folders),
            *arguments,
        ],
        cwd=project.root,
    )


def lint_commands(project: Project, store: Store, *, fix: bool) -> dict[str, Run]:
    """The linters, by name."""
    folder = store.link("test") / "bin"
    hosts = sorted(str(path.relative_to(project.root)) for path in project.root.glob("deploy/hosts/scripts/*.sh"))
    check, form = (["--fix"], []) if fix else ([], ["--check"])
    pages = {"pages": Run([str(folder / "python"), "-m", "tests.pages", "--check"], cwd=project.root)}
    return {
        **(pages if (project.root / "tests" / "pages.py").exists() else {}),
        "format": Run([str(folder / "ruff"), "format", "--quiet", *form, "."], cwd=project.root),
        "style": Run([str(folder / "ruff"), "check", "--quiet", *check, "."], cwd=project.root),
        "types of the machinery": Run(
            [str(folder / "python"), "-m", "mypy", "tasks.py", "deploy", "tests"], cwd=project.root
        ),
        "types of the site": Run([str(folder / "python"), "-m", "mypy", "."], cwd=project.site_folder),
        "shell": Run([str(folder / "shellcheck"), *SCRIPTS, *hosts], cwd=project.root),
        "migrations": Run(
            [str(folder / "python"), str(project.manage), "makemigrations", "--check", "--dry-run", "--verbosity", "0"],
            env={"DATABASE_URL": "sqlite://:memory:"},
        ),
    }


def lint(project: Project, store: Store, *, fix: bool, dry_run: bool, notify: Callable[[str], None]) -> None:
    """Run every linter. Raises `Failure` naming those that found problems."""
    failed = []
    for name, command in lint_commands(project, store, fix=fix).items():
        if dry_run:
            print(command.render())
            continue
        notify(f"lint: {name}")
        if shell.run(command, check=False).code:
            failed.append(name)
    if failed:
        raise Failure(f"lint: {', '.join(failed)} found problems; `invoke lint --fix` fixes some of them")
