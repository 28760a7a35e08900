"""How many messages each reminder will send, by hour.

The slots are exact: they follow from the schedules and from the users' zones. Whom a job will select is not
known before its slot, and deciding for every user and slot is too expensive. So ``upper_bound`` counts who
could get a message then, by account, address, preferences and pauses. ``exact`` decides for one job and its
next slot, without sending; it does not take into account what other jobs send before.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.dashboard.replica import preferences_from_json
from service.engine import queries
from service.engine.job import Job, TimeMode
from service.engine.ledger import Ledger
from service.engine.run import Pause, Trigger
from service.engine.runner import Runner
from service.engine.schedule import to_instant
from service.engine.trigger import Timing, slot_groups
from service.errors import AlreadyRunning, BadRequest
from service.messages.eligibility import blocked_by_preferences
from service.messages.kind import Channel, MessageKind
from service.messages.reminder import Reminder, reminder_named, reminders
from service.zones import iso

_SQL = queries.load(__file__)
_MEANING = (
    "An upper bound: everybody whose account, address, wishes and pauses allow a message of this kind then."
    " Whom the job chooses, budgets and quiet hours make it fewer."
)

Counts = dict[Channel, int]


@dataclass(frozen=True, slots=True)
class Audience:
    """Users with the same slot group and pause, counted by channel. ``paused_until``: no messages before."""

    group: str
    paused_until: datetime | None
    people: Counts


@dataclass(frozen=True, slots=True)
class JobForecast:
    """The input for the forecast of one job: its timing, its pause, and who could be written to."""

    job: Reminder
    timing: Timing
    pause: Pause
    audiences: Sequence[Audience]


class Forecaster:
    """Makes forecasts; read-only. ``service_zone``: the zone of jobs that have only one."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        ledger: Ledger,
        runner: Runner,
        jobs: Mapping[str, Job],
        timings: Mapping[str, Timing],
        service_zone: ZoneInfo,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._runner = runner
        self._jobs = dict(jobs)
        self._timings = timings
        self._zone = service_zone
        self._exact_lock = asyncio.Lock()

    async def upper_bound(self, days: int, name: str | None = None) -> dict[str, Any]:
        """The most messages that each reminder (or the named one) sends in the next days, by hour in UTC.

        Raises UnknownJob, BadRequest.
        """
        jobs = [reminder_named(self._jobs, name)] if name else reminders(self._jobs).values()
        now: datetime = await self._pool.fetchval(_SQL["now"])
        until = now + timedelta(days=days)
        rows = await self._pool.fetch(_SQL["audience"])
        pauses = {
            d["job"]: Pause(d["paused_at"], d["paused_until"]) for d in await self._ledger.definitions()
        }
        plans = [
            JobForecast(
                job, self._timings[job.id], pauses.get(job.id, Pause(None)), _audiences(rows, job.kind)
            )
            for job in jobs
        ]
        forecasts = await asyncio.to_thread(
            lambda: [hourly_forecast(plan, self._zone, now, until) for plan in plans]
        )
        return {
            "from": iso(now),
            "to": iso(until),
            "upperBound": True,
            "meaning": _MEANING,
            "jobs": forecasts,
        }

    async def exact(self, name: str) -> dict[str, Any]:
        """What a reminder would send at its next slot, by the current state. Writes nothing.

        One at a time: AlreadyRunning. Raises UnknownJob, BadRequest, SourceUnavailable, SchemaUnknown.
        """
        job = reminder_named(self._jobs, name)
        if self._exact_lock.locked():
            raise AlreadyRunning("An exact forecast is being made; ask again when it is done")
        async with self._exact_lock:
            now: datetime = await self._pool.fetchval(_SQL["now"])
            groups = slot_groups(await self._ledger.places(), job.own_hours)
            timing = self._timings[job.id]
            due = await asyncio.to_thread(next_slot, timing, groups, self._zone, now)
            if due is None:
                raise BadRequest(f"{job.name} has no slot to come: nobody lives anywhere yet")
            at, due_groups = due
            zones = tuple(due_groups) if timing.mode is TimeMode.USER else None
            tick = replace(self._runner.dry_tick(job.id, at, trigger=Trigger.CRON), zones=zones)
            result = await self._runner.dry_run(tick)
        counts = dict(result.counts)
        email, in_app = counts.pop("planned", 0), counts.pop("in_app", 0)
        return {
            "upperBound": False,
            "job": job.id,
            "at": iso(at),
            "groups": due_groups,
            "email": email,
            "inApp": in_app,
            "reasons": counts,
        }


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def hourly_forecast(
    plan: JobForecast, service_zone: ZoneInfo, after: datetime, until: datetime
) -> dict[str, Any]:
    """A job's messages by hour in UTC in (after, until]; hours without a slot are omitted."""
    hours: dict[datetime, Counts] = defaultdict(lambda: dict.fromkeys(Channel, 0))
    by_group: dict[str, list[Audience]] = defaultdict(list)
    for audience in plan.audiences:
        by_group[audience.group].append(audience)
    local_times: dict[str, list[datetime]] = {}
    for group, audiences in by_group.items():
        for at in _instants(plan.timing, group, service_zone, after, until, local_times):
            if plan.pause.covers(at):
                continue
            hour = hours[at.replace(minute=0, second=0, microsecond=0)]
            for audience in audiences:
                if audience.paused_until is None or audience.paused_until <= at:
                    for channel, people in audience.people.items():
                        hour[channel] += people
    total = {channel: sum(hour[channel] for hour in hours.values()) for channel in Channel}
    return {
        "job": plan.job.id,
        "paused": plan.pause.covers(after),
        "total": _as_json(total),
        "hours": [{"at": iso(at), **_as_json(hours[at])} for at in sorted(hours)],
    }


def _instants(
    timing: Timing,
    group: str,
    service_zone: ZoneInfo,
    after: datetime,
    until: datetime,
    local_times: dict[str, list[datetime]],
) -> set[datetime]:
    """A slot group's slots; ``local_times`` caches the wall-clock times, which are the same in every zone."""
    schedule, zone = timing.of(group, service_zone)
    if schedule.expression not in local_times:
        local_times[schedule.expression] = schedule.wall_clock(after, until)
    return {
        at for local in local_times[schedule.expression] if after < (at := to_instant(local, zone)) <= until
    }


def next_slot(
    timing: Timing, groups: Iterable[str], service_zone: ZoneInfo, after: datetime
) -> tuple[datetime, list[str]] | None:
    """The next instant at which a job is due, and the slot groups that are due then."""
    due: dict[datetime, list[str]] = defaultdict(list)
    for group in groups:
        schedule, zone = timing.of(group, service_zone)
        due[schedule.next(zone, after).at].append(group)
    return (first := min(due), due[first]) if due else None


def _audiences(rows: Iterable[asyncpg.Record], kind: MessageKind) -> list[Audience]:
    """Who may get a kind on which channel, by the rules of eligibility; each row stands for many users."""
    audiences = []
    for row in rows:
        preferences = preferences_from_json(row["preferences"])
        overrides = {(name, channel): enabled for name, channel, enabled in row["overrides"] or ()}
        counts = {Channel.EMAIL: row["mailable"], Channel.IN_APP: row["people"]}
        people = {
            c: n for c, n in counts.items() if blocked_by_preferences(preferences, kind, c, overrides) is None
        }
        (group,) = slot_groups([(row["timezone"], row["hours"])], kind.name)
        audiences.append(Audience(group, row["paused_until"], people))
    return audiences


def _as_json(counts: Counts) -> dict[str, int]:
    return {"email": counts[Channel.EMAIL], "inApp": counts[Channel.IN_APP]}
