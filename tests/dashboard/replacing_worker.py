"""A process that dies between a second decision and its commit: it plans, says so, and goes no further.

``python -m tests.dashboard.replacing_worker DSN URL DATABASE PORT``
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg

from service import log
from service.clock import SystemClock
from service.dashboard.mongo import MongoSource
from service.dashboard.sync import Sync
from service.engine.database import open_pool
from service.messages import delivery_rows
from service.messages.delivery_rows import PlannedMessage, RunStamp
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from tests.given import World

_plan = delivery_rows.plan


async def plan_and_wait(
    connection: asyncpg.Connection, stamp: RunStamp, planned: Sequence[PlannedMessage]
) -> Any:
    """Plan, and wait to be killed before the end of the transaction."""
    await _plan(connection, stamp, planned)
    print("planned", flush=True)
    await asyncio.Event().wait()


async def deliver(dsn: str, url: str, database: str, port: str) -> None:
    """Send until killed."""
    pool = await open_pool(dsn)
    transport = SmtpPool(SmtpConfig("127.0.0.1", int(port), "none"), SystemClock())
    sync = Sync(pool, MongoSource(url, database=database))
    await World(pool).delivery(transport, "dying", current_state=sync.current_state).run_once()


if __name__ == "__main__":
    log.configure("error", json=True)
    delivery_rows.plan = plan_and_wait
    asyncio.run(deliver(*sys.argv[1:5]))
