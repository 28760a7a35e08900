"""When jobs are due, for the console: next slots, the calendar of two weeks, clock changes. Pure.

A job in the users' time zones is due once for each slot group (see ``slot_groups``).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from service.engine.clock_change import ClockChange, clock_change_slots
from service.engine.job import Job, TimeMode
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, slot_groups, timing_of

DUE = "due"
PAUSED = "paused"
"""The states of a future slot; PAUSED: it will be skipped."""
_BY_SEVERITY = (
    "failed",
    "dead",
    "missed",
    "partial",
    "skipped",
    "cancelled",
    "running",
    "pending",
    "succeeded",
    PAUSED,
    DUE,
)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class JobClock:
    """A job's timing and slot groups; a job with a single zone has that zone as its only group."""

    timing: Timing
    groups: tuple[str, ...]
    service_zone: ZoneInfo

    @property
    def description(self) -> str:
        """The schedule in English, with its time zone."""
        whose = {
            TimeMode.USER: "by each user's clock",
            TimeMode.SERVICE: f"in {self.service_zone}",
            TimeMode.UTC: "in UTC",
        }
        return f"{self.timing.schedule.words}, {whose[self.timing.mode]}"


@dataclass(frozen=True, slots=True)
class NextSlot:
    """The next slot: its instant, its local time, and its zone."""

    at: datetime
    local: datetime
    zone: str


def clock_of(
    cron: str,
    mode: str,
    job: Job | None,
    places: Iterable[tuple[str, Mapping[str, int]]],
    service_zone: ZoneInfo,
) -> JobClock:
    """The clock of a job from its row in the ledger. ``places``: see ``Ledger.places``.

    ``job``: None where its package is away.
    """
    schedule, own_hours = Schedule.parse(cron), job.own_hours if job else None
    timing = timing_of(job, schedule, TimeMode(mode)) if job else Timing(schedule, TimeMode(mode))
    zone = service_zone if timing.mode is TimeMode.SERVICE else _UTC
    groups = slot_groups(places, own_hours) if timing.mode is TimeMode.USER else [str(zone)]
    return JobClock(timing, tuple(groups), service_zone)


def next_slot(clock: JobClock, after: datetime) -> NextSlot | None:
    """The first slot of any group; None: there are no users yet."""
    slots = []
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        slot = schedule.next(zone, after)
        slots.append(NextSlot(slot.at, slot.local, str(zone)))
    return min(slots, key=lambda next_: (next_.at, next_.zone), default=None)


def upcoming(clock: JobClock, after: datetime, until: datetime) -> list[datetime]:
    """The instants in (after, until] at which a run is due, ascending and without duplicates."""
    instants: set[datetime] = set()
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        instants.update(slot.at for slot in schedule.slots(zone, after, until))
    return sorted(instants)


# ── Clock changes ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ClockChangeWarning:
    """Slots of one local time that the same kind of clock change affects, with their slot groups."""

    change: ClockChange
    local: datetime
    groups: tuple[str, ...]
    at: datetime


def warnings(clock: JobClock, after: datetime, until: datetime) -> list[ClockChangeWarning]:
    """The clock changes that affect slots in (after, until], the soonest first."""
    changes: dict[tuple[ClockChange, datetime], list[tuple[datetime, str]]] = defaultdict(list)
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        for odd in clock_change_slots(schedule, zone, after, until):
            changes[odd.change, odd.slot.local].append((odd.slot.at, group))
    warnings_ = [
        ClockChangeWarning(change, local, tuple(sorted({group for _, group in slots})), min(slots)[0])
        for (change, local), slots in changes.items()
    ]
    return sorted(warnings_, key=lambda warning: (warning.at, warning.local))


# ── Calendar ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CalendarCell:
    """The slots of one hour: how many are in each state; ``state``: the most severe one."""

    hour: int
    state: str
    counts: Mapping[str, int]

    @property
    def description(self) -> str:
        """``09:00: 2 succeeded, 1 missed``."""
        counts = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.items()))
        return f"{self.hour:02}:00: {counts}"


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One date in the service's zone. ``now``: the hours of it that are over if it is today, else None."""

    day: date
    cells: tuple[CalendarCell, ...]
    now: float | None


def days_around(
    slots: Iterable[tuple[datetime, str]], now: datetime, zone: ZoneInfo, days: int
) -> list[CalendarDay]:
    """The dates from ``days`` before to ``days`` after today, each with the hours that have slots.

    ``slots``: instant and state of past and future slots.
    """
    counts: dict[tuple[date, int], Counter[str]] = defaultdict(Counter)
    for at, state in slots:
        local = at.astimezone(zone)
        counts[local.date(), local.hour][state] += 1
    local_now = now.astimezone(zone)
    days_ = []
    for n in range(-days, days + 1):
        day = local_now.date() + timedelta(days=n)
        cells = tuple(
            CalendarCell(hour, min(states, key=_rank), dict(states))
            for hour in range(24)
            if (states := counts.get((day, hour)))
        )
        days_.append(CalendarDay(day, cells, (local_now.hour + local_now.minute / 60) if n == 0 else None))
    return days_


def _rank(state: str) -> int:
    return _BY_SEVERITY.index(state) if state in _BY_SEVERITY else len(_BY_SEVERITY)


def span_of(now: datetime, zone: ZoneInfo, days: int) -> tuple[datetime, datetime]:
    """The start of the first and the end of the last date of ``days_around``, in UTC."""
    today = now.astimezone(zone).date()
    first, last = (datetime.combine(today + timedelta(days=n), time(0), zone) for n in (-days, days + 1))
    return first.astimezone(UTC), last.astimezone(UTC)
