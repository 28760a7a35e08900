"""When a job is stale: it has not succeeded for longer than its schedule explains. Pure."""

from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

from service.engine.schedule import Schedule

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_HOURLY_LIMIT, _DAILY_LIMIT = timedelta(hours=3), timedelta(hours=36)
_LONGEST_MARGIN = timedelta(days=2)


class Frequency(StrEnum):
    """How often a job is due, by the longest gap of its schedule."""

    HOURLY = "hourly"
    """At least once an hour."""
    DAILY = "daily"
    """At least once a day."""
    RARE = "rare"
    """There are days without a slot: weekends, most of a week or of a month."""


@lru_cache(maxsize=256)
def frequency(schedule: Schedule) -> Frequency:
    """How often a job with this schedule is due."""
    gap = schedule.longest_gap()
    if gap <= _HOUR:
        return Frequency.HOURLY
    return Frequency.DAILY if gap <= _DAY else Frequency.RARE


@lru_cache(maxsize=256)
def stale_after(schedule: Schedule) -> timedelta:
    """How old the last success of a job may become.

    Two hourly slots may fail in a row, and daily jobs have half a day to recover; other jobs have half of
    their longest gap, at most two days. The time mode makes no difference: one zone has the schedule's gaps,
    several zones have shorter ones, and the margins cover a change of the clocks.
    """
    gap = schedule.longest_gap()
    match frequency(schedule):
        case Frequency.HOURLY:
            return _HOURLY_LIMIT
        case Frequency.DAILY:
            return _DAILY_LIMIT
        case Frequency.RARE:
            return gap + min(gap / 2, _LONGEST_MARGIN)
