"""Insights: what is told, in which words, and that noise is not told."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.insight import naive, person, told
from service.analytics.insight import (
    Counts,
    Insight,
    Proportion,
    StreakFacts,
    Subject,
    benjamini_hochberg,
    insights,
    run_tail,
)
from service.analytics.significance import compare

NOON = (Proportion("before noon", 61, 80), Proportion("after noon", 22, 55))
WEEKDAYS = tuple(
    Proportion(f"on {name}", 8, 26) for name in ("Mondays", "Wednesdays", "Thursdays", "Fridays", "Saturdays")
)


def rules(counts: Counts) -> list[str]:
    return [one.rule for one in insights(counts)]


def texts(counts: Counts) -> list[str]:
    return [one.text for one in insights(counts)]


def test_before_noon() -> None:
    (found,) = insights(Counts(noon=NOON))
    assert found == Insight(
        rule="noon",
        text="You finish sessions before noon more often than after noon: "
        "76 % against 40 % (61 of 80 against 22 of 55)",
        evidence="61 of 80 against 22 of 55",
        p=found.p,
        strength=found.strength,
    )
    assert found.p == pytest.approx(2.1e-5, rel=0.01)
    assert found.strength == pytest.approx(4.68, abs=0.01)


def test_the_better_half_comes_first_and_the_subject_is_named() -> None:
    (found,) = texts(Counts(subject=Subject.EVERYBODYS, noon=(NOON[1], NOON[0])))
    assert found.startswith("People finish sessions before noon more often than after noon")


def test_one_weekday_stands_out() -> None:
    tuesdays = Proportion("on Tuesdays", 24, 26)
    assert texts(Counts(weekdays=(*WEEKDAYS, tuesdays))) == [
        "You focus on Tuesdays more often than on other days: 92 % against 31 % (24 of 26 against 40 of 130)"
    ]


def test_a_weekday_that_is_worse_is_not_the_best() -> None:
    assert rules(Counts(weekdays=(*WEEKDAYS, Proportion("on Sundays", 0, 26)))) == []


def test_each_weekday_that_could_have_been_best_costs() -> None:
    one, six = Proportion("on Mondays", 27, 30), [Proportion(f"on day {n}", 14, 30) for n in range(6)]
    (found,) = insights(Counts(weekdays=(one, *six)))
    alone = compare((27, 30), (6 * 14, 6 * 30))
    assert alone is not None
    assert found.p == pytest.approx(7 * alone.p)


def test_lengths_goals_and_weekends() -> None:
    counts = Counts(
        lengths=(
            Proportion("of up to 25 minutes", 90, 100),
            Proportion("of 26 to 50 minutes", 50, 100),
            Proportion("of more than 50 minutes", 40, 100),
        ),
        goals=(Proportion("with a goal", 80, 100), Proportion("without a goal", 55, 100)),
        weekend=(Proportion("on weekdays", 50, 100), Proportion("at the weekend", 80, 100)),
    )
    assert texts(counts) == [
        "You finish sessions of up to 25 minutes more often than of other lengths: "
        "90 % against 45 % (90 of 100 against 90 of 200)",
        "You finish sessions at the weekend more often than on weekdays: "
        "80 % against 50 % (80 of 100 against 50 of 100)",
        "You finish sessions with a goal more often than without a goal: "
        "80 % against 55 % (80 of 100 against 55 of 100)",
    ]


def test_a_record_streak_is_told_when_the_usual_days_do_not_make_it() -> None:
    rare = StreakFacts(current=14, before=4, active=40, days=120)
    assert texts(Counts(streak=rare)) == [
        "Your longest streak so far: 14 days in a row, 4 before; active on 40 of 120 days"
    ]
    assert rules(Counts(streak=replace(rare, active=110))) == [], "who comes daily has long streaks"
    assert rules(Counts(streak=replace(rare, before=14))) == [], "no record"
    assert rules(Counts(subject=Subject.EVERYBODYS, streak=rare)) == []


def test_the_last_week() -> None:
    weeks = (400.0, 420.0, 390.0, 410.0, 400.0, 430.0, 405.0, 395.0, 410.0)
    assert texts(Counts(weeks=(*weeks, 700.0))) == [
        "You focused 71 % more last week: 700 minutes against 410 in the week before"
    ]
    assert rules(Counts(weeks=(*weeks, 420.0))) == []
    assert rules(Counts(weeks=(*weeks[:6], 700.0))) == [], "six earlier weeks are too few"


def test_support_effect_and_design_are_asked_for() -> None:
    assert rules(Counts(noon=(Proportion("before noon", 19, 19), Proportion("after noon", 22, 55)))) == []
    small = (Proportion("before noon", 54_000, 100_000), Proportion("after noon", 50_000, 100_000))
    assert rules(Counts(noon=small)) == [], "4 points are true, and not worth a sentence"
    assert rules(Counts(noon=NOON, design=3.0)) == []
    assert rules(Counts()) == []


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 10), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_runs_by_looking_at_all_sequences(length: int, days: int, rate: float) -> None:
    total = 0.0
    for sequence in itertools.product("01", repeat=days):
        if "1" * length in "".join(sequence):
            hits = sequence.count("1")
            total += rate**hits * (1 - rate) ** (days - hits)
    assert run_tail(length, days, rate) == pytest.approx(total, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_benjamini_and_hochberg(ps: Sequence[float], share: float) -> None:
    """Told are the k smallest, for the largest k whose k-th smallest is at most k/m · share."""
    sizes = [k for k in range(1, len(ps) + 1) if sorted(ps)[k - 1] <= k / len(ps) * share]
    most = max(sizes, default=0)
    limit = sorted(ps)[most - 1] if most else -1
    assert benjamini_hochberg(ps, share) == [p <= limit for p in ps]


@pytest.mark.parametrize(("days", "a_day"), [(28, 2.0), (90, 2.0), (120, 4.0)])
def test_noise_is_not_told(days: int, a_day: float) -> None:
    """Promised: 1 in 100; asserted with room for the luck of 300 people."""
    assert told(300, partial(person, days=days, a_day=a_day)) <= 0.03
    assert told(300, partial(person, days=days, a_day=a_day, swing=0.25)) <= 0.03


def test_a_true_difference_is_told() -> None:
    assert told(100, partial(person, days=90, a_day=2.0, before_noon=0.3), "noon") >= 0.9


def test_good_and_bad_days_make_naive_tests_talk() -> None:
    """Why the design factor is there."""
    wary = told(300, partial(person, days=120, a_day=8.0, swing=0.3))
    assert told(300, partial(naive, days=120, a_day=8.0, swing=0.3)) > 2 * wary + 0.02


def test_the_same_person_hears_the_same() -> None:
    one, other = (insights(person(random.Random(3), 90, 2.0, 0.0, 0.3)) for _ in range(2))
    assert one == other != []
