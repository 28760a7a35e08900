"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unavailable, 4 not allowed.

A command either calls a running service (``--url``; see ``commands``) or works on this machine (``local``).
Modules that open databases are imported only for the latter.
"""

import asyncio
import os
import sys
from itertools import takewhile

from service.cli.exit_codes import INTERRUPTED, CommandError, Exit
from service.cli.phrases import LOCAL_ONLY, SHARED
from service.cli.tables import clean
from service.cli.target import TargetOptions, parse_target

__all__ = ["Exit", "main"]

_PIPE_CLOSED = 141


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, and print every expected error as one line. Returns the exit code."""
    try:
        requested, rest = parse_target(sys.argv[1:] if arguments is None else arguments)
        if _runs_locally(rest, requested):
            from service.cli import local  # noqa: PLC0415 — imports the whole service

            return local.main(rest)
        return _remote(requested, rest)
    except CommandError as error:
        sys.stderr.write(f"✗ {clean(str(error))}\n")
        return int(error.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED


def _runs_locally(arguments: list[str], requested: TargetOptions) -> bool:
    """Whether the command runs on this machine. Raises CommandError if it must, and ``--url`` is given."""
    words = list(takewhile(lambda word: not word.startswith("-"), arguments))
    if not words:
        return False
    if words[0] in LOCAL_ONLY:
        if requested.url and requested.source == "--url":
            raise CommandError(f"{words[0]} works on this machine: leave --url out", Exit.WRONG_USE)
        return True
    return not requested.url and (words[0] in SHARED or " ".join(words[:2]) in SHARED)


def _remote(requested: TargetOptions, arguments: list[str]) -> int:
    from service.cli.parser import build_parser  # noqa: PLC0415 — not needed by local commands

    options = build_parser().parse_args(_as_test_send(arguments))
    if not requested.url:
        raise CommandError(
            f"{options.command.words} asks a running service: name it with --url, or set JOBS_URL",
            Exit.WRONG_USE,
        )
    target = requested.resolve()
    from service.cli.remote import run_command  # noqa: PLC0415 — not needed for a usage error

    return int(asyncio.run(run_command(target, options.command, options)))


def _as_test_send(arguments: list[str]) -> list[str]:
    """``preview … --to ADDRESS`` sends a test mail, as the local command does."""
    sends = any(word == "--to" or word.startswith("--to=") for word in arguments)
    return ["test-send", *arguments[1:]] if arguments[:1] == ["preview"] and sends else arguments
