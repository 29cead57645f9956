"""The one reader of `.env`: each line is understood or refused by its number, and no value is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.core import text
from deploy.core.errors import Failure
from deploy.project import env_file, values


@pytest.mark.parametrize(
    ("line", "value"),
    [
        *(("A=x", "x"), ("A = x", "x"), ("export A=x", "x"), ("A=", ""), ("A='x y'", "x y"), ('A="x\\ny"', "x\ny")),
        *(
            ("A=x # why", "x"),
            ("A=x#y", "x#y"),
            ("A='$B'", "$B"),
            ("A=$B", "$B"),
            ("A='x\ny'", "x\ny"),
            ("A=1\nA=2", "2"),
        ),
    ],
)
def test_a_line_that_compose_takes_is_understood(line: str, value: str) -> None:
    assert env_file.values(f"# first\n\n{line}\n", ".env") == {"A": value}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("HTTPS_ONLY: 1", "HTTPS_ONLY: is followed by a colon; write HTTPS_ONLY=VALUE"),
        ("HTTPS_ONLY:1", "HTTPS_ONLY: is followed by a colon; write HTTPS_ONLY=VALUE"),
        ('A="hidden', 'A: its quote is not closed, or something follows it; write A="VALUE"'),
        ("A='hidden", "A: its quote is not closed, or something follows it; write A='VALUE'"),
        ("A='hidden' more", "A: its quote is not closed"),
        ("A", "A: has no =; write A=VALUE"),
        ("export A", "A: has no =; write A=VALUE"),
        ("hidden words", "is not understood; write NAME=VALUE, or # before a comment"),
        ("1A=hidden", "is not understood"),
        ("=hidden", "is not understood"),
        ("A-B=hidden", "is not understood"),
        ("- A=hidden", "is not understood"),
    ],
)
def test_another_line_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(Failure) as refused:
        env_file.values(f"# first\n\nB=1\n\n{line}\nC=2\n", ".env")
    assert refused.value.message.startswith(f".env:5: {said}")
    assert "hidden" not in refused.value.message


def test_each_bad_line_is_named() -> None:
    with pytest.raises(Failure) as refused:
        env_file.values("A: 1\nB=2\nC: 3\n", ".env")
    assert [line[:7] for line in refused.value.message.splitlines()] == [".env:1:", ".env:3:"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfA=\xc3\xbc\r\n", b"A=\xc3\xbc\n"])
def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert env_file.load(tmp_path / ".env") == {"A": "\u00fc"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\n# M\xfcller\n", ".env:2: is not UTF-8"),
        ("A=1".encode("utf-16"), ".env: is UTF-16"),
        (b"A=\0", ".env:1: "),
    ],
)
def test_another_encoding_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(Failure) as refused:
        env_file.load(tmp_path / ".env")
    assert refused.value.message.startswith(said)


def test_no_file_has_no_variables(tmp_path: Path) -> None:
    assert env_file.load(tmp_path / ".env") == {}


LINES = st.lists(st.text(st.sampled_from("AB_1=: '\"#$\\\t-.x\u00fc"), max_size=12), max_size=4)


@settings(max_examples=500, deadline=None)
@given(LINES)
@example(["A='", "B='"])
def test_any_text_is_understood_line_by_line_or_refused(lines: list[str]) -> None:
    """What is understood means the same with each value written again in quotes; nothing is left out."""
    try:
        found = env_file.values("\n".join(lines), ".env")
    except Failure as failure:
        lines_said = failure.message.splitlines()
    else:
        lines_said = []
    assert all(said.startswith(".env:") for said in lines_said)
    if lines_said:
        return
    again = "".join(f"{name}='{value}'\n" for name, value in found.items() if not set(value) & set("'\\"))
    assert env_file.values(again, ".env").items() <= found.items()
    whole = "\n".join(lines)
    told = [line for line in whole.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert found or not told or "=" not in whole


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(content: bytes) -> None:
    said, decoded = "", ""
    try:
        decoded = text.decoded(content, "x")
    except Failure as failure:
        said = failure.message
    assert "\r" not in decoded
    assert not said or "save it as UTF-8" in said or "zero byte" in said


# --- values ---


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *(
            ("DATABASE_URL", url, "is not a URL such as postgres://")
            for url in ("garbage", "postgres://", "mysql://h/x")
        ),
        *(("CELERY_BROKER_URL", url, "is not a URL such as amqp://") for url in ("mqtt://h", "amqp://", "h:5672")),
        ("SECRET_KEY", "$" + "k" * 60, r"begins with \$, which django-environ takes as the name of another variable"),
        ("SECRET_KEY", "k" * 49, "is too short or a default"),
        ("SECRET_KEY", "django-insecure-" + "k" * 60, "is too short or a default"),
        ("SECRET_KEY", "k" * 50 + "\n", "contains a line break"),
        ("ANYTHING", " ", "is empty"),
    ],
)
def test_a_value_that_the_site_cannot_use_is_refused(name: str, value: str, said: str) -> None:
    assert said.replace("\\", "") in values.problem(name, value)


def test_values_that_the_site_can_use() -> None:
    assert values.problem("DATABASE_URL", "postgres://site:p%24@db.example.org:5432/site") == ""
    assert values.problem("CELERY_BROKER_URL", "amqps://site:p@broker.example.org//") == ""
    assert values.problem("SECRET_KEY", "k$" * 25) == ""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("A=x\u00a0", "U+00A0"),
        ("\u00a0A=x", "U+00A0"),
        ("A\u200b=x", "U+200B"),
        ("A=x\u2028y", "U+2028"),
        ("A=x\x1f", "U+001F"),
    ],
)
def test_a_character_that_nobody_sees_is_named_outside_of_quotes_and_comments(line: str, code: str) -> None:
    with pytest.raises(Failure) as refused:
        env_file.values(f"# \u00a0\nB='\u00a0'\n{line}\n", ".env")
    assert refused.value.message == f".env:3: has the hidden character {code}; remove it, or quote the value"
    assert env_file.values("# \u00a0\nB='\u00a0'\nC=\u00fc # \u00a0\n", ".env") == {"B": "\u00a0", "C": "\u00fc"}


def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(
        Failure, match=r"^\.env: is a folder, but must be a file; move it away, and put the file there$"
    ):
        env_file.load(tmp_path / ".env")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Failure, match=r"^pipe: is a pipe or device, but must be a file"):
        text.read(tmp_path / "pipe")
