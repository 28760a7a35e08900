"""What a job is: a value with a schedule, a reader of facts and a pure decision."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import asyncpg

from service.domain.dashboard import Kind, User
from service.domain.effect import Decision
from service.domain.run import Tick


class JobType(StrEnum):
    """The two families of the original."""

    REMINDER = "reminder"
    ANALYTICS = "analytics"


class TimeMode(StrEnum):
    """In whose time the schedule is read: each user's, the service's zone, or UTC steps."""

    USER = "user"
    SERVICE = "service"
    UTC = "utc"


class CatchUp(StrEnum):
    """What becomes of slots that passed while nobody was there."""

    NONE = "none"
    LATEST = "latest"
    EVERY = "every"


class Facts(Protocol):
    """What a job knows about one user when it decides."""

    @property
    def user(self) -> User: ...


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of candidates in user-id order. ``cursor`` is the last user id that the page covers."""

    facts: Sequence[Any]
    cursor: str
    scanned: int
    """How many users the page looked at, chosen or not."""


Read = Callable[[asyncpg.Connection, Tick, str], AsyncIterator[Page]]
"""``read(connection, tick, after)`` streams pages of facts about users whose id is greater than ``after``."""

Decide = Callable[[Any, Tick], Decision]

Revalidate = Callable[[dict[str, Any], frozenset[str]], dict[str, Any] | None]
"""``revalidate(frozen facts, ids of goals still open)``: the facts that remain true; None if nothing does."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job. ``useful_until(nominal_local)`` is the local wall-clock time after which a slot is missed."""

    type: JobType
    name: str
    schedule: str
    mode: TimeMode
    catch_up: CatchUp
    useful_until: Callable[[datetime], datetime]
    read: Read
    decide: Decide
    kind: Kind | None = None
    revalidate: Revalidate | None = None
    overlap: bool = False
    timeout: timedelta = timedelta(minutes=30)
    max_attempts: int = 5

    @property
    def id(self) -> str:
        """The ledger's name of this job, e.g. ``reminder.goalDeadlines``."""
        return f"{self.type}.{self.name}"
