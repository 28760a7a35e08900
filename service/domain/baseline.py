"""A day against the same weekday before: a trend, or nothing worth a word (spec §4)."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

_SAME_WEEKDAYS = 3
_BASELINE = 20
_TREND = 20
_STRONG = 50


class Trend(StrEnum):
    """What may be said about a day against the same weekday before."""

    INSUFFICIENT = "insufficient"
    NONE = "none"
    TREND = "trend"
    SIGNIFICANT = "significant"


@dataclass(frozen=True, slots=True)
class DayTrend:
    """A day's figure against ``baseline``. ``percent``: None when the baseline is 0 or unknown."""

    verdict: Trend
    baseline: float | None
    percent: float | None


def day_trend(current: float, same_weekdays: Sequence[float | None]) -> DayTrend:
    """A day against the median of the same weekday in the last four weeks (None: that day is missing).

    100 · (current - median) / median. At least 3 days present and a median of at least 20, or the verdict is
    ``insufficient``; more than 20 % either way is a trend, more than 50 % significant.
    """
    present = [value for value in same_weekdays if value is not None]
    if len(present) < _SAME_WEEKDAYS:
        return DayTrend(Trend.INSUFFICIENT, None, None)
    baseline = float(statistics.median(present))
    if baseline <= 0:
        return DayTrend(Trend.INSUFFICIENT, baseline, None)
    percent = 100 * (current - baseline) / baseline
    return DayTrend(_named(abs(percent), baseline), baseline, percent)


def _named(size: float, baseline: float) -> Trend:
    if baseline < _BASELINE:
        return Trend.INSUFFICIENT
    if size > _STRONG:
        return Trend.SIGNIFICANT
    return Trend.TREND if size > _TREND else Trend.NONE
