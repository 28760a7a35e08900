"""The tests behind trends, against tables, textbook identities and plain oracles."""

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.analytics.significance import (
    DAY_HISTORY_WEEKS,
    Trend,
    day_trends,
    incomplete_beta,
    median,
    normal_tail,
    quantile,
    t_limit,
    t_tail,
    variance,
    week_change,
)

figures = st.lists(st.integers(-1000, 1000), min_size=1, max_size=40)


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=40))
def test_quantiles_are_type_7(values: list[int]) -> None:
    expected = statistics.quantiles(values, n=20, method="inclusive")
    assert [quantile(values, k / 20) for k in range(1, 20)] == pytest.approx(expected)
    assert (quantile(values, 0), quantile(values, 1)) == (min(values), max(values))


@settings(deadline=None)
@given(figures)
def test_median(values: list[int]) -> None:
    assert median(values) == statistics.median(values)


def test_a_quantile_needs_values_and_a_share() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        median([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile([1], 50)


# ── Days ────────────────────────────────────────────────────────────────────────────────────────────────────


HISTORY = (100, 110, 95, 105, 100, 90, 108, 97, 103, 99, 104, 96, 100)


@pytest.mark.parametrize(
    ("current", "before", "verdict", "percent"),
    [
        (104, HISTORY, Trend.NONE, 4.5),
        (125, HISTORY, Trend.TREND, 25.6),
        (75, HISTORY, Trend.TREND, -24.6),
        (180, HISTORY, Trend.SIGNIFICANT, 80.9),
        (20, HISTORY, Trend.SIGNIFICANT, -79.9),
        (0, HISTORY, Trend.SIGNIFICANT, -100),
        (30, (20, 34, 22, 30, 25, 38, 24, 26, 31), Trend.NONE, 5.3),
        (50, (20, 34, 22, 30, 25, 38, 24, 26, 31), Trend.NONE, 75.4),
        (180, HISTORY[-8:], Trend.SIGNIFICANT, 80.9),
        (180, HISTORY[-7:], Trend.INSUFFICIENT, 80.9),
        (180, (*HISTORY[:-4], None, None, 96, 100), Trend.INSUFFICIENT, None),
        (40, (0,) * 12, Trend.INSUFFICIENT, None),
        (40, (19, 18, 17, 19, 18, 17, 16, 19, 18, 19, 17), Trend.INSUFFICIENT, 116.2),
        (40, (20,) * 12, Trend.INSUFFICIENT, 100),
        (40, (), Trend.INSUFFICIENT, None),
    ],
)
def test_a_day_against_the_history_of_its_weekday(
    current: float, before: Sequence[float | None], verdict: Trend, percent: float | None
) -> None:
    found = day_trends([*before, current])[-1]
    assert found.verdict is verdict
    assert found.percent == (None if percent is None else pytest.approx(percent, abs=0.1))


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(0, 400), min_size=1, max_size=30))
def test_a_day_depends_on_sixteen_weeks(values: list[int | None]) -> None:
    assert day_trends(values)[-1] == day_trends(values[-DAY_HISTORY_WEEKS - 1 :])[-1]


# ── Student's t ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("freedom", "t", "p"),
    [
        (1, 12.706, 0.05),
        (5, 2.571, 0.05),
        (6, 2.447, 0.05),
        (11, 1.796, 0.10),
        (11, 2.201, 0.05),
        (11, 2.718, 0.02),
        (11, 3.106, 0.01),
        (11, 4.437, 0.001),
        (30, 2.042, 0.05),
        (120, 2.617, 0.01),
    ],
)
def test_t_as_in_the_table(freedom: int, t: float, p: float) -> None:
    assert t_tail(t, freedom) == pytest.approx(p, rel=2e-3)
    assert t_tail(-t, freedom) == t_tail(t, freedom)


@settings(deadline=None)
@given(st.floats(0, 8), st.integers(1, 40))
def test_t_is_the_integral_of_its_density(t: float, freedom: int) -> None:
    def density(x: float) -> float:
        return math.exp(
            math.lgamma((freedom + 1) / 2)
            - math.lgamma(freedom / 2)
            - (freedom + 1) / 2 * math.log1p(x * x / freedom)
        ) / math.sqrt(freedom * math.pi)

    steps = 400
    width = t / steps
    weights = [1, *[4, 2] * (steps // 2 - 1), 4, 1]
    within = 2 * width / 3 * sum(w * density(n * width) for n, w in enumerate(weights))
    assert t_tail(t, freedom) == pytest.approx(1 - within, abs=1e-6)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1))
def test_the_incomplete_beta_is_a_binomial_tail(k: int, rest: int, p: float) -> None:
    n = k + rest - 1
    tail = math.fsum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1))
    assert incomplete_beta(k, rest, p) == pytest.approx(tail, abs=1e-10)


@pytest.mark.parametrize("freedom", [7, 9, 11, 30, 200])
def test_the_limit_of_an_interval(freedom: int) -> None:
    assert t_tail(t_limit(freedom), freedom) == pytest.approx(0.05, abs=2e-4)


def test_variance() -> None:
    values = [1.5, 2.0, 7.25, -3.0]
    assert variance(values) == pytest.approx(statistics.variance(values))


def test_extremes_of_t() -> None:
    assert t_tail(0, 11) == 1
    assert t_tail(1e200, 11) == 0
    assert t_tail(2, 1e6) == pytest.approx(normal_tail(2), rel=1e-4)
    assert normal_tail(1.959964) == pytest.approx(0.05, rel=1e-5)
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_tail(1, 0)


# ── Weeks ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_week_against_its_own_history() -> None:
    steps = [1, -2, 1, 2, -1, -1, 2, -2, 1, 1, -1, -1]
    roots = [20.0]
    for step in steps:
        roots.append(roots[-1] + step)
    found = week_change([root**2 for root in roots], (roots[-1] + 4) ** 2)
    assert found is not None
    assert found.freedom == 11
    assert found.t == pytest.approx(4 / statistics.stdev(steps))
    assert found.p < 0.05


def test_only_the_last_twelve_steps_count() -> None:
    dice = random.Random(1)
    weeks = [dice.uniform(80, 120) for _ in range(13)]
    assert week_change([1, 900, 4, *weeks], 150) == week_change(weeks, 150)


def test_no_verdict_under_eight_weeks_or_without_any_movement() -> None:
    assert week_change([100, 110, 90, 105, 95, 100, 120], 300) is None
    assert week_change([100, 110, 90, 105, 95, 100, 120, 100], 300) is not None
    assert week_change([100.0] * 20, 300) is None


def test_weeks_like_all_others_are_seldom_significant() -> None:
    dice = random.Random(7)
    trials = 2000
    hits = 0
    for _ in range(trials):
        walk = [100.0]
        for _ in range(13):
            walk.append(max(1.0, walk[-1] + dice.gauss(0, 3)))
        found = week_change([root**2 for root in walk[:-1]], walk[-1] ** 2)
        hits += found is not None and found.p < 0.05
    assert 0.03 < hits / trials < 0.08
