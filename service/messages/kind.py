"""Kinds of message: a value that each reminder defines, and that all other parts read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


def N_(text: str) -> str:  # noqa: N802 — gettext's own name for "to be translated later"
    """Mark a text for extraction."""
    return text


class Channel(StrEnum):
    """The way on which a message reaches a person."""

    EMAIL = "email"
    IN_APP = "in_app"


class Purpose(StrEnum):
    """The purpose of a kind of message; decides how often and when a user may get it."""

    DEADLINE = "deadline"
    """About a date that the recipient set. Not limited by a budget."""
    NUDGE = "nudge"
    """Asks for something: one mail a local day and three in seven days, all nudges together."""
    REPORT = "report"
    """About a past period. Not limited by a budget, nor by the dashboard's preference for reminders."""
    PROMPT = "prompt"
    """About this moment: never postponed, at most two mails a local day; recipients cannot choose an hour."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Invented facts for one way in which a mail can turn out: for previews, pictures and tests.

    ``facts``: as the job stores them in the outbox.
    """

    variant: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class MessageKind:
    """A kind of message; the unit of opting out.

    ``name``: as stored with messages and choices; unique, like ``template``, the stored name of its texts.
    ``label``, ``hint`` (when it comes), ``reason`` (why somebody gets it) and ``stop`` (the link that ends
    it) are English, marked with ``N_``, and translated in ``catalogues``: a folder of ``<language>.po``;
    None: the service's own.
    ``mail``: the folder with subject.txt, body.txt, body.html, preheader.html and in_app.txt.
    ``preference``: the dashboard's preference that it obeys, where that has another name than the kind.
    ``mail_by_default``: whether somebody who chose nothing gets it by mail.
    ``may_be_resent``: whether a mail may go out a second time when nobody knows if the first arrived.
    ``in_app_type``: its type in the dashboard's inbox. ``position``: on the preference page, ascending.
    """

    name: str
    template: str
    label: str
    hint: str
    reason: str
    stop: str
    purpose: Purpose
    in_app_type: str
    mail: Path
    samples: tuple[Sample, ...]
    preference: str = ""
    mail_by_default: bool = True
    may_be_resent: bool = False
    position: int = 100
    catalogues: Path | None = None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"MessageKind({self.name!r})"

    @property
    def dashboard_preference(self) -> str:
        """The dashboard's preference that it obeys."""
        return self.preference or self.name

    @property
    def postponable(self) -> bool:
        """Whether it may wait for the end of quiet hours, and come at an hour that the recipient chose."""
        return self.purpose is not Purpose.PROMPT


def nudges(kinds: Iterable[MessageKind]) -> frozenset[str]:
    """The names of those kinds that share one budget."""
    return frozenset(kind.name for kind in kinds if kind.purpose is Purpose.NUDGE)


def resendable(kinds: Iterable[MessageKind]) -> frozenset[str]:
    """The names of those kinds that may be sent a second time."""
    return frozenset(kind.name for kind in kinds if kind.may_be_resent)
