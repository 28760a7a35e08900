"""Why somebody did, did not, or will (not) get a message: what is recorded, and every rule with its verdict.

What was decided is told from the ledger. The rules are asked as they stand now, at the user's own slot of the
local date, by deciding without sending: for a slot to come that is the forecast, for one that has passed it
shows what would hold today. What other jobs will have sent until then is not foreseen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import asyncpg

from service.dashboard import replica
from service.dashboard.model import User
from service.engine import queries
from service.engine.job import Job, TimeMode
from service.engine.run import Pause, Trigger
from service.engine.runner import Runner
from service.engine.schedule import Schedule, Slot, check_instant
from service.engine.trigger import Timing, slot_groups, trigger_at
from service.errors import JobOff, SchemaUnknown, SourceUnavailable, UnknownUser
from service.messages import delivery_rows, eligibility
from service.messages.decision import Message
from service.messages.explanation import (
    ChannelOutcome,
    ExplainedCase,
    SlotRecord,
    SlotTime,
    StoredJob,
    conclusion,
    outcomes,
    when_is,
)
from service.messages.kind import Channel, nudges
from service.messages.reminder import Reminder, decided, kinds_of, reminder_named
from service.zones import equal_groups, iso

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class _Due:
    """When a job is due for somebody on a local date. ``until``, ``since``: what lies between the slots next
    to it belongs to it; None: there is none on that side."""

    schedule: Schedule
    zone: ZoneInfo
    group: str
    day: date
    slot: Slot | None
    since: datetime | None
    until: datetime | None


class Explainer:
    """Answers for one user, job and moment. Reads only.

    ``timings``: each job's schedule and clock; ``service_zone``: the one clock, where they have one.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        runner: Runner,
        jobs: Mapping[str, Job],
        timings: Mapping[str, Timing],
        service_zone: ZoneInfo,
        spread: timedelta = timedelta(0),
    ) -> None:
        self._pool = pool
        self._runner = runner
        self._jobs = dict(jobs)
        self._nudges = nudges(kinds_of(jobs).values())
        self._timings = timings
        self._service_zone = service_zone
        self._spread = spread

    async def explain(self, name: str, user_id: str, at: datetime | None = None) -> dict[str, Any]:
        """Everything that is known, JSON-able. ``name``: ``goalDeadlines`` or ``reminder.goalDeadlines``.

        ``at`` (aware): any moment of the local date that is asked about; None: now. Raises UnknownUser,
        UnknownJob, BadRequest.
        """
        job = reminder_named(self._jobs, name)
        if at is not None:
            check_instant(at)
        if not _storable(user_id):
            raise UnknownUser(user_id)
        trouble = await self._runner.refreshed(job)
        async with (
            self._pool.acquire() as reading,
            reading.transaction(isolation="repeatable_read", readonly=True),
        ):
            case = await self._case(cast("asyncpg.Connection", reading), job, user_id, at, trouble)
        return _answer(case, outcomes(case, self._shares(case)))

    def _shares(self, case: ExplainedCase) -> dict[Channel, Any]:
        if case.terms is None:
            return {}
        return {channel: delivery_rows.share(self._spread, channel, case.terms.key) for channel in Channel}

    async def _case(
        self,
        connection: asyncpg.Connection,
        job: Reminder,
        user_id: str,
        at: datetime | None,
        trouble: SourceUnavailable | SchemaUnknown | JobOff | None,
    ) -> ExplainedCase:
        now = await connection.fetchval(_SQL["now"])
        row = await connection.fetchrow(_SQL["person"], user_id)
        if row is None:
            raise UnknownUser(user_id)
        user, at = replica.user_from_row(row), at or now
        due = self._due(job, user, row["hours"], at)
        definition = _definition(await connection.fetchrow(_SQL["definition"], job.id))
        record = await _record(connection, job, user, due)
        if due.slot is None:
            when, start, tick = SlotTime.FUTURE if at > now else SlotTime.PAST, at, None
        else:
            slot = due.slot.at
            run = record.run_of(slot)
            when = when_is(slot, now, run, definition.through)
            start = max(now, slot) if when is SlotTime.NOW else slot
            trigger = Trigger(run["trigger"]) if run else trigger_at(slot, start)
            tick = self._runner.dry_tick(job.id, slot, user_id, trigger)
        found = await decided(connection, job, tick) if tick else None
        decision = found[1] if found else None
        terms = None
        if tick and isinstance(decision, Message):
            terms = eligibility.terms(decision, tick, start, self._nudges)
        return ExplainedCase(
            job=job,
            user=user,
            at=at,
            now=now,
            day=due.day,
            zone=due.zone,
            group=due.group,
            slot=due.slot,
            following=due.schedule.next(due.zone, at).at,
            when=when,
            start=start,
            definition=definition,
            record=record,
            decision=decision,
            terms=terms,
            known=(await delivery_rows.contacts(connection, [user], tick.as_of if tick else at))[user_id],
            sent=frozenset(await delivery_rows.existing(connection, [terms.key] if terms else [])),
            trouble=trouble,
        )

    def _due(self, job: Reminder, user: User, hours: Mapping[str, int], at: datetime) -> _Due:
        timing = self._timings[job.id]
        (group,) = slot_groups([(user.timezone, hours)], job.own_hours)
        schedule, zone = timing.of(group, self._service_zone)
        day = at.astimezone(zone).date()
        slots = schedule.on(zone, day)
        chosen = next((n for n, slot in enumerate(slots) if slot.at >= at), len(slots) - 1)
        return _Due(
            schedule=schedule,
            zone=zone,
            group=group if timing.mode is TimeMode.USER else str(zone),
            day=day,
            slot=slots[chosen] if slots else None,
            since=slots[chosen].at if chosen > 0 else None,
            until=slots[chosen + 1].at if chosen + 1 < len(slots) else None,
        )


