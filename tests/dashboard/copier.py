"""A process that copies a dashboard once, and may freeze itself in the middle.

``python -m tests.dashboard.copier DSN URL DATABASE LEASE WHERE`` prints how it ended. WHERE: ``reading``
(goals have been read and not stored), ``copying`` (their rows are on the way to our PostgreSQL), ``writing``
(they are stored, in a transaction that is not over), ``never``; ``following``: it follows the change stream
until another process does, and freezes when it has read a goal called "New".
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from functools import cache
from typing import Any

from service import log
from service.dashboard import change_stream, replica
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
        if table.name == "goals" and documents and (where == "reading" or documents[0]["title"] == "New"):
            _freeze()
        return documents

    async def writing(*arguments: Any, **named: Any) -> int:
        changed = await upsert(*arguments, **named)
        _freeze()
        return changed

    def copying(goal: Any) -> tuple[Any, ...]:
        _freeze()
        return row(goal)

    if where in {"reading", "following"}:
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
        await (_follow(sync) if where == "following" else sync.run_once(compare=True))
    except DashboardBusy:
        return "busy"
    finally:
        await sync.close()
        pool.terminate()
    return "done"


async def _follow(sync: Sync) -> None:
    """Until another process does."""
    change_stream._RETRY = 0.1
    stop = asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    while sync.health()["change_stream"]["state"] != "elsewhere":
        await asyncio.sleep(0.05)
    stop.set()
    await serving


if __name__ == "__main__":
    log.configure("error", json=True)
    _dsn, _url, _database, _lease, _where = sys.argv[1:]
    print(asyncio.run(copy(_dsn, _url, _database, float(_lease), _where)), flush=True)
