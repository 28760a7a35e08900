"""How rare an error is in a series' own past: scale and tails of its earlier errors.

The scale is the median absolute deviation. Beyond the 90 % quantile u each side is exponential, P =
0.1·exp(-(z - u)/m) with m the median excess / ln 2 (peaks over threshold: Pickands, 1975; the median, so that
a few wild errors do not blind it), and never lighter than the normal tail.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from service.analytics.significance import NORMAL_MAD, median, quantile_of_sorted

_LN10 = math.log(10)
# Where the normal tail of 10 % starts, and its mean excess: no series is trusted to be quieter than that.
_NORMAL_START = 1.2816
_NORMAL_EXCESS = 0.4734
_FEW = 4
_LIKE = 0.8


@dataclass(frozen=True, slots=True)
class ErrorTail:
    """One side, in scales: from ``start`` on exponential with mean ``excess``."""

    start: float
    excess: float

    def score(self, z: float) -> float:
        """-log₁₀ P of at least z: 1 where the tail starts, in proportion below it."""
        return z / self.start if z < self.start else 1 + (z - self.start) / (self.excess * _LN10)

    def reach(self, score: float) -> float:
        """The z that has this score (at least 1)."""
        return self.start + (score - 1) * self.excess * _LN10


@dataclass(frozen=True, slots=True)
class ErrorTails:
    """What errors were like: their median, their scale, and both sides."""

    centre: float
    scale: float
    up: ErrorTail
    down: ErrorTail

    def score(self, error: float) -> float:
        """-log₁₀ of the tail on the error's side."""
        z = (error - self.centre) / self.scale
        return self.up.score(z) if z >= 0 else self.down.score(-z)

    def bounds(self, score: float, wider: float = 1.0) -> tuple[float, float]:
        """The errors, low and high, that have this score; ``wider`` times as far from the centre."""
        unit = self.scale * wider
        return self.centre - unit * self.down.reach(score), self.centre + unit * self.up.reach(score)


def tails(errors: Sequence[float], floor: float) -> ErrorTails:
    """From earlier errors, at least one. ``floor``: the least scale that is believed.

    Few errors (n) know their scale badly: it is taken 1 + 4/n times as large.
    """
    ordered = sorted(errors)
    centre = quantile_of_sorted(ordered, 0.5)
    spread = NORMAL_MAD * median([abs(error - centre) for error in ordered])
    scale = max(spread, floor) * (1 + _FEW / len(ordered))
    high = max(quantile_of_sorted(ordered, 0.9), centre + _NORMAL_START * scale)
    low = min(quantile_of_sorted(ordered, 0.1), centre - _NORMAL_START * scale)
    return ErrorTails(
        centre,
        scale,
        up=_tail(high, ordered[bisect_right(ordered, high) :], centre, scale),
        down=_tail(low, ordered[: bisect_left(ordered, low)], centre, scale),
    )


def habit(errors: Sequence[float], size: float, period: int, times: int = 3) -> float:
    """The most that may be said of an error that was met before: -log₁₀ of the share of past seasons
    (``period`` errors each) that had one of at least 80 % of its size on its side; infinity under ``times``
    of them."""
    seasons = [errors[at : at + period] for at in range(len(errors) % period, len(errors), period)]
    like = _LIKE * size
    met = sum(max(season) >= like if size > 0 else min(season) <= like for season in seasons)
    return -math.log10(met / len(seasons)) if met >= times else math.inf


def _tail(limit: float, beyond: Sequence[float], centre: float, scale: float) -> ErrorTail:
    """From where the tail starts, and the errors beyond, ascending."""
    typical = abs(quantile_of_sorted(beyond, 0.5) - limit) / math.log(2) if beyond else 0.0
    return ErrorTail(abs(limit - centre) / scale, max(typical / scale, _NORMAL_EXCESS))
