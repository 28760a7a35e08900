"""What a job is: a value with a schedule that either decides about people, or works in steps.

A reminder reads facts about people page by page and decides, purely, what each of them gets. A statistic has
``work``: it writes in steps, each of them one transaction under the run's fence, and goes on at its cursor.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import asyncpg

from service.analytics.activity import LocalSession
from service.archive.archive import Archive
from service.archive.manifest import Keeping
from service.dashboard.dashboard_state import Standing
from service.dashboard.model import Kind, User
from service.engine.run import Tick
from service.errors import UnknownJob, UnknownJobType
from service.messages.decision import Decision


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


_PAGE = 1000
AT_ONCE = 50
"""After so many users others get their turn: a page must not keep the probes waiting."""


async def pages(
    connection: asyncpg.Connection,
    sql: str,
    tick: Tick,
    after: str,
    facts_of: Callable[[asyncpg.Record], Any],
) -> AsyncIterator[Page]:
    """Facts about users in pages of 1,000, by user id.

    ``sql`` takes the last user id, the tick's instant, its slot groups (or NULL), one user's id (or NULL),
    the one zone of all local dates (or NULL), and how many users to look at; its rows begin with the user.
    """
    groups = None if tick.zones is None else list(tick.zones)
    while rows := await connection.fetch(
        sql, after, tick.as_of, groups, tick.user_id, tick.clock_zone, _PAGE
    ):
        after = rows[-1]["id"]
        facts = []
        for row in rows:
            facts.append(facts_of(row))
            if len(facts) % AT_ONCE == 0:
                await asyncio.sleep(0)
        yield Page(facts, after, len(rows))


def dates(found: Sequence[str] | None) -> frozenset[date]:
    """Local dates that a query gathered as JSON; None when there were none."""
    return frozenset(map(date.fromisoformat, found or ()))


def local_sessions(found: Sequence[Sequence[Any]] | None) -> tuple[LocalSession, ...]:
    """Sessions that a query gathered as JSON: [local date, focus, status, focus seconds, category] each."""
    return tuple(LocalSession(date.fromisoformat(day), *rest) for day, *rest in found or ())


Read = Callable[[asyncpg.Connection, Tick, str], AsyncIterator[Page]]
"""``read(connection, tick, after)`` streams pages of facts about users whose id is greater than ``after``."""

Decide = Callable[[Any, Tick], Decision]

Revalidate = Callable[[dict[str, Any], Standing], dict[str, Any] | None]
"""``revalidate(frozen facts, how things stand now)``: the facts that remain true; None if nothing does."""


InApp = Callable[[dict[str, Any]], dict[str, Any]]
"""``in_app(facts)``: ``Message.in_app`` of the facts that remain true, where it names what may go away."""


async def _read_nobody(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[Page]:
    nobody: tuple[Page, ...] = ()
    for page in nobody:
        yield page


def _decide_nothing(_facts: Any, _tick: Tick) -> Decision:
    raise TypeError("this job decides about nobody")


@dataclass(frozen=True, slots=True)
class Parts:
    """What statistics may use beside the database.

    ``service_zone``: the IANA zone of service days. ``keeping``: how long things are kept.
    ``archive``: where the dashboard's old sessions go; None: there is no dashboard.
    ``dashboard_metrics``: the counters of the dashboard's own answers (requests, seconds, errors), or the
    ``reason`` why there are none; None: it was not said where they are.
    """

    service_zone: str = "UTC"
    keeping: Keeping = field(default_factory=Keeping)
    archive: Archive | None = None
    dashboard_metrics: Callable[[], Awaitable[dict[str, Any]]] | None = None


class Desk(Protocol):
    """Where a statistic works: its moment, how far it came, and its fenced transactions."""

    @property
    def tick(self) -> Tick: ...

    @property
    def parts(self) -> Parts: ...

    @property
    def cursor(self) -> str:
        """Where the run stands; empty at the start. A run that is taken over goes on here."""
        ...

    def step(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """One transaction that counts only while the run is ours; keep it to a few seconds."""
        ...

    async def advance(
        self,
        connection: asyncpg.Connection,
        cursor: str,
        done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Record progress within a step: ``done`` more rows looked at, ``counts`` added up by name."""
        ...


Work = Callable[[Desk], Awaitable[None]]
"""Carries a statistic out. May be stopped between any two steps, and is then called again with its cursor."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job. ``useful_until(nominal_local)`` is the local wall-clock time after which a slot is missed.

    Either ``read`` and ``decide`` (people), or ``work`` (steps).
    ``needs``: what it rests on at the dashboard, canonical. A table (``timer_sessions``): what it is about,
    without which it is off. A field (``users.email``): what it cannot do without. While one of these is
    missing, or its table cannot be read, the job's runs wait.
    """

    type: JobType
    name: str
    schedule: str
    mode: TimeMode
    catch_up: CatchUp
    useful_until: Callable[[datetime], datetime]
    read: Read = _read_nobody
    decide: Decide = _decide_nothing
    work: Work | None = None
    kind: Kind | None = None
    revalidate: Revalidate | None = None
    in_app: InApp | None = None
    needs: frozenset[str] = frozenset()
    overlap: bool = False
    timeout: timedelta = timedelta(minutes=30)
    max_attempts: int = 5

    @property
    def id(self) -> str:
        """The ledger's name of this job, e.g. ``reminder.goalDeadlines``."""
        return f"{self.type}.{self.name}"


def find(jobs: Mapping[str, Job], job_type: str, name: str) -> Job:
    """The job that the caller named; ``UnknownJobType`` or ``UnknownJob`` with the original's words."""
    if job_type not in set(JobType):
        raise UnknownJobType(job_type)
    try:
        return jobs[f"{job_type}.{name}"]
    except KeyError:
        raise UnknownJob(name) from None


def about(job: Job) -> str:
    """What a job is for, in one sentence: how its module introduces it."""
    module = sys.modules[(job.work or job.decide).__module__]
    said = (module.__doc__ or "").strip().split("\n\n", maxsplit=1)[0].replace("\n", " ")
    sentence = said.partition(": ")[2] or said
    return sentence[:1].upper() + sentence[1:]
