"""The series of the anomaly detector: reads points, judges them, and stores the result in one step."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from service.analytics.anomaly import detector
from service.analytics.anomaly.detector import SeriesState
from service.analytics.anomaly.open_anomaly import Anomaly, AnomalyChange, follow
from service.analytics.anomaly.verdict import Cadence, Direction, JudgedPoint, LevelShift, Measure, Severity
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_STEPS = {Cadence.HOUR: timedelta(hours=1), Cadence.DAY: timedelta(days=1)}
_HISTORY = {Cadence.HOUR: timedelta(days=28), Cadence.DAY: timedelta(weeks=12)}
"""How far back a new series starts."""


@dataclass(frozen=True, slots=True)
class SeriesFamily:
    """Series that are read by one query. ``measures``: column → measure."""

    query: str
    cadence: Cadence
    measures: Mapping[str, Measure]

    def name(self, column: str) -> str:
        """The series' name: ``hour.sessions``."""
        return f"{self.cadence}.{column}"


ACTIVITY = SeriesFamily(
    "hourly_activity",
    Cadence.HOUR,
    dict.fromkeys(("sessions", "focusMinutes", "activeUsers"), Measure.COUNT),
)
SERVICE = SeriesFamily(
    "hourly_service",
    Cadence.HOUR,
    dict.fromkeys(("mailsSent", "mailsFailed"), Measure.COUNT)
    | dict.fromkeys(("smtpLatencyMs", "responseMs", "jobSeconds"), Measure.PLAIN),
)
DAYS = SeriesFamily(
    "daily",
    Cadence.DAY,
    dict.fromkeys(("sessions", "focusMinutes", "activeUsers", "newUsers", "goalsCompleted"), Measure.COUNT),
)


@dataclass(frozen=True, slots=True)
class JudgedSeries:
    """The result of one step: points judged, anomalies opened."""

    points: int
    opened: int


@dataclass(slots=True)
class _SeriesProgress:
    """A series while its new points are judged."""

    state: SeriesState
    anomaly: Anomaly | None
    points: list[tuple[datetime, float, JudgedPoint | None]]
    changed_anomalies: list[tuple[Anomaly, bool]]


async def detect(connection: Connection, family: SeriesFamily, column: str, until: datetime) -> JudgedSeries:
    """Judge the new points of one series, up to ``until`` (aware, exclusive).

    A new series starts 28 days (12 weeks) back. A state of another version is rebuilt from there.
    """
    name = family.name(column)
    state, through = await _state(connection, family, column)
    step = _STEPS[family.cadence]
    since = through + step if through else until - _HISTORY[family.cadence]
    if since >= until:
        return JudgedSeries(0, 0)
    rows = await connection.fetch(_SQL[family.query], since, until)
    values = [(row["at"], row[column]) for row in rows if row[column] is not None]
    progress = _SeriesProgress(state, await _open_anomaly(connection, name), [], [])
    await asyncio.to_thread(_judge, progress, values)
    await _store(connection, name, progress)
    await connection.execute(_SQL["save"], name, progress.state.to_json(), until - step)
    return JudgedSeries(len(values), sum(not closed for _, closed in progress.changed_anomalies))


async def _state(
    connection: Connection, family: SeriesFamily, column: str
) -> tuple[SeriesState, datetime | None]:
    fresh = detector.start(family.cadence, family.measures[column])
    row = await connection.fetchrow(_SQL["state"], family.name(column))
    if row is None:
        return fresh, None
    try:
        return SeriesState.from_json(row["state"]), row["through"]
    except ValueError:
        return fresh, None


def _judge(progress: _SeriesProgress, values: Sequence[tuple[datetime, float]]) -> None:
    for at, value in values:
        point: date = (
            at.astimezone(UTC) if progress.state.cadence is Cadence.HOUR else at.astimezone(UTC).date()
        )
        progress.state, verdict = detector.update(progress.state, point, float(value))
        progress.points.append((at, float(value), verdict))
        change, anomaly = follow(progress.anomaly, verdict)
        if anomaly is not None and (change is not AnomalyChange.NOTHING or anomaly != progress.anomaly):
            progress.changed_anomalies.append((anomaly, change is AnomalyChange.CLOSED))
        progress.anomaly = None if change is AnomalyChange.CLOSED else anomaly


async def _store(connection: Connection, name: str, progress: _SeriesProgress) -> None:
    judged = progress.points
    columns = ("expected", "low", "high", "score")
    await connection.execute(
        _SQL["points"],
        name,
        [at for at, _, _ in judged],
        [value for _, value, _ in judged],
        *([getattr(verdict, column) if verdict else None for _, _, verdict in judged] for column in columns),
    )
    for anomaly, closed in progress.changed_anomalies:
        peak = anomaly.peak
        await connection.execute(
            _SQL["anomaly"],
            name,
            _instant(anomaly.since),
            _instant(anomaly.until),
            str(anomaly.severity),
            str(peak.direction),
            peak.value,
            peak.expected,
            peak.low,
            peak.high,
            peak.score,
            peak.in_words(name.partition(".")[2]),
            anomaly.calm,
            _verdict_to_json(peak),
            closed,
        )


def _instant(at: date) -> datetime:
    return at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)


async def _open_anomaly(connection: Connection, name: str) -> Anomaly | None:
    row = await connection.fetchrow(_SQL["open"], name)
    if row is None:
        return None
    peak = _verdict_from_json(row["detail"])
    since, until = (_point(row[key], peak.cadence) for key in ("since", "until"))
    return Anomaly(since, until, peak, Severity(row["severity"]), row["calm"])


