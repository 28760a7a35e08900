"""``service.zone``: every time zone with its clock, by which SQL computes local time."""

from collections.abc import Mapping
from datetime import datetime

import asyncpg
import structlog

from service import zones
from service.engine import queries
from service.zone_periods import ZonePeriods, differences, periods

_SQL = queries.load(__file__)
_Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
_Span = tuple[str, datetime, datetime]
FILLED_AFTER = "0024_zone_periods"
"""The migration whose transaction fills it for the first time: nobody sees it without clocks."""
log = structlog.get_logger()


async def fill(connection: _Connection, default_zone: str | None = None) -> None:
    """Update the table if this process's zone data is newer than the table's, and mark days that change.

    Older data changes nothing: processes with different data may share the database.
    ``default_zone``: of users without a zone; None: unchanged.
    """
    async with connection.transaction():
        before, names = await stored_version(connection), sorted(zones.names())
        if before is None or before <= zones.version():
            await connection.execute(_SQL["names"], names, [zones.current_name(name) for name in names])
        if before is None:
            await connection.execute(_SQL["forget_others"], names)
        if before is None or before < zones.version():
            await _update_clocks(connection, reopen=before is not None)
            log.info("zone data", version=zones.version(), before=before)
        if default_zone is not None:
            await connection.execute(_SQL["default"], zones.current_name(default_zone))


async def stored_version(connection: _Connection) -> str | None:
    """The version of the zone data in the table, like 2026f; None: it has never been filled."""
    version: str | None = await connection.fetchval(_SQL["version"])
    return version


async def _update_clocks(connection: _Connection, *, reopen: bool) -> None:
    rows = await connection.fetch(_SQL["clocks"])
    former = {row["name"]: ZonePeriods(row["changes"], row["offsets"]) for row in rows}
    new = {name: clock for name in zones.names() if (clock := periods(name)) != former[name]}
    spans = _spans(former, new) if reopen else []
    await _mark(connection, spans)
    await connection.executemany(
        _SQL["set_clock"], [(name, clock.changes, clock.offsets) for name, clock in new.items()]
    )
    await _mark(connection, spans)
    await connection.execute(_SQL["set_version"], zones.version())


def _spans(former: Mapping[str, ZonePeriods], new: Mapping[str, ZonePeriods]) -> list[_Span]:
    """Zones, and from when to when their offset is another one."""
    return [(name, *span) for name, clock in new.items() for span in differences(former[name], clock)]


async def _mark(connection: _Connection, spans: list[_Span]) -> None:
    """Mark as stale what lies in these spans, by the clocks of the table: before and after they are set."""
    if spans:
        names, starts, ends = (list(column) for column in zip(*spans, strict=True))
        await connection.execute(_SQL["mark_days"], names, starts, ends)
        await connection.execute(_SQL["mark_periods"], starts, ends)
