"""The detector: what it promises, against plain oracles, and on series with known faults."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.anomaly import FAULTS, FIRST, NOISES, followed, found, moments, poisson, quiet
from service.analytics.anomaly.detector import forecast, update
from service.analytics.anomaly.open_anomaly import AnomalyChange
from service.analytics.anomaly.series_state import SeriesState, start
from service.analytics.anomaly.tails import habit, tails
from service.analytics.anomaly.verdict import Cadence, Direction, JudgedPoint, Measure, Severity
from tests.analytics.judged import DAY, HOUR, fed


def busy(hours: int, seed: int = 1, peak: float = 50) -> list[int]:
    """A dashboard's sessions: quiet nights, busy afternoons."""
    dice = random.Random(seed)
    return [poisson(dice, peak * (0.04 + math.exp(-(((n % 24 - 14) / 4.5) ** 2)))) for n in range(hours)]


def last(told: Sequence[JudgedPoint | None]) -> JudgedPoint:
    verdict = told[-1]
    assert verdict is not None
    return verdict


daily = st.lists(st.integers(0, 300), min_size=20, max_size=60)
plain = st.lists(st.integers(-300, 300), min_size=20, max_size=60)


# ── Words and promises ──────────────────────────────────────────────────────────────────────────────────────


def test_an_outage_in_words() -> None:
    _, told = fed([*busy(28 * 24 + 14), 0])
    verdict = last(told)
    assert verdict.in_words("sessions") == (
        "sessions at 14:00: 0, expected 37 to 83, lower than every one of the last 28 days"
    )
    assert (verdict.severity, verdict.direction) == (Severity.CRITICAL, Direction.LOW)


def test_what_a_series_never_had_in_words() -> None:
    _, told = fed([*busy(70 * 24 + 14), 120])
    assert last(told).in_words("sessions").endswith(", higher than ever in 70 days")
    _, told = fed([*busy(70 * 24), *[70] * 12, 100, 2, 90])
    assert " than ever in" not in last(told).in_words("sessions"), "100 was more"


def test_an_ordinary_hour_in_words() -> None:
    _, told = fed([*busy(28 * 24 + 14), 50])
    assert last(told).in_words("sessions") == "sessions at 14:00: 50, as expected (37 to 83)"
    assert last(told).severity is None


def test_a_day_in_words() -> None:
    dice = random.Random(3)
    _, told = fed([*(poisson(dice, 100) for _ in range(84)), 190], Cadence.DAY)
    assert last(told).in_words("users") == (
        "users on Monday, 2026-03-30: 190, expected 69 to 127, higher than every one of the last 12 Mondays"
    )


def test_a_weekend_is_compared_with_weekends() -> None:
    weekday, weekend = [40 + n % 3 for n in range(24)], [5 + n % 2 for n in range(24)]
    weeks = [*(weekday * 5), *(weekend * 2)] * 4
    _, told = fed([*weeks, *(weekday * 5), 40])
    assert last(told).in_words("sessions") == (
        "sessions at 00:00: 40, expected 1 to 12, higher than every one of the last 8 weekend days"
    )
    assert not any(verdict and verdict.anomalous for verdict in told[: 28 * 24])


def test_an_hour_never_seen_has_no_verdict() -> None:
    friday = FIRST + 4 * DAY
    _, told = fed(busy(72), begin=friday - 2 * DAY)
    assert told[71] is not None, "the third day, a Friday"
    _, told = fed(busy(96), begin=friday - 2 * DAY)
    assert told[72:] == [None] * 24, "the first Saturday"


@pytest.mark.parametrize(("cadence", "points"), [(Cadence.HOUR, 48), (Cadence.DAY, 14)])
def test_no_verdict_before_48_hours_or_14_days(cadence: Cadence, points: int) -> None:
    state, told = fed(busy(points), cadence)
    assert told == [None] * points
    _, told = fed([*busy(points), 30], cadence)
    assert last(told).value == 30
    short, _ = fed(busy(points - 1), cadence)
    coming = [FIRST + 60 * HOUR] if cadence is Cadence.HOUR else [FIRST.date() + 60 * DAY]
    assert forecast(short, coming) == []
    assert len(forecast(state, coming)) == 1


