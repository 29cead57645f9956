"""The one exception that means: the user can fix this."""

from __future__ import annotations


class Failure(Exception):
    """Something a person can put right, said in one line that names the thing and the remedy.

    The front door prints it without a traceback and exits with ``code``.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
