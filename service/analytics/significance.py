"""The statistical tests of the analytics, in plain Python: is it a change, or noise?

Each test uses earlier figures of the same metric: a week is compared with the metric's own weeks, not with a
theoretical distribution (a Poisson test found 20.6 % of real weeks significant, ``week_change`` 6.5 %).
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

NORMAL_MAD = 1.4826
_NORMAL_LIMIT = 1.959964
_BASELINE_WEEKS = 4
_MIN_WEEKDAYS = 3
_MIN_ERRORS = 5
_MIN_BASELINE = 20
_MIN_PERCENT = 5
_SIGNIFICANT = 50
_DAY_LEVEL = 0.006
_MIN_WEEKS = 8
_DIFFERENCES = 12
DAY_HISTORY_WEEKS = _DIFFERENCES + _BASELINE_WEEKS
"""As many earlier weeks have an influence on the trend of a day."""


class Trend(StrEnum):
    """How a day compares with the same weekday of earlier weeks."""

    INSUFFICIENT = "insufficient"
    NONE = "none"
    TREND = "trend"
    SIGNIFICANT = "significant"


@dataclass(frozen=True, slots=True)
class DayTrend:
    """A day's figure compared with ``baseline``. ``percent``: None when the baseline is 0 or unknown."""

    verdict: Trend
    baseline: float | None
    percent: float | None


@dataclass(frozen=True, slots=True)
class WeekChange:
    """A week's figure compared with the week before: Student's t, degrees of freedom, two-sided p."""

    t: float
    freedom: int
    p: float


def quantile(values: Iterable[float], share: float) -> float:
    """The ``share`` quantile (0 to 1), linear between neighbours: type 7 of Hyndman and Fan (1996), which is
    PostgreSQL's ``percentile_cont``. ValueError without values."""
    return quantile_of_sorted(sorted(values), share)


def quantile_of_sorted(ordered: Sequence[float], share: float) -> float:
    """The same for values that are already ascending."""
    if not ordered:
        raise ValueError("a quantile needs at least one value")
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile's share lies between 0 and 1, not {share}")
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two middle ones. ValueError without values."""
    return quantile(values, 0.5)


def day_trends(values: Sequence[float | None]) -> list[DayTrend]:
    """Compare each value of one weekday, week by week and oldest first (None: that day is missing), with the
    median of the four before it.

    The error of a value is √value - √median. t = error / the root mean square of the last 12 errors; a
    change that such an error explains in more than 0.6 % of cases is ``none``, as is one of under 5 %. Over
    50 % is ``significant``. ``insufficient``: fewer than 3 of the four days or than 5 errors (which takes 8
    weeks), a median under 20, or a figure that never moved.
    """
    errors: list[float | None] = []
    trends: list[DayTrend] = []
    for at, value in enumerate(values):
        before = [earlier for earlier in values[max(0, at - _BASELINE_WEEKS) : at] if earlier is not None]
        baseline = median(before) if len(before) >= _MIN_WEEKDAYS else None
        error = None if value is None or baseline is None else math.sqrt(value) - math.sqrt(baseline)
        known = [earlier for earlier in errors[-_DIFFERENCES:] if earlier is not None]
        trends.append(_day_trend(value, baseline, error, known))
        errors.append(error)
    return trends


def _day_trend(
    value: float | None, baseline: float | None, error: float | None, errors: Sequence[float]
) -> DayTrend:
    percent = 100 * (value - baseline) / baseline if value is not None and baseline else None
    if baseline is None or percent is None or error is None or baseline < _MIN_BASELINE:
        return DayTrend(Trend.INSUFFICIENT, baseline, percent)
    usual = math.sqrt(math.fsum(e * e for e in errors) / len(errors)) if len(errors) >= _MIN_ERRORS else 0.0
    if usual < 1e-9:
        return DayTrend(Trend.INSUFFICIENT, baseline, percent)
    if abs(percent) < _MIN_PERCENT or t_tail(error / usual, len(errors)) > _DAY_LEVEL:
        return DayTrend(Trend.NONE, baseline, percent)
    return DayTrend(Trend.SIGNIFICANT if abs(percent) > _SIGNIFICANT else Trend.TREND, baseline, percent)


def week_change(history: Sequence[float], current: float) -> WeekChange | None:
    """Compare the current week with the one before, based on the metric's own history.

    t = (√current - √last) / sd of the last 12 differences of √value between the weeks of ``history`` (oldest
    first, without the current one); degrees of freedom: differences - 1, so t(11) for 13 weeks and more.
    None, no verdict: under 8 earlier weeks, or a history whose steps are all equal, so that its noise is
    unknown.
    """
    if len(history) < _MIN_WEEKS:
        return None
    roots = [math.sqrt(value) for value in history[-_DIFFERENCES - 1 :]]
    steps = [later - earlier for earlier, later in pairwise(roots)]
    deviation = math.sqrt(variance(steps))
    if deviation < 1e-9:
        return None
    t = (math.sqrt(current) - roots[-1]) / deviation
    freedom = len(steps) - 1
    return WeekChange(t, freedom, t_tail(t, freedom))


def t_tail(t: float, freedom: float) -> float:
    """Two-sided tail of Student's t: P(|T| ≥ |t|) = I_x(freedom/2, 1/2), x = freedom / (freedom + t²)
    (Abramowitz and Stegun 26.7.1)."""
    if freedom <= 0:
        raise ValueError(f"Student's t needs more than 0 degrees of freedom, not {freedom}")
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def t_limit(freedom: float) -> float:
    """The t of which |T| stays below in 95 % of cases, by its expansion in 1/freedom (Abramowitz and Stegun
    26.7.5): from 7 degrees of freedom on within 0.001."""
    z = _NORMAL_LIMIT
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def variance(values: Collection[float]) -> float:
    """The variance of a sample (n - 1), by floats; ``statistics.variance`` takes ten times as long."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def normal_tail(z: float) -> float:
    """Two-sided tail of the standard normal: P(|Z| ≥ |z|)."""
    return math.erfc(abs(z) / math.sqrt(2))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22), taken on
    the side where it converges fast. Error below 1e-12 for the arguments used here."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's algorithm: the fraction's value, from its first term on until a step changes nothing."""
    tiny = 1e-300
    numerator, denominator = 1.0, 1.0 / ((1.0 - (a + b) * x / (a + 1.0)) or tiny)
    value = denominator
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            denominator = 1.0 / ((1.0 + term * denominator) or tiny)
            numerator = (1.0 + term / numerator) or tiny
            value *= numerator * denominator
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return value
