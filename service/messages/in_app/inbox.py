"""In-app notifications into the dashboard's own inbox (IN_APP=dashboard): claim, ask once more, write, mark.

A batch is claimed, written and marked in one transaction of ours. A crash between the write and the mark
leaves it unmarked; it is written again under the same ids, which changes nothing there. While the inbox is
closed or the dashboard is down, ``problem`` says so and everything waits here until it expires.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, cast

import asyncpg
import structlog

from service.dashboard.dashboard_state import DashboardState
from service.dashboard.notification import Notification, navigate
from service.engine import queries
from service.engine.job import Job
from service.engine.loops import first_of
from service.engine.retry import backoff
from service.engine.schema import SCHEMA
from service.errors import InboxClosed, SchemaUnknown, SourceUnavailable
from service.messages import eligibility
from service.messages.delivery_rows import known_from_row
from service.messages.delivery_state import DeliveryState
from service.messages.eligibility import ContactHistory
from service.messages.kind import Channel
from service.messages.mail.render import Notice
from service.messages.reason import Reason
from service.messages.reminder import Reminder, reminders

log = structlog.get_logger()

_SQL = queries.load(__file__)
_AGAIN = timedelta(hours=1)
_REFUSED = "refused_by_dashboard"
_TOLD = 200

Words = Callable[[str, Mapping[str, Any], str], Notice]
"""(template, facts, locale) to title, message and button."""


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification that is due, and what its recipient told this service."""

    id: int
    dedupe_key: str
    job: str
    kind: str
    user_id: str
    zone: str
    template: str
    locale: str
    facts: dict[str, Any]
    type: str
    title: str
    message: str
    data: dict[str, Any]
    priority: str
    action: dict[str, Any] | None
    visible_from: datetime
    expires_at: datetime
    read_at: datetime | None
    claimed_at: datetime
    known: ContactHistory


_COLUMNS = tuple(field.name for field in fields(DueNotification) if field.name != "known")


@dataclass(frozen=True, slots=True)
class WithdrawnNotification:
    """It will not be written: ``state`` and ``reason`` of its delivery."""

    state: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PostponedNotification:
    """It may not be written before ``at``."""

    at: datetime
    reason: str
    detail: str | None = None


Fate = Notification | WithdrawnNotification | PostponedNotification


