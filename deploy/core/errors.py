"""The exception for everything that the user can fix."""

from __future__ import annotations


class Failure(Exception):
    """An error that the user can fix. Its one-line message says what is wrong, where, and what to do.

    `tasks.py` prints it without a traceback and exits with ``code``.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
