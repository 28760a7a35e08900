"""When somebody works: means on a circle, peaks, consistency, lengths."""

import math
from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.analytics.working_hours import (
    Chronotype,
    chronotype,
    clock_mean,
    consistency,
    peak_hours,
    preferred_length,
)

TODAY = date(2026, 3, 10)
clock = st.tuples(st.integers(0, 1439), st.integers(0, 10_000))


@settings(deadline=None)
@given(st.lists(clock, max_size=20))
def test_the_mean_is_the_direction_of_the_summed_hands(focus: list[tuple[int, int]]) -> None:
    found = clock_mean(focus)
    total = sum(weight for _, weight in focus)
    if not total:
        assert found is None
        return
    east = sum(w * math.cos(math.radians(m / 4)) for m, w in focus)
    north = sum(w * math.sin(math.radians(m / 4)) for m, w in focus)
    assert found is not None
    assert 0 <= found.minute < 1440
    assert found.r == pytest.approx(min(1, math.hypot(east, north) / total), abs=1e-9)
    if found.r > 1e-6:
        away = (found.minute - math.degrees(math.atan2(north, east)) * 4) % 1440
        assert min(away, 1440 - away) < 1e-6


@settings(deadline=None)
@given(st.lists(clock, min_size=1, max_size=20), st.integers(0, 1439))
def test_a_later_clock_means_a_later_mean(focus: list[tuple[int, int]], later: int) -> None:
    here = clock_mean(focus)
    there = clock_mean([((minute + later) % 1440, weight) for minute, weight in focus])
    assume(here is not None and here.r > 0.01)
    assert here is not None
    assert there is not None
    away = (there.minute - here.minute - later) % 1440
    assert min(away, 1440 - away) < 1e-6


def test_midnight_lies_between_23_and_1() -> None:
    found = clock_mean([(23 * 60, 100), (60, 100)])
    assert found is not None
    assert min(found.minute, 1440 - found.minute) < 1e-6


def test_focus_counts_by_its_length() -> None:
    found = clock_mean([(9 * 60, 3600), (15 * 60, 0)])
    assert found is not None
    assert found.minute == pytest.approx(540)
    with pytest.raises(ValueError, match="not negative"):
        clock_mean([(0, -1)])


@pytest.mark.parametrize(
    ("hour", "name"),
    [
        (3.99, Chronotype.NIGHT),
        (4.01, Chronotype.MORNING),
        (11.99, Chronotype.MORNING),
        (12.01, Chronotype.AFTERNOON),
        (16.99, Chronotype.AFTERNOON),
        (17.01, Chronotype.EVENING),
        (21.99, Chronotype.EVENING),
        (22.01, Chronotype.NIGHT),
    ],
)
def test_the_bounds_of_chronotypes(hour: float, name: Chronotype) -> None:
    assert chronotype([(hour * 60, 60)], 5) is name


def test_spread_over_the_day_is_no_chronotype() -> None:
    assert chronotype([(hour * 60, 60) for hour in range(24)], 5) is Chronotype.NONE
    # Two opposite hands, 65 : 35, have a resultant of 0.3; 64 : 36 one of 0.28.
    assert chronotype([(540, 66), (540 + 720, 34)], 5) is Chronotype.MORNING
    assert chronotype([(540, 64), (540 + 720, 36)], 5) is Chronotype.NONE


def test_four_active_days_tell_nothing() -> None:
    assert chronotype([(540, 60)], 4) is None
    assert chronotype([], 9) is None
    assert peak_hours([1.0] * 24, 4) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=24, max_size=24), st.integers(0, 24))
def test_peaks_are_taken_one_after_the_other(by_hour: list[int], most: int) -> None:
    left = dict(enumerate(by_hour))
    naive: list[int] = []
    while len(naive) < most and max(left.values(), default=0) > 0:
        best = min(hour for hour, value in left.items() if value == max(left.values()))
        naive.append(best)
        del left[best]
    assert peak_hours(by_hour, 5, most) == naive


def test_a_day_has_24_hours() -> None:
    with pytest.raises(ValueError, match="not 23"):
        peak_hours([0] * 23, 5)


@settings(deadline=None)
@given(st.sets(st.integers(-3, 40)), st.integers(0, 60), st.lists(st.integers(0, 1439), max_size=5))
def test_consistency_counts_days_since_sign_up(ago: set[int], member: int, starts: list[int]) -> None:
    found = consistency(
        [TODAY - timedelta(days=n) for n in ago], starts, TODAY, TODAY - timedelta(days=member)
    )
    days = range(min(28, member + 1))
    assert found is not None
    assert found.active_share == sum(n in ago for n in days) / len(days)
    assert (found.start_r is None) == (not starts)


def test_always_at_nine() -> None:
    days = [TODAY - timedelta(days=n) for n in range(14)]
    found = consistency(days, [540.0] * 14, TODAY, date(2025, 1, 1))
    assert found is not None
    assert (found.active_share, round(found.start_r or 0, 9)) == (0.5, 1.0)
    assert consistency([], [], TODAY, TODAY + timedelta(days=1)) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 120), max_size=40))
def test_the_preferred_length_is_the_fullest_step(minutes: list[float]) -> None:
    found = preferred_length(minutes)
    steps = Counter(max(5, next(s for s in range(0, 200, 5) if s - 2.5 <= one < s + 2.5)) for one in minutes)
    fullest = max(steps.values(), default=0)
    if len(minutes) < 10 or fullest < len(minutes) / 4:
        assert found is None
        return
    assert found is not None
    assert found.minutes == min(step for step, times in steps.items() if times == fullest)
    assert (found.share, found.sessions) == (fullest / len(minutes), len(minutes))


def test_pomodoros() -> None:
    found = preferred_length([25.0, 24.9, 25.2, 25.0, 24.6, 50, 51, 10, 25, 25])
    assert found is not None
    assert found.minutes == 25
