"""The cost of a rebuild follows the stale days, not the history."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from service.analytics import rollups
from service.engine import queries
from tests.analytics.given import Lab

_SQL = queries.load(rollups.__file__)
_PEOPLE = """
INSERT INTO service.users (id, name, timezone, timezone_valid, active)
SELECT 'u' || n, 'x', 'Europe/Berlin', true, true FROM generate_series(1, 500) AS n
"""
_SESSIONS = """
INSERT INTO service.timer_sessions (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds)
SELECT 's' || n, 'u' || 1 + n % 500, 'focus', true, 'completed', at, at + interval '37 minutes', 2220
FROM generate_series(1, 60000) AS n
CROSS JOIN LATERAL (SELECT '2025-01-01Z'::timestamptz + n * 7919 % 34560000 * interval '1 second' AS at) AS t
"""


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


async def test_a_rebuild_reads_only_the_sessions_around_its_days(lab: Lab) -> None:
    async with lab.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL service.loading = 'on'")
            await connection.execute(_PEOPLE)
            await connection.execute(_SESSIONS)
        await connection.execute("ANALYZE service.timer_sessions")
        await connection.execute("ANALYZE service.user_zone")
        users = [f"u{n}" for n in range(1, 21)]
        days = [date(2025, 6, 1) + timedelta(days=n) for n in range(20)]
        explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {_SQL['rebuild_days']}", users, days)
    scans = [n for n in _nodes(explained[0]["Plan"]) if n.get("Index Name") == "timer_sessions_user"]
    assert len(scans) == 1
    assert all(word in scans[0]["Index Cond"] for word in ("user_id = ", "started_at >= ", "started_at < "))
