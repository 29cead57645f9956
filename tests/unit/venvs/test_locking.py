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
    assert next(iter(constraints)) == "tools"
    assert constraints == {"tools": [], "base": ["tools.txt"], "dev": ["base.txt"], "test": ["tools.txt", "base.txt"]}


def test_the_site_may_need_a_newer_python_than_the_tools() -> None:
    commands = lock.commands({"base": (), "tools": ()}, "uv", Path("/r"), (3, 12))
    versions = {name: each.argv[each.argv.index("--python-version") + 1] for name, each in commands.items()}
    assert versions == {"base": "3.12", "tools": "3.11"}


def test_a_package_for_a_newer_python_names_the_key() -> None:
    said = (
        "  x No solution found when resolving dependencies:\n  Because the requested Python version (>=3.11) does not"
        " satisfy Python>=3.12 and django==6.0.8 depends on Python>=3.12, we can conclude that …"
    )
    line = lock.explain("base", [], said)
    assert 'Set `python: "3.12"` under project in invoke.yaml, or change one of them and lock again' in line


def test_a_conflict_names_both_files_and_the_reason() -> None:
    said = (
        "  \u00d7 No solution found when resolving dependencies:\n  ╰─▶ Because you require a and b,\n      none fits."
    )
    line = lock.explain("dev", ["base"], said)
    assert line.startswith("requirements/dev.in conflicts with base.in: Because you require a and b, none fits.")


def test_a_package_that_does_not_exist_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "dev.in").write_text("six\nno-such-package>=1\n")
    said = (
        "  x No solution found when resolving dependencies:\n  Because no-such-package was not found in the package"
        " registry and you require no-such-package>=1, we can conclude that your requirements are unsatisfiable."
    )
    line = lock.missing(tmp_path, "dev", said)
    assert line.startswith(f"{tmp_path.name}/dev.in:2: there is no package no-such-package in the package index")
    said = "Because there is no version of six==99 and you require six==99, we can conclude …"
    assert lock.missing(tmp_path, "dev", said).startswith(f"{tmp_path.name}/dev.in:1: there is no version six==99")
    said = "Because only six<=1.17.0 is available and you require six>99, we can conclude …"
    assert lock.missing(tmp_path, "dev", said).startswith(f"{tmp_path.name}/dev.in:1: there is no version six>99")
    assert lock.missing(tmp_path, "dev", "Because you require a and b, none fits.") == ""


def test_a_wheel_of_the_repository_that_was_built_again_gets_its_new_hash(tmp_path: Path) -> None:
    """uv keeps the hashes of a lock for the versions in it, and the install would refuse the wheel."""
    (tmp_path / "my_lib-1.0-py3-none-any.whl").write_bytes(b"new")
    (tmp_path / "other-2.0-py3-none-any.whl").write_bytes(b"as it was")
    wheels = lock.wheels_of(tmp_path)
    (same,) = wheels["other==2.0"]
    first = "# by invoke\nabc==1 \\\n    --hash=sha256:aa\n    # via x\n"
    rebuilt = (
        "my-lib[a]==1.0 ; sys_platform > '' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n    # via\n    #   x\n"
    )
    last = f"other==2.0 \\\n    --hash=sha256:{same}\n    # via x\n"
    assert lock.without_rebuilt(first + rebuilt + last, wheels) == first + last
    assert lock.without_rebuilt(first + rebuilt + last, {}) == first + rebuilt + last
