"""The detector's verdict on one point: a ``JudgedPoint``, and its sentence."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

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
class JudgedPoint:
    """A point and its verdict, on the scale of the series.

    ``score``: -log₁₀ of the tail. ``severity``: None unless the score counts. ``peers``: known values of the
    same hour (weekday), ``among`` them ``beyond`` at least as extreme.
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

    @property
    def anomalous(self) -> bool:
        """Whether the score counts: it is high enough, and higher than all scores within the cool-down."""
        return self.severity is not None

    @property
    def outside(self) -> bool:
        """Whether the value is outside the expected range, whether its score counts or not."""
        return not self.low <= self.value <= self.high

    def in_words(self, name: str) -> str:
        """One sentence: ``sessions at 14:00: 12, expected 35 to 61, lower than every one of the last 28
        days``."""
        numbers = [_format(number, self.measure) for number in (self.value, self.low, self.high)]
        beginning = f"{name} {self._when}: {numbers[0]}"
        if not self.outside:
            return f"{beginning}, as expected ({numbers[1]} to {numbers[2]})"
        return f"{beginning}, expected {numbers[1]} to {numbers[2]}{self._rank}"

    @property
    def _when(self) -> str:
        if isinstance(self.at, datetime):
            return f"at {self.at:%H:%M}"
        return f"on {WEEKDAYS[self.at.weekday()]}, {self.at.isoformat()}"

    @property
    def _rank(self) -> str:
        exceeded = self.peers - self.beyond
        if self.peers < 2 or 2 * exceeded < self.peers:
            return ""
        comparative = "lower" if self.direction is Direction.LOW else "higher"
        extent = "every one" if self.beyond == 0 else f"{exceeded}"
        return f", {comparative} than {extent} of the last {self.peers} {self.among}"


def _format(value: float, measure: Measure) -> str:
    return f"{value:.0f}" if measure is Measure.COUNT or abs(value) >= 100 else f"{value:.3g}"
