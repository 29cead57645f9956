"""Text files that people write, read by one function. Standard library only."""

from __future__ import annotations

import codecs
import stat
import unicodedata
from pathlib import Path

from deploy.core.errors import Failure

#: Encodings that a file's first bytes give away; the longer come first.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
#: The categories of control, format and space characters.
_HIDDEN = ("Cc", "Cf", "Zs", "Zl", "Zp")


def read(path: Path, name: str = "") -> str:
    """The text of a file in UTF-8, with or without a byte order mark, with its line ends as `\\n`.

    ``name`` is the file in messages. Raises `Failure` for another encoding, with the line, and for what is no regular
    file: a pipe would be waited for without end. Raises `OSError` if the file cannot be read.
    """
    require_file(path, name or path.name)
    return decoded(path.read_bytes(), name or path.name)


def require_file(path: Path, name: str) -> None:
    """Raise `Failure` for a folder, pipe or device in the place of a file, and `OSError` if nothing is there."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        what = "folder" if stat.S_ISDIR(mode) else "pipe or device"
        raise Failure(f"{name}: is a {what}, but must be a file; move it away, and put the file there")


def hidden(text: str) -> str:
    """The first character that people do not see and programs read differently, such as a no-break space; else empty.

    It is named by its code: `U+00A0`.
    """
    for each in text:
        if each not in " \t" and (each < " " or (each >= "\x7f" and unicodedata.category(each) in _HIDDEN)):
            return f"U+{ord(each):04X}"
    return ""


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
