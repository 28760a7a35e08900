"""The anomaly detector: one series, one point after the other (spec §5).

**Model.** Additive Holt-Winters with a damped slope (Holt, 1957; Winters, 1960; Gardner and McKenzie, 1985)
in its error-correction form (Hyndman et al., 2008): period 24 for hours, 7 for days. The hours of the weekend
have a season of their own, or each Saturday is an anomaly and no weekday's drop is one. Robust: an error
teaches at most two scales (Huber's ψ with k = 2: Gelper, Fried and Croux, 2010), so that a fault is not
learnt as the new normal at once. Counts are taken as 2·√(x + 3/8) first, which makes their noise as large at
night as at noon (Anscombe, 1948).

**Score.** -log₁₀ of the error's tail probability among *this series' own* errors of the last 28 days (12
weeks): see ``tail``. An error like those of three or more of the past seasons is a habit: it scores at most
-log₁₀ of the share of such seasons.

**Cool-down.** A score counts from 3.5 (days: 2.75), and only above every score counted within one period.

**What pages somebody.** The value is also compared with the same hour (weekday) of the days before: their
median and MAD, the same tail. The sum of both tails is ``agreed``; severity rests on it.

No verdict under 48 hours or 14 days. A missing point is simply not handed in: the next one moves the state
over the gap without learning from it. A gap longer than the window starts the series again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from service.analytics.anomaly.tails import ErrorTails, habit, tails
from service.analytics.anomaly.verdict import WEEKDAYS, Cadence, Direction, JudgedPoint, Measure, Severity
from service.analytics.significance import median

_VERSION = 1
_CLIP = 2.0
_RANGE = 2.0
_MAJOR = 2
_CRITICAL = 3


@dataclass(frozen=True, slots=True)
class _Rules:
    """``period``: points to a season. ``warm``: points before the first verdict. ``kept``: seasons
    remembered. ``same``: values of the same hour or weekday that a second opinion needs. ``calm``: ordinary
    points that end an anomaly. Weights of level, slope and season; ``damp``: what is left of the slope after
    one point."""

    period: int
    phases: int
    warm: int
    kept: int
    same: int
    calm: int
    counts: float
    level: float
    slope: float
    season: float
    damp: float = 0.98


_RULES = {
    Cadence.HOUR: _Rules(
        period=24, phases=48, warm=48, kept=28, same=5, calm=3, counts=3.5, level=0.1, slope=0.01, season=0.1
    ),
    Cadence.DAY: _Rules(
        period=7, phases=7, warm=14, kept=12, same=4, calm=1, counts=2.75, level=0.15, slope=0.02, season=0.1
    ),
}


@dataclass(frozen=True, slots=True)
class ExpectedRange:
    """What is expected at ``at``: the middle, and the bounds that 1 point in 100 crosses on either side."""

    at: date
    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SeriesState:
    """All that is remembered of a series; bounded (28 days of hours, 12 weeks of days) and JSON-serialisable.

    ``last``: the latest point, in hours since 1970 UTC or as a date's ordinal. ``seen``: points learnt.
    ``season`` and ``visits`` (how often it was learnt): for each hour of the day or weekday. ``peers``: for
    each of these, its latest values; ``errors``: the latest errors of the model; both on the model's scale.
    ``counted``: (point, score) of the cool-down.
    """

    cadence: Cadence
    measure: Measure
    last: int | None = None
    seen: int = 0
    level: float = 0.0
    slope: float = 0.0
    season: tuple[float, ...] = ()
    visits: tuple[int, ...] = ()
    peers: tuple[tuple[float, ...], ...] = ()
    errors: tuple[float, ...] = ()
    counted: tuple[tuple[int, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` restores exactly; 12 kB as text for hours, 2 kB for days."""
        return {"version": _VERSION, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SeriesState":
        """ValueError for a state of another version: build it again from the series' points."""
        if stored.get("version") != _VERSION:
            raise ValueError(
                f"a detector's state of version {stored.get('version')} cannot be read (here: {_VERSION}): "
                "build it again from the points of the series"
            )
        return cls(
            cadence=Cadence(stored["cadence"]),
            measure=Measure(stored["measure"]),
            last=stored["last"],
            seen=stored["seen"],
            level=stored["level"],
            slope=stored["slope"],
            season=tuple(stored["season"]),
            visits=tuple(stored["visits"]),
            peers=tuple(tuple(values) for values in stored["peers"]),
            errors=tuple(stored["errors"]),
            counted=tuple((point, score) for point, score in stored["counted"]),
        )


def start(cadence: Cadence, measure: Measure) -> SeriesState:
    """A series of which nothing is known yet."""
    phases = _RULES[cadence].phases
    return SeriesState(cadence, measure, season=(0.0,) * phases, visits=(0,) * phases, peers=((),) * phases)


def update(state: SeriesState, at: date, value: float | None) -> tuple[SeriesState, JudgedPoint | None]:
    """Judge a point, then learn from it. The verdict is None while too little is known.

    ``at``: the beginning of the hour, aware, on the clock whose hours of the day repeat; or a date. ``value``
    None: the point is missing, and nothing changes. ValueError: a point that is not after the last one (a
    detector knows no past: build it again from the points), a value that is no finite number, or a negative
    count.
    """
    index, phase = _place(state.cadence, at)
    if state.last is not None and index <= state.last:
        raise ValueError(f"the point {at} is not after the last one: build the state again from the points")
    if value is None:
        return state, None
    known = _short(_model_scale(value, state.measure))
    rules = _RULES[state.cadence]
    if state.last is not None and index - state.last > rules.period * rules.kept:
        state = start(state.cadence, state.measure)
    if state.seen < rules.period:
        return _gathered(state, index, phase, known), None
    past = tails(state.errors, _floor(state)) if len(state.errors) >= rules.period // 2 else None
    verdict = _judge(state, at, value, past) if past and state.seen >= rules.warm else None
    return _learnt(state, index, phase, known, past, verdict), verdict


def forecast(state: SeriesState, hours_or_days: Iterable[date]) -> list[ExpectedRange]:
    """What is expected at coming points (hours or dates after the last one); nothing while too little is
    known.

    The range widens with the distance h: √(1 + (h-1)·α² + seasons·γ²) (Hyndman et al., 2008, class 1).
    """
    rules = _RULES[state.cadence]
    if state.seen < rules.warm or state.last is None or not state.errors:
        return []
    past = tails(state.errors, _floor(state))
    ranges = []
    for at in hours_or_days:
        index, phase = _place(state.cadence, at)
        ahead = index - state.last - 1
        if ahead < 0:
            raise ValueError(f"{at} is not after the last point: a forecast tells what is to come")
        if state.visits[phase]:
            wider = math.sqrt(1 + ahead * rules.level**2 + ahead // rules.period * rules.season**2)
            ranges.append(_range(state.measure, at, _predicted(state, index, phase), past, wider))
    return ranges


# ── One point ───────────────────────────────────────────────────────────────────────────────────────────────


def _place(cadence: Cadence, at: date) -> tuple[int, int]:
    """The point's place in time, and in its season."""
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
    """The least scale of an error. A count cannot be less noisy than Poisson's, whose scale is 1 here;
    anything else may move by 2 % of its level."""
    return 1.0 if state.measure is Measure.COUNT else max(0.02 * abs(state.level), 1e-9)


def _gathered(state: SeriesState, index: int, phase: int, known: float) -> SeriesState:
    """The first season is only kept; at its end the model starts from its median."""
    peers = _remember(state.peers, phase, known, state.cadence)
    gathered = replace(state, last=index, seen=state.seen + 1, peers=peers)
    if gathered.seen < _RULES[state.cadence].period:
        return gathered
    level = median(value for values in peers for value in values)
    season = tuple(_short(median(values) - level) if values else 0.0 for values in peers)
    return replace(gathered, level=_short(level), season=season, visits=tuple(int(bool(v)) for v in peers))


def _remember(
    peers: tuple[tuple[float, ...], ...], phase: int, known: float, cadence: Cadence
) -> tuple[tuple[float, ...], ...]:
    kept = _RULES[cadence].kept
    if cadence is Cadence.HOUR:
        kept = kept * (5 if phase < 24 else 2) // 7
    mine = (*peers[phase], known)[-kept:]
    return (*peers[:phase], mine, *peers[phase + 1 :])


def _slope_over(state: SeriesState, steps: int) -> float:
    """What the damped slope adds over so many points: slope · (d + d² + … + dⁿ)."""
    damp = _RULES[state.cadence].damp
    return state.slope * damp * (1 - damp**steps) / (1 - damp)


def _predicted(state: SeriesState, index: int, phase: int) -> float:
    steps = index - (state.last or 0)
    return state.level + _slope_over(state, steps) + state.season[phase]


def _learnt(
    state: SeriesState,
    index: int,
    phase: int,
    known: float,
    past: ErrorTails | None,
    verdict: JudgedPoint | None,
) -> SeriesState:
    """The state after a point: Holt-Winters with the error clipped at two scales, once scales are known."""
    rules = _RULES[state.cadence]
    error = known - _predicted(state, index, phase)
    steps = index - (state.last or 0)
    most = _CLIP * past.scale if past else math.inf
    clipped = min(max(error, -most), most)
    first = not state.visits[phase]  # all of it is then the season's
    share = 0.0 if first else rules.level
    visits = state.visits[phase] + 1
    weight = max(rules.season, 1 / visits)
    season = _short(state.season[phase] + weight * (1 - share) * (error if first else clipped))
    errors = state.errors
    if not first:
        errors = (*errors, _short(error))[-rules.period * rules.kept :]
    counted = [one for one in state.counted if index - one[0] < rules.period]
    if verdict is not None and verdict.anomalous:
        counted.append((index, verdict.score))
    return replace(
        state,
        last=index,
        seen=state.seen + 1,
        level=_short(state.level + _slope_over(state, steps) + share * clipped),
        slope=_short(state.slope * rules.damp**steps + share * rules.slope * clipped),
        season=(*state.season[:phase], season, *state.season[phase + 1 :]),
        visits=(*state.visits[:phase], visits, *state.visits[phase + 1 :]),
        peers=_remember(state.peers, phase, known, state.cadence),
        errors=errors,
        counted=tuple(counted),
    )


# ── The verdict ─────────────────────────────────────────────────────────────────────────────────────────────


def _judge(state: SeriesState, at: date, value: float, past: ErrorTails) -> JudgedPoint | None:
    """None at an hour or weekday that was never seen, and for a PLAIN series that never moved."""
    index, phase = _place(state.cadence, at)
    if not state.visits[phase] or (state.measure is Measure.PLAIN and len(set(state.errors)) == 1):
        return None
    rules = _RULES[state.cadence]
    known = _short(_model_scale(value, state.measure))
    predicted = _predicted(state, index, phase)
    error = known - predicted
    side = Direction.HIGH if error >= past.centre else Direction.LOW
    score = past.score(error)
    if score >= rules.counts:
        score = min(score, habit(state.errors, error, rules.period))
    agreed = score + _second_opinion(state, phase, known, side)
    fit = _range(state.measure, at, predicted, past, 1.0)
    counts = score >= rules.counts and all(
        score > earlier for point, earlier in state.counted if index - point < rules.period
    )
    peers, among = _peers(state, phase, at, known)
    return JudgedPoint(
        cadence=state.cadence,
        measure=state.measure,
        at=at,
        value=value,
        expected=fit.expected,
        low=fit.low,
        high=fit.high,
        score=score,
        direction=side,
        severity=_severity(agreed, rules.counts, value, fit.expected) if counts else None,
        peers=len(peers),
        beyond=sum(peer >= known if side is Direction.HIGH else peer <= known for peer in peers),
        among=among,
    )


def _peers(state: SeriesState, phase: int, at: date, known: float) -> tuple[tuple[float, ...], str]:
    """With what a value is compared in words: all days, where it lies beyond all of them; else its own
    kind."""
    own = state.peers[phase]
    if state.cadence is Cadence.DAY:
        return own, f"{WEEKDAYS[at.weekday()]}s"
    every = own + state.peers[(phase + 24) % 48]
    if not min(every) <= known <= max(every):
        return every, "days"
    return own, "weekend days" if _weekend(at) else "weekdays"


def _second_opinion(state: SeriesState, phase: int, known: float, side: Direction) -> float:
    """The tail of the value among those of the same hour or weekday; 0 if too few, or on the other side."""
    peers = state.peers[phase]
    if len(peers) < _RULES[state.cadence].same:
        return 0.0
    past = tails(peers, _floor(state))
    mine = Direction.HIGH if known >= past.centre else Direction.LOW
    return past.score(known) if mine is side else 0.0


def _severity(agreed: float, counts: float, value: float, expected: float) -> Severity:
    if agreed >= _CRITICAL * counts and abs(value - expected) >= abs(expected) / 2:
        return Severity.CRITICAL
    return Severity.MAJOR if agreed >= _MAJOR * counts else Severity.MINOR


def _range(measure: Measure, at: date, predicted: float, past: ErrorTails, wider: float) -> ExpectedRange:
    low, high = past.bounds(_RANGE, wider)
    bounds = [_original_scale(predicted + one, measure) for one in (past.centre, low, high)]
    return ExpectedRange(at, *bounds)


def _short(value: float) -> float:
    """Six digits: enough for a state, and small as text."""
    return float(f"{value:.6g}")


# ── One open anomaly for each series ────────────────────────────────────────────────────────────────────────


class AnomalyChange(StrEnum):
    """What a verdict did to the open anomaly of its series."""

    NOTHING = "nothing"
    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """From its first point that counted to its latest point outside the expected range. ``peak``: the verdict
    with the highest score; the severity is the highest so far. ``calm``: ordinary points since ``until``."""

    since: date
    until: date
    peak: JudgedPoint
    severity: Severity
    calm: int = 0


def follow(known: Anomaly | None, verdict: JudgedPoint | None) -> tuple[AnomalyChange, Anomaly | None]:
    """Open, update or close the one anomaly of a series. With CLOSED comes the anomaly as it ended.

    A score that counts opens one, or raises the open one's peak and severity, whichever its direction. A
    point outside the expected range keeps it open. Three ordinary hours in a row, or one ordinary day, close
    it. No verdict: no change.
    """
    if verdict is None:
        return AnomalyChange.NOTHING, known
    if known is None:
        if verdict.severity is None:
            return AnomalyChange.NOTHING, None
        return AnomalyChange.OPENED, Anomaly(verdict.at, verdict.at, verdict, verdict.severity)
    if verdict.severity is not None or verdict.outside:
        peak = verdict if verdict.score > known.peak.score else known.peak
        severity = max(known.severity, verdict.severity or known.severity, key=list(Severity).index)
        return AnomalyChange.UPDATED, replace(known, until=verdict.at, peak=peak, severity=severity, calm=0)
    calm = replace(known, calm=known.calm + 1)
    over = calm.calm >= _RULES[verdict.cadence].calm
    return (AnomalyChange.CLOSED if over else AnomalyChange.NOTHING), calm
