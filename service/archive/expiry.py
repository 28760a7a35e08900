"""Deletion of old rows of the service: fine-grained figures, runs, reasons (by the month) and messages.

Opt-outs, suppressions, the audit log, days per user and totals of days, weeks and months are kept forever.
"""

from datetime import datetime

import asyncpg

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
BATCH = 5000
FIGURES = ("rollups", "revisions", "stale_periods", "points", "anomalies", "alerts")
LEDGER = ("decisions", "deliveries", "runs")
"""In this order: a run is deleted once nothing refers to it."""


async def forget(connection: Connection, query: str, before: datetime) -> int:
    """Delete a batch of rows older than ``before``. Returns how many; fewer than BATCH: none remain."""
    tag: str = await connection.execute(_SQL[query], before, BATCH)
    return int(tag.rpartition(" ")[2])


async def old_refusal_months(connection: Connection, before: datetime) -> list[str]:
    """The tables of reasons for not sending that hold nothing younger than ``before``, oldest first."""
    return [row["name"] for row in await connection.fetch(_SQL["old_refusal_months"], before)]


async def drop_refusal_month(connection: Connection, name: str) -> bool:
    """Drop such a table. False: somebody has been reading it for long, so that it stays for now."""
    try:
        async with connection.transaction():
            await connection.execute(_SQL["limit_lock_wait"])
            await connection.execute(f'DROP TABLE IF EXISTS service."{name}"')  # a name from the catalogue
    except asyncpg.LockNotAvailableError:
        return False
    return True
