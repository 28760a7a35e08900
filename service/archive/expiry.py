"""What the service forgets of its own: fine-grained figures, and old runs, reasons and messages.

Opt-outs, suppressions, the audit log, days per user and totals of days, weeks and months are kept for ever.
"""

from datetime import datetime

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
BATCH = 5000
FIGURES = ("rollups", "revisions", "stale_periods", "points", "anomalies", "alerts")
LEDGER = ("decisions", "deliveries", "runs")
"""In this order: a run goes when nothing names it."""


async def forget(connection: Connection, what: str, before: datetime) -> int:
    """Delete a batch of what is older than ``before``; fewer than BATCH rows: there was no more."""
    tag: str = await connection.execute(_SQL[what], before, BATCH)
    return int(tag.rpartition(" ")[2])
