"""When a job is due: five-field cron expressions over naive local time, and the instants of their slots."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from service.errors import BadRequest, ScheduleError
from service.zone_periods import FIRST, LAST

_EPOCH = datetime(2024, 1, 1)  # noqa: DTZ001 — naive on purpose: wall-clock time
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One moment at which a job is due: ``at`` (aware, UTC) for the naive wall-clock time ``local``."""

    at: datetime
    local: datetime


def _until(expression: str, end: datetime) -> Iterator[datetime]:
    """The wall-clock times of a cron expression from 2024 on."""
    return takewhile(lambda local: local < end, CronSim(expression, _EPOCH - timedelta(minutes=1)))


def to_instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall-clock time: after the gap if it does not exist, the first if it exists twice."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def check_instant(at: datetime) -> None:
    """Raises BadRequest for an aware instant around which dates cannot be computed in every zone."""
    if not FIRST <= at < LAST:
        raise BadRequest(f"{at.isoformat()} is out of reach: use a time from 1970 to 2099")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression that comes due. Made by ``parse``."""

    expression: str

    @classmethod
    def parse(cls, expression: str) -> "Schedule":
        """Check an expression. Raises ScheduleError naming it when malformed or never due."""
        if len(expression.split()) != 5:
            raise ScheduleError(
                f"{expression!r} needs five fields: minute, hour, day of month, month, day of week"
            )
        try:
            next(CronSim(expression, _EPOCH))
        except CronSimError as error:
            raise ScheduleError(f"{expression!r} is not a cron expression: {error}") from None
        except StopIteration:
            raise ScheduleError(f"{expression!r} never comes due") from None
        return cls(expression)

    @property
    def hash(self) -> str:
        """Changes when the expression does."""
        return hashlib.sha256(self.expression.encode()).hexdigest()[:16]

    @property
    def words(self) -> str:
        """In English: ``At 09:00 every day``."""
        return str(CronSim(self.expression, _EPOCH).explain())

    def at_hour(self, hour: int) -> "Schedule":
        """The same days and minutes at another hour of the day (0–23)."""
        minute, _, day_fields = self.expression.split(maxsplit=2)
        return Schedule(f"{minute} {hour} {day_fields}")

    def days(self) -> list[date]:
        """Its dates in a leap year; on each of them it is due at all of its ``times``."""
        _, _, day_fields = self.expression.split(maxsplit=2)
        return [local.date() for local in _until(f"0 0 {day_fields}", datetime(2025, 1, 1))]  # noqa: DTZ001

    def times(self) -> list[time]:
        """Its times of day, ascending."""
        minute, hour, _ = self.expression.split(maxsplit=2)
        return [local.time() for local in _until(f"{minute} {hour} * * *", _EPOCH + _DAY)]

    def longest_gap(self) -> timedelta:
        """The longest wall-clock time from a slot to the next, in a leap year and up to the next year."""
        times = [datetime.combine(_EPOCH, at) for at in self.times()]
        overnight = _DAY - (times[-1] - times[0])
        gaps = [later - earlier for earlier, later in pairwise(times)]
        gaps += [later - earlier - _DAY + overnight for earlier, later in pairwise(self._days_and_next())]
        return max(gaps)

    def _days_and_next(self) -> list[date]:
        """Its dates from 2024 up to the first after that year, at least two."""
        _, _, day_fields = self.expression.split(maxsplit=2)
        days: list[date] = []
        for local in CronSim(f"0 0 {day_fields}", _EPOCH - timedelta(minutes=1)):
            days.append(local.date())
            if len(days) > 1 and local.year > _EPOCH.year:
                break
        return days

    def slots(self, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Slot]:
        """The slots with after < at <= until, ascending, each wall-clock slot once.

        Iterates naive local time from two days earlier: offsets jump by up to a day (Apia 2011), and a
        slot that a gap moved forward belongs to an earlier wall-clock time than its instant shows.
        """
        start = after.astimezone(zone).replace(tzinfo=None) - 2 * _DAY
        end = until.astimezone(zone).replace(tzinfo=None) + 2 * _DAY
        slots = []
        for local in CronSim(self.expression, start):
            if local > end:
                break
            at = to_instant(local, zone)
            if after < at <= until:
                slots.append(Slot(at, local))
        yield from sorted(slots)

    def wall_clock(self, after: datetime, until: datetime) -> list[datetime]:
        """The naive times at which it is due in any zone between two instants, and a few more."""
        start = after.astimezone(UTC).replace(tzinfo=None) - 3 * _DAY
        end = until.astimezone(UTC).replace(tzinfo=None) + 3 * _DAY
        times = []
        for local in CronSim(self.expression, start):
            if local > end:
                break
            times.append(local)
        return times

    def on(self, zone: ZoneInfo, day: date) -> list[Slot]:
        """The slots of a local date, ascending, one per instant.

        The date is that of the instant: a slot that a gap moved past midnight belongs to the next day.
        """
        noon = datetime.combine(day, time(12), UTC)
        slots = self.slots(zone, noon - 2 * _DAY, noon + 2 * _DAY)
        return list({slot.at: slot for slot in slots if slot.at.astimezone(zone).date() == day}.values())

    def next(self, zone: ZoneInfo, after: datetime) -> Slot:
        """The first slot later than ``after`` (aware)."""
        reach = _DAY
        while True:
            if slot := next(self.slots(zone, after, after + reach), None):
                return slot
            reach *= 4
