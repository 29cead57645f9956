"""How steps are shown and performed."""

import errno
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.core.errors import Failure
from deploy.core.shell import (
    Link,
    MakeFolder,
    Move,
    Remove,
    Run,
    Step,
    Write,
    WriteSecret,
    exec_command,
    last_line,
    perform,
    run,
)

WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_a_shown_command_gives_the_shell_the_very_words(words: list[str]) -> None:
    assert shlex.split(Run(["printf", *words]).render()) == ["printf", *words]


def test_what_a_dry_run_prints_does_what_the_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steps(folder: Path) -> list[Step]:
        return [
            MakeFolder(folder / "a b"),
            Write(folder / "a b" / "note", "one $HOME\ntwo 'three'\n"),
            Move(folder / "a b" / "note", folder / "note"),
            Link(folder / "link", "note"),
            Run(["sh", "-c", 'printf %s "$WHO" > told'], {"WHO": "it's $me"}, cwd=folder),
            Remove(folder / "a b"),
        ]

    perform(steps(tmp_path / "done"))
    perform(steps(tmp_path / "pasted"), dry_run=True)
    assert not (tmp_path / "pasted").exists()
    subprocess.run(["sh", "-eu", "-c", capsys.readouterr().out], check=True)

    def content(folder: Path) -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.iterdir()}

    assert content(tmp_path / "done") == content(tmp_path / "pasted")
    assert (tmp_path / "done" / "link").is_symlink()


def test_a_failed_command_is_one_line_with_its_exit_code_and_last_words() -> None:
    with pytest.raises(Failure, match=r"failed with exit code 7: it is full") as caught:
        run(Run(["sh", "-c", "echo noise >&2; echo it is full >&2; exit 7"]), capture=True)
    assert caught.value.code == 7
    assert "\n" not in caught.value.message


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Failure, match="no-such-program: not found"):
        run(Run(["no-such-program"]))


def test_the_last_line_of_a_traceback_is_the_error() -> None:
    assert last_line("Traceback\n  File x\nValueError: no\n\n") == "ValueError: no"


def test_the_error_of_django_s_checks_is_named_and_not_the_warnings_after_it() -> None:
    said = (
        "SystemCheckError: System check identified some issues:\n\nERRORS:\nshop.Order: (models.E1) no\n\nWARNINGS:\n"
    )
    assert last_line(f"{said}shop.Item: (models.W042) auto\n\nSystem check identified 2 issues.\n").startswith(
        "shop.Order:"
    )


@pytest.mark.parametrize("advice", ["Type 'manage.py help' for usage.", "Try 'celery --help' for help."])
def test_where_a_program_s_help_is_says_nothing_of_what_went_wrong(advice: str) -> None:
    assert last_line(f"Unknown command: 'lod'\n{advice}\n") == "Unknown command: 'lod'"
    assert last_line(advice) == advice


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    Link(tmp_path / "link", "old").perform()
    Link(tmp_path / "link", "new").perform()
    assert (tmp_path / "link").readlink() == Path("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "old"]


def test_what_a_child_says_is_read_whatever_bytes_it_is_made_of() -> None:
    assert run(Run(["printf", r"caf\351\n"]), capture=True).stdout == "caf\ufffd\n"
    with pytest.raises(Failure, match="exit code 3: caf\ufffd"):
        run(Run(["sh", "-c", r"printf 'caf\351\n' >&2; exit 3"]), capture=True)


def test_a_command_without_an_answer_in_time_is_ended_and_named() -> None:
    with pytest.raises(Failure, match=r"`sleep 60`: no answer within 0\.2 s"):
        run(Run(["sleep", "60"], seconds=0.2), capture=True)


@pytest.mark.parametrize("do", [run, exec_command])
def test_a_folder_that_is_not_there_is_named_and_not_the_program(do: Callable[[Run], object], tmp_path: Path) -> None:
    with pytest.raises(Failure, match="gone: cannot run true there: no such folder"):
        do(Run(["true"], cwd=tmp_path / "gone"))


@pytest.mark.parametrize("do", [run, exec_command])
def test_a_file_that_is_no_program_is_named_with_its_remedy(do: Callable[[Run], object], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo\n")
    script.chmod(0o755)
    with pytest.raises(Failure, match=r"script: is not a program: a script needs #!"):
        do(Run([str(script)]))


def test_an_interpreter_that_is_not_there_is_told_from_a_program_that_is_not(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/python\n")
    script.chmod(0o755)
    with pytest.raises(Failure, match="the interpreter named in its first line does not exist"):
        run(Run([str(script)]))


def test_a_full_disk_names_the_file_and_leaves_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    path.write_text("whole")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    for step in (Write(path, "half"), WriteSecret(path, "half")):
        with pytest.raises(Failure, match=rf"^{path}: No space left on device; fix that and repeat the command$"):
            perform([step])
    assert path.read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["note"]


def test_a_file_keeps_the_mode_and_the_link_by_which_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    perform([Write(tmp_path / "link", "new")])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_that_a_folder_is_in_the_way_of_names_it_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "dev" / "x").mkdir(parents=True)
    with pytest.raises(Failure, match=rf"^{tmp_path}/dev: Is a directory; fix that and repeat the command$"):
        perform([Link(tmp_path / "dev", "elsewhere")])
    assert [path.name for path in tmp_path.iterdir()] == ["dev"]