def test_a_plain_series_that_never_moved_has_no_verdict() -> None:
    assert last(fed([*[0.0] * 100, 1.0, 0.0], measure=Measure.PLAIN)[1]).score >= 0
    assert fed([*[0.0] * 100, 1.0], measure=Measure.PLAIN)[1] == [None] * 101


def test_what_cannot_be_judged_is_refused() -> None:
    state, _ = fed(busy(50))
    with pytest.raises(ValueError, match="not after the last one"):
        update(state, FIRST + 49 * HOUR, 3)
    with pytest.raises(ValueError, match="finite number"):
        update(state, FIRST + 50 * HOUR, math.nan)
    with pytest.raises(ValueError, match="not negative"):
        update(state, FIRST + 50 * HOUR, -1)
    with pytest.raises(ValueError, match="aware datetime"):
        update(state, datetime(2026, 2, 1), 1)
    with pytest.raises(ValueError, match="what is to come"):
        forecast(state, [FIRST])
    with pytest.raises(ValueError, match="version 0"):
        SeriesState.from_json({**state.to_json(), "version": 0})


# ── The model, against oracles ──────────────────────────────────────────────────────────────────────────────


def naive_expectations(values: Sequence[float]) -> list[float]:
    """Daily robust Holt-Winters by its three textbook equations, on lists; PLAIN."""
    alpha, beta, gamma, damp = 0.15, 0.02, 0.1, 0.98
    level = statistics.median(values[:7])
    season = [value - level for value in values[:7]]
    slope, errors, told = 0.0, list[float](), []
    for n, value in enumerate(values[7:], 7):
        predicted = level + damp * slope + season[n % 7]
        known = value
        centre = statistics.median(errors) if errors else 0.0
        if len(errors) >= 3:
            spread = 1.4826 * statistics.median([abs(error - centre) for error in errors])
            most = 2 * max(spread, 0.02 * abs(level), 1e-9) * (1 + 4 / len(errors))
            known = predicted + min(max(value - predicted, -most), most)
            told.append(predicted + centre)
        weight = max(gamma, 1 / (n // 7 + 1))
        before = level
        level = alpha * (known - season[n % 7]) + (1 - alpha) * (level + damp * slope)
        slope = beta * (level - before) + (1 - beta) * damp * slope
        season[n % 7] = weight * (known - level) + (1 - weight) * season[n % 7]
        errors.append(value - predicted)
    return told[4:]


@settings(deadline=None)
@given(plain)
def test_expectations_are_those_of_holt_and_winters(values: list[int]) -> None:
    _, told = fed(values, Cadence.DAY, Measure.PLAIN)
    expected = naive_expectations(values)
    for verdict, oracle in zip(told[14:], expected, strict=True):
        if verdict is not None:
            assert verdict.expected == pytest.approx(oracle, abs=0.05)


@settings(deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=1, max_size=80), st.integers(-2000, 2000))
def test_tails_against_their_definition(errors: list[int], error: int) -> None:
    found = tails(errors, 1.0)
    centre = statistics.median(errors)
    scale = max(1.4826 * statistics.median([abs(e - centre) for e in errors]), 1) * (1 + 4 / len(errors))
    side = 1 if error >= centre else -1
    units = [side * (e - centre) / scale for e in errors]
    tenth = statistics.quantiles(units, n=10, method="inclusive")[8] if len(units) > 1 else units[0]
    begin = max(tenth, 1.2816)
    beyond = [unit - begin for unit in units if unit > begin + 1e-12]
    excess = max(statistics.median(beyond) / math.log(2) if beyond else 0, 0.4734)
    z = side * (error - centre) / scale
    oracle = z / begin if z < begin else -(math.log(0.1) - (z - begin) / excess) / math.log(10)
    assert found.score(error) == pytest.approx(oracle, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=80), st.floats(1, 9))
