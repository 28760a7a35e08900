"""Rollups: each user's activity per local day, and everybody's figures per period.

    changed rows ─trigger─► stale days ─rebuild─► user_day ─► stale periods ─derive─► rollup (+ revisions)
                                                           └► stale profiles ─► user_profile

Rollups are computed anew, never incremented. ``rebuild_stale_days`` and the two ``derive_…`` run in one
transaction each, one writer at a time; however they interleave with inserts, edits, deletions and crashes,
the result is the same as if computed from scratch.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import asyncpg

from service.analytics import user_profiles
from service.analytics.statistic import CALENDARS, Statistic, over_everywhere
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_FOREVER = datetime(9999, 1, 1)  # noqa: DTZ001 — naive on purpose: wall-clock time
_MAX_DISTANCE = timedelta(days=62)
"""Stale periods that are further apart are derived in different steps."""
STALE_DAYS_PER_STEP = 10_000


@dataclass(frozen=True, slots=True)
class RebuiltDays:
    """One step: how many stale days were rebuilt, and how many of them had changed."""

    days: int
    changed: int


@dataclass(frozen=True, slots=True)
class DerivedPeriods:
    """One step: how many periods were derived, how many of them are new, and how many changed."""

    periods: int
    new: int
    revised: int


async def rebuild_stale_days(connection: Connection, limit: int = STALE_DAYS_PER_STEP) -> RebuiltDays:
    """Rebuild up to ``limit`` stale days, and mark the periods that depend on the changed ones as stale."""
    await lock(connection)
    await connection.execute(_SQL["plan_anew"])
    stale = await connection.fetchrow(_SQL["take_stale_days"], limit)
    assert stale
    if stale["days"] is None:
        return RebuiltDays(0, 0)
    changed = await connection.fetchrow(_SQL["rebuild_days"], stale["users"], stale["days"])
    assert changed
    moved: date | None = await connection.fetchval(_SQL["refresh_spans"], changed["users"])
    since = min(filter(None, (moved, stale["onward"])), default=None)
    await user_profiles.mark_stale(connection, stale["users"], stale["days"])
    await _mark_periods(connection, changed["dates"], set(stale["days"]), since)
    return RebuiltDays(len(stale["days"]), changed["days"])


async def analyze_days(connection: Connection) -> None:
    """Tell PostgreSQL's planner about days and spans after so many changed that its figures are of no use."""
    await connection.execute(_SQL["analyze_days"])


async def lock(connection: Connection) -> None:
    """Wait until nobody else writes rollups, until the end of this transaction."""
    await connection.execute(_SQL["lock"])


async def _mark_periods(
    connection: Connection, changed: Iterable[date], touched: Iterable[date], since: date | None
) -> None:
    """``touched``: all rebuilt days. ``since``: the first date with a changed account or cohort."""
    for statistic, calendar in CALENDARS.items():
        spans = [calendar.reach(day) for day in changed]
        if calendar.reach_by_clock:
            spans += map(calendar.reach_by_clock, touched)
        if since and calendar.onward:
            spans.append((calendar.reach(since)[0], _FOREVER))
        await connection.execute(
            _SQL["mark_periods"],
            statistic,
            [first for first, _ in spans],
            [last for _, last in spans],
            calendar.step,
        )


async def derive_missing(
    connection: Connection, statistic: Statistic, target: datetime, zone: str
) -> DerivedPeriods:
    """Derive the next missing periods up to ``target`` (a period), oldest first; 0 periods: none is missing.

    The watermark moves in the same transaction. Call ``begin_batch`` in a transaction of its own before.
    """
    await lock(connection)
    periods = await _missing(connection, statistic, target)
    if not periods:
        return DerivedPeriods(0, 0, 0)
    await connection.execute(_SQL["undo_batch"], statistic)
    derived = await _derive(connection, statistic, periods, zone)
    await connection.execute(_SQL["end_batch"], statistic, periods[-1])
    return derived


async def begin_batch(connection: Connection, statistic: Statistic, target: datetime) -> bool:
    """Record that the next batch has started. False: nothing is missing."""
    periods = await _missing(connection, statistic, target)
    if periods:
        await connection.execute(_SQL["begin_batch"], statistic, periods[-1])
    return bool(periods)


