"""Continuous focus, and when a break is due (for breakReminders)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

MAX_BREAKS = 3


def stretch_start(
    running_since: datetime, earlier: Iterable[tuple[datetime, datetime]], max_gap: timedelta
) -> datetime:
    """The start of the continuous focus to which the running session belongs.

    ``earlier``: (start, end) of other focus intervals. Intervals are one stretch if the gaps between them
    are shorter than ``max_gap`` (the user's short break).
    """
    start = running_since
    for began, ended in sorted(earlier, key=lambda interval: interval[1], reverse=True):
        if start - ended >= max_gap:
            break
        start = min(start, began)
    return start


def breaks_due(focused: timedelta, work: timedelta) -> int:
    """How many breaks are due after so much continuous focus: one after 2 x work, then one every work.

    0 when none is due yet; at most ``MOST_BREAKS``.
    """
    if focused < 2 * work:
        return 0
    return min(1 + (focused - 2 * work) // work, MAX_BREAKS)