async def _record(connection: asyncpg.Connection, job: Reminder, user: User, due: _Due) -> SlotRecord:
    about = (user.id, job.id, due.day, due.since, due.until)
    runs = await connection.fetch(_SQL["runs"], *about, str(due.zone), equal_groups(due.group))
    deliveries = await connection.fetch(_SQL["deliveries"], *about)
    decisions = await connection.fetch(_SQL["decisions"], *about)
    return SlotRecord([dict(r) for r in runs], [dict(d) for d in deliveries], [dict(d) for d in decisions])


def _storable(text: str) -> bool:
    """Whether PostgreSQL could hold it at all: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _definition(row: asyncpg.Record | None) -> StoredJob:
    if row is None:
        return StoredJob(None, Pause(None), None, None)
    pause = Pause(row["paused_at"], row["paused_until"])
    return StoredJob(row["materialized_through"], pause, row["paused_by"], row["paused_reason"])


# ── The answer ──────────────────────────────────────────────────────────────────────────────────────────────


def _answer(case: ExplainedCase, found: Mapping[Channel, ChannelOutcome]) -> dict[str, Any]:
    record = case.record
    return {
        "userId": case.user.id,
        "job": case.job.id,
        "at": iso(case.at),
        "localDate": case.day.isoformat(),
        "timezone": case.user.timezone,
        "when": str(case.when),
        "slot": _slot(case),
        "recorded": {
            "runs": _json(record.runs),
            "deliveries": _json(record.deliveries),
            "decisions": _json(record.decisions),
        },
        "rules": {
            str(channel): [
                {
                    "rule": rule.name,
                    "verdict": str(rule.verdict),
                    "reason": rule.reason,
                    "detail": rule.detail,
                }
                for rule in one.rules
            ]
            for channel, one in found.items()
        },
        "outcome": {
            str(channel): {
                "notBefore": iso(one.at) if one.at else None,
                "reason": one.stop.reason if one.stop else None,
            }
            for channel, one in found.items()
        },
        "conclusion": conclusion(case, found),
    }


def _slot(case: ExplainedCase) -> dict[str, str] | None:
    if case.slot is None:
        return None
    local = case.slot.at.astimezone(case.zone)
    return {"local": local.isoformat(), "utc": iso(case.slot.at), "group": case.group}


def _json(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def camel(name: str) -> str:
        head, *rest = name.split("_")
        return head + "".join(word.title() for word in rest)

    return [{camel(k): iso(v) if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]
