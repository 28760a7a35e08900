"""The tests behind trends, against tables, textbook identities and plain oracles."""

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.analytics.significance import (
    Trend,
    compare,
    day_trend,
    design_effect,
    incomplete_beta,
    median,
    normal_tail,
    quantile,
    t_tail,
    week_change,
)

figures = st.lists(st.integers(-1000, 1000), min_size=1, max_size=40)
counts = st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


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


@pytest.mark.parametrize(
    ("current", "before", "verdict", "percent"),
    [
        (120, (100, 100, 100, 100), Trend.NONE, 20),
        (121, (100, 100, 100, 100), Trend.TREND, 21),
        (79, (100, 100, 100, 100), Trend.TREND, -21),
        (150, (100, 100, 100, 100), Trend.TREND, 50),
        (151, (100, 100, 100, 100), Trend.SIGNIFICANT, 51),
        (40, (100, None, 80, 120), Trend.SIGNIFICANT, -60),
        (40, (100, None, None, 120), Trend.INSUFFICIENT, None),
        (40, (0, 0, 0, 90), Trend.INSUFFICIENT, None),
        (38, (19, 19, 19, 19), Trend.INSUFFICIENT, 100),
        (40, (20, 20, 20), Trend.SIGNIFICANT, 100),
        (40, (), Trend.INSUFFICIENT, None),
    ],
)
def test_a_day_against_the_same_weekday(
    current: float, before: Sequence[float | None], verdict: Trend, percent: float | None
) -> None:
    found = day_trend(current, before)
    assert found.verdict is verdict
    assert found.percent == pytest.approx(percent)


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


# ── Proportions ─────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(counts, counts)
def test_two_proportions_are_the_chi_square_of_their_table(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    found = compare(first, second, support=1)
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]
    total = first[1] + second[1]
    expected = [
        [sum(row) * sum(other[column] for other in table) / total if total else 0 for column in (0, 1)]
        for row in table
    ]
    least = min(cell for row in expected for cell in row)
    if found is None:
        assert least < 5 + 1e-9
        return
    assert least >= 5 - 1e-9
    square = sum((table[i][j] - expected[i][j]) ** 2 / expected[i][j] for i in (0, 1) for j in (0, 1))
    assert found.z**2 == pytest.approx(square, abs=1e-9)
    assert found.p == pytest.approx(normal_tail(math.sqrt(square)), abs=1e-9)
    assert (found.z > 0) == (found.first > found.second)


def test_before_noon() -> None:
    found = compare((61, 80), (22, 55))
    assert found is not None
    assert (found.first, found.second) == (61 / 80, 22 / 55)
    assert found.z == pytest.approx(4.25, abs=0.01)
    assert compare((15, 19), (22, 55)) is None, "19 sessions are too few"
    with pytest.raises(ValueError, match="5 of 4"):
        compare((5, 4), (22, 55))


@settings(deadline=None)
@given(st.lists(counts, max_size=20))
def test_a_design_is_at_least_one(days: list[tuple[int, int]]) -> None:
    assert design_effect(days) >= 1


def test_good_and_bad_days_have_a_larger_design() -> None:
    assert design_effect([(10, 10), (0, 10)] * 10) == pytest.approx(10 * 20 / 19)
    assert design_effect([(5, 10)] * 20) == 1