def test_bounds_have_the_score_that_was_asked_for(errors: list[float], score: float) -> None:
    found = tails(errors, 1.0)
    low, high = found.bounds(score)
    assert [found.score(low), found.score(high)] == pytest.approx([score, score])
    assert found.score(low - 1) > score < found.score(high + 1)


def test_the_cool_down_is_a_period_long() -> None:
    values = busy(30 * 24)
    for hour, sessions in ((12, 0), (14, 150), (38, 150)):
        values[28 * 24 + hour] = sessions
    told = fed(values[: 28 * 24 + 39])[1]
    first, weaker, next_day = (told[28 * 24 + hour] for hour in (12, 14, 38))
    assert first is not None
    assert weaker is not None
    assert next_day is not None
    assert first.score > weaker.score > 3.5
    assert [one.anomalous for one in (first, weaker, next_day)] == [True, False, True]


def test_normal_errors_are_taken_for_a_little_more_common_than_they_are() -> None:
    dice = random.Random(5)
    found = tails([dice.gauss(0, 1) for _ in range(5000)], 0.1)
    for z, p in ((1.2816, 0.1), (2.326, 0.01), (3.09, 0.001)):
        assert 0.75 < found.score(z) / -math.log10(p) < 1.02


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), max_size=40), st.integers(1, 9), st.integers(2, 7))
def test_a_habit_was_met_in_three_seasons(errors: list[int], size: int, period: int) -> None:
    whole = errors[len(errors) % period :]
    met = sum(
        any(error >= 0.8 * size for error in whole[n : n + period]) for n in range(0, len(whole), period)
    )
    expected = -math.log10(met / (len(whole) // period)) if met >= 3 else math.inf
    assert habit(errors, size, period) == expected
    assert habit([-error for error in errors], -size, period) == expected


@settings(deadline=None)
@given(daily)
def test_what_counts_lies_outside_the_range_and_above_the_cool_down(values: list[int]) -> None:
    _, told = fed(values, Cadence.DAY)
    known = [(n, verdict) for n, verdict in enumerate(told) if verdict]
    for n, verdict in known:
        assert verdict.low <= verdict.expected <= verdict.high
        before = [one.score for m, one in known if one.anomalous and n - 7 < m < n]
        assert verdict.anomalous == (verdict.score >= 2.75 and all(verdict.score > one for one in before))
        if verdict.anomalous:
            assert verdict.outside
            assert (verdict.value < verdict.low) == (verdict.direction is Direction.LOW)


@settings(deadline=None)
@given(plain)
def test_a_mirrored_series_gives_mirrored_verdicts(values: list[int]) -> None:
    here = fed(values, Cadence.DAY, Measure.PLAIN)[1]
    there = fed([-value for value in values], Cadence.DAY, Measure.PLAIN)[1]
    for one, other in zip(here, there, strict=True):
        if one is None or other is None:
            assert one is other
            continue
        assert one.severity == other.severity
        assert [one.score, one.low, one.expected] == pytest.approx(
            [other.score, -other.high, -other.expected]
        )


@settings(deadline=None)
@given(plain)
def test_thousandths_are_judged_like_units(values: list[int]) -> None:
    here = fed(values, Cadence.DAY, Measure.PLAIN)[1]
    there = fed([1000 * value for value in values], Cadence.DAY, Measure.PLAIN)[1]
    scores = [one.score if one else -1.0 for one in here]
    assert [one.score if one else -1.0 for one in there] == pytest.approx(scores, rel=1e-3, abs=1e-3)


# ── The state ───────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(daily, st.integers(0, 60), st.sampled_from(Cadence))
def test_a_stored_state_goes_on_as_if_nothing_were(values: list[int], cut: int, cadence: Cadence) -> None:
    whole, told = fed(values, cadence)
    half, first = fed(values[:cut], cadence)
    stored = SeriesState.from_json(json.loads(json.dumps(half.to_json())))
    assert stored == half
    for n, value in enumerate(values[cut:], cut):
        at = FIRST + n * HOUR if cadence is Cadence.HOUR else FIRST.date() + n * DAY
        stored, verdict = update(stored, at, value)
        first.append(verdict)
    assert (stored, first) == (whole, told)


def test_a_state_stays_small() -> None:
    state, _ = fed(busy(24 * 7 * 9))
    size = len(json.dumps(state.to_json(), separators=(",", ":")))
    assert size < 14_000
    assert len(state.errors) == 28 * 24
    assert sum(len(one) for one in state.peers) == 28 * 24
    later, _ = fed(busy(24 * 7 * 3), state=state, begin=FIRST + 24 * 7 * 9 * HOUR)
    assert len(later.errors) == len(state.errors)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 300)), min_size=20, max_size=60))
