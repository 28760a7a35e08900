"""One open anomaly for each series: opened, updated and closed by the verdicts on its points."""

from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from service.analytics.anomaly.verdict import SHIFT_SCORE, Cadence, JudgedPoint, Severity

_CALM_POINTS = {Cadence.HOUR: 3, Cadence.DAY: 1}
"""So many normal points in a row close an anomaly."""


class AnomalyChange(StrEnum):
    """How a verdict changed the open anomaly of its series."""

    NOTHING = "nothing"
    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """From the first point whose score counted to the latest one outside the expected range. ``peak``: the
    verdict that says most, with the highest score or the most points of a shift; ``severity``: the highest so
    far. ``calm``: normal points since ``until``."""

    since: date
    until: date
    peak: JudgedPoint
    severity: Severity
    calm: int = 0


def follow(anomaly: Anomaly | None, verdict: JudgedPoint | None) -> tuple[AnomalyChange, Anomaly | None]:
    """Open, update or close the anomaly of a series. With CLOSED, returns its final state.

    A score that counts or a shift that begins opens an anomaly, or raises the peak and severity of the open
    one, in whichever direction. A point outside the expected range keeps it open, and a shift that lasts.
    Three normal hours in a row, or one normal day, close it. Without a verdict nothing changes.
    """
    if verdict is None:
        return AnomalyChange.NOTHING, anomaly
    if anomaly is None:
        if verdict.severity is None:
            return AnomalyChange.NOTHING, None
        return AnomalyChange.OPENED, Anomaly(verdict.at, verdict.at, verdict, verdict.severity)
    if verdict.severity is not None or verdict.outside:
        peak = verdict if _says_more(verdict, anomaly.peak) else anomaly.peak
        severity = max(anomaly.severity, verdict.severity or anomaly.severity, key=list(Severity).index)
        return AnomalyChange.UPDATED, replace(anomaly, until=verdict.at, peak=peak, severity=severity, calm=0)
    calm = replace(anomaly, calm=anomaly.calm + 1)
    over = calm.calm >= _CALM_POINTS[verdict.cadence]
    return (AnomalyChange.CLOSED if over else AnomalyChange.NOTHING), calm


def _says_more(verdict: JudgedPoint, peak: JudgedPoint) -> bool:
    return _strength(verdict) > _strength(peak)


def _strength(verdict: JudgedPoint) -> tuple[float, float]:
    """A score that is high by itself, or else a shift: the longer it lasts the more it says."""
    if verdict.shift is None or verdict.score > SHIFT_SCORE:
        return verdict.score, 0.0
    return SHIFT_SCORE, abs(verdict.shift.missing)
