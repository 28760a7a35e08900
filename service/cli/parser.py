"""The argparse parser of the commands for a running service, with help and examples."""

import argparse
from pathlib import Path
from typing import Any

from service import __version__
from service.cli.arguments import positive_integer
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; local ones are only listed."""
    parser = _new_parser(argparse.ArgumentParser, prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=__version__)
    _add_target_options(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name in sorted(LOCAL_ONLY, key=list(LOCAL).index):
        commands.add_parser(name, help=LOCAL[name])
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        first, _, second = command.words.partition(" ")
        if second and first not in groups:
            group = _new_parser(
                commands.add_parser, first, help=GROUPS[first], description=GROUPS[first] + "."
            )
            groups[first] = group.add_subparsers(required=True, metavar="COMMAND", title="commands")
        _add_command(groups[first] if second else commands, second or first, command)
    return parser


def _new_parser(make: Any, *names: str, **options: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = make(
        *names, **options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def _add_command(commands: Any, name: str, command: Command) -> None:
    parser = _new_parser(
        commands.add_parser, name, help=command.text, description=_description(command),
        epilog=f"example:\n  {PROGRAM} --url https://jobs.example.org {command.example}",
    )  # fmt: skip
    parser.set_defaults(command=command, key=None, all=False)
    for argument in command.arguments:
        argument.add_to(parser)
    if command.pages:
        parser.add_argument("--all", action="store_true", help="every row, page after page")
    parser.add_argument("--json", action="store_true", help="print the answer as the service gave it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")
    parser.add_argument("--timeout", type=positive_integer, metavar="SECONDS", help=_timeout_help(command))
    if command.mutates:
        parser.add_argument(
            "--key", type=_key, metavar="KEY", help="the Idempotency-Key of an act that is asked for again"
        )
    _add_target_options(parser)


def _description(command: Command) -> str:
    text = f"{command.text[0].upper()}{command.text[1:]}."
    note = "" if command.words in SHARED else "\nAsks a running service: needs --url or JOBS_URL."
    return f"{text}{note}\n{command.method} {command.path} ({command.operation} of the API's description)."


def _timeout_help(command: Command) -> str:
    return f"how long the service may keep silent; default {command.timeout:g}"


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    """Listed for the help only: ``target`` reads these options before the others."""
    group = parser.add_argument_group("a running service")
    group.add_argument("--url", metavar="URL", help="its address; default JOBS_URL")
    group.add_argument(
        "--token-file", metavar="FILE", help="a file with the token; default JOBS_TOKEN, then ADMIN_TOKEN"
    )


def _key(text: str) -> str:
    if not (text.isascii() and text.isprintable() and 1 <= len(text) <= 200):
        raise argparse.ArgumentTypeError("a key has 1 to 200 printable ASCII characters")
    return text
