"""A dataCleanup that dies: at each line of input a process is forked that kills itself at the named point.

``python -m tests.archive.archive_worker DSN DASHBOARD DATABASE FOLDER``, then lines like
``Archive.remove after 2``: when that method has been called the second time. Prints how the child ended.
"""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401 - here, not anew in each child

from service import log
from service.archive import archive, archive_parquet
from service.archive.archive import Archive
from service.archive.manifest import RetentionPolicy
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.engine.database import open_pool
from service.engine.run import RunRequest
from tests.given import World

BATCH = 7
_PLACES: dict[str, Any] = {
    "Archive": Archive,
    "Writer": archive_parquet.ArchiveWriter,
    "parquet": archive_parquet,
}


def die_at(point: str, when: str, nth: int) -> None:
    """Let this process kill itself there."""
    place, _, name = point.partition(".")
    real: Callable[..., Any] = getattr(_PLACES[place], name)
    calls = 0

    def count(now: str) -> None:
        nonlocal calls
        if now == when:
            calls += 1
            if calls == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    if asyncio.iscoroutinefunction(real):

        @functools.wraps(real)
        async def traced(*arguments: Any, **named: Any) -> Any:
            count("before")
            result = await real(*arguments, **named)
            count("after")
            return result

        setattr(_PLACES[place], name, traced)
        return

    @functools.wraps(real)
    def plain(*arguments: Any, **named: Any) -> Any:
        count("before")
        result = real(*arguments, **named)
        count("after")
        return result

    setattr(_PLACES[place], name, plain)


async def clean(dsn: str, dashboard: str, database: str, folder: Path) -> None:
    """Run dataCleanup once."""
    source: Source = (
        MongoSource(dashboard, database=database)
        if dashboard.startswith("mongodb")
        else PostgresSource(dashboard)
    )
    pool = await open_pool(dsn, max_size=6)
    sync = Sync(pool, source)
    keeping = RetentionPolicy("archive", timedelta(days=90))
    runner = await World(pool).runner(str(os.getpid()), resources=(keeping, Archive(pool, folder, sync)))
    await runner.run_manual("analytics.dataCleanup", RunRequest(confirm=True))


def main() -> None:
    """Fork at each line, reap the dead."""
    dsn, dashboard, database, folder = sys.argv[1:]
    log.configure("error", json=True)
    archive.BATCH = BATCH
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            point, when, nth = line.split()
            die_at(point, when, int(nth))
            asyncio.run(clean(dsn, dashboard, database, Path(folder)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"ended {os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    main()
