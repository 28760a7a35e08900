"""The change of a figure against the period before (spec §2.15)."""

_NOTEWORTHY = 5
_ENOUGH_SESSIONS = 3

NEW = "new"


def change(current: float, previous: float, previous_sessions: int) -> int | str | None:
    """Per cent by which a figure changed, rounded; ``NEW``; or None: not worth mentioning.

    100 · (current - previous) / previous. Previous 0 and current above: ``NEW``; both 0: None; less than
    5 %, or a previous period of fewer than 3 sessions: None.
    """
    if previous == 0:
        return NEW if current > 0 else None
    if previous_sessions < _ENOUGH_SESSIONS:
        return None
    percent = 100 * (current - previous) / previous
    return round(percent) if abs(percent) >= _NOTEWORTHY else None