def test_missing_points_are_points_never_handed_in(values: list[int | None]) -> None:
    whole, told = fed(values, Cadence.DAY)
    state = start(Cadence.DAY, Measure.COUNT)
    some = []
    for n, value in enumerate(values):
        if value is not None:
            state, verdict = update(state, FIRST.date() + n * DAY, value)
            some.append(verdict)
    assert state == whole
    assert some == [verdict for verdict, value in zip(told, values, strict=True) if value is not None]


def test_a_gap_teaches_nothing_and_the_hour_keeps_its_pattern() -> None:
    state, _ = fed(busy(14 * 24))
    gap = 3 * 24 + 14
    after, verdict = update(state, FIRST + (14 * 24 + gap) * HOUR, 50)
    assert verdict is not None
    assert verdict.expected == pytest.approx(50, abs=8), "two in the afternoon"
    assert len(after.errors) == len(state.errors) + 1
    _, verdict = update(state, FIRST + (14 * 24 + gap + 12) * HOUR, 50)
    assert verdict is not None
    assert (verdict.severity, verdict.direction) == (Severity.CRITICAL, Direction.HIGH)


def test_over_a_gap_the_damped_slope_goes_on() -> None:
    state, _ = fed((100 + 3 * n for n in range(60)), Cadence.DAY)
    at = FIRST.date() + (59 + 14) * DAY
    after, verdict = update(state, at, 319)
    assert verdict is not None
    moved = state.level + state.slope * sum(0.98**n for n in range(1, 15))
    error = 2 * math.sqrt(319.375) - moved - state.season[at.weekday()]
    assert after.level == pytest.approx(moved + 0.15 * error, abs=1e-3)


def test_a_gap_longer_than_the_memory_starts_again() -> None:
    state, _ = fed(busy(14 * 24))
    after, verdict = update(state, FIRST + (14 * 24 + 28 * 24) * HOUR, 50)
    assert verdict is None
    assert (after.seen, after.errors) == (1, ())


def test_the_hours_of_a_zone_keep_their_places_when_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    state = start(Cadence.HOUR, Measure.COUNT)
    begin = datetime(2026, 10, 5, tzinfo=UTC)  # clocks go back on 25 October
    scores = []
    for n in range(28 * 24):
        at = (begin + n * HOUR).astimezone(berlin)
        state, verdict = update(state, at, 100 if 9 <= at.hour < 17 else 10)
        scores.append(verdict.score if verdict else 0.0)
    assert max(scores) < 2


# ── Forecasts ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_forecast_is_what_the_next_verdict_expects() -> None:
    state, _ = fed(busy(21 * 24))
    at = FIRST + 21 * 24 * HOUR
    (told,) = forecast(state, [at])
    _, verdict = update(state, at, 7)
    assert verdict is not None
    assert (told.at, told.expected, told.low, told.high) == (
        at,
        verdict.expected,
        verdict.low,
        verdict.high,
    )


