"""Text files that people write, read by one function. Standard library only."""

from __future__ import annotations

import codecs
from pathlib import Path

from deploy.core.errors import Failure

#: Encodings that a file's first bytes give away; the longer come first.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read(path: Path, name: str = "") -> str:
    """The text of a file in UTF-8, with or without a byte order mark, with its line ends as `\\n`.

    ``name`` is the file in messages. Raises `Failure` for another encoding, with the line, and `OSError` if the file
    cannot be read.
    """
    return decoded(path.read_bytes(), name or path.name)


def decoded(content: bytes, name: str) -> str:
    """The same for the bytes of a file."""
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            raise Failure(f"{name}: is {encoding}; save it as UTF-8")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failure(f"{name}:{line}: is not UTF-8; save it as UTF-8") from None
    if "\0" in text:
        raise Failure(f"{name}:{text[: text.index(chr(0))].count(chr(10)) + 1}: has a zero byte; it is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")
