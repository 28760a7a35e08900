"""Writes in-app notifications into the dashboard's own inbox (IN_APP=dashboard): claim, revalidate, write,
mark.

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

from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.notification import Notification, navigate
from service.engine import queries
from service.engine.fault_log import FaultLog, one_line
from service.engine.job import Job
from service.engine.loops import first_of
from service.engine.retry import backoff
from service.engine.schema import SCHEMA
from service.errors import InboxClosed, SchemaUnknown, SourceUnavailable
from service.messages import eligibility
from service.messages.delivery_decisions import (
    ROWS_MISSING,
    UNCLEAR_PAUSE,
    facts_now,
    state_query,
)
from service.messages.delivery_rows import contact_history_from_row
from service.messages.delivery_state import DeliveryState
from service.messages.eligibility import ContactHistory
from service.messages.kind import Channel
from service.messages.mail.render import RenderNotice
from service.messages.reason import Reason
from service.messages.reminder import Reminder, Revalidated, reminders
from service.messages.replacement import Replacements

log = structlog.get_logger()

_SQL = queries.load(__file__)
_REFUSED_RETRY_DELAY = timedelta(hours=1)
_REFUSED = "refused_by_dashboard"
_MAX_REFUSAL = 200


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A notification that is due, with the contact history of its recipient."""

    id: int
    delivery_id: int
    dedupe_key: str
    job: str
    kind: str
    user_id: str
    zone: str
    own_zone: str | None
    """The zone that the reader chose here; None: the dashboard's."""
    message_date: datetime
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
    history: ContactHistory


_COLUMNS = tuple(field.name for field in fields(DueNotification) if field.name != "history")


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


InboxDecision = Notification | WithdrawnNotification | PostponedNotification