def test_coming_days_mostly_lie_in_their_ranges() -> None:
    inside = hours = 0
    for seed in range(6):
        values = busy(29 * 24, seed=seed + 10)
        state, _ = fed(values[: 28 * 24])
        ranges = forecast(state, [FIRST + n * HOUR for n in range(28 * 24, 29 * 24)])
        inside += sum(r.low <= v <= r.high for r, v in zip(ranges, values[28 * 24 :], strict=True))
        hours += len(ranges)
    assert hours == 6 * 24
    assert inside / hours > 0.94
    assert ranges[14].expected == pytest.approx(50, abs=12)
    assert ranges[3].expected < 10


def test_ranges_widen_with_the_distance() -> None:
    dice = random.Random(3)
    state, _ = fed((poisson(dice, 100) for _ in range(84)), Cadence.DAY)
    ranges = forecast(state, [FIRST.date() + (84 + 7 * week) * DAY for week in range(8)])
    widths = [math.sqrt(one.high + 0.375) - math.sqrt(one.low + 0.375) for one in ranges]
    assert widths == sorted(widths)
    assert widths[-1] > 1.2 * widths[0]


# ── One open anomaly ────────────────────────────────────────────────────────────────────────────────────────


def test_an_outage_is_opened_once_and_closed_after_three_calm_hours() -> None:
    values = busy(29 * 24)
    values[28 * 24 + 12 : 28 * 24 + 16] = [0, 0, 0, 0]
    changes = [change for change, _ in followed(fed(values)[1])][28 * 24 + 12 :]
    opened, updated, closed = AnomalyChange.OPENED, AnomalyChange.UPDATED, AnomalyChange.CLOSED
    assert changes[:7] == [
        opened,
        updated,
        updated,
        updated,
        AnomalyChange.NOTHING,
        AnomalyChange.NOTHING,
        closed,
    ]
    assert set(changes[7:]) == {AnomalyChange.NOTHING}


def test_an_anomaly_tells_its_span_and_its_peak() -> None:
    values = busy(29 * 24)
    values[28 * 24 + 12 : 28 * 24 + 16] = [9, 0, 0, 9]
    ended = [one for change, one in followed(fed(values)[1]) if change is AnomalyChange.CLOSED]
    (outage,) = [one for one in ended if one and one.since >= FIRST + 28 * 24 * HOUR]
    day = FIRST + 28 * DAY
    assert (outage.since, outage.until) == (day + 12 * HOUR, day + 15 * HOUR)
    assert outage.peak.value == 0
    assert outage.severity is Severity.CRITICAL


def test_a_new_level_is_learnt_and_its_anomaly_ends() -> None:
    values = [*busy(28 * 24), *busy(21 * 24, seed=2, peak=150)]
    seen = followed(fed(values)[1])
    state, told = fed(values)
    (since,) = [n for n, (change, _) in enumerate(seen) if change is AnomalyChange.OPENED and n >= 28 * 24][
        :1
    ]
    closed = [n for n, (change, _) in enumerate(seen) if change is AnomalyChange.CLOSED and n > since]
    assert since < 29 * 24
    assert closed[0] < 35 * 24
    (noon,) = forecast(state, [FIRST + (49 * 24 + 14) * HOUR])
    assert noon.low < 150 < noon.high
    assert told[-1] is not None


verdict_kinds = st.lists(st.sampled_from(["none", "calm", "outside", "minor", "critical"]), max_size=30)


