"""Explains why a user got, did not get, or will get a message: stored records, and each rule with its
verdict.

Records come from the ledger. The rules are evaluated now, for the user's slot of the local date, by deciding
without sending: for a future slot this is a forecast, for a past one it shows what would happen today.
Messages that other jobs will send before a future slot are not taken into account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
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
    slot_time_of,
)
from service.messages.kind import Channel
from service.messages.planner import PlannerSettings
from service.messages.refusals import packed_id
from service.messages.reminder import Reminder, decide_for_user, reminder_named
from service.zones import equal_groups, iso

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class _Due:
    """When a job is due for a user on a local date. ``since``, ``until``: the slots before and after it on
    that date; records between them belong to it. None: there is no other slot on that side.
    """

    schedule: Schedule
    zone: ZoneInfo
    group: str
    day: date
    slot: Slot | None
    since: datetime | None
    until: datetime | None


class Explainer:
    """Explains one user, job and moment. Read-only.

    ``timings``: each job's schedule and zone; ``service_zone``: the zone of jobs that have only one;
    ``planning``: the settings of the planner that plans the messages.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        runner: Runner,
        jobs: Mapping[str, Job],
        timings: Mapping[str, Timing],
        service_zone: ZoneInfo,
        planning: PlannerSettings,
    ) -> None:
        self._pool = pool
        self._runner = runner
        self._jobs = dict(jobs)
        self._timings = timings
        self._service_zone = service_zone
        self._planning = planning

    async def explain(self, name: str, user_id: str, at: datetime | None = None) -> dict[str, Any]:
        """The explanation as JSON. ``name``: ``goalDeadlines`` or ``reminder.goalDeadlines``.

        ``at`` (aware): any moment of the local date; None: now. Raises UnknownUser,
        UnknownJob, BadRequest.
        """
        job = reminder_named(self._jobs, name)
        if at is not None:
            check_instant(at)
        if not _is_storable(user_id):
            raise UnknownUser(user_id)
        problem = await self._runner.refreshed(job)
        async with (
            self._pool.acquire() as proxy,
            proxy.transaction(isolation="repeatable_read", readonly=True),
        ):
            case = await self._case(cast("asyncpg.Connection", proxy), job, user_id, at, problem)
        return _as_json(case, outcomes(case, self._delays(case)))

    def _delays(self, case: ExplainedCase) -> dict[Channel, Any]:
        if case.terms is None:
            return {}
        return {
            channel: delivery_rows.spread_delay(self._planning.spread, channel, case.terms.key)
            for channel in Channel
        }

    async def _case(
        self,
        connection: asyncpg.Connection,
        job: Reminder,
        user_id: str,
        at: datetime | None,
        problem: SourceUnavailable | SchemaUnknown | JobOff | None,
    ) -> ExplainedCase:
        now = await connection.fetchval(_SQL["now"])
        row = await connection.fetchrow(_SQL["person"], user_id)
        if row is None:
            raise UnknownUser(user_id)
        user, at = replica.user_from_row(row), at or now
        due = self._due(job, user, row["hours"], at)
        definition = _stored_job(await connection.fetchrow(_SQL["definition"], job.id))
        record = await _record(connection, job, user, due)
        if due.slot is None:
            slot_time, start, tick = SlotTime.FUTURE if at > now else SlotTime.PAST, at, None
        else:
            slot = due.slot.at
            run = record.run_of(slot)
            slot_time = slot_time_of(slot, now, run, definition.through)
            start = max(now, slot) if slot_time is SlotTime.NOW else slot
            trigger = Trigger(run["trigger"]) if run else trigger_at(slot, start)
            tick = self._runner.dry_tick(job.id, slot, user_id, trigger)
        by_channel = await decide_for_user(connection, job, tick) if tick else None
        decision = by_channel[1] if by_channel else None
        terms = None
        if tick and isinstance(decision, Message):
            terms = eligibility.message_terms(decision, tick, start, self._planning.nudges)
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
            slot_time=slot_time,
            start=start,
            definition=definition,
            record=record,
            decision=decision,
            terms=terms,
            history=(await delivery_rows.contact_histories(connection, [user], tick.as_of if tick else at))[
                user_id
            ],
            sent=frozenset(await delivery_rows.existing_messages(connection, [terms.key] if terms else [])),
            problem=problem,
        )

    def _due(self, job: Reminder, user: User, hours: Mapping[str, int], at: datetime) -> _Due:
        timing = self._timings[job.id]
        (group,) = slot_groups([(user.timezone, hours)], job.own_hours)
        schedule, zone = timing.of(group, self._service_zone)
        day = at.astimezone(zone).date()
        slots = schedule.on(zone, day)
        index = next((n for n, slot in enumerate(slots) if slot.at >= at), len(slots) - 1)
        return _Due(
            schedule=schedule,
            zone=zone,
            group=group if timing.mode is TimeMode.USER else str(zone),
            day=day,
            slot=slots[index] if slots else None,
            since=slots[index].at if index > 0 else None,
            until=slots[index + 1].at if index + 1 < len(slots) else None,
        )


async def _record(connection: asyncpg.Connection, job: Reminder, user: User, due: _Due) -> SlotRecord:
    arguments = (user.id, job.id, due.day, due.since, due.until)
    runs = await connection.fetch(_SQL["runs"], *arguments, str(due.zone), equal_groups(due.group))
    deliveries = await connection.fetch(_SQL["deliveries"], *arguments)
    decisions = await connection.fetch(_SQL["decisions"], packed_id(user.id), *arguments[1:])
    return SlotRecord([dict(r) for r in runs], [dict(d) for d in deliveries], [dict(d) for d in decisions])


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL can store the text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _stored_job(row: asyncpg.Record | None) -> StoredJob:
    if row is None:
        return StoredJob(None, Pause(None), None, None)
    pause = Pause(row["paused_at"], row["paused_until"])
    return StoredJob(row["materialized_through"], pause, row["paused_by"], row["paused_reason"])


# ── The answer ──────────────────────────────────────────────────────────────────────────────────────────────


def _as_json(case: ExplainedCase, by_channel: Mapping[Channel, ChannelOutcome]) -> dict[str, Any]:
    record = case.record
    return {
        "userId": case.user.id,
        "job": case.job.id,
        "at": iso(case.at),
        "localDate": case.day.isoformat(),
        "timezone": case.user.timezone,
        "when": str(case.slot_time),
        "slot": _slot(case),
        "recorded": {
            "runs": _rows_as_json(record.runs),
            "deliveries": _rows_as_json(record.deliveries),
            "decisions": _rows_as_json(record.decisions),
        },
        "rules": {
            str(channel): [
                {
                    "rule": rule.name,
                    "verdict": str(rule.verdict),
                    "reason": rule.reason,
                    "detail": rule.detail,
                }
                for rule in outcome.rules
            ]
            for channel, outcome in by_channel.items()
        },
        "outcome": {
            str(channel): {
                "notBefore": iso(outcome.at) if outcome.at else None,
                "reason": outcome.stop.reason if outcome.stop else None,
            }
            for channel, outcome in by_channel.items()
        },
        "conclusion": conclusion(case, by_channel),
    }


def _slot(case: ExplainedCase) -> dict[str, str] | None:
    if case.slot is None:
        return None
    local = case.slot.at.astimezone(case.zone)
    return {"local": local.isoformat(), "utc": iso(case.slot.at), "group": case.group}


def _rows_as_json(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def camel(name: str) -> str:
        head, *words = name.split("_")
        return head + "".join(word.title() for word in words)

    return [{camel(k): iso(v) if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]
