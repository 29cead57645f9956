"""The commands that check the code: pytest with its suites, and the linters."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from deploy.core import shell
from deploy.core.errors import Failure
from deploy.core.shell import Run
from deploy.project import site
from deploy.project.config import Project
from deploy.project.detect import Said, detect
from deploy.venvs.store import Store

SCRIPTS = (
    ".ci/run",
    "tests/rig/up",
    "tests/rig/down",
    "tests/rig/images/host-entrypoint",
    "tests/rig/images/node-entrypoint",
    "tests/rig/images/postgres-entrypoint",
    "tests/rig/images/rabbitmq-entrypoint",
    "tests/rig/images/valkey-entrypoint",
)
#: Processes that share the files of all suites: more than two processors, as many tests wait for something.
PROCESSES = 3
SUITES = ("unit", "kit", "site", "native", "acceptance", "browser", "adopt", "docker", "swarm", "hosts")


def suites(text: str, option: str) -> list[str]:
    """The suites of a comma-separated list. Raises `Failure` for an unknown suite."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SUITES:
            raise Failure(f"{option} {name}: there is no such suite; there are: {', '.join(SUITES)}")
    return names


def is_portico(project: Project) -> bool:
    """Whether this is Portico's own repository, whose tests and linters are those of the machinery."""
    return (project.root / "tests" / "rig").is_dir()


def tests(
    project: Project, store: Store, suite: str, require: str, arguments: list[str], *, processes: int | None = None
) -> list[Run]:
    """The commands that run the tests: Portico's suites in its own repository, else the project's tests and health.

    With arguments, which choose among the tests, health is not asked.
    """
    if is_portico(project):
        return [pytest(project, store, suite, require, arguments, processes=processes)]
    if suite or require or processes:
        raise Failure(
            "--suite, --require and --processes are for Portico's own suites; arguments after -- reach the tests"
        )
    own = own_tests(project, store, arguments)
    return [own] if arguments else [own, own_health(project, store, own)]


def own_health(project: Project, store: Store, tests: Run) -> Run:
    """The command that asks the site what a release is asked before it serves, in the environment of its tests."""
    words = [str(store.link("test") / "bin" / "python"), "-m", "portico_site.self_check", *project.probes]
    return replace(tests, argv=words, cwd=project.site_folder)


def own_tests(project: Project, store: Store, arguments: list[str]) -> Run:
    """The project's tests, with its own runner and settings, under the kit: on SQLite unless DATABASE_URL is set.

    Raises `Failure` if there are none, and `project.test` names no command.
    """
    found = detect(project.root, Said(**asdict(project.declared)))
    python = str(store.link("test") / "bin" / "python")
    folder = project.site_folder
    if project.test:
        words, folder = shlex.split(project.test), project.root
    elif found.runner is None:
        raise Failure(
            "the project has no tests that are found; set project.test in invoke.yaml to the command that runs them"
        )
    elif found.runner.name == "pytest":
        words, folder = [python, "-m", "pytest"], project.root / Path(found.runner.at.path).parent
    else:
        words = [python, "manage.py", "test"]
    variables = site.variables(project, site.DEVELOPMENT)
    imports = [project.site_folder / each for each in project.names.path.split()]
    if imports:  # the tests' own folder may be another than that of manage.py
        variables["PORTICO_PATH"] = ":".join(map(str, imports))
    if found.test:
        variables["PORTICO_SETTINGS"] = found.test.name
    stand_ins = site.stand_ins(project)
    given = {"DATABASE_URL": "sqlite://:memory:", "CELERY_BROKER_URL": "memory://", "SECRET_KEY": site.STAND_IN_KEY}
    given |= stand_ins
    return Run(
        [*words, *arguments],
        {
            **variables,
            **{name: value for name, value in given.items() if name not in os.environ},
            # The folder of pytest's configuration, too: settings for tests may be beside the tests.
            "PYTHONPATH": ":".join(map(str, dict.fromkeys((project.root / site.KIT, project.site_folder, folder)))),
            "PATH": f"{store.link('test') / 'bin'}:{os.environ.get('PATH', '')}",
        },
        cwd=folder,
    )


def own_lint(project: Project, store: Store, *, fix: bool = False) -> dict[str, Run]:
    """The linters of a project: missing migrations, and ruff if the project locks it."""
    made = replace(own_tests(project, store, []), argv=[], cwd=project.site_folder)
    folder = store.link("test") / "bin"
    check = ["manage.py", "makemigrations", "--check", "--dry-run", "--verbosity", "0"]
    style = Run([str(folder / "ruff"), "check", *(["--fix"] if fix else []), "."], cwd=project.root)
    ruff = {"style": style} if (folder / "ruff").exists() else {}
    return {"migrations": replace(made, argv=[str(folder / "python"), *check]), **ruff}


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
    scripts = sorted(str(path.relative_to(project.root)) for path in project.root.glob("deploy/*/*/*.sh"))
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
        "shell": Run([str(folder / "shellcheck"), *SCRIPTS, *scripts], cwd=project.root),
        "migrations": Run(
            [str(folder / "python"), str(project.manage), "makemigrations", "--check", "--dry-run", "--verbosity", "0"],
            env={"DATABASE_URL": "sqlite://:memory:"},
        ),
    }


def lint(project: Project, store: Store, *, fix: bool, dry_run: bool, notify: Callable[[str], None]) -> None:
    """Run every linter. Raises `Failure` naming those that found problems."""
    failed = []
    commands = lint_commands(project, store, fix=fix) if is_portico(project) else own_lint(project, store, fix=fix)
    for name, command in commands.items():
        if dry_run:
            print(command.render())
            continue
        notify(f"lint: {name}")
        if shell.run(command, check=False).code:
            failed.append(name)
    if failed:
        raise Failure(f"lint: {', '.join(failed)} found problems; `invoke lint --fix` fixes some of them")
