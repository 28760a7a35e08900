"""How rare an error is in the past of its series: the scale and tails of earlier errors.

The scale is the median absolute deviation. Beyond the 90 % quantile u each side is exponential, P =
0.1·exp(-(z - u)/m) with m the median excess / ln 2 (peaks over threshold: Pickands, 1975; the median, so that
a few large errors have little effect), and never lighter than the normal tail.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from service.analytics.significance import NORMAL_MAD, quantile_of_sorted

_LN10 = math.log(10)
# The start of the normal tail of 10 %, and its mean excess: the minimum for every series.
_NORMAL_START = 1.2816
_NORMAL_EXCESS = 0.4734
_FEW_ERRORS = 4
_SIMILAR = 0.8


@dataclass(frozen=True, slots=True)
class ErrorTail:
    """The tail on one side, in units of the scale: from ``start`` on exponential with mean ``excess``."""

    start: float
    excess: float

    def score(self, z: float) -> float:
        """-log₁₀ P of at least z: 1 at the start of the tail, proportional below it."""
        return z / self.start if z < self.start else 1 + (z - self.start) / (self.excess * _LN10)

    def value_at(self, score: float) -> float:
        """The z that has this score (at least 1)."""
        return self.start + (score - 1) * self.excess * _LN10


@dataclass(frozen=True, slots=True)
class ErrorTails:
    """The distribution of errors: their median, their scale, and both tails."""

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
        return self.centre - unit * self.down.value_at(score), self.centre + unit * self.up.value_at(score)


def tails(errors: Sequence[float], floor: float) -> ErrorTails:
    """The tails of earlier errors, of which there must be one. ``floor``: the smallest plausible scale.

    With few errors (n) the scale is uncertain, so it is enlarged by 1 + 4/n.
    """
    ordered = sorted(errors)
    centre = quantile_of_sorted(ordered, 0.5)
    spread = NORMAL_MAD * _median_distance(ordered, centre)
    scale = max(spread, floor) * (1 + _FEW_ERRORS / len(ordered))
    high = max(quantile_of_sorted(ordered, 0.9), centre + _NORMAL_START * scale)
    low = min(quantile_of_sorted(ordered, 0.1), centre - _NORMAL_START * scale)
    return ErrorTails(
        centre,
        scale,
        up=_tail(high, ordered[bisect_right(ordered, high) :], centre, scale),
        down=_tail(low, ordered[: bisect_left(ordered, low)], centre, scale),
    )


def _median_distance(ordered: Sequence[float], centre: float) -> float:
    """The median distance of ascending numbers from the one in their middle."""
    middle, odd = divmod(len(ordered), 2)
    upper = _distance(ordered, centre, middle + 1)
    return upper if odd else (_distance(ordered, centre, middle) + upper) / 2


def _distance(ordered: Sequence[float], centre: float, count: int) -> float:
    """The largest of the ``count`` smallest distances: on both sides of the centre they ascend, so the number
    of those above it is found by bisection."""
    begin = bisect_left(ordered, centre)
    low, high = max(0, count - begin), min(count, len(ordered) - begin)
    while low < high:
        above = (low + high) // 2
        if ordered[begin + above] - centre < centre - ordered[begin - (count - above)]:
            low = above + 1
        else:
            high = above
    below = count - low
    return max(
        ordered[begin + low - 1] - centre if low else 0.0, centre - ordered[begin - below] if below else 0.0
    )


def habit(errors: Sequence[float], size: float, period: int, least: int = 3) -> float:
    """The highest score of an error that occurs regularly: -log₁₀ of the share of past seasons
    (``period`` errors each) that had one of at least 80 % of its size on its side; infinity under ``least``
    of them."""
    seasons = [errors[at : at + period] for at in range(len(errors) % period, len(errors), period)]
    threshold = _SIMILAR * size
    similar = sum(max(season) >= threshold if size > 0 else min(season) <= threshold for season in seasons)
    return -math.log10(similar / len(seasons)) if similar >= least else math.inf


def _tail(limit: float, beyond: Sequence[float], centre: float, scale: float) -> ErrorTail:
    """The tail that starts at ``limit``, from the errors beyond it, ascending."""
    typical = abs(quantile_of_sorted(beyond, 0.5) - limit) / math.log(2) if beyond else 0.0
    return ErrorTail(abs(limit - centre) / scale, max(typical / scale, _NORMAL_EXCESS))
