"""Continuous focus, and when a break is due in it (spec §3, breakReminders)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

MOST_BREAKS = 3


def stretch_start(
    running_since: datetime, earlier: Iterable[tuple[datetime, datetime]], joint: timedelta
) -> datetime:
    """When the continuous focus began that the running session ends.

    ``earlier``: (start, end) of other focus intervals. Intervals are one stretch while the gaps between them
    are shorter than ``joint`` (the user's short break).
    """
    start = running_since
    for begun, ended in sorted(earlier, key=lambda interval: interval[1], reverse=True):
        if start - ended >= joint:
            break
        start = min(start, begun)
    return start


def breaks_due(focused: timedelta, work: timedelta) -> int:
    """How many breaks are due after so much continuous focus: the first after 2 x work, then one every work.

    0 when none is due yet; at most ``MOST_BREAKS``.
    """
    if focused < 2 * work:
        return 0
    return min(1 + (focused - 2 * work) // work, MOST_BREAKS)
