"""Compares the completion of two parts of the sessions, within weeks, and weekdays among workdays. Pure.

Sessions of one day are not independent, nor are those of one person: the unit is a date (of many people's
sessions: a date, and a group of people). A part and the rest are compared within each week, so that neither
quiet weeks nor a level that drifts makes a difference.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.analytics.significance import t_limit, t_tail, variance

MIN_SESSIONS = 20
_MIN_EXPECTED = 5
_MIN_UNITS = 10
_MIN_WEEKS = 8
_Z = 1.959964
WORKDAYS = range(5)
"""From Monday on."""

Key = tuple[int, int]
"""A group of people (0: a single person), and a local date as its ordinal."""
Tallies = Mapping[Key, Sequence[int]]
"""[completed, started] of sessions."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """``successes`` of ``trials``: completed sessions of those started, or dates."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials if self.trials else 0.0

    @property
    def words(self) -> str:
        """The evidence: ``61 of 80``."""
        return f"{self.successes:,} of {self.trials:,}"


@dataclass(frozen=True, slots=True)
class Difference:
    """How much the ``first`` rate is above the ``second``: the 95 % interval, as shares, and the p of no
    difference."""

    first: Proportion
    second: Proportion
    low: float
    high: float
    p: float

    @property
    def points(self) -> float:
        return self.first.rate - self.second.rate

    @property
    def reversed(self) -> "Difference":
        """The same, told from the other side."""
        return Difference(self.second, self.first, -self.high, -self.low, self.p)


@dataclass(frozen=True, slots=True)
class DoneDates:
    """On how many of ``people`` each date, as its ordinal, has a completed session, from ``since`` to
    ``until`` (both included)."""

    done: Mapping[int, int]
    since: int
    until: int
    people: int = 1


def weekday_of(ordinal: int) -> int:
    """0: Monday."""
    return (ordinal - 1) % 7


def week_of(ordinal: int) -> int:
    """A number of the week, which begins on a Monday."""
    return (ordinal - 1) // 7


def total(tallies: Tallies) -> Proportion:
    """All sessions together."""
    return Proportion(sum(done for done, _ in tallies.values()), sum(n for _, n in tallies.values()))


def difference(part: Tallies, everything: Tallies, least: float, *, people: bool) -> Difference | None:
    """Compare the sessions of a part with all others.

    In each week, Σ (a - ā)(y - ȳ) over the sessions of a unit, a: whether a session is in the part, y:
    whether it was completed; the units' sums are tested by Student's t for one sample. ``people``: the units
    are dates and groups of people, and the variances of both are added, which is never too little. No
    variance is taken to be less than that of independent sessions. Rates that differ by less than ``least``
    have p = 1. None: fewer than 20 sessions on a side, fewer than 5 expected in a cell, or fewer than 10
    units.
    """
    first, whole = total(part), total(everything)
    second = Proportion(whole.successes - first.successes, whole.trials - first.trials)
    fewer = min(first.trials, second.trials)
    if fewer < MIN_SESSIONS or min(whole.rate, 1 - whole.rate) * fewer < _MIN_EXPECTED:
        return None
    if abs(first.rate - second.rate) < least:
        return Difference(first, second, -1.0, 1.0, 1.0)
    scores, weight, independent = _scores(part, everything)
    units = [_sums(scores, 1), _sums(scores, 0)] if people else [scores.values()]
    count = min(len(unit) for unit in units)
    if count < _MIN_UNITS:
        return None
    error = math.sqrt(max(independent, sum(len(unit) * variance(unit) for unit in units)))
    return _judged(first, second, sum(scores.values()) / weight, error / weight, count - 1)


def _judged(first: Proportion, second: Proportion, points: float, error: float, freedom: int) -> Difference:
    """``error``: the standard error of ``points``; without any, the units do not show how much they vary."""
    if error <= 1e-12:
        return Difference(first, second, points, points, 1.0)
    margin = t_limit(freedom) * error
    return Difference(first, second, points - margin, points + margin, t_tail(points / error, freedom))


