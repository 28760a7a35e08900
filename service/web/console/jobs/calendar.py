"""When jobs are due, as the console shows it: the next slot, the weeks around now, clock changes. Pure.

A job on the users' clocks is due at as many instants as there are slot groups (see ``slot_groups``).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from service.engine.clock_change import ClockChange, oddities
from service.engine.job import TimeMode
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, slot_groups
from service.engine.useful_hours import useful_hours
from service.jobs import all_jobs

DUE = "due"
PAUSED = "paused"
"""The states of a slot that is to come; PAUSED: it will be skipped."""
_WORST = (
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
    """On which clocks a job is due: its timing, and its slot groups (the one zone, where it has one)."""

    timing: Timing
    groups: tuple[str, ...]
    service_zone: ZoneInfo

    @property
    def words(self) -> str:
        """The schedule in English, with the clock that it is read on."""
        whose = {
            TimeMode.USER: "by each user's clock",
            TimeMode.SERVICE: f"in {self.service_zone}",
            TimeMode.UTC: "in UTC",
        }
        return f"{self.timing.schedule.words}, {whose[self.timing.mode]}"


@dataclass(frozen=True, slots=True)
class NextSlot:
    """The first slot to come: instant, the wall-clock time that is meant, and whose it is."""

    at: datetime
    local: datetime
    zone: str


def clock_of(
    cron: str,
    mode: str,
    own_hours: str | None,
    places: Iterable[tuple[str, Mapping[str, int]]],
    service_zone: ZoneInfo,
) -> JobClock:
    """The clocks of a job as the ledger holds it. ``places``: see ``Ledger.places``."""
    schedule = Schedule.parse(cron)
    timing = Timing(schedule, TimeMode(mode), _choosable(own_hours, schedule))
    one = service_zone if timing.mode is TimeMode.SERVICE else _UTC
    groups = slot_groups(places, own_hours) if timing.mode is TimeMode.USER else [str(one)]
    return JobClock(timing, tuple(groups), service_zone)


def _choosable(own_hours: str | None, schedule: Schedule) -> frozenset[int]:
    """The hours that people may choose for a kind of message."""
    job = next((job for job in all_jobs().values() if own_hours and job.own_hours == own_hours), None)
    return useful_hours(job, schedule) if job else frozenset()


def next_slot(clock: JobClock, after: datetime) -> NextSlot | None:
    """The first slot of any group; None: there is nobody yet."""
    found = []
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        slot = schedule.next(zone, after)
        found.append(NextSlot(slot.at, slot.local, str(zone)))
    return min(found, key=lambda one: (one.at, one.zone), default=None)


def coming(clock: JobClock, after: datetime, until: datetime) -> list[datetime]:
    """The instants in (after, until] at which a run is due, ascending: one for all groups that share it."""
    instants: set[datetime] = set()
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        instants.update(slot.at for slot in schedule.slots(zone, after, until))
    return sorted(instants)


# ── Changes of the clocks ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ClockChangeWarning:
    """Slots of one wall-clock time that meet the same kind of change, in these slot groups."""

    change: ClockChange
    local: datetime
    groups: tuple[str, ...]
    at: datetime


def warnings(clock: JobClock, after: datetime, until: datetime) -> list[ClockChangeWarning]:
    """What changes of the clocks do to the slots in (after, until], the soonest first."""
    found: dict[tuple[ClockChange, datetime], list[tuple[datetime, str]]] = defaultdict(list)
    for group in clock.groups:
        schedule, zone = clock.timing.of(group, clock.service_zone)
        for odd in oddities(schedule, zone, after, until):
            found[odd.change, odd.slot.local].append((odd.slot.at, group))
    warned = [
        ClockChangeWarning(change, local, tuple(sorted({group for _, group in those})), min(those)[0])
        for (change, local), those in found.items()
    ]
    return sorted(warned, key=lambda one: (one.at, one.local))


# ── The weeks around now ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CalendarCell:
    """The slots of one hour: how many are in which state; ``state``: the one that asks for attention most."""

    hour: int
    state: str
    counts: Mapping[str, int]

    @property
    def words(self) -> str:
        """``09:00: 2 succeeded, 1 missed``."""
        told = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.items()))
        return f"{self.hour:02}:00: {told}"


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One date by the service's clock. ``now``: the part of it that is over, where it is today."""

    day: date
    cells: tuple[CalendarCell, ...]
    now: float | None


def days_around(
    slots: Iterable[tuple[datetime, str]], now: datetime, zone: ZoneInfo, days: int
) -> list[CalendarDay]:
    """The dates from ``days`` before today to as many after, each with the hours that hold a slot.

    ``slots``: instant and state, of the ledger or to come.
    """
    counts: dict[tuple[date, int], Counter[str]] = defaultdict(Counter)
    for at, state in slots:
        local = at.astimezone(zone)
        counts[local.date(), local.hour][state] += 1
    here = now.astimezone(zone)
    found = []
    for n in range(-days, days + 1):
        day = here.date() + timedelta(days=n)
        cells = tuple(
            CalendarCell(hour, min(those, key=_rank), dict(those))
            for hour in range(24)
            if (those := counts.get((day, hour)))
        )
        found.append(CalendarDay(day, cells, (here.hour + here.minute / 60) if n == 0 else None))
    return found


def _rank(state: str) -> int:
    return _WORST.index(state) if state in _WORST else len(_WORST)


def span_of(now: datetime, zone: ZoneInfo, days: int) -> tuple[datetime, datetime]:
    """From the beginning of the first to the end of the last of these dates."""
    today = now.astimezone(zone).date()
    first, last = (datetime.combine(today + timedelta(days=n), time(0), zone) for n in (-days, days + 1))
    return first.astimezone(UTC), last.astimezone(UTC)
