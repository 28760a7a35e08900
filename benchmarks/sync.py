"""The copy of the dashboard: ``python -m benchmarks.sync [N]`` (1,000,000 sessions unless told).

With a tenth as many users and half as many goals, on MongoDB and on PostgreSQL: the first load, an idle
synchronisation, and a whole comparison of the copy with the dashboard, unchanged and with one row in a
thousand edited without a new time of writing. Seconds, and the CPU time of this process, of the dashboard's
server and of our PostgreSQL. On MongoDB also the lag of the change stream: from the acknowledged edit of a
user to the row of the copy.
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
from pymongo.database import Database

from benchmarks.dashboards import fill_mongo_apart, fill_postgres, session_id
from service import log
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.engine import embedded
from service.engine.database import migrate, open_pool
from service.setup import databases
from tests import mongo

_TICK = os.sysconf("SC_CLK_TCK")
_EDITS = 200
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
    """First load, idle, whole comparisons; print. Closes nothing."""
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


async def measure_stream(
    pool: asyncpg.Pool, source: Source, dashboard: Database[dict[str, object]], theirs: str, ours: str
) -> None:
    """Lag of single edits, of a thousand at once, and what following costs while nothing happens; print."""
    sync, stop = Sync(pool, source, SyncSettings(interval=3600)), asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    while sync.health()["change_stream"]["state"] != "live":
        await asyncio.sleep(0.1)
    ids = [user["_id"] for user in dashboard.users.find({}, {"_id": 1}).limit(1000)]

    async def arrival(title: str, number: int) -> float:
        begun = time.perf_counter()
        sql = "SELECT count(*) >= $2 FROM service.users WHERE id = ANY ($3) AND name = $1"
        while not await pool.fetchval(sql, title, number, [str(id_) for id_ in ids]):
            await asyncio.sleep(0.002)
        return time.perf_counter() - begun

    lags = []
    for n, id_ in enumerate(ids[:_EDITS]):
        edit = {"$set": {"name": f"Lag {n}"}}
        await asyncio.to_thread(dashboard.users.find_one_and_update, {"_id": id_}, edit)
        lags.append(await arrival(f"Lag {n}", 1))
    lags.sort()
    p50, p99 = lags[len(lags) // 2], lags[len(lags) * 99 // 100]
    print(f"  change stream, lag of {len(lags)} edits: p50 {p50:.3f} s, p99 {p99:.3f} s", flush=True)
    many = {"$set": {"name": "All at once"}}
    await asyncio.to_thread(dashboard.users.update_many, {"_id": {"$in": ids}}, many)
    print(f"  {len(ids)} edits at once: {await arrival('All at once', len(ids)):.3f} s", flush=True)
    await _measured("change stream, idle", lambda: asyncio.sleep(10), theirs, ours)
    stop.set()
    await serving


async def on_postgres(sessions: int, folder: Path) -> None:
    """The dashboard in a PostgreSQL server of its own."""
    now, users = datetime.now(UTC), max(1000, sessions // 10)
    theirs, their_server = embedded.start(folder / "dashboard")
    ours, our_server = embedded.start(folder / "jobs")
    try:
        url = await databases.ensure_database(theirs, "dashboard")
        await fill_postgres(url, sessions, users, now, goals=5 * users)
        pool = await open_pool(await databases.ensure_database(ours, "jobs"))
        await migrate(pool)

        async def edit() -> None:
            connection = await asyncpg.connect(url)
            await connection.execute(_EDITED)
            await connection.close()

        print(f"\nPostgreSQL, {sessions:,} sessions, {users:,} users", flush=True)
        source = PostgresSource(url)
        await measure(pool, source, edit, str(folder / "dashboard"), str(folder / "jobs"))
        await source.close()
        await pool.close()
    finally:
        their_server.stop()
        our_server.stop()


async def on_mongodb(sessions: int, folder: Path) -> None:
    """The dashboard in a MongoDB replica set of one member."""
    users = max(1000, sessions // 10)
    ours, server = embedded.start(folder / "jobs")
    try:
        with mongo.server() as url:
            await fill_mongo_apart(url, "bench", sessions, users, goals=5 * users)
            pool = await open_pool(await databases.ensure_database(ours, "jobs"))
            await migrate(pool)

            def edit() -> object:
                with MongoClient[dict[str, object]](url) as client:
                    thousandth = {"_id": {"$in": [session_id(n) for n in range(0, sessions, 1000)]}}
                    return client["bench"].timersessions.update_many(
                        thousandth, {"$inc": {"elapsedTime": 1000}}
                    )

            print(f"\nMongoDB, {sessions:,} sessions, {users:,} users", flush=True)
            source = MongoSource(url, database="bench")
            await measure(pool, source, lambda: asyncio.to_thread(edit), "bin/mongod", str(folder / "jobs"))
            with MongoClient[dict[str, object]](url) as client:
                await measure_stream(pool, source, client["bench"], "bin/mongod", str(folder / "jobs"))
            await source.close()
            await pool.close()
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
