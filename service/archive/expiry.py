"""Deletion of old rows of the service: fine-grained figures, runs, reasons and messages.

Opt-outs, suppressions, the audit log, days per user and totals of days, weeks and months are kept forever.
"""

from datetime import datetime

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
