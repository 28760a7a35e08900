"""Exit codes, and the error that ends a command."""

from enum import IntEnum


class Exit(IntEnum):
    """0 done, 1 failed or refused, 2 wrong configuration or usage, 3 unavailable, 4 not allowed; 5 serve
    stopped, but left something to its lease.
    """

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    UNAVAILABLE = 3
    NOT_ALLOWED = 4
    SOMETHING_LEFT = 5


INTERRUPTED = 130
"""The exit code of shells for Ctrl-C."""


class CommandError(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, sentence: str, code: Exit) -> None:
        super().__init__(sentence)
        self.code = code
