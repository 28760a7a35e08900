"""Streaks: runs of consecutive local dates with at least one completed focus session (spec §2.16)."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

_DAY = timedelta(days=1)


def current_streak(days: Collection[date], today: date, moved: Collection[date] = ()) -> int:
    """How many dates in a row, ending today if today counts, else ending yesterday; 0 if neither does.

    ``days``: the dates with a completed focus session. ``moved``: dates on which the user's zone changed;
    between neighbours around such a date one missing date does not break the streak, nor is it counted.
    """
    end = today if today in days else today - _DAY
    if end not in days and _bridged(end, moved):
        end -= _DAY
    return _run_ending(days, end, moved)


def longest_streak(days: Iterable[date], moved: Collection[date] = ()) -> int:
    """The length of the longest run; 0 without any date."""
    dates = set(days)
    return max(
        (_run_ending(dates, day, moved) for day in dates if not _goes_on(dates, day, moved)), default=0
    )


def _goes_on(days: Collection[date], day: date, moved: Collection[date]) -> bool:
    following = day + _DAY
    return following in days or (_bridged(following, moved) and following + _DAY in days)


def _run_ending(days: Collection[date], end: date, moved: Collection[date]) -> int:
    length = 0
    while end in days:
        length += 1
        end -= _DAY
        if end not in days and _bridged(end, moved) and end - _DAY in days:
            end -= _DAY
    return length


def _bridged(missing: date, moved: Collection[date]) -> bool:
    """A date that got lost because the zone changed on it, or between its neighbours and it."""
    return bool(moved) and (missing in moved or missing + _DAY in moved)
