"""The commands of a running service for argparse, each with its help and an example."""

import argparse
from pathlib import Path
from typing import Any

from service import __version__
from service.cli.arguments import whole
from service.cli.commands import COMMANDS, GROUPS, Command
from service.cli.phrases import LOCAL, LOCAL_ONLY, SHARED

PROGRAM = "python -m service"
_DESCRIPTION = """\
Background jobs of a dashboard. With --url (or JOBS_URL) a command asks a running service, with the token
from JOBS_TOKEN, ADMIN_TOKEN or --token-file; without, it works on this machine's own configuration."""
_EPILOG = f"""\
examples:
  {PROGRAM} serve
  {PROGRAM} --url https://jobs.example.org health
  {PROGRAM} --url https://jobs.example.org runs list --state failed

exit codes: 0 done, 1 failed or refused, 2 wrong usage or configuration, 3 not available, 4 not allowed"""


def parser() -> argparse.ArgumentParser:
    """All commands; those of this machine alone are only named."""
    made = _parser(argparse.ArgumentParser, prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    made.add_argument("--version", action="version", version=__version__)
    _service(made)
    commands = made.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name in sorted(LOCAL_ONLY, key=list(LOCAL).index):
        commands.add_parser(name, help=LOCAL[name])
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        first, _, second = command.words.partition(" ")
        if second and first not in groups:
            group = _parser(commands.add_parser, first, help=GROUPS[first], description=GROUPS[first] + ".")
            groups[first] = group.add_subparsers(required=True, metavar="COMMAND", title="commands")
        _add(groups[first] if second else commands, second or first, command)
    return made


def _parser(make: Any, *names: str, **more: Any) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = make(
        *names, **more, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return made


def _add(commands: Any, name: str, command: Command) -> None:
    made = _parser(
        commands.add_parser, name, help=command.text, description=_described(command),
        epilog=f"example:\n  {PROGRAM} --url https://jobs.example.org {command.example}",
    )  # fmt: skip
    made.set_defaults(command=command, key=None, all=False)
    for argument in command.arguments:
        argument.add_to(made)
    if command.pages:
        made.add_argument("--all", action="store_true", help="every row, page after page")
    made.add_argument("--json", action="store_true", help="print the answer as the service gave it")
    made.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")
    made.add_argument("--timeout", type=whole, metavar="SECONDS", help=_timeout_help(command))
    if command.acts:
        made.add_argument(
            "--key", type=_key, metavar="KEY", help="the Idempotency-Key of an act that is asked for again"
        )
    _service(made)


def _described(command: Command) -> str:
    text = f"{command.text[0].upper()}{command.text[1:]}."
    alone = "" if command.words in SHARED else "\nAsks a running service: needs --url or JOBS_URL."
    return f"{text}{alone}\n{command.method} {command.path} ({command.operation} of the API's description)."


def _timeout_help(command: Command) -> str:
    return f"how long the service may keep silent; default {command.timeout:g}"


def _service(made: argparse.ArgumentParser) -> None:
    """Read before everything else (see ``place``); here for the help."""
    group = made.add_argument_group("a running service")
    group.add_argument("--url", metavar="URL", help="its address; default JOBS_URL")
    group.add_argument(
        "--token-file", metavar="FILE", help="a file with the token; default JOBS_TOKEN, then ADMIN_TOKEN"
    )


def _key(text: str) -> str:
    if not (text.isascii() and text.isprintable() and 1 <= len(text) <= 200):
        raise argparse.ArgumentTypeError("a key has 1 to 200 printable ASCII characters")
    return text
