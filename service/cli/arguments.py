"""The arguments of commands, and which part of the request each becomes."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any


class Location(StrEnum):
    """The part of the request that an argument becomes."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"
    RAW = "raw"
    """The body itself, from a file."""
    CLIENT = "client"
    """Not sent: it says how the client prints the answer."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument or option. ``field``: its name in the API; ``const``: the value of a bare switch."""

    flag: str
    field: str
    location: Location
    text: str
    parse: Callable[[str], Any] = str
    const: Any = None
    default: Any = None
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] | None = None
    metavar: str | None = None

    @property
    def dest(self) -> str:
        """Its attribute in the parsed options."""
        return f"{self.location}_{self.field}"

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add it to a parser."""
        if not self.flag.startswith("-"):
            parser.add_argument(self.dest, metavar=self.flag.upper(), type=self.parse, help=self.text)
        elif self.const is not None:
            parser.add_argument(
                self.flag, dest=self.dest, action="store_const", const=self.const, help=self.text
            )
        else:
            parser.add_argument(
                self.flag,
                dest=self.dest,
                type=self.parse,
                default=self.default,
                required=self.required,
                nargs="+" if self.many else None,
                choices=self.choices,
                metavar=self.metavar or (None if self.choices else _METAVARS.get(self.parse, "TEXT")),
                help=self.text,
            )


def path(name: str, text: str, parse: Callable[[str], Any] = str, *, field: str = "") -> Argument:
    """A positional argument that becomes part of the path."""
    return Argument(name, field or name, Location.PATH, text, parse)


def positional(name: str, field: str, text: str) -> Argument:
    """A positional argument that becomes a field of the JSON body."""
    return Argument(name, field, Location.BODY, text)


def query(
    flag: str, text: str, parse: Callable[[str], Any] = str, *, field: str = "", **options: Any
) -> Argument:
    """An option that becomes a query parameter."""
    return Argument(flag, field or flag.removeprefix("--"), Location.QUERY, text, parse, **options)


def body(
    flag: str, text: str, parse: Callable[[str], Any] = str, *, field: str = "", **options: Any
) -> Argument:
    """An option that becomes a field of the JSON body."""
    return Argument(flag, field or flag.removeprefix("--"), Location.BODY, text, parse, **options)


def client_option(flag: str, text: str, **options: Any) -> Argument:
    """An option of the client itself."""
    return Argument(flag, flag.removeprefix("--"), Location.CLIENT, text, **options)


# ── Types of values ─────────────────────────────────────────────────────────────────────────────────────────


def positive_integer(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def day(text: str) -> str:
    """A calendar date."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; use one like 2026-03-01") from None


def instant(text: str) -> str:
    """An instant with its zone, as ISO 8601."""
    return parse_instant(text).isoformat()


def parse_instant(text: str) -> datetime:
    """An instant; its zone is required."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; use 2026-03-10T09:00:00Z") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no zone; use 2026-03-10T09:00:00Z")
    return at


_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def delay(text: str) -> int:
    """A duration like ``90s`` or ``2h``, in milliseconds."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a while; use 90s, 30m, 2h or 7d")
    return int(match[1]) * _UNITS[match[2]]


_METAVARS: dict[Callable[[str], Any], str] = {
    positive_integer: "N", day: "DATE", instant: "TIME", delay: "WHILE",
}  # fmt: skip
