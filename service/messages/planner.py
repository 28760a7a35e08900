"""The planner: carries out runs of reminders. It decides page by page, and stores each decision once.

Messages, reasons and progress of a page are one transaction under the run's fence: whoever takes over after a
crash continues at the cursor, and whoever lost the lease writes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.dashboard.model import User
from service.engine.context import RunContext
from service.engine.run import Tick
from service.engine.run_end import PASSED_OVER
from service.messages import delivery_rows, eligibility, refusals
from service.messages.decision import Message, Skip
from service.messages.delivery_rows import PlannedMessage, RunStamp
from service.messages.eligibility import ContactHistory, MessageTerms
from service.messages.kind import Channel, Purpose
from service.messages.mail.render import Notice, RenderNotice
from service.messages.reason import Reason
from service.messages.refusals import RefusedPerson
from service.messages.reminder import (
    YIELD_EVERY,
    FactsPage,
    Reminder,
    ReminderWork,
    decide_safely,
)

_PASSED_OVER = "Each attempt at this person ended the process, or failed."


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """``mail_domain``: of Message-IDs. ``resent``: kinds of mail that are sent once more when their receipt
    is unknown. ``spread``: over how long the mails of one slot leave. ``to_dashboard``: in-app notifications
    are also written into the dashboard's own inbox. ``nudges``: kinds that share the budget of nudges.
    """

    mail_domain: str
    resent: frozenset[str] = frozenset()
    spread: timedelta = timedelta(0)
    to_dashboard: bool = False
    nudges: frozenset[str] = frozenset()
    message_id_secret: bytes = field(default=b"", repr=False)
    """Keys Message-IDs; empty: they can be computed by anybody who knows user and date."""


_AT_ONCE = 100
"""How many people are decided about together, and their messages stored. However many a page has, no more
messages are in memory, and the event loop is soon free again."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """About some people: messages, refusals, tracebacks where deciding failed, and counts by name."""

    planned: list[PlannedMessage] = field(default_factory=list)
    refused: list[RefusedPerson] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Planner(ReminderWork):
    """Plans what reminders decide. ``outbox_wake``: set when there is something to send."""

    def __init__(
        self, settings: PlannerSettings, render_notice: RenderNotice, outbox_wake: asyncio.Event
    ) -> None:
        self._settings = settings
        self._render_notice = render_notice
        self._outbox_wake = outbox_wake

    async def work(self, job: Reminder, context: RunContext) -> None:
        """Carry a run of a reminder out, or a dry run."""
        async with context.reading() as reading:
            async for page in job.read(reading, context.tick, context.cursor):
                await self._page(job, context, page)
                if not context.tick.dry_run:
                    self._outbox_wake.set()

    async def _page(self, job: Reminder, context: RunContext, page: FactsPage) -> None:
        """One page in one transaction: messages, reasons, progress."""
        async with context.step(long=False) as connection:
            decide = self._preview if context.tick.dry_run else self._plan
            result = await decide(connection, job, context, page)
            result.counts.update(refusal.reason for refusal in result.refused)
            if page.passed_over:
                result.counts[PASSED_OVER] = len(page.passed_over)
            await context.advance(connection, page.cursor, page.scanned, result.counts)
            planned = result.counts["planned"] + result.counts["in_app"]
            context.note({"jobs.step.users": page.scanned, "jobs.step.planned": planned})
        context.errors += result.errors

    async def _plan(
        self, connection: asyncpg.Connection, job: Reminder, context: RunContext, page: FactsPage
    ) -> Decisions:
        """Decide about a page and store the result."""
        tick = context.tick
        stamp = replace(run_stamp(self._settings, job, tick), traceparent=context.traceparent)
        if job.kind.purpose is Purpose.NUDGE:
            await delivery_rows.lock_budget(connection)
        now = await context.now()
        ids = [facts.user.id for facts in page.facts] + [id_ for id_, _ in page.passed_over]
        existing_ids = await delivery_rows.lock_existing_users(connection, ids)
        facts = [facts for facts in page.facts if facts.user.id in existing_ids]
        result = Decisions()
        async for some in self._decide_all(connection, job, tick, facts, now):
            _add(result, some, await delivery_rows.plan(connection, stamp, some.planned))
        result.refused.extend(
            RefusedPerson(id_, tick.local_date(zone), str(Reason.USER_ERROR), _PASSED_OVER)
            for id_, zone in page.passed_over
            if id_ in existing_ids
        )
        await refusals.record(connection, stamp.run_id, job.id, result.refused)
        return result

    async def _preview(
        self, connection: asyncpg.Connection, job: Reminder, context: RunContext, page: FactsPage
    ) -> Decisions:
        """The same without storing anything."""
        result = Decisions()
        async for some in self._decide_all(connection, job, context.tick, page.facts, await context.now()):
            keys = [message.dedupe_key for message in some.planned]
            existing = await delivery_rows.existing_messages(connection, keys)
            mails = [message for message in some.planned if message.channel is Channel.EMAIL]
            for mail in mails[: context.remaining_examples]:
                context.example(self._example(mail))
            _add(result, some, {pair for message in some.planned if (pair := _key(message)) not in existing})
        return result

    async def _decide_all(
        self, connection: asyncpg.Connection, job: Reminder, tick: Tick, facts: Sequence[Any], now: datetime
    ) -> AsyncIterator[Decisions]:
        """The decisions about everybody on a page, a few people at a time."""
        for first in range(0, len(facts), _AT_ONCE):
            yield await self._decide(connection, job, tick, facts[first : first + _AT_ONCE], now)

    async def _decide(
        self, connection: asyncpg.Connection, job: Reminder, tick: Tick, some: Sequence[Any], now: datetime
    ) -> Decisions:
        """Ask the job about some people, then the rules that hold for all jobs."""
        contacts = await delivery_rows.contact_histories(
            connection, [facts.user for facts in some], tick.as_of
        )
        result = Decisions()
        for n, facts in enumerate(some, 1):
            if n % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            decision, error = decide_safely(job, facts, tick)
            if error:
                result.errors.append(error)
            skip = decision if isinstance(decision, Skip) else None
            if isinstance(decision, Message):
                terms = eligibility.message_terms(decision, tick, now, self._settings.nudges)
                planned, skip = plan_channels(decision, facts.user, contacts[facts.user.id], terms)
                result.planned.extend(with_notice(message, self._render_notice) for message in planned)
            if skip:
                local_date = tick.local_date(facts.user.timezone)
                result.refused.append(RefusedPerson(facts.user.id, local_date, str(skip.reason), skip.detail))
        return result

    def _example(self, planned: PlannedMessage) -> dict[str, Any]:
        return {
            "userId": planned.user.id,
            "title": _notice(planned, self._render_notice).title,
            "notBefore": planned.not_before.isoformat(),
        }


def with_notice(planned: PlannedMessage, render_notice: RenderNotice) -> PlannedMessage:
    """An in-app notification is rendered when it is planned, in its reader's language; a mail when it is
    sent."""
    if planned.channel is Channel.EMAIL:
        return planned
    return replace(planned, notice=_notice(planned, render_notice))


def _notice(planned: PlannedMessage, render_notice: RenderNotice) -> Notice:
    message = planned.message
    return render_notice(message.kind.template, message.in_app["facts"], planned.user.locale)


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def run_stamp(settings: PlannerSettings, job: Reminder, tick: Tick) -> RunStamp:
    """What all messages share that a job decides at a tick."""
    return RunStamp(
        run_id=tick.run_id,
        job=job.id,
        as_of=tick.as_of,
        mail_domain=settings.mail_domain,
        resent=settings.resent,
        spread=settings.spread,
        to_dashboard=settings.to_dashboard,
        message_id_secret=settings.message_id_secret,
    )


def plan_channels(
    message: Message, user: User, existing: ContactHistory, terms: MessageTerms
) -> tuple[list[PlannedMessage], Skip | None]:
    """The message on each allowed channel, and the reason of the first channel that is not.

    For the rules and their order see ``eligibility.rule_results``.
    """
    planned: list[PlannedMessage] = []
    refused: tuple[Reason, Channel] | None = None
    for channel in message.channels:
        at = eligibility.eligible_at(message, user, channel, existing, terms)
        if isinstance(at, Reason):
            refused = refused or (at, channel)
        else:
            planned.append(PlannedMessage(message, channel, user, at, terms.expires, terms.key))
    if refused is None:
        return planned, None
    detail = f"Not on the channel {refused[1]}." if planned else ""
    return planned, Skip(user.id, refused[0], detail)


def _key(planned: PlannedMessage) -> tuple[str, str]:
    return planned.dedupe_key, str(planned.channel)


def _add(result: Decisions, some: Decisions, new: set[tuple[str, str]]) -> None:
    """Add the decisions about some people, without their messages; ``new``: those that did not exist."""
    result.refused.extend(some.refused)
    result.errors.extend(some.errors)
    for planned in some.planned:
        mail = planned.channel is Channel.EMAIL
        if _key(planned) in new:
            result.counts["planned" if mail else "in_app"] += 1
        elif mail:
            result.counts[str(Reason.ALREADY_SENT)] += 1
