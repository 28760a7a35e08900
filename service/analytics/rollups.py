"""Rollups: what people did per local day, and everybody's figures per period. Rebuilt, never added to.

    changed rows ─trigger─► stale days ─absorb─► user_day ─► stale periods ─derive─► rollup (+ revisions)

``absorb`` and ``derive`` are steps of one transaction each, one writer at a time; whatever way they are
interleaved with inserts, edits, deletions and crashes, the rows end up as if computed from scratch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import asyncpg

from service.analytics.statistic import CALENDARS, Statistic, over_everywhere
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_FOREVER = datetime(9999, 1, 1)  # noqa: DTZ001 — naive on purpose: wall-clock time
_CLOSE = timedelta(days=62)
"""Stale periods further apart are derived in different steps."""
STALE_DAYS_A_STEP = 10_000


@dataclass(frozen=True, slots=True)
class RebuiltDays:
    """One step: how many stale days were rebuilt, and how many of them had changed."""

    days: int
    changed: int


@dataclass(frozen=True, slots=True)
class DerivedPeriods:
    """One step: how many periods were looked at, written new, and revised."""

    periods: int
    new: int
    revised: int


async def absorb(connection: Connection, limit: int = STALE_DAYS_A_STEP) -> RebuiltDays:
    """Rebuild up to ``limit`` stale days and mark the periods that rest on what changed."""
    await connection.execute(_SQL["lock"])
    taken = await connection.fetch(_SQL["take_stale_days"], limit)
    if not taken:
        return RebuiltDays(0, 0)
    users, days = [row["user_id"] for row in taken], [row["local_day"] for row in taken]
    changed = await connection.fetch(_SQL["rebuild_days"], users, days)
    moved = await connection.fetch(_SQL["refresh_spans"], sorted({row["user_id"] for row in changed}))
    since = [row["since"] for row in moved] + [row["local_day"] for row in taken if row["onward"]]
    await _mark(connection, {row["local_date"] for row in changed}, set(days), min(since, default=None))
    return RebuiltDays(len(taken), len(changed))


async def _mark(connection: Connection, changed: set[date], touched: set[date], since: date | None) -> None:
    """``touched``: also those whose rollup is what it was; ``since``: when an account or a cohort moved."""
    for statistic, calendar in CALENDARS.items():
        spans = [calendar.reach(day) for day in changed]
        if calendar.beside:
            spans += map(calendar.beside, touched)
        if since and calendar.onward:
            spans.append((calendar.reach(since)[0], _FOREVER))
        await connection.execute(
            _SQL["mark_periods"],
            statistic,
            [lo for lo, _ in spans],
            [hi for _, hi in spans],
            calendar.step,
        )


async def fill(connection: Connection, statistic: Statistic, target: datetime, zone: str) -> DerivedPeriods:
    """Derive the next missing periods up to ``target`` (a period), oldest first; 0 periods: none is missing.

    The watermark moves in the same transaction. Call ``begin`` in a transaction of its own before.
    """
    await connection.execute(_SQL["lock"])
    periods = await _missing(connection, statistic, target)
    if not periods:
        return DerivedPeriods(0, 0, 0)
    await connection.execute(_SQL["undo_periods"], statistic)
    derived = await _derive(connection, statistic, periods, zone)
    await connection.execute(_SQL["end_periods"], statistic, periods[-1])
    return derived


async def begin(connection: Connection, statistic: Statistic, target: datetime) -> bool:
    """Note that the next batch is STARTED. False: nothing is missing."""
    periods = await _missing(connection, statistic, target)
    if periods:
        await connection.execute(_SQL["begin_periods"], statistic, periods[-1])
    return bool(periods)


async def _missing(connection: Connection, statistic: Statistic, target: datetime) -> list[datetime]:
    calendar = CALENDARS[statistic]
    through = await watermark(connection, statistic)
    if through is None:
        first: date | None = await connection.fetchval(_SQL["first_date"])
        start = calendar.begin(datetime.combine(first, time())) if first else target
        through = calendar.before(min(start, target))
    return calendar.batch_after(through, target)


async def again(connection: Connection, statistic: Statistic, period: datetime) -> None:
    """Let a period that has its row be derived again."""
    await connection.execute(_SQL["mark_period"], statistic, period)


async def there(
    connection: Connection | asyncpg.Pool, statistic: Statistic, first: datetime, last: datetime
) -> set[datetime]:
    """Which periods from ``first`` to ``last`` (both included) have their row."""
    return {row["period"] for row in await connection.fetch(_SQL["rows"], statistic, first, last)}


async def mark(connection: Connection, statistic: Statistic, periods: Sequence[datetime]) -> None:
    """Let these periods be derived again by the next run, also those before the first that has a row."""
    await connection.execute(_SQL["mark_all"], statistic, list(periods))


async def watermark(connection: Connection, statistic: Statistic) -> datetime | None:
    """The last period of a statistic that has its row, with all before it; None: none has."""
    row = await connection.fetchrow(_SQL["watermark"], statistic)
    return row["through"] if row else None


async def revise(connection: Connection, statistic: Statistic, zone: str) -> DerivedPeriods:
    """Derive the oldest stale periods again, also those that are final by now; 0 periods: none is stale."""
    await connection.execute(_SQL["lock"])
    now = await connection.fetchval(_SQL["now"])
    calendar = CALENDARS[statistic]
    ripe = calendar.before(over_everywhere(now))
    await connection.execute(_SQL["ripe"], statistic, ripe)
    await connection.execute(_SQL["leave_frozen"], statistic)
    rows = await connection.fetch(_SQL["stale_periods"], statistic, calendar.batch)
    periods = [row["period"] for row in rows if row["period"] - rows[0]["period"] < _CLOSE]
    if not periods:
        return DerivedPeriods(0, 0, 0)
    derived = await _derive(connection, statistic, periods, zone)
    await connection.execute(_SQL["settled_periods"], statistic, periods)
    return derived


async def _derive(
    connection: Connection, statistic: Statistic, periods: Sequence[datetime], zone: str
) -> DerivedPeriods:
    keys: list[Any] = list(periods)
    if statistic is not Statistic.BEHAVIOUR:
        keys = [period.date() for period in periods]
    values = [keys, zone] if statistic is Statistic.DAILY else [keys]
    rows = await connection.fetch(_SQL[statistic], *values)
    figures = {row["period"]: row["figures"] for row in rows}
    new, revised = await put(connection, statistic, figures)
    return DerivedPeriods(len(periods), new, revised)


async def put(
    connection: Connection, statistic: str, figures: dict[datetime, dict[str, Any]]
) -> tuple[int, int]:
    """Store figures by period; what a changed figure was is kept as a revision. Returns (new, revised)."""
    now: datetime = await connection.fetchval(_SQL["now"])
    over = over_everywhere(now)
    final = [
        statistic not in set(Statistic) or CALENDARS[Statistic(statistic)].following(period) <= over
        for period in figures
    ]
    row = await connection.fetchrow(
        _SQL["put"], statistic, list(figures), [json.dumps(one) for one in figures.values()], final
    )
    assert row
    return row["new"], row["revised"]
