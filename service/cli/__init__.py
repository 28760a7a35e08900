"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 3 not available, 4 not allowed.

A command either asks a running service (``--url``; see ``commands``) or works on this machine (``local``).
What opens databases is imported only for the latter.
"""

import asyncio
import os
import sys
from itertools import takewhile

from service.cli.exit_codes import INTERRUPTED, Exit, Stopped
from service.cli.phrases import LOCAL_ONLY, SHARED
from service.cli.tables import clean
from service.cli.target import Named, given

__all__ = ["Exit", "main"]

_PIPE_CLOSED = 141


def main(arguments: list[str] | None = None) -> int:
    """Parse, carry out, and turn every expected error into one clear line."""
    try:
        named, rest = given(sys.argv[1:] if arguments is None else arguments)
        if _here(rest, named):
            from service.cli import local  # noqa: PLC0415 — opens the whole house

            return local.main(rest)
        return _remote(named, rest)
    except Stopped as stopped:
        sys.stderr.write(f"✗ {clean(str(stopped))}\n")
        return int(stopped.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED


def _here(arguments: list[str], named: Named) -> bool:
    """Whether the words mean this machine. Raises Stopped where they cannot be meant for a service."""
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    if not words:
        return False
    if words[0] in LOCAL_ONLY:
        if named.url and named.by == "--url":
            raise Stopped(f"{words[0]} works on this machine: leave --url out", Exit.WRONG_USE)
        return True
    return not named.url and (words[0] in SHARED or " ".join(words[:2]) in SHARED)


def _remote(named: Named, arguments: list[str]) -> int:
    from service.cli.parser import parser  # noqa: PLC0415 — the other half does not need it

    options = parser().parse_args(_sent_as_test(arguments))
    if not named.url:
        raise Stopped(
            f"{options.command.words} asks a running service: name it with --url, or set JOBS_URL",
            Exit.WRONG_USE,
        )
    place = named.place()
    from service.cli.remote import carry_out  # noqa: PLC0415 — not for a wrong word

    return int(asyncio.run(carry_out(place, options.command, options)))


def _sent_as_test(arguments: list[str]) -> list[str]:
    """``preview … --to ADDRESS`` sends, as it does on this machine."""
    sends = any(word == "--to" or word.startswith("--to=") for word in arguments)
    return ["test-send", *arguments[1:]] if arguments[:1] == ["preview"] and sends else arguments
