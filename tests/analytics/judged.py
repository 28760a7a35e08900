"""Values of a series, and what the detector says of them."""

from collections.abc import Iterable
from datetime import date, timedelta

from benchmarks.anomaly import FIRST
from service.analytics.anomaly.detector import SeriesState, start, update
from service.analytics.anomaly.verdict import Cadence, JudgedPoint, Measure

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def fed(
    values: Iterable[float | None],
    cadence: Cadence = Cadence.HOUR,
    measure: Measure = Measure.COUNT,
    state: SeriesState | None = None,
    begin: date = FIRST,
) -> tuple[SeriesState, list[JudgedPoint | None]]:
    """The state and the verdicts after some values in a row."""
    state = state or start(cadence, measure)
    told = []
    for n, value in enumerate(values):
        step = n * (HOUR if cadence is Cadence.HOUR else DAY)
        at = begin + step if cadence is Cadence.HOUR else FIRST.date() + step
        state, verdict = update(state, at, value)
        told.append(verdict)
    return state, told