@settings(deadline=None)
@given(verdict_kinds, st.sampled_from(Cadence))
def test_there_is_at_most_one_open_anomaly(kinds: list[str], cadence: Cadence) -> None:
    told = [a_verdict(kind, n, cadence) for n, kind in enumerate(kinds)]
    known, calm, severity = False, 0, ""
    for kind, (change, anomaly) in zip(kinds, followed(told), strict=True):
        if kind == "none" or (kind in {"calm", "outside"} and not known):
            assert change is AnomalyChange.NOTHING
        elif not known:
            assert change is AnomalyChange.OPENED
            known, calm, severity = True, 0, kind
        elif kind == "calm":
            calm += 1
            over = calm == (3 if cadence is Cadence.HOUR else 1)
            assert change is (AnomalyChange.CLOSED if over else AnomalyChange.NOTHING)
            known = not over
        else:
            assert change is AnomalyChange.UPDATED
            calm = 0
            severity = "critical" if "critical" in {kind, severity} else "minor"
        assert (anomaly is not None) == (known or change is AnomalyChange.CLOSED)
        if anomaly is not None:
            assert anomaly.severity == severity


def a_verdict(kind: str, n: int, cadence: Cadence) -> JudgedPoint | None:
    if kind == "none":
        return None
    return JudgedPoint(
        cadence=cadence,
        measure=Measure.COUNT,
        at=FIRST + n * HOUR,
        value=50 if kind == "calm" else 90,
        expected=50,
        low=35,
        high=70,
        score=float(n),
        direction=Direction.HIGH,
        severity=Severity(kind) if kind in {"minor", "critical"} else None,
        peers=28,
        beyond=0,
        among="days",
    )


# ── Known faults ────────────────────────────────────────────────────────────────────────────────────────────

SPIKE, DROP, OUTAGE = 0, 1, 2


@pytest.mark.parametrize(
    ("cadence", "volume", "noise", "fault", "least"),
    [
        (Cadence.HOUR, 30, "weekly", SPIKE, 0.8),
        (Cadence.HOUR, 30, "wandering", OUTAGE, 0.7),
        (Cadence.HOUR, 300, "weekly", DROP, 0.9),
        (Cadence.HOUR, 300, "clustered", OUTAGE, 0.9),
        (Cadence.DAY, 50, "weekly", OUTAGE, 0.9),
        (Cadence.DAY, 500, "weekly", SPIKE, 0.9),
        (Cadence.DAY, 500, "weekly", DROP, 0.9),
        (Cadence.DAY, 500, "wandering", OUTAGE, 0.8),
    ],
)
def test_faults_are_found(cadence: Cadence, volume: int, noise: str, fault: int, least: float) -> None:
    (kind,) = [one for one in NOISES if one.name == noise]
    assert found(cadence, volume, kind, FAULTS[cadence][fault], 6)[0] >= least


@pytest.mark.parametrize("noise", NOISES, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("cadence", "volume"),
    [
        pytest.param(Cadence.HOUR, 300, marks=pytest.mark.long(only=True)),
        (Cadence.DAY, 50),
        (Cadence.DAY, 500),
    ],
)
def test_clean_series_stay_quiet(cadence: Cadence, volume: int, noise: object) -> None:
    (kind,) = [one for one in NOISES if one is noise]
    opened, paged = quiet(cadence, volume, kind, 4 if cadence is Cadence.HOUR else 16)
    assert opened <= 8, "anomalies a year"
    assert paged <= 2


def test_what_happens_often_is_no_anomaly() -> None:
    """A batch every Wednesday: the first ones are anomalies, then it is a habit."""
    values = busy(8 * 7 * 24)
    days = range(9, 8 * 7, 7)
    for day in days:
        values[day * 24 + 14] = 400
    told = fed(values)[1]
    spikes = [told[day * 24 + 14] for day in days]
    assert [bool(one and one.anomalous) for one in spikes][:2] == [True, True]
    assert not any(one and one.anomalous for one in spikes[-3:])


def test_moments_are_a_week_from_monday() -> None:
    assert [at.weekday() for at in moments(Cadence.DAY, 7)] == list(range(7))
