"""Streaks: runs of consecutive active dates, those with at least a minute of credited focus."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

_DAY = timedelta(days=1)
_SATURDAY = 5


def current_streak(days: Collection[date], today: date, moved: Collection[date] = ()) -> int:
    """The number of consecutive dates that end today, or else yesterday; 0 if neither date counts.

    ``days``: the active dates. ``moved``: dates on which the user's zone changed; one
    missing date beside such a date neither breaks the streak nor counts.
    """
    end = today if today in days else today - _DAY
    if end not in days and _bridged(end, moved):
        end -= _DAY
    return _run_ending(days, end, moved)


def longest_streak(days: Iterable[date], moved: Collection[date] = ()) -> int:
    """The length of the longest run; 0 without any date."""
    dates = set(days)
    return max(
        (_run_ending(dates, day, moved) for day in dates if not _continues(dates, day, moved)), default=0
    )


def chance_to_last(days: Collection[date], since: date, start: date, length: int) -> float:
    """The chance that a streak which begins on ``start`` has at least ``length`` days, from the dates between
    ``since`` and ``start`` on which a streak went on or ended.

    Learned apart for workdays and weekends by Laplace's rule of succession, so that few dates promise little:
    after s of n, (s + 1) / (n + 2).
    """
    tallies = {False: [1, 2], True: [1, 2]}
    for ordinal in range(since.toordinal() + 1, start.toordinal()):
        day = date.fromordinal(ordinal)
        if day - _DAY in days:
            tally = tallies[day.weekday() >= _SATURDAY]
            tally[0] += day in days
            tally[1] += 1
    chance = 1.0
    for ordinal in range(start.toordinal() + 1, start.toordinal() + length):
        tally = tallies[date.fromordinal(ordinal).weekday() >= _SATURDAY]
        chance *= tally[0] / tally[1]
        tally[0] += 1
        tally[1] += 1
    return chance


def _continues(days: Collection[date], day: date, moved: Collection[date]) -> bool:
    next_day = day + _DAY
    return next_day in days or (_bridged(next_day, moved) and next_day + _DAY in days)


def _run_ending(days: Collection[date], end: date, moved: Collection[date]) -> int:
    length = 0
    while end in days:
        length += 1
        end -= _DAY
        if end not in days and _bridged(end, moved) and end - _DAY in days:
            end -= _DAY
    return length


def _bridged(missing: date, moved: Collection[date]) -> bool:
    """Whether a missing date does not break a streak, because the zone changed on it or on the next date."""
    return bool(moved) and (missing in moved or missing + _DAY in moved)
