"""Shifts of the level: what single hours do not show, on series with known faults."""

import random
import re
from collections.abc import Callable
from datetime import datetime

import pytest

from benchmarks.anomaly import FIRST, opened, poisson
from service.analytics.anomaly.detector import update
from service.analytics.anomaly.series_state import SeriesState
from service.analytics.anomaly.verdict import Direction, Measure, Severity
from tests.analytics.judged import HOUR, fed

_WEEKEND = 0.6
_BEGIN = 24 * 36 + 9
"""The fault of each series begins here, on a Tuesday morning."""


def series(fault: Callable[[int], float], seed: int, hours: int, mean: float = 30) -> list[int]:
    """Counts of a quiet service; ``fault``: the factor, so many hours after its beginning."""
    dice = random.Random(seed)
    values = []
    for n in range(hours):
        usual = mean * (_WEEKEND if (FIRST + n * HOUR).weekday() >= 5 else 1.0)
        values.append(poisson(dice, usual * (fault(n - _BEGIN) if n >= _BEGIN else 1.0)))
    return values


FAULTS: dict[str, tuple[Callable[[int], float], int]] = {
    "half for six hours": (lambda n: 0.5 if n < 6 else 1.0, 4),
    "half from now on": (lambda n: 0.5, 6),
    "a third less for a day": (lambda n: 0.7 if n < 24 else 1.0, 24),
    "down to a half within a week": (lambda n: max(0.5, 1 - 0.5 * n / 168), 168),
    "half as many again": (lambda n: 1.5, 8),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_a_little_too_low_for_long_is_found(fault: str) -> None:
    factor, within = FAULTS[fault]
    found = 0
    for seed in range(4):
        _, told = fed(series(factor, seed, _BEGIN + within))
        found += any(n >= _BEGIN for n, _ in opened(told))
    assert found >= 3


def test_a_shift_in_words() -> None:
    _, told = fed(series(FAULTS["half for six hours"][0], 1, _BEGIN + 6, mean=12))
    ((at, anomaly),) = opened(told)
    assert at - _BEGIN < 6
    assert anomaly.severity is Severity.MAJOR
    assert anomaly.peak.direction is Direction.LOW
    assert anomaly.peak.in_words("sessions") == (
        "sessions since 09:00: 33 in 6 hours, expected 74 (55 % less)"
    )


def test_a_level_that_stays_is_what_is_normal_after_two_days() -> None:
    _, told = fed(series(lambda n: 0.5, 2, _BEGIN + 24 * 21))
    found = [(n, one) for n, one in opened(told) if n >= _BEGIN]
    assert [n < _BEGIN + 6 for n, _ in found] == [True]
    assert found[0][1].until < FIRST + (_BEGIN + 72) * HOUR


def test_a_mean_of_latencies_is_told() -> None:
    dice = random.Random(3)
    values = [dice.gauss(100, 10) + (15 if n >= _BEGIN else 0) for n in range(_BEGIN + 16)]
    _, told = fed(values, measure=Measure.PLAIN)
    ((_, anomaly),) = [one for one in opened(told) if one[0] >= _BEGIN]
    words = anomaly.peak.in_words("responseMs")
    assert words.startswith("responseMs since ")
    assert " on average over " in words
    assert words.endswith(" % more)")
    told_mean, expected = re.findall(r": ([\d.]+) on average.* expected ([\d.]+) ", words)[0]
    assert 105 < float(told_mean) < 125
    assert 95 < float(expected) < 105


def test_nothing_is_learned_while_a_shift_lasts() -> None:
    values = series(FAULTS["half from now on"][0], 1, _BEGIN + 24)
    begins, _ = fed(values[: _BEGIN + 5])
    goes_on, _ = fed(values)
    assert begins.shift.active is goes_on.shift.active is Direction.LOW
    assert goes_on.shift.baseline == begins.shift.baseline


def test_the_first_two_weeks_alert_nobody() -> None:
    """A dashboard that has just begun to be used grows by leaps."""
    values = [poisson(random.Random(n), 40 if n > 24 * 5 else 3) for n in range(24 * 14)]
    _, told = fed(values)
    found = opened(told)
    assert found
    assert {one.severity for _, one in found} == {Severity.MINOR}


def test_a_stored_shift_goes_on() -> None:
    values = series(FAULTS["half for six hours"][0], 1, _BEGIN + 12)
    state, _ = fed(values[: _BEGIN + 4])
    restored = SeriesState.from_json(state.to_json())
    assert restored == state
    assert state.shift.active is Direction.LOW
    for n, value in enumerate(values[_BEGIN + 4 :], _BEGIN + 4):
        at: datetime = FIRST + n * HOUR
        state, said = update(state, at, value)
        restored, again = update(restored, at, value)
        assert said == again
