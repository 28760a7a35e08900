"""Statistics and their periods: which calendar they keep, and how far a date reaches.

A period is named by its start as naive wall-clock time: of the service zone (daily), of every user's own
calendar (weekly, monthly), or of UTC (behaviour).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

_DAY = timedelta(days=1)
_HOURS = timedelta(hours=6)
_FURTHEST_ZONE = timedelta(hours=18)
"""No local date begins this much before its date in UTC, or ends so much after it; zones reach 14 hours."""
EVERYWHERE_OVER = timedelta(hours=12)
"""A date has ended in every zone twelve hours after it ended in UTC (Etc/GMT+12)."""

Span = tuple[datetime, datetime]
"""First and last period, both included."""


class Statistic(StrEnum):
    """What is kept per period, for everybody together."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    BEHAVIOUR = "behaviour"


@dataclass(frozen=True, slots=True)
class Calendar:
    """The periods of a statistic. All arithmetic is on naive wall-clock time.

    ``begin(at)``: the start of the period in which ``at`` lies. ``following(period)``: the next start.
    ``reach(day)``: the periods whose figures rest on the rollup of a user's local date.
    ``beside(day)``: the periods that count sessions and goals of a local date themselves, by another clock:
    they may change although the rollup of the date does not. None: there are none.
    ``onward``: whether a first active date or an account changes every later period too.
    ``batch``: how many periods are derived in one step.
    """

    begin: Callable[[datetime], datetime]
    following: Callable[[datetime], datetime]
    reach: Callable[[date], Span]
    beside: Callable[[date], Span] | None
    onward: bool
    batch: int
    step: str
    """The distance of periods as PostgreSQL writes it."""

    def before(self, at: datetime) -> datetime:
        """The last period that is over at ``at``."""
        return self.begin(self.begin(at) - timedelta(microseconds=1))

    def batch_after(self, through: datetime, target: datetime) -> list[datetime]:
        """The next periods after ``through`` (a period, exclusive) up to ``target``, at most ``batch``."""
        found: list[datetime] = []
        period = self.following(through)
        while period <= target and len(found) < self.batch:
            found.append(period)
            period = self.following(period)
        return found

    def between(self, first: date, last: date, over: datetime, most: int) -> list[datetime]:
        """The periods that begin from ``first`` to ``last``, no later than ``over``, and that of ``first``.

        At most ``most`` + 1, so that too many can be told.
        """
        end = min(datetime.combine(last, time.max), over)
        found = [self.begin(_midnight(first))]
        while len(found) <= most and (following := self.following(found[-1])) <= end:
            found.append(following)
        return [period for period in found if period <= over]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def _day(at: datetime) -> datetime:
    return _midnight(at.date())


def _sunday(at: datetime) -> datetime:
    return _midnight(at.date() - timedelta(days=at.isoweekday() % 7))


def _first(at: datetime) -> datetime:
    return _midnight(at.date().replace(day=1))


def _next_month(period: datetime) -> datetime:
    return _first(period + timedelta(days=32))


def _window(at: datetime) -> datetime:
    return at.replace(hour=at.hour // 6 * 6, minute=0, second=0, microsecond=0)


def _windows_of(day: date) -> Span:
    return _window(_midnight(day) - _FURTHEST_ZONE), _window(_midnight(day) + _DAY + _FURTHEST_ZONE)


CALENDARS: dict[Statistic, Calendar] = {
    # MAU looks 30 days back. A local date may begin two service days before (00:00 at +14 is 23:00 at -11)
    # and end two after.
    Statistic.DAILY: Calendar(
        _day,
        lambda p: p + _DAY,
        lambda d: (_midnight(d), _midnight(d) + 29 * _DAY),
        lambda d: (_midnight(d) - 2 * _DAY, _midnight(d) + 2 * _DAY),
        onward=False,
        batch=31,
        step="1 day",
    ),
    # The lifecycle of a week looks at the week before.
    Statistic.WEEKLY: Calendar(
        _sunday,
        lambda p: p + 7 * _DAY,
        lambda d: (_sunday(_midnight(d)), _sunday(_midnight(d)) + 7 * _DAY),
        None,
        onward=True,
        batch=8,
        step="7 days",
    ),
    Statistic.MONTHLY: Calendar(
        _first,
        _next_month,
        lambda d: (_first(_midnight(d)), _next_month(_midnight(d))),
        None,
        onward=True,
        batch=3,
        step="1 month",
    ),
    Statistic.BEHAVIOUR: Calendar(
        _window,
        lambda p: p + _HOURS,
        _windows_of,
        _windows_of,
        onward=False,
        batch=124,
        step="6 hours",
    ),
}


DERIVED = {
    "analytics.dailyAnalytics": Statistic.DAILY,
    "analytics.weeklyAggregation": Statistic.WEEKLY,
    "analytics.monthlyInsights": Statistic.MONTHLY,
    "analytics.userBehavior": Statistic.BEHAVIOUR,
}
"""Jobs whose figures follow from stored days, and can be derived again; what was measured cannot."""


def over_everywhere(now: datetime) -> datetime:
    """The naive UTC time up to which local dates are over in every zone at the instant ``now`` (aware)."""
    return now.astimezone(UTC).replace(tzinfo=None) - EVERYWHERE_OVER
