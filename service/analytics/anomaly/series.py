"""The series of the anomaly detector: reads points, judges them, and stores the result in one step."""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import asyncpg

from service import zones
from service.analytics.anomaly import detector
from service.analytics.anomaly.judging import JudgedValues, SeriesValue, judge
from service.analytics.anomaly.open_anomaly import Anomaly
from service.analytics.anomaly.series_state import SeriesState, start
from service.analytics.anomaly.user_places import UserPlaces, main_zone
from service.analytics.anomaly.verdict import Cadence, Direction, JudgedPoint, LevelShift, Measure, Severity
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_STEPS = {Cadence.HOUR: timedelta(hours=1), Cadence.DAY: timedelta(days=1)}
_HISTORY = {Cadence.HOUR: timedelta(days=28), Cadence.DAY: timedelta(weeks=12)}
"""How far back a new series starts."""
_RECENT = timedelta(days=14)
"""Within so long the state after each day is stored; before, that after the first of each month."""


@dataclass(frozen=True, slots=True)
class SeriesFamily:
    """Series that are read by one query. ``measures``: column → measure.

    ``changes``: the query that tells from which point on figures have changed; None: they never do.
    ``provisional``: the columns that the query's column of this name is about. ``waits``: these points are
    only shown until they cannot change any more. ``copied``: they rest on the copy of the dashboard.
    """

    query: str
    cadence: Cadence
    measures: Mapping[str, Measure]
    changes: str | None = None
    provisional: Set[str] = frozenset()
    waits: bool = False
    copied: bool = False

    def name(self, column: str) -> str:
        """The series' name: ``hour.sessions``."""
        return f"{self.cadence}.{column}"


ACTIVITY = SeriesFamily(
    "hourly_activity",
    Cadence.HOUR,
    dict.fromkeys(("sessions", "focusMinutes", "activeUsers"), Measure.COUNT),
    changes="hourly_changes",
    provisional={"focusMinutes"},
    waits=True,
    copied=True,
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
    changes="daily_changes",
    provisional={"sessions", "focusMinutes", "activeUsers", "newUsers", "goalsCompleted"},
    copied=True,
)


@dataclass(frozen=True, slots=True)
class JudgedSeries:
    """The result of one step: points judged, anomalies opened."""

    points: int
    opened: int


@dataclass(frozen=True, slots=True)
class _Start:
    """From where to where (exclusive) a series is judged. ``again``: points that were judged before are."""

    column: str
    zone: str
    state: SeriesState
    anomaly: Anomaly | None
    since: datetime
    until: datetime
    again: bool = False


async def synced_through(connection: Connection, family: SeriesFamily) -> datetime | None:
    """Until when the copy of the dashboard has all that a family rests on; None: it is not loaded.

    Later points are unknown, not zero: they are judged when the copy has caught up.
    """
    through: datetime | None = await connection.fetchval(
        _SQL["synced_through"], family.cadence is Cadence.DAY
    )
    return through


async def detect(connection: Connection, family: SeriesFamily, until: datetime) -> JudgedSeries:
    """Judge the new points of a family's series, up to ``until`` (aware, exclusive), and those that changed.

    A new series starts 28 days (12 weeks) back. Where figures have changed, all points from the first of
    them on are judged again, from a stored state before it: then points and anomalies are what they were if
    all had been known in time, and an anomaly that does not hold any more is withdrawn. A state of another
    version, or by the clock of another zone, is rebuilt from the series' first point.
    """
    changed = await connection.fetchval(_SQL[family.changes]) if family.changes else None
    if family.copied:
        await connection.execute(_SQL["record_places"], until.date().replace(day=1))
    places = await _user_places(connection)
    found = [await _start(connection, family, column, until, changed, places) for column in family.measures]
    starts = [one for one in found if one.since < one.until]
    if not starts:
        return JudgedSeries(0, 0)
    since, end = min(one.since for one in starts), max(one.until for one in starts)
    rows = await connection.fetch(_SQL[family.query], since, end)
    points = opened = 0
    having_holidays = places if family.copied else UserPlaces({})
    for begin in starts:
        values, zone = _values(family, begin, rows), zones.zone_of(begin.zone)
        judged = await asyncio.to_thread(judge, begin.state, begin.anomaly, values, zone, having_holidays)
        opened += await _store(connection, family, begin, judged)
        points += len(values)
    return JudgedSeries(points, opened)


def _values(family: SeriesFamily, begin: _Start, rows: Sequence[asyncpg.Record]) -> list[SeriesValue]:
    values = []
    for row in rows:
        if row[begin.column] is not None and begin.since <= row["at"] < begin.until:
            provisional = row["provisional"] and begin.column in family.provisional
            waits = provisional and family.waits
            values.append(SeriesValue(row["at"], float(row[begin.column]), provisional, waits))
    return values


async def _user_places(connection: Connection) -> UserPlaces:
    months: dict[date, dict[str, int]] = {}
    for row in await connection.fetch(_SQL["places"]):
        months.setdefault(row["month"], {})[row["timezone"]] = row["users"]
    return UserPlaces(months)


