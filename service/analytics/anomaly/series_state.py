"""What the detector remembers of a series, and its numbers for each cadence."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from service.analytics.anomaly.holiday import HolidayRatio
from service.analytics.anomaly.level_shift import ShiftState
from service.analytics.anomaly.verdict import Cadence, Measure

_VERSION = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of a cadence. ``period``: points per season. ``warmup``: points before the first verdict.

    ``min_peers``: values of the same hour or weekday that a second opinion needs. ``quiet``: points before
    the first alert. ``min_score``: from which a score counts. ``level``, ``slope``, ``season``: their
    weights. ``damping``: the share of the slope that is left after one point.
    """

    period: int
    phases: int
    warmup: int
    seasons_kept: int
    min_peers: int
    quiet: int
    min_score: float
    level: float
    slope: float
    season: float
    damping: float = 0.98


RULES = {
    Cadence.HOUR: Rules(
        period=24,
        phases=48,
        warmup=48,
        seasons_kept=28,
        min_peers=5,
        quiet=14 * 24,
        min_score=3.5,
        level=0.1,
        slope=0.01,
        season=0.1,
    ),
    Cadence.DAY: Rules(
        period=7,
        phases=7,
        warmup=14,
        seasons_kept=12,
        min_peers=4,
        quiet=28,
        min_score=2.75,
        level=0.15,
        slope=0.02,
        season=0.1,
    ),
}


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The state of a series; of bounded size (28 days of hours, 12 weeks of days) and JSON-serialisable.

    ``last``: the latest point, in hours since 1970 UTC or as a date's ordinal. ``seen``: points learnt.
    ``season`` and ``visits`` (how often it was learnt): for each hour of the day or weekday. ``peers``: for
    each of these, its latest values; ``errors``: the latest errors of the model; both on the model's scale.
    ``counted``: (point, score) of the cool-down. ``shift``: what ``level_shift`` remembers (hours only).
    ``holidays``: what was learned of them. ``first``: the first point; ``least`` and ``most``: of all since.
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
    shift: ShiftState = field(default_factory=ShiftState)
    holidays: HolidayRatio = field(default_factory=HolidayRatio)
    first: int | None = None
    least: float = math.inf
    most: float = -math.inf

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` restores exactly; 14 kB as text for hours, 2 kB for days."""
        stored = {one.name: getattr(self, one.name) for one in fields(self)}
        learned = {"shift": self.shift.to_json(), "holidays": asdict(self.holidays)}
        ever = {name: None if math.isinf(stored[name]) else stored[name] for name in ("least", "most")}
        return {"version": _VERSION, **stored, **learned, **ever}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SeriesState":
        """Raises ValueError for a state of another version: rebuild it from the points of the series."""
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
            shift=ShiftState.from_json(stored["shift"]),
            holidays=HolidayRatio(**stored["holidays"]),
            first=stored["first"],
            least=math.inf if stored["least"] is None else stored["least"],
            most=-math.inf if stored["most"] is None else stored["most"],
        )


def start(cadence: Cadence, measure: Measure) -> SeriesState:
    """The state of a series without points."""
    phases = RULES[cadence].phases
    return SeriesState(
        cadence,
        measure,
        season=(0.0,) * phases,
        visits=(0,) * phases,
        peers=((),) * phases,
        shift=ShiftState((0.0,) * phases, (0,) * phases),
    )