class DashboardInbox:
    """Writes what is due into the dashboard. Several may share one database.

    ``notify``: see ``Source.notify``. ``current_state`` asks the dashboard. ``replacements`` decides again
    about notifications that do not hold any more. ``render_notice`` renders one again when part of it
    changed.
    ``timeout``: seconds that the dashboard may take for a batch. ``problem``: a sentence while notifications
    wait, or were refused.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        notify: Callable[[Sequence[Notification]], Awaitable[dict[str, str]]],
        current_state: Callable[[StateQuery], Awaitable[DashboardState]],
        jobs: Mapping[str, Job],
        replacements: Replacements,
        render_notice: RenderNotice,
        *,
        batch: int = 200,
        idle: float = 2.0,
        timeout: float = 30.0,
    ) -> None:
        self._pool = pool
        self._notify = notify
        self._current_state = current_state
        self._jobs = reminders(jobs)
        self._replacements = replacements
        self._render_notice = render_notice
        self._batch = batch
        self._idle = idle
        self._timeout = timeout
        self._failures = 0
        self._tested = False
        self._closed: str | None = None
        self._waiting = FaultLog("notifications wait for the dashboard")
        self._refused: str | None = None

    @property
    def problem(self) -> str | None:
        """Why notifications do not reach the dashboard, and the remedy."""
        reason = self._closed or self._refused
        return f"IN_APP=dashboard: {reason}" if reason else None

    async def serve(self, stop: asyncio.Event) -> None:
        """Write until ``stop``; at growing intervals while the inbox is closed."""
        while not stop.is_set():
            if await self.run_once():
                continue
            pause = backoff(self._failures, first=5.0) if self._closed else self._idle
            await first_of(pause, stop)

    async def run_once(self) -> int:
        """Write one batch; returns how many notifications were decided; 0 if none, or see ``problem``."""
        try:
            async with asyncio.timeout(self._timeout):
                decided = await self._one_batch()
        except (InboxClosed, SchemaUnknown, SourceUnavailable) as error:
            return self._record_problem(str(error))
        except TimeoutError:
            return self._record_problem(f"the dashboard took longer than {self._timeout:.0f} s for one batch")
        self._waiting.over()
        self._failures, self._tested, self._closed = 0, True, None
        return decided

    def _record_problem(self, problem: str) -> int:
        self._waiting.occurred(problem)
        self._failures, self._closed = self._failures + 1, problem
        return 0

    async def _one_batch(self) -> int:
        async with self._pool.acquire() as proxy, proxy.transaction():
            connection = cast("asyncpg.Connection", proxy)
            await connection.execute(_SQL["limit_idle_time"])
            rows = await connection.fetch(_SQL["claim"], self._batch, SCHEMA, list(self._jobs))
            due = [_due_notification(row) for row in rows]
            if due:
                await self._settle(connection, due)
            elif self._closed or not self._tested:
                await self._notify([])
        return len(due)

    async def _settle(self, connection: asyncpg.Connection, due: Sequence[DueNotification]) -> None:
        """Decide about each, write what is still valid, and record the results."""
        decisions = await self._decide_all(connection, due)
        notifications = [decision for decision in decisions.values() if isinstance(decision, Notification)]
        refused = await self._notify(notifications)
        if notifications:
            self._report_refusals(refused)
        for notification in due:
            if refusal := refused.get(notification.dedupe_key):
                decisions[notification.id] = PostponedNotification(
                    notification.claimed_at + _REFUSED_RETRY_DELAY, _REFUSED, refusal[:_MAX_REFUSAL]
                )
        await _record(connection, decisions)

    async def _decide_all(
        self, connection: asyncpg.Connection, due: Sequence[DueNotification]
    ) -> dict[int, InboxDecision]:
        """What becomes of each; those that were decided again, or will be later, are left out."""
        current = DashboardState({}, {})
        if unexpired := [
            notification for notification in due if notification.expires_at > notification.claimed_at
        ]:
            current = await self._current_state(state_query(unexpired, self._jobs))
        follow_zones = self._replacements.clock_zone is None
        decisions: dict[int, InboxDecision] = {}
        outdated: list[int] = []
        for notification in due:
            job = self._jobs[notification.job]
            decision = decide(notification, job, current, self._render_notice, follow_zones=follow_zones)
            if isinstance(decision, Revalidated):
                outdated.append(notification.delivery_id)
            else:
                decisions[notification.id] = decision
        if outdated:
            await self._replace(connection, outdated, current)
        return decisions

    async def _replace(
        self, connection: asyncpg.Connection, deliveries: Sequence[int], current: DashboardState
    ) -> None:
        """Decide again; what cannot be decided now stays due."""
        try:
            async with connection.transaction():
                await self._replacements.replace(connection, deliveries, current)
        except asyncpg.PostgresError as error:
            log.warning("notifications are decided again later", n=len(deliveries), error=one_line(error))

    def _report_refusals(self, refused: Mapping[str, str]) -> None:
        self._refused = None
        if refused:
            example = next(iter(refused.values()))[:_MAX_REFUSAL]
            self._refused = (
                f"the dashboard refused {len(refused)} notifications, e.g. for: {example};"
                " each is tried again every hour until it expires"
            )
            log.error("dashboard refused notifications", n=len(refused), example=example)


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def decide(
    notification: DueNotification,
    job: Reminder,
    current: DashboardState,
    render_notice: RenderNotice,
    *,
    follow_zones: bool,
) -> InboxDecision | Revalidated:
    """The notification to write, or why it is not written (now), or that it is decided again."""
    if notification.expires_at <= notification.claimed_at:
        return WithdrawnNotification(DeliveryState.EXPIRED, Reason.STALE)
    if obstacle := _obstacle(notification, job, current):
        return obstacle
    facts = facts_now(notification, job, current, follow_zones=follow_zones)
    if isinstance(facts, Revalidated):
        return facts
    if facts is None:
        return WithdrawnNotification(DeliveryState.SKIPPED, Reason.REVALIDATED_AWAY)
    return notification_of(
        notification
        if facts == notification.facts
        else _with_new_text(notification, job, facts, render_notice)
    )


def _obstacle(
    notification: DueNotification, job: Reminder, current: DashboardState
) -> WithdrawnNotification | PostponedNotification | None:
    """Why the recipient may not be contacted (now), by the current state."""
    if current.is_unclear(notification.user_id, notification.facts):
        return PostponedNotification(notification.claimed_at + UNCLEAR_PAUSE, ROWS_MISSING)
    user = current.users.get(notification.user_id)
    if user is None:
        return WithdrawnNotification(DeliveryState.SKIPPED, Reason.REVALIDATED_AWAY)
    if obstacle := eligibility.contact_refusal(
        user, job.kind, Channel.IN_APP, notification.history, notification.claimed_at
    ):
        return WithdrawnNotification(DeliveryState.SKIPPED, obstacle)
    local_user = replace(user, timezone=notification.zone)
    at = eligibility.earliest_time(
        local_user,
        job.kind,
        notification.history,
        notification.claimed_at,
        notification.expires_at,
        late=False,
    )
    if isinstance(at, Reason):
        return WithdrawnNotification(DeliveryState.SKIPPED, at)
    return PostponedNotification(at, str(Reason.QUIET_HOURS)) if at > notification.claimed_at else None


def notification_of(notification: DueNotification) -> Notification:
    """The notification as the dashboard gets it."""
    same = {field.name for field in fields(Notification)} & {field.name for field in fields(DueNotification)}
    return Notification(
        key=notification.dedupe_key,
        sent_at=notification.claimed_at,
        **{name: getattr(notification, name) for name in same},
    )


def _with_new_text(
    notification: DueNotification, job: Reminder, facts: dict[str, Any], render_notice: RenderNotice
) -> DueNotification:
    """The notification with the text for the remaining facts."""
    if job.in_app is None:
        return notification
    in_app = job.in_app(facts)
    notice = render_notice(notification.template, in_app["facts"], notification.locale)
    return replace(
        notification,
        title=notice.title,
        message=notice.message,
        data=in_app["data"],
        priority=in_app["priority"],
        action=navigate(in_app["url"], notice.button),
    )


def _due_notification(row: asyncpg.Record) -> DueNotification:
    return DueNotification(**{name: row[name] for name in _COLUMNS}, history=contact_history_from_row(row))


async def _record(connection: asyncpg.Connection, decisions: Mapping[int, InboxDecision]) -> None:
    written = [
        _text_columns(id_, decision)
        for id_, decision in decisions.items()
        if isinstance(decision, Notification)
    ]
    withdrawn = [
        (id_, decision) for id_, decision in decisions.items() if isinstance(decision, WithdrawnNotification)
    ]
    postponed = [
        (id_, decision) for id_, decision in decisions.items() if isinstance(decision, PostponedNotification)
    ]
    if written:
        await connection.execute(_SQL["record_written"], written)
    if withdrawn:
        await connection.execute(
            _SQL["withdraw"],
            [id_ for id_, _ in withdrawn],
            [decision.state for _, decision in withdrawn],
            [str(decision.reason) for _, decision in withdrawn],
        )
    if postponed:
        await connection.execute(
            _SQL["postpone"],
            [id_ for id_, _ in postponed],
            [decision.at for _, decision in postponed],
            [decision.reason for _, decision in postponed],
            [decision.detail for _, decision in postponed],
        )


def _text_columns(id_: int, notification: Notification) -> dict[str, Any]:
    return {
        "id": id_,
        **{name: getattr(notification, name) for name in ("title", "message", "data", "priority", "action")},
    }
