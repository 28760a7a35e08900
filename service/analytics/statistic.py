"""Statistics and their calendars: their periods, and which periods a date affects.

A period is identified by its start as naive wall-clock time: in the service zone (daily), in every user's own
zone (weekly, monthly, insights, churn models), or in UTC (behaviour).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

_DAY = timedelta(days=1)
_HOURS = timedelta(hours=6)
_FURTHEST_ZONE = timedelta(hours=18)
"""No local date begins earlier before its date in UTC, or ends later after it; zones differ by 14 hours."""
_OLDEST_GOAL = timedelta(days=90)
EVERYWHERE_OVER = timedelta(hours=12)
"""A date has ended in every zone twelve hours after it ended in UTC (Etc/GMT+12)."""

Span = tuple[datetime, datetime]
"""First and last period, both included."""


class Statistic(StrEnum):
    """Figures that are stored per period, for all users together."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    BEHAVIOUR = "behaviour"
    INSIGHTS = "insights"
    """Sentences about a month of everybody."""
    CHURN_MODEL = "churnModel"
    """The model of churn as of the last date of a month."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """The periods of a statistic. All arithmetic is on naive wall-clock time.

    ``begin(at)``: the start of the period that contains ``at``. ``following(period)``: the next start.
    ``reach(day)``: the periods whose figures depend on the rollup of a user's local date.
    ``reach_by_clock(day)``: the periods that count sessions and goals of a local date directly: they may
    change even if the rollup of the date does not. None: there are none.
    ``onward``: whether a first active date or a new account also changes every later period.
    ``batch``: how many periods are derived in one step.
    """

    begin: Callable[[datetime], datetime]
    following: Callable[[datetime], datetime]
    reach: Callable[[date], Span]
    reach_by_clock: Callable[[date], Span] | None
    onward: bool
    batch: int
    step: str
    """The length of a period as an interval of PostgreSQL."""

    def before(self, at: datetime) -> datetime:
        """The last period that is over at ``at``."""
        return self.begin(self.begin(at) - timedelta(microseconds=1))

    def batch_after(self, through: datetime, target: datetime) -> list[datetime]:
        """The next periods after ``through`` (a period, exclusive) up to ``target``, at most ``batch``."""
        periods: list[datetime] = []
        period = self.following(through)
        while period <= target and len(periods) < self.batch:
            periods.append(period)
            period = self.following(period)
        return periods

    def between(self, first: date, last: date, over: datetime, limit: int) -> list[datetime]:
        """The periods that begin from ``first`` to ``last``, no later than ``over``, and that of ``first``.

        At most ``limit`` + 1, so that the caller can see that there are too many.
        """
        end = min(datetime.combine(last, time.max), over)
        periods = [self.begin(_midnight(first))]
        while len(periods) <= limit and (following := self.following(periods[-1])) <= end:
            periods.append(following)
        return [period for period in periods if period <= over]


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


def _months(day: date, days: int) -> Span:
    """From the month of a date to the last one that ends within so many days of it."""
    last = _first(_midnight(day) + (days + 1) * _DAY) - _DAY
    return _first(_midnight(day)), max(_first(_midnight(day)), _first(last))


def _month(day: date) -> Span:
    return _first(_midnight(day)), _first(_midnight(day))


def _windows_of(day: date) -> Span:
    return _window(_midnight(day) - _FURTHEST_ZONE), _window(_midnight(day) + _DAY + _FURTHEST_ZONE)


CALENDARS: dict[Statistic, Calendar] = {
    # MAU counts 30 days back. A local date may begin two service days earlier (00:00 at +14 is 23:00 at -11)
    # and end two later.
    Statistic.DAILY: Calendar(
        _day,
        lambda p: p + _DAY,
        lambda d: (_midnight(d), _midnight(d) + 29 * _DAY),
        lambda d: (_midnight(d) - 2 * _DAY, _midnight(d) + 2 * _DAY),
        onward=False,
        batch=31,
        step="1 day",
    ),
    # The lifecycle of a week depends on the week before.
    Statistic.WEEKLY: Calendar(
        _sunday,
        lambda p: p + 7 * _DAY,
        lambda d: (_sunday(_midnight(d)), _sunday(_midnight(d)) + 7 * _DAY),
        None,
        onward=True,
        batch=8,
        step="7 days",
    ),
    # A goal is looked at again 90 days after its creation.
    Statistic.MONTHLY: Calendar(
        _first,
        _next_month,
        lambda d: (_first(_midnight(d)), _next_month(_midnight(d))),
        lambda d: (_first(_midnight(d)), _first(_midnight(d) + _OLDEST_GOAL)),
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
    # Weeks of focus go back 98 dates from the month's last one. Sessions of the month are read directly: the
    # hour or the planned length of one may change although the rollup of its day does not.
    Statistic.INSIGHTS: Calendar(
        _first, _next_month, lambda d: _months(d, 97), _month, onward=False, batch=3, step="1 month"
    ),
    # Features of 28 days before the month's last date rest on 180 dates, tenure on the first date of all.
    Statistic.CHURN_MODEL: Calendar(
        _first, _next_month, lambda d: _months(d, 207), None, onward=True, batch=1, step="1 month"
    ),
}


DERIVED = {
    "analytics.dailyAnalytics": Statistic.DAILY,
    "analytics.weeklyAggregation": Statistic.WEEKLY,
    "analytics.monthlyInsights": Statistic.MONTHLY,
    "analytics.userBehavior": Statistic.BEHAVIOUR,
}
"""Jobs whose figures can be derived again from stored days; measured ones cannot."""


WITH_MONTHS = (Statistic.INSIGHTS, Statistic.CHURN_MODEL)
"""What monthlyInsights derives beside the figures of a month."""


def over_everywhere(now: datetime) -> datetime:
    """The naive UTC time up to which local dates are over in every zone at the instant ``now`` (aware)."""
    return now.astimezone(UTC).replace(tzinfo=None) - EVERYWHERE_OVER
