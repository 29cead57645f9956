"""Any text in an .in file: what our reader takes means the same to pip, and the rest is refused with a line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from pip._internal.req.req_file import parse_requirements

from deploy.core.errors import Failure
from deploy.venvs import infile

PIECES = st.sampled_from(
    [
        *(
            "six",
            "django",
            ">=1",
            "==1.0",
            "<2",
            ",",
            " ",
            "  ",
            "\\\n",
            "#",
            " # why",
            ";",
            " ; ",
            "python_version < '4'",
        ),
        *(
            "-r base.in",
            "-rbase.in",
            "--requirement",
            "=",
            "base.in",
            "base.txt",
            "-e .",
            "-c",
            "../x",
            "@",
            "git+",
            "://",
        ),
        *("[a]", "[", "]", "(", ")", "${X}", "'", '"', "--pre", "-i http://x", "\u00fc", "\t", "~=1.2", "!=1.*", "."),
        *("--hash=sha256:00", "sys_platform", "==", "'x'", "\r"),
    ]
)
LINES = st.lists(st.lists(PIECES, max_size=5).map("".join), max_size=4).map("\n".join)


def by_pip(path: Path) -> list[str]:
    """The requirements that pip reads, but for those of base.in."""
    found = parse_requirements(str(path), session=None)  # type: ignore[arg-type]
    return [str(Requirement(each.requirement)) for each in found if "django-of-base" not in each.requirement]


def ours(path: Path) -> list[str]:
    """Those that we take."""
    infile.check(path)
    lines = [line.text.split(" --hash")[0] for line in infile.read(path).lines if not infile.option(line)[0]]
    return [str(Requirement(line)) for line in lines]


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_what_is_taken_means_the_same_to_pip(content: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.in").write_text("django-of-base\n")
        (folder / "base.txt").write_text("django-of-base==1\n")
        path = folder / "dev.in"
        path.write_bytes(content.encode())
        said = ""
        taken: list[str] = []
        graph: tuple[str, ...] = ()
        try:
            taken, graph = ours(path), infile.graph(path)
        except Failure as failure:
            said = failure.message
        if said:
            assert f"{folder.name}/dev.in:" in said
            assert "\n" not in said
            return
        assert taken == by_pip(path)
        stands = [each.requirement for each in parse_requirements(str(path), session=None)]  # type: ignore[arg-type]
        assert ("django-of-base" in stands) == (graph == ("base",) * len(graph) and bool(graph))


@pytest.mark.parametrize("content", ["six\\", "-r", "--requirement=", "\\\n\\\n", "-", "--", "six;", "six ; x", "'"])
def test_odd_endings_are_no_traceback(tmp_path: Path, content: str) -> None:
    path = tmp_path / "dev.in"
    path.write_text(content)
    said = ""
    try:
        infile.check(path)
    except Failure as failure:
        said = failure.message
    if said:
        assert ":1: " in said
    else:
        by_pip(path)
