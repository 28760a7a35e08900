"""What a list of messages costs follows its page, not the table, whatever is asked for."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from service.messages.outbox import address_range
from service.web.api import deliveries
from service.web.console.messages import views
from tests.given import ADOPT, GOALS

_MANY = 40_000
_FEW = 2_000
_FIRST = date(2026, 1, 1)
_FILL = """
INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
    address, facts, message_id, message_date, token, state, reason, not_before, expires_at, settled_at,
    planned_at)
SELECT 'k' || n, channel, $2, 'deadlines', 'u' || who, 'UTC', at::date, 'goal_deadlines', 'en',
       CASE channel WHEN 'email' THEN 'u' || who || '@example.org' END, '{}', 'm' || n, at, 't' || n, state,
       CASE state WHEN 'skipped' THEN 'revalidated_away' WHEN 'failed' THEN 'hard_bounce' END,
       at, at + interval '1 day', at, at
FROM generate_series(1, $1::int) AS n
CROSS JOIN LATERAL (SELECT
    n * 7919 % 5000 AS who, '2026-01-01Z'::timestamptz + n * interval '9 minutes' AS at,
    CASE WHEN n % 3 = 0 THEN 'in_app' ELSE 'email' END AS channel,
    CASE WHEN n % 9973 = 0 THEN 'unconfirmed' WHEN n % 331 = 0 THEN 'failed' WHEN n % 50 = 0 THEN 'skipped'
         ELSE 'sent' END AS state) AS m
"""


def values(asked: dict[str, Any]) -> list[Any]:
    """The parameters of the query for a request."""
    names = ("user", "job", "state", "before", "limit", "reason", "channel", "since", "until")
    known = {"limit": 50} | asked
    return [*(known.get(name) for name in names), *address_range(asked.get("address"))]


def visited(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each scan looked at."""
    if "Relation Name" in plan:
        rows = sum(plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter"))
        yield plan["Actual Loops"] * rows
    for part in plan.get("Plans", []):
        yield from visited(part)


async def cost(connection: asyncpg.Connection, asked: dict[str, Any]) -> float:
    return await _cost(connection, deliveries._SQL["search"], values(asked))


async def _cost(connection: asyncpg.Connection, query: str, asked: list[Any]) -> float:
    (told,) = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *asked)
    return sum(visited(told["Plan"]))


@pytest.fixture
async def many(pool: asyncpg.Pool) -> asyncpg.Pool:
    await pool.execute(_FILL, _MANY, GOALS)
    await pool.execute(ADOPT)
    await pool.execute("ANALYZE service.delivery")
    await pool.execute("ANALYZE service.delivery_state")
    return pool


async def test_each_filter_reads_little_of_many_messages(many: asyncpg.Pool) -> None:
    early, late = _FIRST + timedelta(days=20), _FIRST + timedelta(days=200)
    asked: list[dict[str, Any]] = [
        {}, {"user": "u42"}, {"user": "nobody"}, {"job": GOALS}, {"channel": "in_app"}, {"before": 500},
        {"since": early}, {"until": early}, {"since": early, "until": early},
        {"until": late, "channel": "email"}, {"since": date(2030, 1, 1)}, {"until": date(2000, 1, 1)},
        {"reason": "revalidated_away"}, {"reason": "never"}, {"reason": "hard_bounce", "until": early},
        {"address": "u42@"}, {"address": "u"}, {"address": "zoe"}, {"user": "u42", "state": "failed"},
        *({"state": state} for state in deliveries._STATES), {"state": "failed", "before": 900},
        {"state": "unconfirmed", "since": early, "until": late}, {"state": "sent", "until": early},
    ]  # fmt: skip
    async with many.acquire() as lent:
        costs = {str(one): await cost(lent, one) for one in asked}  # type: ignore[arg-type]
    assert {one: rows for one, rows in costs.items() if rows > _FEW} == {}


async def test_the_list_of_the_console_reads_little_as_well(many: asyncpg.Pool) -> None:
    asked: list[dict[str, Any]] = [
        {}, {"users": ["u42"]}, {"job": GOALS}, {"channel": "in_app"}, {"channel": "email"}, {"before": 500},
        {"reason": "hard_bounce"}, {"run": 7}, *({"state": state} for state in deliveries._STATES),
    ]  # fmt: skip
    names = ("users", "job", "channel", "state", "reason", "run", "before")
    async with many.acquire() as lent:
        costs = {
            str(one): await _cost(lent, views._SQL["find"], [*map(one.get, names), 50])  # type: ignore[arg-type]
            for one in asked
        }
    assert {one: rows for one, rows in costs.items() if rows > _FEW} == {}


async def test_days_narrow_without_leaving_anybody_out(many: asyncpg.Pool) -> None:
    """Also who was planned long after their day, as a run for the past does it."""
    await many.execute("UPDATE service.delivery SET local_date = '2026-01-05' WHERE id % 7000 = 0")
    for since, until in ((1, 1), (5, 5), (None, 5), (6, None), (5, 90), (None, None), (9, 4)):
        days = [None if day is None else date(2026, 1, 1) + timedelta(days=day - 1) for day in (since, until)]
        plain = (
            "SELECT id FROM service.delivery_with_state WHERE coalesce(local_date >= $1, true)"
            " AND coalesce(local_date <= $2, true) ORDER BY id DESC LIMIT 200"
        )
        asked = values({"since": days[0], "until": days[1], "limit": 200})
        found = await many.fetch(deliveries._SQL["search"], *asked)
        assert [row["id"] for row in found] == [row["id"] for row in await many.fetch(plain, *days)]
