"""What the shell is told, and the one error of the client."""

from enum import IntEnum


class Exit(IntEnum):
    """0 done, 1 failed or refused, 2 wrong configuration or usage, 3 not available, 4 not allowed."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    UNAVAILABLE = 3
    NOT_ALLOWED = 4


INTERRUPTED = 130
"""Ctrl-C, as shells tell it."""


class CommandError(Exception):
    """A command ends here: one sentence for a person, one number for the shell."""

    def __init__(self, sentence: str, code: Exit) -> None:
        super().__init__(sentence)
        self.code = code
