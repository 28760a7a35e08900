"""Weeks and months of a user's calendar, as half-open ranges of local dates: ``end`` is excluded."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The local dates ``start <= d < end``."""

    start: date
    end: date

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end

    @property
    def days(self) -> list[date]:
        """Its dates, ascending."""
        return [self.start + n * _DAY for n in range((self.end - self.start).days)]

    @property
    def last(self) -> date:
        """Its last date."""
        return self.end - _DAY


def week_ending_by(day: date, week_start: int) -> Period:
    """The last week that ends on ``day`` or before it. ``week_start``: 0 = Sunday … 6 = Saturday."""
    last_weekday = (week_start - 1) % 7  # 0 = Sunday
    back = (day.isoweekday() % 7 - last_weekday) % 7
    end = day - back * _DAY + _DAY
    return Period(end - 7 * _DAY, end)


def week_before(week: Period) -> Period:
    """The week before."""
    return Period(week.start - 7 * _DAY, week.start)


def month_before(day: date) -> Period:
    """The calendar month before the one in which ``day`` lies."""
    end = day.replace(day=1)
    return Period((end - _DAY).replace(day=1), end)


def weeks_of(month: Period, week_start: int) -> list[Period]:
    """The month split into the user's weeks; the first and the last may be shorter."""
    cuts = [d for d in month.days if d.isoweekday() % 7 == week_start and d != month.start]
    edges = [month.start, *cuts, month.end]
    return [Period(a, b) for a, b in pairwise(edges)]
