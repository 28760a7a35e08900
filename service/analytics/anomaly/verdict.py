"""What the detector says of one point: a ``JudgedPoint``, and its sentence."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Cadence(StrEnum):
    """How far the points of a series lie apart."""

    HOUR = "hour"
    DAY = "day"


class Measure(StrEnum):
    """COUNT: never negative, noisier where larger (sessions, minutes, users). PLAIN: taken as it is."""

    COUNT = "count"
    PLAIN = "plain"


class Direction(StrEnum):
    """On which side of what was expected."""

    HIGH = "high"
    LOW = "low"


class Severity(StrEnum):
    """MINOR is listed. MAJOR (a tail sum of twice the score that counts) and CRITICAL (three times, and off
    by at least half of what was expected) page somebody."""

    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class JudgedPoint:
    """One point judged, on the scale of the series.

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
        """Whether the score counts: high enough, and above every one of the cool-down."""
        return self.severity is not None

    @property
    def outside(self) -> bool:
        """Whether the value lies outside the expected range, counted or not."""
        return not self.low <= self.value <= self.high

    def in_words(self, name: str) -> str:
        """One sentence: ``sessions at 14:00: 12, expected 35 to 61, lower than every one of the last 28
        days``."""
        shown = [_shown(number, self.measure) for number in (self.value, self.low, self.high)]
        head = f"{name} {self._when}: {shown[0]}"
        if not self.outside:
            return f"{head}, as expected ({shown[1]} to {shown[2]})"
        return f"{head}, expected {shown[1]} to {shown[2]}{self._rank}"

    @property
    def _when(self) -> str:
        if isinstance(self.at, datetime):
            return f"at {self.at:%H:%M}"
        return f"on {WEEKDAYS[self.at.weekday()]}, {self.at.isoformat()}"

    @property
    def _rank(self) -> str:
        within = self.peers - self.beyond
        if self.peers < 2 or 2 * within < self.peers:
            return ""
        than = "lower" if self.direction is Direction.LOW else "higher"
        which = "every one" if self.beyond == 0 else f"{within}"
        return f", {than} than {which} of the last {self.peers} {self.among}"


def _shown(value: float, measure: Measure) -> str:
    return f"{value:.0f}" if measure is Measure.COUNT or abs(value) >= 100 else f"{value:.3g}"
