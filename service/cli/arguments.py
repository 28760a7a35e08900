"""What a command takes, and where in the request it goes."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any


class Where(StrEnum):
    """The part of the request."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"
    RAW = "raw"
    """The body itself, from a file."""
    HERE = "here"
    """For the client only: how the answer is shown."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One word or option. ``field`` is the API's name for it; ``sent`` is what a bare switch sends."""

    flag: str
    field: str
    where: Where
    text: str
    kind: Callable[[str], Any] = str
    sent: Any = None
    default: Any = None
    required: bool = False
    many: bool = False
    choices: tuple[str, ...] | None = None
    metavar: str | None = None

    @property
    def dest(self) -> str:
        """Its name in the parsed options."""
        return f"{self.where}_{self.field}"

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Teach a parser."""
        if not self.flag.startswith("-"):
            parser.add_argument(self.dest, metavar=self.flag.upper(), type=self.kind, help=self.text)
        elif self.sent is not None:
            parser.add_argument(
                self.flag, dest=self.dest, action="store_const", const=self.sent, help=self.text
            )
        else:
            parser.add_argument(
                self.flag,
                dest=self.dest,
                type=self.kind,
                default=self.default,
                required=self.required,
                nargs="+" if self.many else None,
                choices=self.choices,
                metavar=self.metavar or (None if self.choices else _METAVARS.get(self.kind, "TEXT")),
                help=self.text,
            )


def path(word: str, text: str, kind: Callable[[str], Any] = str, *, field: str = "") -> Argument:
    """A word that becomes part of the address."""
    return Argument(word, field or word, Where.PATH, text, kind)


def word(name: str, field: str, text: str) -> Argument:
    """A word that goes into the body."""
    return Argument(name, field, Where.BODY, text)


def query(
    flag: str, text: str, kind: Callable[[str], Any] = str, *, field: str = "", **more: Any
) -> Argument:
    """An option of the address's query."""
    return Argument(flag, field or flag.removeprefix("--"), Where.QUERY, text, kind, **more)


def body(flag: str, text: str, kind: Callable[[str], Any] = str, *, field: str = "", **more: Any) -> Argument:
    """An option that goes into the JSON body."""
    return Argument(flag, field or flag.removeprefix("--"), Where.BODY, text, kind, **more)


def here(flag: str, text: str, **more: Any) -> Argument:
    """An option of the client itself."""
    return Argument(flag, flag.removeprefix("--"), Where.HERE, text, **more)


# ── Kinds of values ─────────────────────────────────────────────────────────────────────────────────────────


def whole(text: str) -> int:
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
    """A moment with its zone, as it is sent."""
    return moment(text).isoformat()


def moment(text: str) -> datetime:
    """A moment with its zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; use 2026-03-10T09:00:00Z") from None
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no zone; use 2026-03-10T09:00:00Z")
    return at


_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def delay(text: str) -> int:
    """A while, in milliseconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a while; use 90s, 30m, 2h or 7d")
    return int(found[1]) * _UNITS[found[2]]


_METAVARS: dict[Callable[[str], Any], str] = {
    whole: "N", day: "DATE", instant: "TIME", delay: "WHILE",
}  # fmt: skip
