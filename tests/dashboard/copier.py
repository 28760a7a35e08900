"""A process that copies a dashboard once, and may freeze itself in the middle.

``python -m tests.dashboard.copier DSN URL DATABASE LEASE WHERE`` prints how it ended. WHERE: ``reading``
(goals have been read and not stored), ``copying`` (their rows are on the way to our PostgreSQL), ``writing``
(they are stored, in a transaction that is not over), ``never``.
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from functools import cache
from typing import Any

from service import log
from service.dashboard import replica
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.engine.database import open_pool
from service.errors import DashboardBusy


@cache
def _freeze() -> None:
    """Once."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _freezing(where: str, source: Any) -> None:
    fetch, upsert, row = source.fetch, replica.upsert_goals, replica._goal_row

    async def reading(table: Any, *arguments: Any) -> Any:
        documents = await fetch(table, *arguments)
        if table.name == "goals" and documents:
            _freeze()
        return documents

    async def writing(*arguments: Any, **named: Any) -> int:
        changed = await upsert(*arguments, **named)
        _freeze()
        return changed

    def copying(goal: Any) -> tuple[Any, ...]:
        _freeze()
        return row(goal)

    if where == "reading":
        source.fetch = reading
    elif where == "writing":
        replica.upsert_goals = writing
    elif where == "copying":
        replica._goal_row = copying


async def copy(dsn: str, url: str, database: str, lease: float, where: str) -> str:
    """``done``, or ``busy``: another took over."""
    source: Source = MongoSource(url, database=database) if url.startswith("mongodb") else PostgresSource(url)
    _freezing(where, source)
    pool = await open_pool(dsn, max_size=5)
    sync = Sync(pool, source, SyncSettings(lease=timedelta(seconds=lease)))
    try:
        await sync.run_once(compare=True)
    except DashboardBusy:
        return "busy"
    finally:
        await sync.close()
        pool.terminate()
    return "done"


if __name__ == "__main__":
    log.configure("error", json=True)
    _dsn, _url, _database, _lease, _where = sys.argv[1:]
    print(asyncio.run(copy(_dsn, _url, _database, float(_lease), _where)), flush=True)