async def _missing(connection: Connection, statistic: Statistic, target: datetime) -> list[datetime]:
    calendar = CALENDARS[statistic]
    through = await watermark(connection, statistic)
    if through is None:
        first: date | None = await connection.fetchval(_SQL["first_date"])
        start = calendar.begin(datetime.combine(first, time())) if first else target
        through = calendar.before(min(start, target))
    return calendar.batch_after(through, target)


async def existing_periods(
    connection: Connection | asyncpg.Pool, statistic: Statistic, first: datetime, last: datetime
) -> set[datetime]:
    """The periods from ``first`` to ``last`` (both included) that have been derived."""
    return {row["period"] for row in await connection.fetch(_SQL["existing_periods"], statistic, first, last)}


async def mark_all_stale(connection: Connection, statistic: Statistic, periods: Sequence[datetime]) -> None:
    """Mark these periods as stale, even those before the first one that has been derived."""
    await connection.execute(_SQL["mark_all_stale"], statistic, list(periods))


async def watermark(connection: Connection, statistic: Statistic) -> datetime | None:
    """The period up to which a statistic has been derived; None: it has no periods yet."""
    row = await connection.fetchrow(_SQL["watermark"], statistic)
    return row["through"] if row else None


async def derive_stale(connection: Connection, statistic: Statistic, zone: str) -> DerivedPeriods:
    """Derive the oldest stale periods again, and those that have become final; 0 periods: none is left."""
    await lock(connection)
    now = await connection.fetchval(_SQL["now"])
    calendar = CALENDARS[statistic]
    last_over = calendar.before(over_everywhere(now))
    await connection.execute(_SQL["mark_provisional"], statistic, last_over)
    await connection.execute(_SQL["unmark_frozen"], statistic)
    rows = await connection.fetch(_SQL["stale_periods"], statistic, calendar.batch)
    periods = [row["period"] for row in rows if row["period"] - rows[0]["period"] < _MAX_DISTANCE]
    if not periods:
        return DerivedPeriods(0, 0, 0)
    derived = await _derive(connection, statistic, periods, zone)
    await connection.execute(_SQL["delete_stale_periods"], statistic, periods)
    return derived


async def _derive(
    connection: Connection, statistic: Statistic, periods: Sequence[datetime], zone: str
) -> DerivedPeriods:
    figures = await _figures(connection, statistic, periods, zone)
    if statistic is Statistic.CHURN_MODEL:
        await user_profiles.mark_stale_by_model(connection, figures)
    new, revised = await store(connection, statistic, figures)
    return DerivedPeriods(len(periods), new, revised)


async def _figures(
    connection: Connection, statistic: Statistic, periods: Sequence[datetime], zone: str
) -> dict[datetime, dict[str, Any]]:
    if statistic is Statistic.INSIGHTS:
        return {p: await user_profiles.insights_of_month(connection, p.date()) for p in periods}
    if statistic is Statistic.CHURN_MODEL:
        return {p: await user_profiles.churn_model_of_month(connection, p.date()) for p in periods}
    keys: list[Any] = list(periods)
    if statistic is not Statistic.BEHAVIOUR:
        keys = [period.date() for period in periods]
    values = [keys, zone] if statistic is Statistic.DAILY else [keys]
    rows = await connection.fetch(_SQL[statistic], *values)
    return {row["period"]: row["figures"] for row in rows}


async def store(
    connection: Connection, statistic: str, figures: dict[datetime, dict[str, Any]]
) -> tuple[int, int]:
    """Store figures by period; changed ones keep the old figures as a revision. Returns (new, revised)."""
    now: datetime = await connection.fetchval(_SQL["now"])
    local_time_over = over_everywhere(now)
    final = [
        statistic not in set(Statistic)
        or CALENDARS[Statistic(statistic)].following(period) <= local_time_over
        for period in figures
    ]
    row = await connection.fetchrow(
        _SQL["store"], statistic, list(figures), [json.dumps(values) for values in figures.values()], final
    )
    assert row
    return row["new"], row["revised"]
