"""The statistical tests of the analytics, in plain Python: is it a change, or noise?

Each test uses earlier figures of the same metric: a week is compared with the metric's own weeks, not with a
theoretical distribution (a Poisson test found 20.6 % of real weeks significant, ``week_change`` 6.5 %).
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

NORMAL_MAD = 1.4826
_MIN_WEEKDAYS = 3
_MIN_BASELINE = 20
_TREND = 20
_SIGNIFICANT = 50
_MIN_WEEKS = 8
_DIFFERENCES = 12
_MIN_EXPECTED = 5


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


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two proportions: their rates, z of the pooled test (positive: the first is higher), two-sided p."""

    first: float
    second: float
    z: float
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


def day_trend(current: float, same_weekdays: Sequence[float | None]) -> DayTrend:
    """Compare a day with the median of the same weekday in the last four weeks (None: that day is missing).

    100 · (current - median) / median. At least 3 days present and a median of at least 20, or the verdict is
    ``insufficient``. More than 20 % either way is a trend, more than 50 % is significant.
    """
    present = [value for value in same_weekdays if value is not None]
    if len(present) < _MIN_WEEKDAYS:
        return DayTrend(Trend.INSUFFICIENT, None, None)
    baseline = median(present)
    if baseline <= 0:
        return DayTrend(Trend.INSUFFICIENT, baseline, None)
    percent = 100 * (current - baseline) / baseline
    return DayTrend(_classify(abs(percent), baseline), baseline, percent)


def _classify(size: float, baseline: float) -> Trend:
    if baseline < _MIN_BASELINE:
        return Trend.INSUFFICIENT
    if size > _SIGNIFICANT:
        return Trend.SIGNIFICANT
    return Trend.TREND if size > _TREND else Trend.NONE


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
    deviation = statistics.stdev(steps)
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


def compare(first: tuple[int, int], second: tuple[int, int], *, support: int = 20) -> Comparison | None:
    """Compare two proportions, each (successes, trials), by the pooled z test (Fleiss, 1981, ch. 2).

    z = (p₁ - p₂) / √(p(1-p)(1/n₁ + 1/n₂)), p of both together. None: fewer than ``support`` trials on a side,
    or a table in which a cell's expected count is below 5 (Cochran's rule), where the test is not reliable.
    """
    (hits, trials), (other_hits, other_trials) = first, second
    _require_proportion(hits, trials)
    _require_proportion(other_hits, other_trials)
    if min(trials, other_trials) < support:
        return None
    pooled = (hits + other_hits) / (trials + other_trials)
    if min(pooled, 1 - pooled) * min(trials, other_trials) < _MIN_EXPECTED:
        return None
    rate, other_rate = hits / trials, other_hits / other_trials
    z = (rate - other_rate) / math.sqrt(pooled * (1 - pooled) * (1 / trials + 1 / other_trials))
    return Comparison(rate, other_rate, z, normal_tail(z))


def design_effect(days: Iterable[tuple[int, int]]) -> float:
    """How much more (successes, trials) of days vary than independent trials of one rate would: Pearson's
    Σ (y - pn)² / (np(1-p)) over the days, divided by days - 1 (McCullagh and Nelder, 1989, §4.5); at least
    1."""
    nonempty = [(hits, trials) for hits, trials in days if trials]
    total = sum(trials for _, trials in nonempty)
    rate = sum(hits for hits, _ in nonempty) / total if total else 0.0
    if len(nonempty) < 2 or not 0 < rate < 1:
        return 1.0
    pearson = sum((hits - rate * trials) ** 2 / (trials * rate * (1 - rate)) for hits, trials in nonempty)
    return max(1.0, pearson / (len(nonempty) - 1))


def _require_proportion(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion: count successes among the trials")
