"""A series that stays too low or too high: points of which each alone is nothing remarkable.

**Baseline.** For each hour of the day, weekends apart, the mean of its last 15 values (weekend: 6), on the
scale on which counts have noise of 1 (Anscombe, 1948). What is noisier than that is measured: var = 1 + b·m²
for counts, with m the baseline.

**Sum.** The log-likelihood ratio of "since then the values are 65 % (150 %) of the baseline" against "nothing
changed", summed up, never below zero (CUSUM: Page, 1954; Lorden, 1971; for changing expectations: Hawkins and
Olwell, 1998). Hours with many sessions weigh more than those at night. Other measures are looked at for a
change of one standard deviation. Errors that resemble those before them are divided by how much more their
running mean varies than that of independent ones.

**Verdict.** A shift begins when a sum reaches 8. There the sum stays while points go on to speak for a shift;
another one begins only after it has come back to nearly nothing. After 48 points the new level is what is
normal. Nothing is said about the first three weeks, and nothing is learned while a shift lasts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from service.analytics.anomaly.verdict import Direction, LevelShift, Measure, rounded

_BASELINE_VALUES = (15, 6)
"""How many values of an hour the baseline holds: on weekdays, at weekends (three weeks)."""
_FEWEST_VALUES = 4
_WARMUP = 24 * 14
"""Points with a baseline before the first sum: with the days that a baseline needs, about three weeks."""
_MEMORY = 24 * 28
_BEGINS = 8.0
_OVER = 0.5
_LONGEST = 48
_RATIO = {Direction.LOW: 0.65, Direction.HIGH: 1.5}
_CLIP = 3.0
_LARGEST_ERROR = 4.0
_RUNNING = 1 / 24
_SMALLEST_COUNT = 1.3
_RATIOS_OF_LEVELS = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class ShiftSum:
    """The evidence on one side, in natural logarithms. ``since``: the first point after it last was zero;
    ``observed`` and ``expected``: sums from there on, on the scale of the series."""

    evidence: float = 0.0
    since: int = 0
    points: int = 0
    observed: float = 0.0
    expected: float = 0.0


@dataclass(frozen=True, slots=True)
class ShiftNoise:
    """Running means: of squared errors and baselines, of squared standardised errors, of these errors
    themselves over a day, and of that mean's square."""

    error_square: float = 0.0
    baseline_square: float = 0.0
    z_square: float = 0.0
    day: float = 0.0
    day_square: float = 0.0


