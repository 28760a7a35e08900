"""Judges the points of one series from a state on: the points, anomalies and later states that come of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from service.analytics.anomaly import detector
from service.analytics.anomaly.holiday import Holiday
from service.analytics.anomaly.open_anomaly import Anomaly, AnomalyChange, follow
from service.analytics.anomaly.series_state import SeriesState
from service.analytics.anomaly.user_places import UserPlaces
from service.analytics.anomaly.verdict import Cadence, JudgedPoint


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """A point to judge. ``at``: the start of the hour, or of the date in UTC. ``provisional``: it may change.

    ``waits``: it is only shown until it cannot change any more: nothing is learned from it, and it opens no
    anomaly.
    """

    at: datetime
    value: float
    provisional: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state of a series after its point ``through``, and the anomaly that was open then."""

    through: datetime
    state: SeriesState
    anomaly: Anomaly | None


@dataclass(slots=True)
class JudgedValues:
    """``points`` with verdicts and holidays; ``anomalies`` that are open or over (True); ``snapshots`` after
    each day of hours. ``waits_from``: the first point that is only shown."""

    state: SeriesState
    anomaly: Anomaly | None
    points: list[tuple[SeriesValue, JudgedPoint | None, Holiday | None]] = field(default_factory=list)
    anomalies: list[tuple[Anomaly, bool]] = field(default_factory=list)
    snapshots: list[StoredState] = field(default_factory=list)
    waits_from: datetime | None = None


def judge(
    state: SeriesState,
    anomaly: Anomaly | None,
    values: Iterable[SeriesValue],
    zone: ZoneInfo,
    places: UserPlaces,
) -> JudgedValues:
    """Judge values after a state, oldest first. ``zone``: whose hours of the day repeat. ``places``: of the
    users, whose holidays and clock changes count."""
    judged = JudgedValues(state, anomaly, anomalies=[(anomaly, False)] if anomaly else [])
    shown = state
    for value in values:
        at: date = (
            value.at.astimezone(zone) if state.cadence is Cadence.HOUR else value.at.astimezone(UTC).date()
        )
        holiday, changed = places.holiday(at), places.clocks_changed(at)
        if value.waits or judged.waits_from:
            judged.waits_from = judged.waits_from or value.at
            shown, verdict = detector.update(shown, at, value.value, holiday, clocks_changed=changed)
            judged.points.append((value, verdict, holiday))
            continue
        judged.state, verdict = detector.update(
            judged.state, at, value.value, holiday, clocks_changed=changed
        )
        shown = judged.state
        judged.points.append((value, verdict, holiday))
        _follow(judged, verdict)
        if state.cadence is Cadence.HOUR and value.at.astimezone(UTC).hour == 23:
            judged.snapshots.append(StoredState(value.at, judged.state, judged.anomaly))
    return judged


def _follow(judged: JudgedValues, verdict: JudgedPoint | None) -> None:
    change, anomaly = follow(judged.anomaly, verdict)
    closed = change is AnomalyChange.CLOSED
    if anomaly is not None:
        if change is AnomalyChange.OPENED:
            judged.anomalies.append((anomaly, False))
        judged.anomalies[-1] = anomaly, closed
    judged.anomaly = None if closed else anomaly
