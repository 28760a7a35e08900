"""Streaks: runs of consecutive active dates, those with at least a minute of credited focus."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

_DAY = timedelta(days=1)


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
