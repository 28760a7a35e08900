"""A process that dies between the write and the mark: it writes notes, says so, and goes no further.

``python -m tests.dashboard.inbox_worker DSN KIND URL DATABASE``
"""

import asyncio
import sys
from collections.abc import Sequence

from service import log
from service.dashboard.mongo import MongoSource
from service.dashboard.notification import Notification
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.engine.database import open_pool
from service.messages.in_app.inbox import DashboardInbox
from tests.given import World, composer


async def write_and_wait(dsn: str, kind: str, url: str, database: str) -> None:
    """Write one batch; wait to be killed before it can be marked."""
    pool = await open_pool(dsn)
    source: Source = MongoSource(url, database=database) if kind == "A" else PostgresSource(url)
    sync = Sync(pool, source)

    async def notify(notes: Sequence[Notification]) -> dict[str, str]:
        refused = await source.notify(notes)
        print("written", len(notes), refused, flush=True)
        await asyncio.Event().wait()
        return refused

    await DashboardInbox(
        pool,
        notify,
        sync.current_state,
        World(pool).jobs,
        World(pool).replacements(),
        composer().notice,
        timeout=600,
    ).run_once()


if __name__ == "__main__":
    log.configure("error", json=True)
    asyncio.run(write_and_wait(*sys.argv[1:5]))
