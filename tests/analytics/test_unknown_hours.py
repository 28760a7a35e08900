"""Hours that the copy of the dashboard does not have are unknown, not zero: they wait until it has them."""

from datetime import datetime

import asyncpg

from service.dashboard.sync import Sync
from tests.analytics.given import at
from tests.analytics.judged import HOUR
from tests.dashboard.conftest import PostgresDashboard, postgres_dashboard
from tests.given import World

__all__ = ["postgres_dashboard"]

_BEGIN = at("2026-03-02 00:00")
_FILL = """
INSERT INTO timer_sessions (id, user_id, kind, status, started_at, ended_at, planned_seconds, focus_seconds,
                            updated_at)
SELECT extract(epoch FROM s)::bigint, 1, 'focus', 'completed', s, s + interval '4 minutes', 1500, 240,
       s + interval '4 minutes'
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 second', interval '5 minutes') AS s
"""


async def known_hours(pool: asyncpg.Pool) -> tuple[datetime, list[float]]:
    """The last judged hour, and all that were judged since the outage began."""
    through = await pool.fetchval("SELECT through FROM service.series WHERE name = 'hour.sessions'")
    rows = await pool.fetch(
        "SELECT value FROM service.series_point WHERE series = 'hour.sessions' AND at >= $1 ORDER BY at",
        _BEGIN + 72 * HOUR,
    )
    return through, [row["value"] for row in rows]


async def test_an_outage_of_the_sync_is_no_outage_of_the_dashboard(
    pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard
) -> None:
    world, connection = World(pool), postgres_dashboard.connection
    await postgres_dashboard.put("users", 1, name="Ann", email="ann@example.org", timezone="UTC", active=True)
    await postgres_dashboard.put("goals", 1, user=1, title="Read", status="active")
    await connection.execute(_FILL, _BEGIN, _BEGIN + 72 * HOUR)
    runner = await world.runner()  # it does not refresh the copy
    sync = Sync(pool, postgres_dashboard.source)

    async def measure(hours: float) -> None:
        await world.at((_BEGIN + hours * HOUR).isoformat())
        await runner.run_manual("analytics.performanceMetrics")

    async def synchronise(hours: float) -> None:
        await world.at((_BEGIN + hours * HOUR).isoformat())
        await sync.run_once(compare=True)

    await measure(72)
    assert await pool.fetchval("SELECT count(*) FROM service.series WHERE name = 'hour.sessions'") == 0
    await synchronise(72)
    await measure(72)
    known = await known_hours(pool)
    assert known == (_BEGIN + 71 * HOUR, [])

    # It stops; the dashboard goes on.
    await connection.execute(_FILL, _BEGIN + 72 * HOUR, _BEGIN + 80 * HOUR)
    for hour in range(73, 80):
        await measure(hour)
    assert await known_hours(pool) == known

    # It is back, in the middle of an hour.
    await synchronise(79.5)
    await measure(80)
    assert await known_hours(pool) == (_BEGIN + 78 * HOUR, [12.0] * 7)

    # Everything is gone at the dashboard, and nobody has confirmed it.
    await postgres_dashboard.empty("timer_sessions")
    await synchronise(80.5)
    await synchronise(82.5)
    await measure(83)
    assert await known_hours(pool) == (_BEGIN + 79 * HOUR, [12.0] * 8)
    await postgres_dashboard.refill("timer_sessions")
    await connection.execute(_FILL, _BEGIN + 80 * HOUR, _BEGIN + 84 * HOUR)
    await synchronise(84)
    await measure(84)
    assert await known_hours(pool) == (_BEGIN + 83 * HOUR, [12.0] * 12)
    opened = "SELECT count(*) FROM service.anomaly WHERE series LIKE 'hour.%' AND since >= $1"
    assert await pool.fetchval(opened, _BEGIN + 72 * HOUR) == 0
