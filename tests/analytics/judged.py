"""Values of a series, and what the detector says of them."""

from collections.abc import Iterable
from datetime import date, timedelta

from benchmarks.anomaly import FIRST
from service.analytics.anomaly.detector import update
from service.analytics.anomaly.series_state import SeriesState, start
from service.analytics.anomaly.verdict import Cadence, JudgedPoint, Measure

SYNCED = """
INSERT INTO service.sync_state (collection, phase, profile, fresh_at)
SELECT c, 'live', '', $1 FROM unnest(ARRAY['users', 'goals', 'timer_sessions']) AS c
ON CONFLICT (collection) DO UPDATE SET fresh_at = excluded.fresh_at
"""
"""The copy has what the dashboard had before an instant ($1)."""
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
