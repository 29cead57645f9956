"""`invoke check`: what keeps a project from running somewhere, found without running anything of it.

Errors stop a runtime; advice says what could be better. Each finding names its place and the line that fixes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.core.errors import Failure
from deploy.core.report import Grid, Report
from deploy.project import config, file
from deploy.project.declared import declared, host_values, server_values
from deploy.project.detect import Detected, detect
from deploy.project.findings import Finding
from deploy.project.rules import celery, place, settings
from deploy.project.rules.known import HOSTS, RUNTIMES, Known

Rule = Callable[[Known], Iterator[Finding]]
#: The value of `project.check` with which findings stop no command.
OFF = "off"
RULES: tuple[Rule, ...] = (*place.RULES, *settings.RULES, *celery.RULES)


def known(
    root: Path, merged: Mapping[str, object], runtime: str, environ: Mapping[str, str], env_file: str = ".env"
) -> Known:
    """Read a repository for one runtime, or for all that need no hosts. Raises `Failure` for one that there is not.

    ``env_file``: the name of the file with what containers need.
    """
    said = declared(root, merged)
    files = (root / "deploy" / "environments").glob("*.yaml")
    environments = sorted(path.stem for path in files if path.stem != "example")
    if runtime and runtime not in (*RUNTIMES, *environments):
        there = ", ".join([*RUNTIMES, *environments])
        raise Failure(f"--for {runtime}: there is no such runtime; there are: {there}")
    on_hosts = bool(runtime) and runtime not in RUNTIMES
    return Known(
        detected=detect(root, said.said),
        declared=said,
        runtimes=frozenset({HOSTS} if on_hosts else {runtime} if runtime else RUNTIMES),
        named=bool(runtime),
        values=host_values(root, runtime) if on_hosts else server_values(root, env_file),
        environ=environ,
        hosts_file=f"deploy/environments/{runtime}.yaml" if on_hosts else "",
    )


def findings(this: Known) -> list[Finding]:
    """All that is wrong: errors first, each by its place."""
    found = {str(each): each for rule in RULES for each in rule(this)}
    return sorted(found.values(), key=lambda each: (each.advice, each.at.path, each.at.line))


def report(root: Path, merged: Mapping[str, object], runtime: str, environ: Mapping[str, str]) -> Report:
    """What was detected, as a table; errors as what is wrong, advice as remarks."""
    this = known(root, merged, runtime, environ)
    found = findings(this)
    advice = [str(each) for each in found if each.advice]
    wrong = [str(each) for each in found if not each.advice]
    try:
        config.load(root, {**file.DEFAULTS, **merged})
    except Failure as failure:  # every command that runs the site says it
        wrong += [failure.message] if not wrong else []
    return Report([summary(this.detected)], advice, wrong)


def require(
    root: Path, merged: Mapping[str, object], runtime: str, environ: Mapping[str, str], env_file: str = ".env"
) -> None:
    """Raise `Failure` with the errors that keep the project from running there; advice is left to `invoke check`."""
    if merged.get("check") != OFF:
        errors = [str(each) for each in findings(known(root, merged, runtime, environ, env_file)) if not each.advice]
        if errors:
            raise Failure("\n".join(errors))


def summary(found: Detected) -> Grid:
    """What was detected, and which line says so."""
    lowest = found.requirements.lowest
    rows = [("manage.py in", each.name, str(each.at)) for each in found.sites]
    for title, named in (
        *(("settings, development", found.development), ("settings, production", found.production)),
        *(("settings, test", found.test), ("WSGI", found.wsgi), ("ASGI", found.asgi)),
    ):
        rows += [(title, named.name, str(named.at))] if named else []
    rows += [("Celery", each.name, str(each.at)) for each in found.celery] or [("Celery", "none", "")]
    rows += [("Python", f"{lowest.text} and newer", str(lowest.at))] if lowest else []
    rows += [("tests", found.runner.name, str(found.runner.at))] if found.runner else []
    return Grid(("what", "detected", "where"), rows)