def _scores(part: Tallies, everything: Tallies) -> tuple[dict[Key, float], float, float]:
    """The sum of each date and group, in weeks that have sessions both in and out of the part; Σ (a - ā)²
    over all sessions, by which a sum is divided to be a difference of rates; and the variance that the sum of
    all would have if sessions were independent."""
    weeks: dict[int, list[int]] = {}
    for key, (done, started) in everything.items():
        inside = part.get(key)
        week = weeks.setdefault((key[1] - 1) // 7, [0, 0, 0])
        week[0] += done
        week[1] += started
        if inside:
            week[2] += inside[1]
    means: dict[int, tuple[float, float]] = {}
    weight = independent = 0.0
    for number, (done, started, within) in weeks.items():
        if 0 < within < started:
            in_part, completed = means[number] = within / started, done / started
            weight += within * (1 - in_part)
            independent += within * (1 - in_part) * completed * (1 - completed)
    scores: dict[Key, float] = {}
    for key, (done, started) in everything.items():
        mean = means.get((key[1] - 1) // 7)
        if mean:
            in_part, completed = mean
            inside_done, inside_started = part.get(key, (0, 0))
            scores[key] = (inside_done - inside_started * completed) - in_part * (done - started * completed)
    return scores, weight, independent


def _sums(scores: Mapping[Key, float], unit: int) -> Collection[float]:
    sums: defaultdict[int, float] = defaultdict(float)
    for key, score in scores.items():
        sums[key[unit]] += score
    return sums.values()


# ── Weekdays ────────────────────────────────────────────────────────────────────────────────────────────────


def best_workday(dates: DoneDates, least: float) -> tuple[int, Difference] | None:
    """The workday (0: Monday) on which the share of people with a completed session is furthest above that of
    the other workdays, where it is at least ``least`` more; p: of the best of five (Bonferroni).

    One person: the exact distribution given how many workdays of each week have one: on a given weekday, the
    number of such weeks is a sum of independent trials, one a week. Many: Student's t of the weeks'
    differences. Dates are the units of both.
    """
    weeks = _workdays_by_week(dates)
    if len(weeks) < _MIN_WEEKS:
        return None
    done, days = [0] * len(WORKDAYS), [0] * len(WORKDAYS)
    for week in weeks:
        for weekday, people in week.items():
            done[weekday] += people
            days[weekday] += 1
    parts = [Proportion(n, count * dates.people) for n, count in zip(done, days, strict=True)]
    whole = Proportion(sum(done), sum(days) * dates.people)
    best = max(WORKDAYS, key=lambda weekday: parts[weekday].rate)
    first = parts[best]
    second = Proportion(whole.successes - first.successes, whole.trials - first.trials)
    if first.rate - second.rate < least:
        return None
    if dates.people == 1:
        p = _weeks_tail([(sum(week.values()), len(week)) for week in weeks if best in week], first.successes)
        low, high = interval(first, second)
        found = Difference(first, second, low, high, p)
    else:
        found = _compare_weeks(weeks, best, dates.people, first, second)
    return best, Difference(first, second, found.low, found.high, min(1.0, found.p * len(WORKDAYS)))


def _workdays_by_week(dates: DoneDates) -> list[dict[int, int]]:
    """By week, the workdays of the range with the people who completed a session."""
    weeks = []
    for monday in range(dates.since - weekday_of(dates.since), dates.until + 1, 7):
        days = range(max(monday, dates.since), min(monday + len(WORKDAYS) - 1, dates.until) + 1)
        week = {day - monday: dates.done.get(day, 0) for day in days}
        if len(week) > 1 and any(week.values()):
            weeks.append(week)
    return weeks


def _weeks_tail(weeks: Iterable[tuple[int, int]], least: int) -> float:
    """P(at least so many weeks have it on a given weekday), each week (k, of n workdays) with the chance k/n,
    exactly: the tail of the Poisson binomial distribution."""
    chances = [1.0]
    for k, n in weeks:
        chance = k / n
        stay = [p * (1 - chance) for p in chances]
        chances = [a + b for a, b in zip([*stay, 0.0], [0.0, *(p * chance for p in chances)], strict=True)]
    return min(1.0, math.fsum(chances[least:]))


def _compare_weeks(
    weeks: Iterable[Mapping[int, int]], best: int, people: int, first: Proportion, second: Proportion
) -> Difference:
    differences = []
    for week in weeks:
        others = [done for weekday, done in week.items() if weekday != best]
        if best in week and others:
            differences.append((week[best] - sum(others) / len(others)) / people)
    if len(differences) < _MIN_WEEKS:
        return Difference(first, second, -1.0, 1.0, 1.0)
    count = len(differences)
    error = math.sqrt(variance(differences) / count)
    return _judged(first, second, math.fsum(differences) / count, error, count - 1)


def interval(first: Proportion, second: Proportion) -> tuple[float, float]:
    """The 95 % interval of the difference of two proportions (Newcombe, 1998, method 10)."""
    (low, high), (other_low, other_high) = _wilson(first), _wilson(second)
    points = first.rate - second.rate
    return (
        points - math.hypot(first.rate - low, other_high - second.rate),
        points + math.hypot(high - first.rate, second.rate - other_low),
    )


def _wilson(part: Proportion) -> tuple[float, float]:
    n, square = part.trials, _Z * _Z
    centre = (part.rate + square / (2 * n)) / (1 + square / n)
    margin = _Z * math.sqrt(part.rate * (1 - part.rate) / n + square / (4 * n * n)) / (1 + square / n)
    return centre - margin, centre + margin
