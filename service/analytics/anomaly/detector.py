"""The anomaly detector: judges the points of a series one after the other.

**Model.** Additive Holt-Winters with a damped slope (Holt, 1957; Winters, 1960; Gardner and McKenzie, 1985)
in its error-correction form (Hyndman et al., 2008): period 24 for hours, 7 for days. The hours of the weekend
have a season of their own; otherwise each Saturday would be an anomaly. Robust: an error counts for at most
two scales when the model learns (Huber's ψ with k = 2: Gelper, Fried and Croux, 2010), so that a fault does
not become the new normal at once. Counts are transformed by 2·√(x + 3/8), which makes their noise as large at
night as at noon (Anscombe, 1948).

**Score.** -log₁₀ of the error's tail probability among *this series' own* errors of the last 28 days (12
weeks): see ``tails``. If three or more of the past seasons had an error like it, the score is at most -log₁₀
of the share of such seasons.

**Cool-down.** A score counts from 3.5 (days: 2.75), and only if it is higher than all that counted within one
period.

**Severity.** The value is also compared with those of the same hour (weekday) of earlier days, by their
median and MAD and the same tails. The severity depends on the sum of both scores.

**Shifts.** What single hours do not show adds up: see ``level_shift``.

No verdict under 48 hours or 14 days, and no alert under 14 days or 4 weeks. A missing point is skipped: the
next one moves the state over the gap without learning from it. A gap longer than the window restarts the
series.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from service.analytics.anomaly.holiday import Holiday
from service.analytics.anomaly.level_shift import watch
from service.analytics.anomaly.series_state import RULES, SeriesState, start
from service.analytics.anomaly.tails import ErrorTails, habit, tails
from service.analytics.anomaly.verdict import (
    WEEKDAYS,
    Cadence,
    Direction,
    JudgedPoint,
    LevelShift,
    Measure,
    Severity,
    rounded,
)
from service.analytics.significance import median

_HOUR = timedelta(hours=1)
_MAX_ERROR_SCALES = 2.0
_RANGE = 2.0
_MAJOR = 2
_CRITICAL = 3
_LARGE_SHIFT = 0.4
"""A shift by this share of the expected values alerts somebody."""


@dataclass(frozen=True, slots=True)
class ExpectedRange:
    """The expected value at ``at``, and the bounds that 1 point in 100 crosses on either side."""

    at: date
    expected: float
    low: float
    high: float


def update(
    state: SeriesState,
    at: date,
    value: float | None,
    holiday: Holiday | None = None,
    *,
    clocks_changed: bool = False,
) -> tuple[SeriesState, JudgedPoint | None]:
    """Judge a point, then learn from it. The verdict is None while there is too little data.

    ``at``: the start of the hour, aware, in the zone whose hours of the day repeat; or a date. ``value``
    None: the point is missing, and nothing changes. ``holiday``: of that hour or date; it is compared with
    earlier ones, and not learned as an ordinary day (at weekends it changes nothing that is expected).
    ``clocks_changed``: some users' clocks did, a short while ago; what is expected of the neighbouring hours
    is as good until that is learned. ValueError: a point that is not after the last one (rebuild the state
    from the points), a value that is not finite, or a negative count.
    """
    after, verdict = _update(state, at, value, holiday, clocks_changed=clocks_changed)
    if after.last is None or value is None:
        return after, verdict
    scaled = rounded(_model_scale(value, after.measure))
    first = after.last if after.first is None else after.first
    return replace(after, first=first, least=min(after.least, scaled), most=max(after.most, scaled)), verdict


def _update(
    state: SeriesState,
    at: date,
    value: float | None,
    holiday: Holiday | None,
    *,
    clocks_changed: bool,
) -> tuple[SeriesState, JudgedPoint | None]:
    index, phase = _position(state.cadence, at)
    if state.last is not None and index <= state.last:
        raise ValueError(f"the point {at} is not after the last one: build the state again from the points")
    if value is None:
        return state, None
    scaled = rounded(_model_scale(value, state.measure))
    rules = RULES[state.cadence]
    if state.last is not None and index - state.last > rules.period * rules.seasons_kept:
        state = start(state.cadence, state.measure)
    shift = None
    if state.cadence is Cadence.HOUR and not holiday:
        near = _near(state, at, clocks_changed=clocks_changed)
        watched, shift = watch(state.shift, state.measure, index, near, scaled, value)
        state = replace(state, shift=watched)
    if state.seen < rules.period:
        if holiday:
            return replace(state, last=index), None
        return _collect_first_season(state, index, phase, scaled), None
    past = tails(state.errors, _floor(state)) if len(state.errors) >= rules.period // 2 else None
    predicted = _expect(state, at, scaled, holiday, clocks_changed=clocks_changed)
    verdict = None
    if past and state.seen >= rules.warmup:
        verdict = _judge(state, at, value, predicted, past, shift, holiday)
    if holiday:
        return _learn_holiday(state, at, scaled, holiday), verdict
    return _learn(state, index, phase, scaled, predicted, past, verdict), verdict


def forecast(state: SeriesState, hours_or_days: Iterable[date]) -> list[ExpectedRange]:
    """The expected ranges of future points (hours or dates after the last one); none while there is too
    little data.

    The range widens with the distance h: √(1 + (h-1)·α² + seasons·γ²) (Hyndman et al., 2008, class 1).
    """
    rules = RULES[state.cadence]
    if state.seen < rules.warmup or state.last is None or not state.errors:
        return []
    past = tails(state.errors, _floor(state))
    ranges = []
    for at in hours_or_days:
        index, phase = _position(state.cadence, at)
        ahead = index - state.last - 1
        if ahead < 0:
            raise ValueError(f"{at} is not after the last point: a forecast tells what is to come")
        if state.visits[phase]:
            wider = math.sqrt(1 + ahead * rules.level**2 + ahead // rules.period * rules.season**2)
            ranges.append(_range(state.measure, at, _predict(state, index, phase), past, wider))
    return ranges


# ── One point ───────────────────────────────────────────────────────────────────────────────────────────────


def _position(cadence: Cadence, at: date) -> tuple[int, int]:
    """The point's index in time, and its phase in the season."""
    if cadence is Cadence.DAY:
        return at.toordinal(), at.weekday()
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(f"a point of an hourly series needs an aware datetime, not {at!r}")
    return int(at.timestamp() // 3600), at.hour + (24 if _weekend(at) else 0)


def _weekend(at: date) -> bool:
    return at.weekday() >= 5


def _model_scale(value: float, measure: Measure) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a point's value is a finite number, not {value}: leave a missing point out")
    if measure is Measure.PLAIN:
        return value
    if value < 0:
        raise ValueError(f"a count is not negative: {value} belongs into a series that is measured PLAIN")
    return 2 * math.sqrt(value + 0.375)


def _original_scale(value: float, measure: Measure) -> float:
    return value if measure is Measure.PLAIN else max(0.0, (max(value, 0.0) / 2) ** 2 - 0.375)


def _floor(state: SeriesState) -> float:
    """The smallest scale of an error. Counts have at least Poisson noise, whose scale is 1 here; other
    measures at least 2 % of their level."""
    return 1.0 if state.measure is Measure.COUNT else max(0.02 * abs(state.level), 1e-9)


def _collect_first_season(state: SeriesState, index: int, phase: int, scaled: float) -> SeriesState:
    """Only store the points of the first season; at its end the model starts from their median."""
    peers = _remember(state.peers, phase, scaled, state.cadence)
    collected = replace(state, last=index, seen=state.seen + 1, peers=peers)
    if collected.seen < RULES[state.cadence].period:
        return collected
    level = median(value for values in peers for value in values)
    season = tuple(rounded(median(values) - level) if values else 0.0 for values in peers)
    return replace(collected, level=rounded(level), season=season, visits=tuple(int(bool(v)) for v in peers))


def _remember(
    peers: tuple[tuple[float, ...], ...], phase: int, scaled: float, cadence: Cadence
) -> tuple[tuple[float, ...], ...]:
    limit = RULES[cadence].seasons_kept
    if cadence is Cadence.HOUR:
        limit = limit * (5 if phase < 24 else 2) // 7
    values = (*peers[phase], scaled)[-limit:]
    return (*peers[:phase], values, *peers[phase + 1 :])


def _slope_over(state: SeriesState, steps: int) -> float:
    """The sum of the damped slope over so many points: slope · (d + d² + … + dⁿ)."""
    damp = RULES[state.cadence].damping
    return state.slope * damp * (1 - damp**steps) / (1 - damp)


def _predict(state: SeriesState, index: int, phase: int) -> float:
    steps = index - (state.last or 0)
    return state.level + _slope_over(state, steps) + state.season[phase]


def _near(state: SeriesState, at: date, *, clocks_changed: bool) -> list[int]:
    """The phase of a point; after a change of clocks, and those of the hours before and after it."""
    _, phase = _position(state.cadence, at)
    if not clocks_changed or state.cadence is Cadence.DAY:
        return [phase]
    return [phase, *(_position(state.cadence, at + step)[1] for step in (-_HOUR, _HOUR))]


def _expect(
    state: SeriesState, at: date, scaled: float, holiday: Holiday | None, *, clocks_changed: bool
) -> float:
    """The expected value; after a change of clocks, of this hour and its neighbours what is nearest."""
    index, phase = _position(state.cadence, at)
    near = [
        one for one in _near(state, at, clocks_changed=clocks_changed) if one == phase or state.visits[one]
    ]
    expected = [_expect_with(state, index, one, None if _weekend(at) else holiday) for one in near]
    return min(max(scaled, min(expected)), max(expected))


def _expect_with(state: SeriesState, index: int, phase: int, holiday: Holiday | None) -> float:
    ordinary = _predict(state, index, phase)
    if holiday is None:
        return ordinary
    sunday = 24 + phase % 24 if state.cadence is Cadence.HOUR else 6
    on_sunday = _predict(state, index, sunday) if state.visits[sunday] else ordinary
    return state.holidays.expected(ordinary, on_sunday, holiday.share, RULES[state.cadence].period)


def _learn_holiday(state: SeriesState, at: date, scaled: float, holiday: Holiday) -> SeriesState:
    """The state after a point of a holiday: only what is expected of holidays changes."""
    index, phase = _position(state.cadence, at)
    steps = index - (state.last or 0)
    holidays = state.holidays
    if state.visits[phase] and not _weekend(at):
        holidays = holidays.learned(scaled, _predict(state, index, phase), holiday.share)
    return replace(
        state,
        last=index,
        level=rounded(state.level + _slope_over(state, steps)),
        slope=rounded(state.slope * RULES[state.cadence].damping ** steps),
        counted=tuple(one for one in state.counted if index - one[0] < RULES[state.cadence].period),
        holidays=holidays,
    )


def _learn(
    state: SeriesState,
    index: int,
    phase: int,
    scaled: float,
    predicted: float,
    past: ErrorTails | None,
    verdict: JudgedPoint | None,
) -> SeriesState:
    """The state after a point: Holt-Winters with the error clipped at two scales, once scales are known."""
    rules = RULES[state.cadence]
    error = scaled - _predict(state, index, phase)
    steps = index - (state.last or 0)
    max_error = _MAX_ERROR_SCALES * past.scale if past else math.inf
    clipped = min(max(error, -max_error), max_error)
    first_visit = not state.visits[phase]  # all of it is then the season's
    level_weight = 0.0 if first_visit else rules.level
    visits = state.visits[phase] + 1
    weight = max(rules.season, 1 / visits)
    season = rounded(state.season[phase] + weight * (1 - level_weight) * (error if first_visit else clipped))
    errors = state.errors
    if not first_visit:
        errors = (*errors, rounded(scaled - predicted))[-rules.period * rules.seasons_kept :]
    counted = [entry for entry in state.counted if index - entry[0] < rules.period]
    if verdict is not None and verdict.anomalous:
        counted.append((index, verdict.score))
    return replace(
        state,
        last=index,
        seen=state.seen + 1,
        level=rounded(state.level + _slope_over(state, steps) + level_weight * clipped),
        slope=rounded(state.slope * rules.damping**steps + level_weight * rules.slope * clipped),
        season=(*state.season[:phase], season, *state.season[phase + 1 :]),
        visits=(*state.visits[:phase], visits, *state.visits[phase + 1 :]),
        peers=_remember(state.peers, phase, scaled, state.cadence),
        errors=errors,
        counted=tuple(counted),
    )


# ── The verdict ─────────────────────────────────────────────────────────────────────────────────────────────


def _judge(
    state: SeriesState,
    at: date,
    value: float,
    predicted: float,
    past: ErrorTails,
    shift: LevelShift | None,
    holiday: Holiday | None,
) -> JudgedPoint | None:
    """None for an hour or weekday without earlier points, and for a PLAIN series that never changed."""
    index, phase = _position(state.cadence, at)
    if not state.visits[phase] or (state.measure is Measure.PLAIN and len(set(state.errors)) == 1):
        return None
    rules = RULES[state.cadence]
    scaled = rounded(_model_scale(value, state.measure))
    error = scaled - predicted
    direction = Direction.HIGH if error >= past.centre else Direction.LOW
    score = past.score(error)
    if score >= rules.min_score:
        score = min(score, habit(state.errors, error, rules.period))
    combined_score = score + _second_opinion(state, phase, scaled, direction)
    expected_range = _range(state.measure, at, predicted, past, 1.0)
    is_counted = score >= rules.min_score and all(
        score > earlier for point, earlier in state.counted if index - point < rules.period
    )
    peers, among = _peers(state, phase, at, scaled)
    # Nobody is alerted of what a holiday explains: that all who have one stay away.
    explained = holiday is not None and value >= expected_range.low * (1 - holiday.share)
    severity = _severity(state, combined_score if is_counted else 0.0, value, expected_range.expected, shift)
    return JudgedPoint(
        cadence=state.cadence,
        measure=state.measure,
        at=at,
        value=value,
        expected=expected_range.expected,
        low=expected_range.low,
        high=expected_range.high,
        score=score,
        direction=direction,
        severity=Severity.MINOR if severity and explained else severity,
        peers=len(peers),
        beyond=sum(peer >= scaled if direction is Direction.HIGH else peer <= scaled for peer in peers),
        among=among,
        shift=shift,
        holiday=holiday.countries if holiday else None,
        never_in_days=_never_in_days(state, index, scaled),
    )


def _peers(state: SeriesState, phase: int, at: date, scaled: float) -> tuple[tuple[float, ...], str]:
    """The values with which the sentence compares a value: all days if it is beyond all of them, otherwise
    the same kind of day."""
    same_phase = state.peers[phase]
    if state.cadence is Cadence.DAY:
        return same_phase, f"{WEEKDAYS[at.weekday()]}s"
    all_days = same_phase + state.peers[(phase + 24) % 48]
    if not min(all_days) <= scaled <= max(all_days):
        return all_days, "days"
    return same_phase, "weekend days" if _weekend(at) else "weekdays"


def _never_in_days(state: SeriesState, index: int, scaled: float) -> int | None:
    """For how many days the series has been, if the value is beyond all that it ever had, and it is long."""
    rules = RULES[state.cadence]
    if state.first is None or state.least <= scaled <= state.most:
        return None
    points = index - state.first
    per_day = 24 if state.cadence is Cadence.HOUR else 1
    return points // per_day if points >= 2 * rules.period * rules.seasons_kept else None


def _second_opinion(state: SeriesState, phase: int, scaled: float, direction: Direction) -> float:
    """The score of the value among those of the same hour or weekday; 0 if too few, or on the other side."""
    peers = state.peers[phase]
    if len(peers) < RULES[state.cadence].min_peers:
        return 0.0
    past = tails(peers, _floor(state))
    own_direction = Direction.HIGH if scaled >= past.centre else Direction.LOW
    return past.score(scaled) if own_direction is direction else 0.0


def _severity(
    state: SeriesState, combined_score: float, value: float, expected: float, shift: LevelShift | None
) -> Severity | None:
    """None: neither the score counts nor does a shift begin."""
    rules = RULES[state.cadence]
    begins = shift is not None and shift.begins
    if combined_score < rules.min_score and not begins:
        return None
    if state.seen < rules.quiet:
        return Severity.MINOR
    if combined_score >= _CRITICAL * rules.min_score and abs(value - expected) >= abs(expected) / 2:
        return Severity.CRITICAL
    is_large = shift is not None and begins and abs(shift.change) >= _LARGE_SHIFT
    return Severity.MAJOR if is_large or combined_score >= _MAJOR * rules.min_score else Severity.MINOR


def _range(measure: Measure, at: date, predicted: float, past: ErrorTails, wider: float) -> ExpectedRange:
    low, high = past.bounds(_RANGE, wider)
    bounds = [_original_scale(predicted + offset, measure) for offset in (past.centre, low, high)]
    return ExpectedRange(at, *bounds)
