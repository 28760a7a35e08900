"""The copy of the dashboard: ``python -m benchmarks.sync [N]`` (1,000,000 sessions unless told).

With a tenth as many users, on MongoDB and on PostgreSQL: the first load, an idle synchronisation, and a whole
comparison of the copy with the dashboard, unchanged and with one row in a thousand edited without a new time
of writing. Seconds, and the CPU time of this process, of the dashboard's server and of our PostgreSQL.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from pymongo import MongoClient

from benchmarks.dashboards import fill_mongo_apart, fill_postgres
from service import log
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.engine import embedded
from service.engine.database import migrate, open_pool
from service.setup import databases
from tests import mongo

_TICK = os.sysconf("SC_CLK_TCK")
_EDITED = "UPDATE timer_sessions SET focus_seconds = focus_seconds + 1 WHERE right(id, 3) = '000'"


def _cpu(mark: str) -> float:
    """CPU seconds so far of all processes whose command line, or whose parent's, holds ``mark``."""
    ticks, chosen = 0, set()
    processes = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    for pid in processes:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if mark in command or int(fields[1]) in chosen:
            chosen.add(pid)
            ticks += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return ticks / _TICK


def _own() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measured(name: str, work: Callable[[], Awaitable[object]], theirs: str, ours: str) -> None:
    before = time.perf_counter(), _own(), _cpu(theirs), _cpu(ours)
    await work()
    after = time.perf_counter(), _own(), _cpu(theirs), _cpu(ours)
    seconds, service, dashboard, postgres = (b - a for a, b in zip(before, after, strict=True))
    print(
        f"  {name:<26} {seconds:8.2f} s   CPU: service {service:6.2f}, dashboard {dashboard:6.2f},"
        f" our PostgreSQL {postgres:6.2f} s",
        flush=True,
    )


async def measure(
    pool: asyncpg.Pool, source: Source, edit: Callable[[], Awaitable[object]], theirs: str, ours: str
) -> None:
    """First load, idle, whole comparisons; print."""
    sync = Sync(pool, source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await _measured("first load", sync.run_once, theirs, ours)
    await pool.execute("VACUUM ANALYZE")
    await _measured("idle", lambda: sync.run_once(compare=False), theirs, ours)
    await _measured("comparison, unchanged", lambda: sync.run_once(compare=True), theirs, ours)
    await edit()
    await _measured("comparison, 0.1 % edited", lambda: sync.run_once(compare=True), theirs, ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  peak memory {peak / 1024:.0f} MB, {(peak - before) / 1024:.0f} over the start", flush=True)
    await sync.close()
    await pool.close()


async def on_postgres(sessions: int, folder: Path) -> None:
    """The dashboard in a PostgreSQL server of its own."""
    now, users = datetime.now(UTC), max(1000, sessions // 10)
    theirs, their_server = embedded.start(folder / "dashboard")
    ours, our_server = embedded.start(folder / "jobs")
    try:
        url = await databases.ensure_database(theirs, "dashboard")
        await fill_postgres(url, sessions, users, now)
        pool = await open_pool(await databases.ensure_database(ours, "jobs"))
        await migrate(pool)

        async def edit() -> None:
            connection = await asyncpg.connect(url)
            await connection.execute(_EDITED)
            await connection.close()

        print(f"\nPostgreSQL, {sessions:,} sessions, {users:,} users", flush=True)
        await measure(pool, PostgresSource(url), edit, str(folder / "dashboard"), str(folder / "jobs"))
    finally:
        their_server.stop()
        our_server.stop()


async def on_mongodb(sessions: int, folder: Path) -> None:
    """The dashboard in a MongoDB replica set of one member."""
    users = max(1000, sessions // 10)
    ours, server = embedded.start(folder / "jobs")
    try:
        with mongo.server() as url:
            await fill_mongo_apart(url, "bench", sessions, users)
            pool = await open_pool(await databases.ensure_database(ours, "jobs"))
            await migrate(pool)

            def edit() -> object:
                with MongoClient[dict[str, object]](url) as client:
                    thousandth = {"_id": {"$regex": "000$"}}
                    return client["bench"].timersessions.update_many(
                        thousandth, {"$inc": {"elapsedTime": 1000}}
                    )

            print(f"\nMongoDB, {sessions:,} sessions, {users:,} users", flush=True)
            source = MongoSource(url, database="bench")
            await measure(pool, source, lambda: asyncio.to_thread(edit), "mongod", str(folder / "jobs"))
    finally:
        server.stop()


def main() -> None:
    """Each kind in a process of its own, so that peak memory is its own."""
    log.configure("error", json=True)
    if sys.argv[1:2] == ["--one"]:
        work = on_mongodb if sys.argv[2] == "mongodb" else on_postgres
        with (
            tempfile.TemporaryDirectory(prefix="jobs-bench-") as name,
            asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner,
        ):
            runner.run(work(int(sys.argv[3]), Path(name)))
    else:
        sessions = (sys.argv[1:] or ["1000000"])[0]
        for kind in ("postgresql", "mongodb"):
            if kind == "mongodb" and not mongo.BINARY.exists():
                print("no mongod here: MongoDB is left out")
                continue
            subprocess.run([sys.executable, "-m", "benchmarks.sync", "--one", kind, sessions], check=True)


if __name__ == "__main__":
    main()
