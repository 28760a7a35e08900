"""When and how a user works: chronotype, peak hours, consistency, preferred session length.

All times are local, in minutes after midnight. Every figure needs a minimum of data, and is None below it.
"""

import cmath
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

_DAY_MINUTES = 1440
MIN_ACTIVE_DAYS = 5
"""Active days, under which nothing is said of somebody's hours."""
_MIN_R = 0.3
_WINDOW = 28
_MIN_SESSIONS = 10
_STEP = 5
_PREFERRED_SHARE = 0.25


class Chronotype(StrEnum):
    """By the circular mean of the times of focus: morning lark from 4:00, afternoon from 12:00, evening from
    17:00, night owl from 22:00 until 4:00. NONE: spread over the day (R below 0.3)."""

    MORNING = "morning lark"
    AFTERNOON = "afternoon"
    EVENING = "evening"
    NIGHT = "night owl"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ClockMean:
    """``minute``: the circular mean in [0, 1440); ``r``: the resultant length, 0 (spread evenly) to 1 (one
    instant)."""

    minute: float
    r: float


@dataclass(frozen=True, slots=True)
class Consistency:
    """The share of active days, and R of the start times (None without sessions)."""

    active_share: float
    start_r: float | None


@dataclass(frozen=True, slots=True)
class PreferredLength:
    """``minutes``: a multiple of 5. ``share``: of the ``sessions`` that have this length."""

    minutes: int
    share: float
    sessions: int


def clock_mean(weighted: Iterable[tuple[float, float]]) -> ClockMean | None:
    """The circular mean of (minute, weight): the angle and length of Σ w·exp(2πi·minute/1440) / Σ w (Mardia
    and Jupp, 2000, §2.2). None without any weight. If R is 0, the minute has no meaning. ValueError: a
    negative weight."""
    resultant, total = 0j, 0.0
    for minute, weight in weighted:
        if weight < 0:
            raise ValueError(f"a weight is not negative: {weight} at minute {minute}")
        resultant += weight * cmath.exp(2j * math.pi * minute / _DAY_MINUTES)
        total += weight
    if total == 0:
        return None
    resultant /= total
    minute = cmath.phase(resultant) / (2 * math.pi) * _DAY_MINUTES % _DAY_MINUTES
    return ClockMean(minute if minute < _DAY_MINUTES else 0.0, min(abs(resultant), 1.0))


def chronotype(focus: Iterable[tuple[float, float]], active_days: int) -> Chronotype | None:
    """The chronotype from (local minute, focus seconds); None under 5 active days or without focus."""
    mean = clock_mean(focus)
    if mean is None or active_days < MIN_ACTIVE_DAYS:
        return None
    return Chronotype.NONE if mean.r < _MIN_R else _chronotype_at(mean.minute / 60)


def _chronotype_at(hour: float) -> Chronotype:
    if hour < 4 or hour >= 22:
        return Chronotype.NIGHT
    if hour < 12:
        return Chronotype.MORNING
    return Chronotype.AFTERNOON if hour < 17 else Chronotype.EVENING


def peak_hours(by_hour: Sequence[float], active_days: int, limit: int = 3) -> list[int]:
    """The local hours with the most focus, in descending order, the earlier of equal ones first.

    ``by_hour``: focus seconds of the hours 0–23. Empty under 5 active days.
    """
    if len(by_hour) != 24:
        raise ValueError(f"focus by hour has 24 figures, not {len(by_hour)}")
    if active_days < MIN_ACTIVE_DAYS:
        return []
    ranked = sorted(range(24), key=lambda hour: (-by_hour[hour], hour))
    return [hour for hour in ranked[:limit] if by_hour[hour] > 0]


def consistency(
    active_days: Iterable[date], starts: Iterable[float], today: date, signed_up: date
) -> Consistency | None:
    """The share of active days among the last 28 up to ``today``, or since sign-up (included); and R of the
    start minutes, each start with the same weight. None if the sign-up is after ``today``."""
    days = min(_WINDOW, (today - signed_up).days + 1)
    if days <= 0:
        return None
    active = sum(0 <= (today - day).days < days for day in set(active_days))
    mean = clock_mean((minute, 1.0) for minute in starts)
    return Consistency(active / days, mean.r if mean else None)


def preferred_length(minutes: Iterable[float]) -> PreferredLength | None:
    """The most frequent length of completed sessions, rounded to 5 minutes (at least 5; halves up); the
    shorter of equal ones. None under 10 sessions, or if fewer than a quarter have that length."""
    lengths = Counter(max(_STEP, math.floor(value / _STEP + 0.5) * _STEP) for value in minutes)
    sessions = lengths.total()
    if sessions < _MIN_SESSIONS:
        return None
    length, count = min(lengths.items(), key=lambda item: (-item[1], item[0]))
    share = count / sessions
    return PreferredLength(length, share, sessions) if share >= _PREFERRED_SHARE else None