@dataclass(frozen=True, slots=True)
class ShiftState:
    """What ``watch`` remembers of a series.

    ``baseline`` and ``learned``: for each phase its mean, and how many values it holds. ``points``: those
    with a baseline. ``active``: the direction of the shift that lasts, for ``lasting`` points, with the sums
    of values and baselines since it began, on the scale of counts.
    """

    baseline: tuple[float, ...] = ()
    learned: tuple[int, ...] = ()
    points: int = 0
    noise: ShiftNoise = field(default_factory=ShiftNoise)
    low: ShiftSum = field(default_factory=ShiftSum)
    high: ShiftSum = field(default_factory=ShiftSum)
    active: Direction | None = None
    lasting: int = 0
    values: float = 0.0
    baselines: float = 0.0

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ShiftState":
        """What ``dataclasses.asdict`` made of a state."""
        values = {one.name: stored[one.name] for one in fields(cls)}
        values |= {name: tuple(stored[name]) for name in ("baseline", "learned")}
        values |= {side: ShiftSum(**stored[side]) for side in ("low", "high")}
        values["noise"] = ShiftNoise(**stored["noise"])
        values["active"] = Direction(stored["active"]) if stored["active"] else None
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` restores exactly."""
        return asdict(self)


def watch(
    state: ShiftState, measure: Measure, index: int, near: Sequence[int], scaled: float, value: float
) -> tuple[ShiftState, LevelShift | None]:
    """Take a point in; the shift that lasts with it, or None.

    ``index``: its place in time, in hours. ``near``: its phase, and others whose baselines are as good.
    ``scaled``: the value on the scale of the model.
    """
    shift, phase = None, near[0]
    if state.learned[phase] >= _FEWEST_VALUES:
        state = _added(state, measure, index, near, scaled, value)
        shift = _shift(state)
        if state.lasting > _LONGEST:
            state = _new_level(state, measure)
    return (_learned(state, phase, scaled) if state.active is None else state), shift


def _added(
    state: ShiftState, measure: Measure, index: int, near: Sequence[int], scaled: float, value: float
) -> ShiftState:
    phase = near[0]
    baselines = [state.baseline[one] for one in near if state.learned[one]]
    baseline = min(max(scaled, min(baselines)), max(baselines))
    error = (scaled - baseline) / math.sqrt(1 + 1 / state.learned[phase])
    deviation = _deviation(state.noise, measure, baseline)
    z = _clipped(error / deviation, _LARGEST_ERROR)
    points = state.points + 1
    noise = _noise(state, points, error, deviation, baseline, z)
    state = replace(state, points=points, noise=noise)
    if points <= _WARMUP:
        return state
    inflation = _inflation(noise)
    expected = max(0.0, (baseline / 2) ** 2 - 0.125) if measure is Measure.COUNT else baseline
    sums = []
    for side, old in ((Direction.LOW, state.low), (Direction.HIGH, state.high)):
        change = _change(side, measure, baseline, deviation)
        evidence = (change * z - change**2 / 2) / inflation
        sums.append(_summed(old, evidence, index, value, expected))
    return _lasting(replace(state, low=sums[0], high=sums[1]), scaled, baseline)


def _deviation(noise: ShiftNoise, measure: Measure, baseline: float) -> float:
    """The standard deviation of an error: of counts at least 1, more where the level varies by itself."""
    if measure is Measure.PLAIN:
        return max(math.sqrt(noise.error_square), 0.02 * abs(baseline), 1e-9)
    surplus = max(0.0, noise.error_square - 1) / noise.baseline_square if noise.baseline_square else 0.0
    return math.sqrt(1 + surplus * baseline**2)


def _noise(
    state: ShiftState, points: int, error: float, deviation: float, baseline: float, z: float
) -> ShiftNoise:
    weight = 1 / min(points, _MEMORY)
    old = state.noise
    clipped = _clipped(error, _CLIP * deviation) if points > 1 else error
    z = _clipped(z, _CLIP)
    day, day_square = old.day, old.day_square
    if state.active is None:
        day += _RUNNING * (z - day)
        if points > 2 / _RUNNING:
            day_square += (day**2 - day_square) / min(points - 2 / _RUNNING, _MEMORY)
    return ShiftNoise(
        old.error_square + weight * (clipped**2 - old.error_square),
        old.baseline_square + weight * (baseline**2 - old.baseline_square),
        old.z_square + weight * (z**2 - old.z_square),
        day,
        day_square,
    )


def _inflation(noise: ShiftNoise) -> float:
    """How much more the mean of a day's errors varies than that of independent ones; at least 1."""
    independent = noise.z_square * _RUNNING / (2 - _RUNNING)
    return max(1.0, noise.day_square / independent) if independent else 1.0


def _change(side: Direction, measure: Measure, baseline: float, deviation: float) -> float:
    """The change that is looked for on this side, in standard deviations."""
    if measure is Measure.PLAIN:
        return -1.0 if side is Direction.LOW else 1.0
    change = max(baseline, _SMALLEST_COUNT) * (math.sqrt(_RATIO[side]) - 1) / deviation
    return _clipped(change, _CLIP)


def _summed(old: ShiftSum, evidence: float, index: int, value: float, expected: float) -> ShiftSum:
    """Page's sum with one more point."""
    total = min(_BEGINS, old.evidence + evidence)
    if total <= 0:
        return ShiftSum()
    return ShiftSum(total, old.since or index, old.points + 1, old.observed + value, old.expected + expected)


def _lasting(state: ShiftState, scaled: float, baseline: float) -> ShiftState:
    if state.active is None:
        side = Direction.LOW if state.low.evidence >= state.high.evidence else Direction.HIGH
        if _side(state, side).evidence < _BEGINS:
            return state
        return replace(state, active=side, lasting=1, values=scaled, baselines=baseline)
    if _side(state, state.active).evidence <= _OVER:
        return replace(state, active=None, lasting=0)
    return replace(
        state,
        lasting=state.lasting + 1,
        values=state.values + scaled,
        baselines=state.baselines + baseline,
    )


def _side(state: ShiftState, side: Direction) -> ShiftSum:
    return state.low if side is Direction.LOW else state.high


def _shift(state: ShiftState) -> LevelShift | None:
    """The shift that lasts; None while points speak against it."""
    if state.active is None:
        return None
    total = _side(state, state.active)
    if total.evidence < _BEGINS:
        return None
    return LevelShift(
        state.active, total.since, total.points, total.observed, total.expected, begins=state.lasting == 1
    )


def _new_level(state: ShiftState, measure: Measure) -> ShiftState:
    """The level of a shift that lasts is what is normal from now on."""
    low, high = _RATIOS_OF_LEVELS
    if measure is Measure.COUNT:
        ratio = min(max(state.values / max(state.baselines, 1e-9), low), high)
        baseline = tuple(rounded(mean * ratio) for mean in state.baseline)
    else:
        moved = (state.values - state.baselines) / state.lasting
        baseline = tuple(rounded(mean + moved) for mean in state.baseline)
    learned = tuple(min(number, _BASELINE_VALUES[1]) for number in state.learned)
    return replace(
        state,
        baseline=baseline,
        learned=learned,
        low=ShiftSum(),
        high=ShiftSum(),
        active=None,
        lasting=0,
    )


def _learned(state: ShiftState, phase: int, scaled: float) -> ShiftState:
    number = min(state.learned[phase] + 1, _BASELINE_VALUES[phase >= 24])
    mean = rounded(state.baseline[phase] + (scaled - state.baseline[phase]) / number)
    return replace(
        state,
        baseline=(*state.baseline[:phase], mean, *state.baseline[phase + 1 :]),
        learned=(*state.learned[:phase], number, *state.learned[phase + 1 :]),
    )


def _clipped(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)
