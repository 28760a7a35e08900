"""A user's figures of a period, from sessions with their local dates.

Focus time is the credited focus of the focus sessions *started* on a date, completed or abandoned (an
abandoned session is credited with what was planned). Sessions counted are completed focus sessions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from service.analytics.periods import Period

ACTIVE_SECONDS = 60
"""An active date has at least so much credited focus; as ``service.active_dates`` has it."""


@dataclass(frozen=True, slots=True)
class LocalSession:
    """A timer session on the local date of its start, in the zone that was valid then."""

    day: date
    focus: bool
    status: str
    focus_seconds: int
    category: str | None = None

    @property
    def done(self) -> bool:
        """A completed focus session."""
        return self.focus and self.status == "completed"

    @property
    def credited(self) -> int:
        """Seconds of focus that count."""
        return self.focus_seconds if self.focus and self.status in {"completed", "abandoned"} else 0


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """The figures of a period. ``by_day``: focus seconds of each of its dates, ascending.

    ``active_dates``: those with at least a minute of focus.
    """

    focus_seconds: int
    sessions: int
    active_dates: frozenset[date]
    by_day: tuple[int, ...]
    best_day: date | None
    """The date with the most focus, the earliest of equal ones; None without any focus."""
    categories: tuple[tuple[str, int], ...]
    """(category, focus seconds), most first; sessions without one are not listed."""

    @property
    def active_days(self) -> int:
        """The number of active dates."""
        return len(self.active_dates)

    @property
    def average_seconds(self) -> int:
        """Focus time per completed session, rounded; 0 without sessions."""
        return round(self.focus_seconds / self.sessions) if self.sessions else 0


def figures(sessions: Iterable[LocalSession], period: Period) -> PeriodFigures:
    """The figures of a period."""
    in_period = [session for session in sessions if session.day in period]
    per_day: Counter[date] = Counter()
    categories: Counter[str] = Counter()
    for session in in_period:
        per_day[session.day] += session.credited
        if session.category and session.credited:
            categories[session.category] += session.credited
    by_day = tuple(per_day[day] for day in period.days)
    best = max(period.days, key=lambda day: (per_day[day], -day.toordinal()))
    return PeriodFigures(
        focus_seconds=sum(by_day),
        sessions=sum(session.done for session in in_period),
        active_dates=frozenset(day for day in period.days if per_day[day] >= ACTIVE_SECONDS),
        by_day=by_day,
        best_day=best if per_day[best] else None,
        categories=tuple(sorted(categories.items(), key=lambda item: (-item[1], item[0]))),
    )


def focus_by_period(by_day: Sequence[int], whole: Period, parts: Iterable[Period]) -> list[int]:
    """Focus seconds of each part of the period ``whole``, whose dates are in ``by_day``."""
    first = whole.start
    return [sum(by_day[(part.start - first).days : (part.end - first).days]) for part in parts]


def local_sessions(rows: Sequence[Sequence[Any]] | None) -> tuple[LocalSession, ...]:
    """Sessions from JSON of a query: each is [local date, focus, status, focus seconds, category]."""
    return tuple(LocalSession(date.fromisoformat(day), *rest) for day, *rest in rows or ())