async def _start(
    connection: Connection,
    family: SeriesFamily,
    column: str,
    until: datetime,
    changed: datetime | None,
    places: UserPlaces,
) -> _Start:
    name, step = family.name(column), _STEPS[family.cadence]
    fresh = start(family.cadence, family.measures[column])
    row = await connection.fetchrow(_SQL["state"], name)
    users = places.users(until.date()) if family.cadence is Cadence.HOUR else {}
    zone = main_zone(users, until.year, row["zone"] if row else None)
    if row is None:
        return _Start(column, zone, fresh, None, until - _HISTORY[family.cadence], until)
    through = row["through"]
    again = changed is not None and changed <= through
    try:
        if not again and zone == row["zone"]:
            anomaly = _anomaly_from_row(await connection.fetchrow(_SQL["open"], name))
            return _Start(column, zone, SeriesState.from_json(row["state"]), anomaly, through + step, until)
        snapshot = await connection.fetchrow(_SQL["snapshot"], name, changed)
        if snapshot and zone == row["zone"]:
            state, anomaly = SeriesState.from_json(snapshot["state"]), _anomaly_from_json(snapshot["anomaly"])
            end = max(until, through + step)
            return _Start(column, zone, state, anomaly, snapshot["through"] + step, end, again=True)
    except ValueError:
        pass
    until = max(until, through + step)
    first = row["first"] or until - _HISTORY[family.cadence]
    return _Start(column, zone, fresh, None, first, until, again=True)


async def _store(connection: Connection, family: SeriesFamily, begin: _Start, judged: JudgedValues) -> int:
    """Store what came of judging; returns how many anomalies are new."""
    name, step = family.name(begin.column), _STEPS[family.cadence]
    await _store_points(connection, name, judged)
    if begin.again:
        holds = [_instant(anomaly.since) for anomaly, _ in judged.anomalies]
        await connection.execute(_SQL["withdraw"], name, begin.since, holds)
    opened = 0
    for anomaly, closed in judged.anomalies:
        opened += await _store_anomaly(connection, name, anomaly, closed=closed)
    through = (judged.waits_from or begin.until) - step
    if family.changes and family.cadence is Cadence.HOUR:
        await connection.execute(_SQL["drop_snapshots"], name, begin.since, through)
        for one in judged.snapshots:
            if one.through > through - _RECENT or one.through.day == 1:
                anomaly_json = one.anomaly and _anomaly_to_json(one.anomaly)
                await connection.execute(
                    _SQL["save_snapshot"], name, one.through, one.state.to_json(), anomaly_json
                )
    await connection.execute(_SQL["save"], name, judged.state.to_json(), through, begin.zone)
    return opened


async def _store_points(connection: Connection, name: str, judged: JudgedValues) -> None:
    columns = ("expected", "low", "high", "score")
    points = judged.points
    await connection.execute(
        _SQL["points"],
        name,
        [value.at for value, _, _ in points],
        [value.value for value, _, _ in points],
        *([getattr(verdict, column) if verdict else None for _, verdict, _ in points] for column in columns),
        [value.provisional for value, _, _ in points],
        [holiday.countries if holiday else None for _, _, holiday in points],
    )


async def _store_anomaly(connection: Connection, name: str, anomaly: Anomaly, *, closed: bool) -> bool:
    """Returns whether it is new."""
    peak = anomaly.peak
    new = await connection.fetchval(
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
    return new is not None


def _instant(at: date) -> datetime:
    return at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)


def _point(at: datetime, cadence: Cadence, zone: tzinfo = UTC) -> date:
    return at.astimezone(zone) if cadence is Cadence.HOUR else at.astimezone(UTC).date()


def _in_utc(at: date) -> date:
    return at.astimezone(UTC) if isinstance(at, datetime) else at


def _anomaly_from_row(row: asyncpg.Record | None) -> Anomaly | None:
    if row is None:
        return None
    peak = _verdict_from_json(row["detail"])
    since, until = (_point(row[key], peak.cadence) for key in ("since", "until"))
    return Anomaly(since, until, peak, Severity(row["severity"]), row["calm"])


def _anomaly_to_json(anomaly: Anomaly) -> dict[str, Any]:
    times = {
        name: _instant(at).isoformat() for name, at in (("since", anomaly.since), ("until", anomaly.until))
    }
    return times | {
        "peak": _verdict_to_json(anomaly.peak),
        "severity": str(anomaly.severity),
        "calm": anomaly.calm,
    }


def _anomaly_from_json(stored: Mapping[str, Any] | None) -> Anomaly | None:
    if stored is None:
        return None
    peak = _verdict_from_json(stored["peak"])
    since, until = (_point(datetime.fromisoformat(stored[key]), peak.cadence) for key in ("since", "until"))
    return Anomaly(since, until, peak, Severity(stored["severity"]), stored["calm"])


def _verdict_to_json(verdict: JudgedPoint) -> dict[str, Any]:
    in_utc = replace(verdict, at=_in_utc(verdict.at))  # a ZoneInfo cannot be copied
    return asdict(in_utc) | {"at": in_utc.at.isoformat()}


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
    zone = zones.zone_of(row["zone"])
    upcoming = [through + (n + 1) * _STEPS[cadence] for n in range(_FORECAST_POINTS[cadence])]
    places = [_point(at, cadence, zone) for at in upcoming]
    forecast = await asyncio.to_thread(_forecast, row["state"], places)
    return SeriesForecast(cadence, row["state"]["measure"], through, forecast)


def _forecast(stored: Mapping[str, Any], upcoming: Sequence[date]) -> list[dict[str, Any]]:
    try:
        ranges = detector.forecast(SeriesState.from_json(stored), upcoming)
    except ValueError:
        return []
    return [_rounded(asdict(replace(one, at=_in_utc(one.at)))) for one in ranges]


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
        "withdrawnAt": row["withdrawn_at"],
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


async def ranges(
    pool: asyncpg.Pool, names: Sequence[str], since: date, until: date
) -> dict[str, dict[date, dict[str, Any]]]:
    """Judged days of series (``value``, ``low``, ``high``, ``holiday``), both dates included."""
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
