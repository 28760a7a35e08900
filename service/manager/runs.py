"""The runs that the ledger holds, read for the API."""

from typing import Any

import asyncpg

from service.engine import queries
from service.manager.run_json import attempt_json, run_json

_SQL = queries.load(__file__)


async def newest_runs(
    pool: asyncpg.Pool, pattern: str, limit: int, before: int | None, state: str | None
) -> list[dict[str, Any]]:
    """Runs of the jobs whose id is like ``pattern``, newest first. ``before``: only those of lower ids."""
    rows = await pool.fetch(_SQL["history"], pattern, limit, before, state)
    return [run_json(row) for row in rows]


async def run_row(reading: asyncpg.Connection | asyncpg.Pool, run_id: int) -> asyncpg.Record | None:
    """A run as it is stored; None: unknown."""
    return await reading.fetchrow(_SQL["run"], run_id)


async def run_details(pool: asyncpg.Pool, run_id: int, *, tracebacks: bool) -> dict[str, Any] | None:
    """A run with its attempts, the reasons for not sending, and its messages by state; None: unknown."""
    row = await run_row(pool, run_id)
    if row is None:
        return None
    reasons = await pool.fetch(_SQL["run_reasons"], run_id)
    messages = await pool.fetch(_SQL["run_deliveries"], run_id)
    deliveries: dict[str, dict[str, int]] = {}
    for message in messages:
        deliveries.setdefault(message["channel"], {})[message["state"]] = message["n"]
    attempts = await pool.fetch(_SQL["run_attempts"], run_id)
    return run_json(row) | {
        "reasons": {row["reason"]: row["n"] for row in reasons},
        "deliveries": deliveries,
        "attempts": [attempt_json(attempt, traceback=tracebacks) for attempt in attempts],
        "traceback": row["error"] if tracebacks else None,
    }
