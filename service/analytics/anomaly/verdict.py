"""The detector's verdict on one point: a ``JudgedPoint``, and its sentence."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

SHIFT_SCORE = 3.5
"""The likelihood ratio at which a shift begins, as a power of ten: as much as a point with this score."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Cadence(StrEnum):
    """The interval between the points of a series."""

    HOUR = "hour"
    DAY = "day"


class Measure(StrEnum):
    """COUNT: never negative, noisier where larger (sessions, minutes, users). PLAIN: used as it is."""

    COUNT = "count"
    PLAIN = "plain"


class Direction(StrEnum):
    """Whether a value is above or below the expected one."""

    HIGH = "high"
    LOW = "low"


class Severity(StrEnum):
    """MINOR is only listed. MAJOR (a sum of tails of twice the minimum score) and CRITICAL (three times, and
    off by at least half of the expected value) alert somebody."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class LevelShift:
    """Values that have been too low or too high since a point.

    ``since``: that point, in hours since 1970 UTC. ``points``: how many, with their sum and the expected one.
    ``begins``: it is told for the first time.
    """

    direction: Direction
    since: int
    points: int
    observed: float
    expected: float
    begins: bool

    @property
    def missing(self) -> float:
        """How much more than expected all of it is; negative: less."""
        return self.observed - self.expected

    @property
    def change(self) -> float:
        """The same as a share of what was expected."""
        return self.missing / abs(self.expected) if self.expected else 0.0


@dataclass(frozen=True, slots=True)
class JudgedPoint:
    """A point and its verdict, on the scale of the series. In words its hour is told in UTC.

    ``score``: -log₁₀ of the tail. ``severity``: None unless the score counts, or a shift begins. ``peers``:
    known values of the same hour (weekday), ``among`` them ``beyond`` at least as extreme. ``shift``: one
    that lasts. ``holiday``: the countries that had a public one; nobody is alerted of what it may explain.
    ``never_in_days``: the age of a long series that never had such a value.
    """

    cadence: Cadence
    measure: Measure
    at: date
    value: float
    expected: float
    low: float
    high: float
    score: float
    direction: Direction
    severity: Severity | None
    peers: int
    beyond: int
    among: str
    shift: LevelShift | None = None
    holiday: str | None = None
    never_in_days: int | None = None

    @property
    def anomalous(self) -> bool:
        """Whether the score counts: it is high enough, and higher than all scores within the cool-down. Or a
        shift begins here."""
        return self.severity is not None

    @property
    def outside(self) -> bool:
        """Whether the value is outside the expected range, counted or not, or a shift lasts."""
        return self.shift is not None or not self.low <= self.value <= self.high

    def in_words(self, name: str) -> str:
        """One sentence: ``sessions at 14:00: 12, expected 35 to 61, lower than every one of the last 28
        days``, or ``sessions since 10:00: 61 in 4 hours, expected 118 (48 % less)``."""
        if self.shift and self.score <= SHIFT_SCORE and isinstance(self.at, datetime):
            return f"{name} since {self._shift_in_words(self.shift, self.at)}"
        numbers = [_format(number, self.measure) for number in (self.value, self.low, self.high)]
        beginning = f"{name} {self._when}: {numbers[0]}"
        if not self.outside:
            return f"{beginning}, as expected ({numbers[1]} to {numbers[2]})"
        holiday = f"; a public holiday in {self.holiday}" if self.holiday else ""
        return f"{beginning}, expected {numbers[1]} to {numbers[2]}{self._rank}{holiday}"

    def _shift_in_words(self, shift: LevelShift, at: datetime) -> str:
        since, at = datetime.fromtimestamp(shift.since * 3600, UTC), at.astimezone(UTC)
        day = "" if since.date() == at.date() else f"{WEEKDAYS[since.weekday()]}, "
        hours = "1 hour" if shift.points == 1 else f"{shift.points} hours"
        each = shift.points if self.measure is Measure.PLAIN else 1  # latencies are averaged
        observed, expected = (_format(sum_ / each, self.measure) for sum_ in (shift.observed, shift.expected))
        extent = f"in {hours}" if self.measure is Measure.COUNT else f"on average over {hours}"
        change = f"{100 * abs(shift.change):.0f} % {'more' if shift.missing > 0 else 'less'}"
        return f"{day}{since:%H:%M}: {observed} {extent}, expected {expected} ({change})"

    @property
    def _when(self) -> str:
        if isinstance(self.at, datetime):
            return f"at {self.at.astimezone(UTC):%H:%M}"
        return f"on {WEEKDAYS[self.at.weekday()]}, {self.at.isoformat()}"

    @property
    def _rank(self) -> str:
        comparative = "lower" if self.direction is Direction.LOW else "higher"
        if self.never_in_days:
            return f", {comparative} than ever in {self.never_in_days} days"
        exceeded = self.peers - self.beyond
        if self.peers < 2 or 2 * exceeded < self.peers:
            return ""
        extent = "every one" if self.beyond == 0 else f"{exceeded}"
        return f", {comparative} than {extent} of the last {self.peers} {self.among}"


def _format(value: float, measure: Measure) -> str:
    return f"{value:.0f}" if measure is Measure.COUNT or abs(value) >= 100 else f"{value:.3g}"


def rounded(value: float) -> float:
    """The value to six digits: enough for a state, and short as text."""
    return float(f"{value:.6g}")
