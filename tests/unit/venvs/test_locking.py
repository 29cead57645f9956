"""The commands that lock requirements, and the message about a conflict."""

from __future__ import annotations

from pathlib import Path

from deploy.venvs import locking as lock


def test_each_lock_is_constrained_by_those_below() -> None:
    graph = {"base": (), "dev": ("base",), "tools": (), "test": ("base", "tools")}
    commands = lock.commands(graph, "uv", Path("/r"))
    constraints = {
        name: [word for flag, word in zip(command.argv, command.argv[1:], strict=False) if flag == "-c"]
        for name, command in commands.items()
    }
    assert constraints == {"base": [], "dev": ["base.txt"], "tools": ["base.txt"], "test": ["base.txt", "tools.txt"]}


def test_a_conflict_names_both_files_and_the_reason() -> None:
    said = (
        "  \u00d7 No solution found when resolving dependencies:\n  ╰─▶ Because you require a and b,\n      none fits."
    )
    line = lock.explain("dev", ["base"], said)
    assert line.startswith("requirements/dev.in conflicts with base.in: Because you require a and b, none fits.")
