"""Every option that `invoke --help` lists: what the page says it does is what it does to a task."""

import re
from types import ModuleType
from typing import Any

import pytest
from invoke import Config, Context, Exit, Program

from deploy.core import options
from deploy.core.errors import Failure
from deploy.core.groups import Lines, Where
from deploy.core.options import grouped, signature
from tests.support import ROOT

SECTION = "**Invoke's own options.**"


def listed() -> set[str]:
    """The options that `invoke --help` lists."""
    program = Program()
    return {
        f"{'-' if len(name) == 1 else '--'}{name}"
        for argument in [*program.core_args(), *program.task_args()]
        for name in argument.names
    }


def table() -> dict[str, str]:
    """The options that the page explains, and what it says of each."""
    text = (ROOT / "deploy" / "README.md").read_text().partition(SECTION)[2].partition("**Completion.**")[0]
    rows = re.findall(r"^\| (`-.+?) \| (.+) \|$", text, re.MULTILINE)
    return {option: said for row, said in rows for option in re.findall(r"`(-[^`]+)`", row)}


def given(option: str) -> Context:
    """The context that Invoke makes for one of the options about commands."""
    [(section, key)] = [where for where, name in options.WITHOUT_EFFECT.items() if name == option]
    return Context(Config(overrides={section: {key: True}}))


def dry() -> Context:
    return Context(Config(overrides={"run": {"dry": True}}))


def test_the_page_explains_each_option_that_invoke_lists() -> None:
    assert set(table()) == listed()


def test_the_options_that_the_page_says_are_refused_are_those_that_are() -> None:
    refused = {name for name, said in table().items() if "refused" in said and name not in ("--dry", "-R")}
    assert {name for name in refused if name.startswith("--")} == set(options.WITHOUT_EFFECT.values())


@pytest.mark.parametrize("option", options.WITHOUT_EFFECT.values())
def test_an_option_that_would_do_nothing_is_refused_by_name(tasks: ModuleType, option: str) -> None:
    done: list[str] = []

    def lock(c: Context, dry_run: bool = False) -> None:
        done.append("lock")

    with pytest.raises(Exit, match=rf"^{option}: Invoke's option has no effect on lock; leave it out"):
        tasks.task()(lock).body(given(option))
    assert done == []


def test_the_teams_own_configuration_of_commands_refuses_nothing() -> None:
    assert options.dry_run(test_the_page_explains_each_option_that_invoke_lists, {"run": {}}, dry=False) == {}


def test_invokes_dry_run_is_ours_for_each_task_that_has_one(tasks: ModuleType) -> None:
    found = {name: task.body.__wrapped__ for name, task in tasks.ns.tasks.items()}
    assert len(found) > 30
    for name, body in found.items():
        has = "dry_run" in body.__annotations__
        assert has or name in options.READING, f"{name} must have a dry run, or be named in options.READING"
        assert not (has and name in options.READING), name
        assert options.dry_run(body, {}, dry=True) == ({"dry_run": True} if has else {}), name


def test_a_dry_run_by_invoke_shows_and_does_nothing(tasks: ModuleType) -> None:
    done: list[dict[str, Any]] = []

    def venv_remove(c: Context, env: str = "", dry_run: bool = False) -> None:
        done.append({"env": env, "dry_run": dry_run})

    tasks.task()(venv_remove).body(dry(), env="prod", dry_run=False)
    assert done == [{"env": "prod", "dry_run": True}]


def test_a_task_that_changes_something_and_has_no_dry_run_is_refused() -> None:
    def migrate_all(c: Context) -> None:
        raise AssertionError

    with pytest.raises(Failure, match=r"^--dry: migrate-all has no dry run; nothing was done$"):
        options.dry_run(migrate_all, {}, dry=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-T", "x", "status"], "--command-timeout is 'x', but must be a whole number"),
        (["status", "--command-timeout=x"], "--command-timeout is 'x', but must be a whole number"),
        (["-Dx", "-l"], "--list-depth is 'x', but must be a whole number"),
        (["-l", "--list-format", "nope"], "--list-format is 'nope', but must be one of: flat, nested, json"),
        (["--prompt-for-sudo-password", "status"], "--prompt-for-sudo-password: Invoke's option has no effect here"),
        (["-T", "3", "-D", "2", "-F", "json", "-l"], ""),
        (["project.greet", "-T", "x"], ""),
        (["manage", "--", "-T", "x"], ""),
        (["status", "-T"], ""),
        (["-T", "", "status"], "--command-timeout is '', but must be a whole number"),
    ],
)
def test_what_invoke_answers_with_a_traceback_is_one_line(words: list[str], said: str) -> None:
    found = options.wrong(["invoke", *words])
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("venv --env dev --env prod", "venv: --env is given twice; give it once"),
        ("venv --env=dev --env=prod", "venv: --env is given twice; give it once"),
        ("scale --service app --replicas 2 --service x", "scale: --service is given twice; give it once"),
        ("venv prod", "venv prod: would be two tasks; write venv --env prod, or two commands"),
        ("status dev", "status dev: would be two tasks; write status --on dev, or two commands"),
        ("check prod", "check prod: would be two tasks; write check --for prod, or two commands"),
        ("venv --env dev", ""),
        ("venv --env dev venv --env prod", ""),
        ("venv --dry-run --dry-run --env prod", ""),
        ("venv --env prod --python 3.12 lint", ""),
        ("lint test", ""),
        ("lint prod", ""),
        ("manage -- --on a --on b", ""),
        ("project.greet --env a --env b", ""),
    ],
)
def test_a_second_value_or_a_place_starts_no_other_task(tasks: ModuleType, words: str, said: str) -> None:
    assert options.misread(["invoke", *words.split()], tasks.flags) == said


def test_each_option_of_invokes_with_a_value_is_read() -> None:
    program = Program()
    found = [each for each in [*program.core_args(), *program.task_args()] if each.takes_value and not each.optional]
    names = {f"-{name}" if len(name) == 1 else f"--{name}" for each in found for name in each.names}
    assert names - {"--print-completion-script", "--hide"} == set(options.WITH_VALUE) | set(options.WITH_VALUE.values())


def test_a_group_of_options_is_what_the_task_gets_and_invoke_sees_each_option_of_it() -> None:
    def task(c: object, service: str, where: Where, lines: Lines, dry_run: bool = False) -> None:
        """Stands for one."""

    assert list(signature(task).parameters) == [
        *("c", "service", "on", "env", "host", "context", "stack"),
        *("lines", "since", "grep", "errors", "follow", "json", "dry_run"),
    ]
    assert signature(task).parameters["lines"].default == "200"
    given = {"service": "app", "on": "prod", "lines": "3", "follow": True, "dry_run": True}
    assert grouped(task, given) == {
        "service": "app",
        "where": Where(on="prod"),
        "lines": Lines(lines="3", follow=True),
        "dry_run": True,
    }