class DashboardInbox:
    """Writes what is due into the dashboard. Several may share one database.

    ``notify``: see ``Source.notify``. ``standing`` asks the dashboard how users, goals and sessions are now.
    ``words`` words a notification again when part of it is no longer true. ``timeout``: seconds that the
    dashboard may take for a batch. ``problem``: a sentence while notifications wait, or were refused.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        notify: Callable[[Sequence[Notification]], Awaitable[dict[str, str]]],
        standing: Callable[[Sequence[str], Sequence[str], Sequence[str]], Awaitable[DashboardState]],
        jobs: Mapping[str, Job],
        words: Words,
        *,
        batch: int = 200,
        idle: float = 2.0,
        timeout: float = 30.0,
    ) -> None:
        self._pool = pool
        self._notify = notify
        self._standing = standing
        self._jobs = reminders(jobs)
        self._words = words
        self._batch = batch
        self._idle = idle
        self._timeout = timeout
        self._failures = 0
        self._proved = False
        self._closed: str | None = None
        self._refused: str | None = None

    @property
    def problem(self) -> str | None:
        """Why notifications do not reach the dashboard, and the remedy."""
        said = self._closed or self._refused
        return f"IN_APP=dashboard: {said}" if said else None

    async def serve(self, stop: asyncio.Event) -> None:
        """Write until ``stop``; more and more rarely while the inbox is closed."""
        while not stop.is_set():
            if await self.run_once():
                continue
            pause = backoff(self._failures, first=5.0) if self._closed else self._idle
            await first_of(pause, stop)

    async def run_once(self) -> int:
        """Write one batch; returns how many notifications were decided, 0 also where ``problem`` says why."""
        try:
            async with asyncio.timeout(self._timeout):
                decided = await self._one_batch()
        except (InboxClosed, SchemaUnknown, SourceUnavailable) as error:
            return self._wait(str(error))
        except TimeoutError:
            return self._wait(f"the dashboard took longer than {self._timeout:.0f} s for one batch")
        if self._closed:
            log.info("dashboard inbox is open again")
        self._failures, self._proved, self._closed = 0, True, None
        return decided

    def _wait(self, problem: str) -> int:
        if problem != self._closed:
            log.warning("notifications wait for the dashboard", problem=problem)
        self._failures, self._closed = self._failures + 1, problem
        return 0

    async def _one_batch(self) -> int:
        async with self._pool.acquire() as proxy, proxy.transaction():
            connection = cast("asyncpg.Connection", proxy)
            await connection.execute(_SQL["guard"])
            rows = await connection.fetch(_SQL["claim"], self._batch, SCHEMA, list(self._jobs))
            waiting = [_waiting(row) for row in rows]
            if waiting:
                await self._settle(connection, waiting)
            elif self._closed or not self._proved:
                await self._notify([])
        return len(waiting)

    async def _settle(self, connection: asyncpg.Connection, waiting: Sequence[DueNotification]) -> None:
        """Decide about each, write what still holds, and record what became of all."""
        fates = await self._fates(waiting)
        notes = [fate for fate in fates.values() if isinstance(fate, Notification)]
        refused = await self._notify(notes)
        if notes:
            self._told(refused)
        for one in waiting:
            if words := refused.get(one.dedupe_key):
                fates[one.id] = PostponedNotification(one.claimed_at + _AGAIN, _REFUSED, words[:_TOLD])
        await _record(connection, fates)

    async def _fates(self, waiting: Sequence[DueNotification]) -> dict[int, Fate]:
        now = DashboardState({}, frozenset())
        if asked := [one for one in waiting if one.expires_at > one.claimed_at]:
            now = await self._standing(
                [one.user_id for one in asked],
                [id_ for one in asked for id_ in one.facts.get("goal_ids", ())],
                [id_ for one in asked for id_ in one.facts.get("session_ids", ())],
            )
        return {one.id: fate_of(one, self._jobs[one.job], now, self._words) for one in waiting}

    def _told(self, refused: Mapping[str, str]) -> None:
        self._refused = None
        if refused:
            example = next(iter(refused.values()))[:_TOLD]
            self._refused = (
                f"the dashboard refused {len(refused)} notifications, e.g. for: {example};"
                " each is tried again every hour until it expires"
            )
            log.error("dashboard refused notifications", n=len(refused), example=example)


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def fate_of(one: DueNotification, job: Reminder, now: DashboardState, words: Words) -> Fate:
    """The note to write, or why it is not written (now)."""
    if one.expires_at <= one.claimed_at:
        return WithdrawnNotification(DeliveryState.EXPIRED, Reason.STALE)
    if no := _not_now(one, job, now):
        return no
    facts = job.revalidate(one.facts, now) if job.revalidate else one.facts
    if facts is None:
        return WithdrawnNotification(DeliveryState.SKIPPED, Reason.REVALIDATED_AWAY)
    return note_of(one if facts == one.facts else _worded_again(one, job, facts, words))


def _not_now(
    one: DueNotification, job: Reminder, now: DashboardState
) -> WithdrawnNotification | PostponedNotification | None:
    """What stands against contacting the recipient, as the dashboard and this service know them now."""
    user = now.users.get(one.user_id)
    if user is None:
        return WithdrawnNotification(DeliveryState.SKIPPED, Reason.REVALIDATED_AWAY)
    if no := eligibility.verdict(user, job.kind, Channel.IN_APP, one.known, one.claimed_at):
        return WithdrawnNotification(DeliveryState.SKIPPED, no)
    here = replace(user, timezone=one.zone)
    at = eligibility.earliest(here, job.kind, one.known, one.claimed_at, one.expires_at, late=False)
    if isinstance(at, Reason):
        return WithdrawnNotification(DeliveryState.SKIPPED, at)
    return PostponedNotification(at, str(Reason.QUIET_HOURS)) if at > one.claimed_at else None


def note_of(one: DueNotification) -> Notification:
    """What is written of a notification."""
    same = {field.name for field in fields(Notification)} & {field.name for field in fields(DueNotification)}
    return Notification(
        key=one.dedupe_key, sent_at=one.claimed_at, **{name: getattr(one, name) for name in same}
    )


def _worded_again(
    one: DueNotification, job: Reminder, facts: dict[str, Any], words: Words
) -> DueNotification:
    """A notification that names what may go away says what remains."""
    if job.in_app is None:
        return one
    told = job.in_app(facts)
    notice = words(one.template, told["facts"], one.locale)
    return replace(
        one,
        title=notice.title,
        message=notice.message,
        data=told["data"],
        priority=told["priority"],
        action=navigate(told["url"], notice.button),
    )


def _waiting(row: asyncpg.Record) -> DueNotification:
    return DueNotification(**{name: row[name] for name in _COLUMNS}, known=known_from_row(row))


async def _record(connection: asyncpg.Connection, fates: Mapping[int, Fate]) -> None:
    written = [_words_of(id_, fate) for id_, fate in fates.items() if isinstance(fate, Notification)]
    gone = [(id_, fate) for id_, fate in fates.items() if isinstance(fate, WithdrawnNotification)]
    later = [(id_, fate) for id_, fate in fates.items() if isinstance(fate, PostponedNotification)]
    if written:
        await connection.execute(_SQL["written"], written)
    if gone:
        await connection.execute(
            _SQL["withdraw"],
            [id_ for id_, _ in gone],
            [fate.state for _, fate in gone],
            [str(fate.reason) for _, fate in gone],
        )
    if later:
        await connection.execute(
            _SQL["postpone"],
            [id_ for id_, _ in later],
            [fate.at for _, fate in later],
            [fate.reason for _, fate in later],
            [fate.detail for _, fate in later],
        )


def _words_of(id_: int, note: Notification) -> dict[str, Any]:
    return {
        "id": id_,
        **{name: getattr(note, name) for name in ("title", "message", "data", "priority", "action")},
    }
