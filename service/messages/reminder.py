"""What a reminder is: a job that reads facts about people in pages, and decides what each of them gets."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import Any, Protocol

import asyncpg

from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import User
from service.engine.context import RunContext
from service.engine.job import Job, JobType, find
from service.engine.run import MOST_HALVINGS, Tick
from service.errors import BadRequest
from service.messages.decision import Decision, Skip
from service.messages.kind import MessageKind
from service.messages.reason import Reason

_PAGE = 1000
YIELD_EVERY = 20
"""Other tasks run after so many users: a page must not delay the health probes."""


class PersonFacts(Protocol):
    """What a reminder knows about one user when it decides."""

    @property
    def user(self) -> User: ...


@dataclass(frozen=True, slots=True)
class FactsPage:
    """A slice of candidates in user-id order. ``cursor`` is the last user id that the page covers."""

    facts: Sequence[Any]
    cursor: str
    scanned: int
    """How many users the page covers, selected or not."""
    passed_over: Sequence[tuple[str, str]] = ()
    """The id and zone of a user who is not looked at, because no attempt came past them."""


Read = Callable[[asyncpg.Connection, Tick, str], AsyncIterator[FactsPage]]
"""``read(connection, tick, after)`` streams pages of facts about users whose id is greater than ``after``.

Its pages are shorter as often as ``tick.halvings`` says: see ``pages``.
"""

Decide = Callable[[Any, Tick], Decision]


class Revalidated(Enum):
    """An answer of ``revalidate`` that is not about the words of the message."""

    DECIDE_AGAIN = "decide again"
    """What the decision rested on is not so any more."""


Revalidate = Callable[[dict[str, Any], DashboardState], dict[str, Any] | Revalidated | None]
"""``revalidate(stored facts, current state)``: the facts as they are now.

None: there is nothing left to say. DECIDE_AGAIN: the job decides about this person again, for the same slot.
"""

InApp = Callable[[dict[str, Any]], dict[str, Any]]
"""``in_app(facts)``: ``Message.in_app`` after revalidation, for reminders whose notification names goals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder(Job):
    """A job that sends messages. Recipients may choose their own hour for its kind.

    ``recent``: sessions that started within so long before the slot are asked for before sending; None: none
    are.
    """

    type: JobType = JobType.REMINDER
    kind: MessageKind
    read: Read
    decide: Decide
    revalidate: Revalidate | None = None
    recent: timedelta | None = None
    in_app: InApp | None = None

    @property
    def own_hours(self) -> str:
        return self.kind.name

    async def work(self, context: RunContext) -> None:
        """Let the planner decide page by page."""
        await context.resources[ReminderWork].work(self, context)


class ReminderWork:
    """Carries out runs of reminders; see ``planner.Planner``."""

    async def work(self, job: Reminder, context: RunContext) -> None:
        """Carry out a run, from the cursor of the context on."""
        raise NotImplementedError


def reminders(jobs: Mapping[str, Job]) -> dict[str, Reminder]:
    """The reminders among these jobs, by id."""
    return {id_: job for id_, job in jobs.items() if isinstance(job, Reminder)}


def reminder_named(jobs: Mapping[str, Job], name: str) -> Reminder:
    """``goalDeadlines`` or ``reminder.goalDeadlines``. Raises UnknownJob, BadRequest."""
    prefix, _, job_name = name.partition(".")
    job_type, short = (prefix, job_name) if prefix in set(JobType) else (JobType.REMINDER, name)
    job = None if job_type == JobType.ANALYTICS else find(jobs, job_type, short)
    if not isinstance(job, Reminder):
        raise BadRequest(f"{name} writes to nobody; ask about a reminder like goalDeadlines")
    return job


async def pages(
    connection: asyncpg.Connection,
    sql: str,
    tick: Tick,
    after: str,
    facts_of: Callable[[asyncpg.Record], Any],
    kind: MessageKind,
) -> AsyncIterator[FactsPage]:
    """Facts about users in pages of 1,000, by user id; shorter where attempts ended at the same cursor.

    ``sql`` takes the last user id, the tick's instant, its slot groups (or NULL), one user's id (or NULL),
    the one zone of all local dates (or NULL), how many users to look at, and the name of the kind, under
    which people choose an hour of their own; its rows begin with the user.
    """
    groups = None if tick.zones is None else list(tick.zones)
    values = (tick.as_of, groups, tick.user_id, tick.clock_zone)
    size = max(1, _PAGE >> tick.halvings)
    if tick.halvings > MOST_HALVINGS:
        size = _PAGE
        # Only what is needed: whatever it is about them, it may be in any of their facts.
        only = f"SELECT id, timezone FROM ({sql}) AS person"  # noqa: S608 — from a file
        if person := await connection.fetchrow(only, after, *values, 1, kind.name):
            after = person["id"]
            yield FactsPage([], after, 1, passed_over=[(after, person["timezone"])])
    while rows := await connection.fetch(sql, after, *values, size, kind.name):
        after = rows[-1]["id"]
        facts = []
        for row in rows:
            facts.append(facts_of(row))
            if len(facts) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        yield FactsPage(facts, after, len(rows))


def dates(iso_dates: Sequence[str] | None) -> frozenset[date]:
    """Local dates that a query returned as JSON; None: there were none."""
    return frozenset(map(date.fromisoformat, iso_dates or ()))


def kinds_of(jobs: Mapping[str, Job]) -> dict[str, MessageKind]:
    """The kinds of message of some jobs by name, in the order of the preference page."""
    kinds = sorted((job.kind for job in reminders(jobs).values()), key=lambda kind: kind.position)
    return {kind.name: kind for kind in kinds}


def decide_safely(job: Reminder, facts: PersonFacts, tick: Tick) -> tuple[Decision, str | None]:
    """The decision about one user. A failure becomes a reason and a traceback."""
    try:
        return job.decide(facts, tick), None
    except Exception as error:  # noqa: BLE001
        return Skip(facts.user.id, Reason.USER_ERROR, type(error).__name__), traceback.format_exc()


async def decide_for_user(
    connection: asyncpg.Connection, job: Reminder, tick: Tick
) -> tuple[User, Decision] | None:
    """The decision of a reminder about the user of a tick; None: it does not select them. Writes nothing.

    Preferences, budgets and quiet hours are ignored. An error of the job becomes a reason, as in a run.
    """
    async for page in job.read(connection, tick, ""):
        for facts in page.facts:
            return facts.user, decide_safely(job, facts, tick)[0]
    return None
