"""The one reader of .in files: what pip takes as "stands on" is the graph's, and the rest is understood or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.core.errors import Failure
from deploy.venvs import infile, layers
from tests.support import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """requirements/ with a base that has a lock."""
    made = tmp_path / "requirements"
    made.mkdir()
    (made / "base.in").write_text("django\n")
    (made / "base.txt").write_text("django==5.2\n")
    return made


def dev(folder: Path, content: str | bytes) -> Path:
    path = folder / "dev.in"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "line",
    [
        *(
            "-r base.in",
            "-rbase.in",
            "-r ./base.in",
            "--requirement base.in",
            "--requirement=base.in",
            "  -r base.in  ",
        ),
        *("-r base.in # why", "-r \\\nbase.in", "-r '../requirements/base.in'", '-r "base.in"', "\ufeff-r base.in"),
        *("-r base.in\r\n", "# \u00fc\n-r base.in", "-r=base.in"),
    ],
)
def test_each_spelling_of_stands_on_is_the_graphs(folder: Path, line: str) -> None:
    assert infile.graph(dev(folder, f"{line}\nsix\n")) == ("base",)
    assert layers.read_graph(folder)["dev"] == ("base",)
    infile.check(folder / "dev.in")


def test_what_is_commented_out_is_not_stood_on(folder: Path) -> None:
    assert infile.graph(dev(folder, "# -r base.in\nsix # -r base.in\n# continued \\\nsix\n")) == ()


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("-r base.txt", "write -r base.in"),
        ("-r ../common.in", "move that file there, or copy its lines here"),
        ("-r https://example.org/base.in", "copy its lines here"),
        ("-r sub/base.in", "move that file there"),
    ],
)
def test_another_file_is_refused_and_no_copy_is_made_of_it(folder: Path, line: str, remedy: str) -> None:
    with pytest.raises(Failure, match=rf"^requirements/dev\.in:2: -r .*{remedy}"):
        infile.graph(dev(folder, f"# one\n{line}\n"))


#: Each form of a direct reference, and what its wheel is built from.
DIRECT = {
    "toml @ file:///x/toml.whl": "file:///x/toml.whl",
    "toml @ https://example.org/toml.whl": "https://example.org/toml.whl",
    "toml@git+https://example.org/toml@abc": "git+https://example.org/toml@abc",
    "toml @ git+file:///x/toml@0123456": "git+file:///x/toml@0123456",
    "git+https://example.org/toml": "git+https://example.org/toml",
    "git+ssh://git@example.org/toml.git@v1#egg=toml": "'git+ssh://git@example.org/toml.git@v1#egg=toml'",
    "https://example.org/toml.whl --hash=sha256:00": "https://example.org/toml.whl",
    "file:///x/toml.tar.gz#sha256=00": "'file:///x/toml.tar.gz#sha256=00'",
    "./libs/toml": "./libs/toml",
    "../toml": "../toml",
    "/opt/toml.whl": "/opt/toml.whl",
    "libs/toml": "libs/toml",
    "~/toml": "'~/toml'",
    "toml.whl": "toml.whl",
    "toml.tar.gz": "toml.tar.gz",
    "./toml[a,b]": "'./toml[a,b]'",
    ".": ".",
    "-e .": ".",
    "-e ../lib": "../lib",
    "-e './my lib'": "'./my lib'",
    "--editable=./lib": "./lib",
    "-e git+https://example.org/toml@abc#egg=toml": "'git+https://example.org/toml@abc#egg=toml'",
    "toml[a] @ file:./toml": "file:./toml",
    "file:./toml": "file:./toml",
    "toml @ ./toml ; python_version < '4'": "./toml",
    "toml [a] @ https://example.org/t.whl ; python_version < '4'": "https://example.org/t.whl",
}


@pytest.mark.parametrize(("line", "built"), DIRECT.items())
def test_a_direct_reference_is_refused_with_the_command_that_builds_it_once(
    folder: Path, line: str, built: str
) -> None:
    with pytest.raises(Failure, match=r"^requirements/dev\.in:3: ") as refused:
        infile.check(dev(folder, f"-r base.in\nsix\n{line}\n"))
    command = f"`pip wheel --no-deps -w requirements/wheels {built}`, commit the wheel, and write NAME==VERSION"
    assert refused.value.message.endswith(command)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("--index-url https://example.org/simple", r"\[\[tool\.uv\.index\]\]"),
        ("-i https://example.org/simple", r"\[\[tool\.uv\.index\]\]"),
        ("--extra-index-url=https://example.org/simple", r"\[\[tool\.uv\.index\]\]"),
        ("-f ./wheels", r"find-links or no-index in \[tool\.uv\]"),
        ("--no-index", r"find-links or no-index in \[tool\.uv\]"),
        ("--trusted-host example.org", r"pyproject\.toml"),
        ("--pre", "name the pre-release"),
        ("--no-binary :all:", "is not carried"),
        ("-c ../constraints.txt", r"move it there, and write -c constraints\.txt"),
        ("-c none.txt", "no such file"),
        ("-c https://example.org/c.txt", "save it there"),
        *((option, "names no file: write one after it") for option in ("-r", "-c", "-e", "--constraint=")),
        ("six==${VERSION}", "differs between machines"),
        ("six = 1", "is not understood"),
        ("six 1.17", "is not understood"),
        ("a, b", "is not understood"),
        ("six>=1 \\\n  , ?", "is not understood"),
    ],
)
def test_what_would_not_reach_each_installer_is_refused_by_name(folder: Path, line: str, remedy: str) -> None:
    with pytest.raises(Failure, match=rf"^requirements/dev\.in:2: .*{remedy}"):
        infile.check(dev(folder, f"-r base.in\n{line}\n"))


@pytest.mark.parametrize(
    "line",
    [
        *(
            "six",
            "six==1.17.0",
            "django>=5.2,<5.3            # why",
            "celery[redis,sqs] >=5,<6",
            "six (>=1)",
            "a.b-c_d",
        ),
        *("x ~= 1.0 ; python_version < '3.12' and sys_platform == \"linux\"", "x!=1.*", "x===1", "x;os_name=='nt'"),
        *("x>=1,\\\n<2", "x==1 --hash=sha256:00", "-c constraints.txt"),
    ],
)
def test_ordinary_lines_are_understood(folder: Path, line: str) -> None:
    (folder / "constraints.txt").write_text("six<2\n")
    infile.check(dev(folder, f"{line}\n"))


def test_a_constraint_file_is_read_the_same_way(folder: Path) -> None:
    (folder / "constraints.txt").write_text("six<2\ntoml @ file:///x.whl\n")
    with pytest.raises(Failure, match=r"^requirements/constraints\.txt:2: toml"):
        infile.check(dev(folder, "-c constraints.txt\n"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"# M\xfcller\nsix\n", r":1: is not UTF-8"),
        (b"six\n# M\xfc", r":2: is not UTF-8"),
        ("six".encode("utf-16"), ": is UTF-16"),
    ],
)
def test_another_encoding_is_named(folder: Path, content: bytes, said: str) -> None:
    with pytest.raises(Failure, match=rf"^requirements/dev\.in{said}.*save it as UTF-8$"):
        infile.graph(dev(folder, content))


def test_a_mistake_in_one_environment_does_not_stop_another(folder: Path) -> None:
    dev(folder, "-r ../common.in\n")
    assert layers.chain(folder, "base") == {"base": ()}


def test_our_own_files_are_understood() -> None:
    for path in (ROOT / "requirements").glob("*.in"):
        infile.check(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("six\u2028django\n", "dev.in:1: has the hidden character U+2028; write a plain space, or remove it"),
        ("six\u00a0>=1\n", "dev.in:1: has the hidden character U+00A0; write a plain space, or remove it"),
        ("six\n# \u2028\n", "dev.in:2: has the hidden character U+2028; write a plain space, or remove it"),
        (f"six{' ' * 5000}x\n", "dev.in:1: is longer than 4000 characters; break it into lines"),
    ],
)
def test_a_line_that_pip_and_uv_do_not_read_alike_is_refused(folder: Path, content: str, said: str) -> None:
    with pytest.raises(Failure) as refused:
        infile.check(dev(folder, content))
    assert refused.value.message == f"requirements/{said}"


def test_a_comment_may_have_any_letter_and_many_spaces_take_no_time(folder: Path) -> None:
    infile.check(dev(folder, "six # \u00fc\u00a0\n" + "six \\\n" + (" " * 3900 + "\\\n") * 40 + "\n"))


def test_constraints_that_lead_back_to_themselves_are_refused(folder: Path) -> None:
    (folder / "one.txt").write_text("-c two.txt\n")
    (folder / "two.txt").write_text("-c one.txt\n")
    with pytest.raises(
        Failure, match=r"^requirements/two\.txt:1: -c one\.txt: leads back to this file; remove the line$"
    ):
        infile.check(dev(folder, "-c one.txt\n"))


@pytest.mark.parametrize(
    "line",
    [
        "mine @ https://ann:hunter2@example.org/mine-1.whl",
        "git+https://hunter2@example.org/mine.git",
        "--index-url https://hunter2:@example.org/simple",
        f"https://ann:hunter2{'x' * 80}@example.org/mine-1.whl",
    ],
)
def test_a_refusal_does_not_show_the_password_of_a_url(folder: Path, line: str) -> None:
    with pytest.raises(Failure) as refused:
        infile.check(dev(folder, f"{line}\n"))
    assert "hunter2" not in refused.value.message


def test_a_marker_of_parentheses_without_end_is_refused(folder: Path) -> None:
    with pytest.raises(Failure, match="its marker is not understood"):
        infile.check(dev(folder, f"six; {'(' * 1500}os_name == 'a'{')' * 1500}\n"))


def test_an_empty_lock_of_a_file_that_names_packages_builds_no_empty_layer(folder: Path) -> None:
    (folder / "base.txt").write_text("# This file was autogenerated\n")
    with pytest.raises(Failure, match=r"^requirements/base\.txt is empty, and base\.in is not"):
        layers.resolve(folder, "base", "x")
    (folder / "base.in").write_text("# nothing\nwin32 ; os_name == 'nt'\n")
    assert layers.resolve(folder, "base", "x").pins == ()