def _point(at: datetime, cadence: Cadence) -> date:
    return at if cadence is Cadence.HOUR else at.astimezone(UTC).date()


def _verdict_to_json(verdict: JudgedPoint) -> dict[str, Any]:
    return asdict(verdict) | {"at": verdict.at.isoformat()}


def _verdict_from_json(stored: Mapping[str, Any]) -> JudgedPoint:
    kinds = {"cadence": Cadence, "measure": Measure, "direction": Direction}
    values: dict[str, Any] = {field.name: stored.get(field.name) for field in fields(JudgedPoint)}
    values |= {name: kind(stored[name]) for name, kind in kinds.items()}
    values["severity"] = Severity(stored["severity"]) if stored["severity"] else None
    if shift := stored.get("shift"):
        values["shift"] = LevelShift(**shift | {"direction": Direction(shift["direction"])})
    of = datetime if values["cadence"] is Cadence.HOUR else date
    values["at"] = of.fromisoformat(stored["at"])
    return JudgedPoint(**values)


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────

DEFAULT_DAYS = {Cadence.HOUR: 7, Cadence.DAY: 84}
"""The number of dates returned by default."""
MAX_POINTS = 10_000
"""The most points that are read at once."""
_FORECAST_POINTS = {Cadence.HOUR: 24, Cadence.DAY: 7}


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """A series up to its last point (``through``), and the forecast of its next 24 hours or 7 days.

    ``forecast`` is empty while there is too little data, or if the state has another version.
    """

    cadence: Cadence
    measure: str
    through: datetime
    forecast: list[dict[str, Any]]


async def list_series(pool: asyncpg.Pool) -> list[dict[str, Any]]:
    """Every series, by name."""
    return [
        {
            "name": row["name"],
            "cadence": row["cadence"],
            "measure": row["measure"],
            "through": _point(row["through"], Cadence(row["cadence"])),
            "anomalyOpen": row["open"],
        }
        for row in await pool.fetch(_SQL["list_series"])
    ]


async def series_forecast(pool: asyncpg.Pool, name: str) -> SeriesForecast | None:
    """The state of a series and its forecast, from the stored state. None: there is no such series."""
    row = await pool.fetchrow(_SQL["stored"], name)
    if row is None:
        return None
    cadence, through = Cadence(row["state"]["cadence"]), row["through"]
    upcoming = [through + (n + 1) * _STEPS[cadence] for n in range(_FORECAST_POINTS[cadence])]
    forecast = await asyncio.to_thread(_forecast, row["state"], [_point(at, cadence) for at in upcoming])
    return SeriesForecast(cadence, row["state"]["measure"], through, forecast)


def _forecast(stored: Mapping[str, Any], upcoming: Sequence[date]) -> list[dict[str, Any]]:
    try:
        ranges = detector.forecast(SeriesState.from_json(stored), upcoming)
    except ValueError:
        return []
    return [_rounded(asdict(range_)) for range_ in ranges]


async def points(
    pool: asyncpg.Pool, name: str, cadence: Cadence, since: date, until: date
) -> list[dict[str, Any]] | None:
    """Points on dates in UTC, both included, oldest first; None: there are more than ``MAX_POINTS``.

    ``expected``, ``low``, ``high`` and ``score`` are None where there was too little data for a verdict.
    """
    rows = await pool.fetch(_SQL["chart"], name, since, until, MAX_POINTS + 1)
    if len(rows) > MAX_POINTS:
        return None
    return [_rounded(dict(row) | {"at": _point(row["at"], cadence)}) for row in rows]


async def anomalies(
    pool: asyncpg.Pool,
    name: str | None,
    severity: str | None,
    span: tuple[date | None, date | None],
    *,
    is_open: bool | None,
    before: int | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Anomalies that overlap the dates of ``span`` (UTC, both included), newest first."""
    rows = await pool.fetch(_SQL["anomalies"], name, severity, *span, is_open, before, limit)
    return [_anomaly(row) for row in rows]


def _anomaly(row: asyncpg.Record) -> dict[str, Any]:
    cadence = Cadence(row["cadence"])
    numbers = ("value", "expected", "low", "high", "score")
    plain = ("id", "series", "severity", "direction", "explanation", *numbers)
    return _rounded({name: row[name] for name in plain}) | {
        "since": _point(row["since"], cadence),
        "until": _point(row["until"], cadence),
        "openedAt": row["opened_at"],
        "closedAt": row["closed_at"],
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


async def ranges(
    pool: asyncpg.Pool, names: Sequence[str], since: date, until: date
) -> dict[str, dict[date, dict[str, Any]]]:
    """Judged days of series (``value``, ``low``, ``high``) from ``since`` to ``until``, both included."""
    rows = await pool.fetch(_SQL["points_between"], list(names), *_within(since, until))
    by_series: dict[str, dict[date, dict[str, Any]]] = {name: {} for name in names}
    for row in rows:
        by_series[row["series"]][row["at"].date()] = dict(row)
    return by_series


async def anomalies_between(
    pool: asyncpg.Pool, since: date, until: date, limit: int = 200
) -> list[dict[str, Any]]:
    """Anomalies of all series that overlap these dates (UTC, both included), newest first."""
    rows = await pool.fetch(_SQL["anomalies_between"], *_within(since, until), limit)
    return [dict(row) for row in rows]


def _within(since: date, until: date) -> tuple[datetime, datetime]:
    return _instant(since), _instant(until) + timedelta(days=1)
