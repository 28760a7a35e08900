"""Comparisons of parts of the sessions and of weekdays, against plain oracles."""

import math
import random
import statistics
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.analytics.comparison import (
    DoneDates,
    Key,
    Proportion,
    best_workday,
    difference,
    interval,
    week_of,
    weekday_of,
)
from service.analytics.significance import t_tail
from tests.analytics.made_sessions import MONDAY, Session, tallies


def simulated(seed: int, people: int = 1) -> list[Session]:
    """Sessions of 60 dates, with good and bad days."""
    dice = random.Random(seed)
    sessions = []
    for day in range(MONDAY, MONDAY + 60):
        chance = dice.choice((0.3, 0.6, 0.9))
        for _ in range(dice.randint(0, 3 * people)):
            inside = dice.random() < 0.4
            group = dice.randrange(people)
            sessions.append(Session((group, day), inside, dice.random() < chance + 0.1 * inside))
    return sessions


def plainly(sessions: list[Session], *, people: bool) -> tuple[float, float]:
    """The difference within weeks and its p, session by session."""
    scores: defaultdict[Key, float] = defaultdict(float)
    square = independent = 0.0
    for week in {week_of(one.key[1]) for one in sessions}:
        here = [one for one in sessions if week_of(one.key[1]) == week]
        inside, done = (
            statistics.fmean(values) for values in zip(*((s.inside, s.done) for s in here), strict=True)
        )
        if not 0 < inside < 1:
            continue
        for one in here:
            scores[one.key] += (one.inside - inside) * (one.done - done)
            square += (one.inside - inside) ** 2
            independent += (one.inside - inside) ** 2 * done * (1 - done)
    sizes, variances = [], []
    for at in (1, 0) if people else (1,):
        units: defaultdict[int, float] = defaultdict(float)
        for key, score in scores.items():
            units[key[at]] += score
        sizes.append(len(units))
        variances.append(len(units) * statistics.variance(units.values()))
    total = sum(scores.values())
    error = math.sqrt(max(independent, sum(variances)))
    return total / square, t_tail(total / error, min(sizes) - 1)


@pytest.mark.parametrize("people", [1, 12])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_difference_is_that_within_the_weeks(seed: int, people: int) -> None:
    sessions = simulated(seed, people)
    part, everything = tallies(sessions)
    found = difference(part, everything, 0.0, people=people > 1)
    points, p = plainly(sessions, people=people > 1)
    assert found is not None
    assert (found.low + found.high) / 2 == pytest.approx(points)
    assert found.p == pytest.approx(p)


def test_weeks_that_differ_make_no_difference() -> None:
    """In good weeks more sessions are before noon; within each week, it is all the same."""
    sessions = [
        Session((0, MONDAY + 7 * week + day), inside, done)
        for week in range(12)
        for day in range(5)
        for inside in [True] * (3 if week % 2 else 1) + [False] * (1 if week % 2 else 3)
        for done in ([True] * 9 + [False] if week % 2 else [True, False] * 5)
    ]
    found = difference(*tallies(sessions), 0.0, people=False)
    assert found is not None
    assert found.points > 0.15
    assert found.low == pytest.approx(-found.high)
    assert found.p == pytest.approx(1)


def test_a_person_is_one_person() -> None:
    """Twelve people, two of whom finish all and work before noon: the sessions are many, the people few."""
    sessions = [
        Session((who, day), who < 2, who < 2 or n % 2 == 0)
        for who in range(12)
        for day in range(MONDAY, MONDAY + 28)
        for n in range(2)
    ]
    as_one = difference(*tallies([one._replace(key=(0, one.key[1])) for one in sessions]), 0.0, people=False)
    found = difference(*tallies(sessions), 0.0, people=True)
    assert as_one is not None
    assert found is not None
    assert as_one.p < 1e-6 < 0.01 < found.p


def test_whoever_never_fails_is_sure() -> None:
    """No unit differs from another: the variance is at least that of independent sessions."""
    sessions = [
        Session((0, day), inside, inside) for day in range(MONDAY, MONDAY + 28) for inside in (True, False)
    ]
    found = difference(*tallies(sessions), 0.1, people=False)
    assert found is not None
    assert found.p < 1e-6
    assert 0.5 < found.low < 1 == found.points


def test_little_supports_nothing() -> None:
    few = simulated(1)[:30]
    assert difference(*tallies(few), 0.0, people=False) is None
    two_days = [Session((0, MONDAY + n % 2), n % 4 < 2, n % 3 == 0) for n in range(200)]
    assert difference(*tallies(two_days), 0.0, people=False) is None
    many = difference(*tallies(simulated(1)), 0.9, people=False)
    assert many is not None
    assert many.p == 1


# ── Weekdays ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=8, max_size=8), st.randoms(use_true_random=False))
def test_the_best_workday_by_all_permutations(active: list[int], dice: random.Random) -> None:
    """Given how many of each week's four workdays count, every choice of them is as likely."""
    weeks = [set(dice.sample(range(4), n)) for n in active]
    dates = DoneDates(
        {MONDAY + 7 * n + day: 1 for n, week in enumerate(weeks) for day in week} | extra(weeks),
        MONDAY,
        MONDAY + 7 * 8 - 1,
    )
    found = best_workday(dates, 0.05)
    if found is None:
        return
    best, compared = found
    with_best = [(len(week) + 1, best in week or best == 4) for week in weeks]
    chances: Counter[int] = Counter({0: 1})
    for count, _ in with_best:
        chances = Counter(
            {
                hits: chances[hits] * math.comb(4, count) + chances[hits - 1] * math.comb(4, count - 1)
                for hits in range(len(chances) + 1)
            }
        )
    at_least = sum(ways for hits, ways in chances.items() if hits >= sum(one for _, one in with_best))
    assert compared.p == pytest.approx(min(1.0, 5 * at_least / chances.total()))


def extra(weeks: list[set[int]]) -> dict[int, int]:
    """Every Friday counts, so that no week is empty."""
    return {MONDAY + 7 * n + 4: 1 for n in range(len(weeks))}


def test_free_weekends_make_no_workday_the_best() -> None:
    dates = DoneDates(
        {day: 1 for day in range(MONDAY, MONDAY + 180) if weekday_of(day) < 5}, MONDAY, MONDAY + 179
    )
    assert best_workday(dates, 0.1) is None


def test_many_peoples_weekdays_are_compared_week_by_week() -> None:
    dice = random.Random(4)
    done = {day: dice.randint(28, 32) + 20 * (weekday_of(day) == 2) for day in range(MONDAY, MONDAY + 98)}
    found = best_workday(DoneDates(done, MONDAY, MONDAY + 97, 100), 0.1)
    assert found is not None
    weekday, compared = found
    assert weekday == 2
    assert compared.p < 1e-6
    assert compared.low < 0.2 < compared.high
    assert compared.second.trials == 4 * 14 * 100


def test_an_interval_of_two_proportions() -> None:
    """An example of Newcombe's (1998), method 10."""
    assert interval(Proportion(56, 70), Proportion(48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
