"""Rollups over N sessions: ``python -m benchmarks.analytics_run [N …]`` (1,000,000 unless told).

For each N, with a tenth as many users (at most 100,000) in 50 zones, over a year: the first load from
PostgreSQL and from MongoDB in rows per second; the CPU of the full rollup (every user day, every daily,
weekly, monthly and six-hour figure, profiles, insights, series), stage by stage, as multiples of one plain
``GROUP BY`` over the same rows in the same database; the daily run after 0.3 % new rows as a share of the
full one; the peak memory of the process over that after its imports, and the event loop's lag meanwhile.
CPU is that of all processes of PostgreSQL and of this one. Ratios are what counts; machines differ.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from benchmarks.analytics_stages import Cpu, StageMeter
from benchmarks.dashboards import SESSIONS, YEAR, fill_mongo_apart, fill_postgres
from benchmarks.postgres_cost import PostgresMeter
from service import log
from service.analytics.maintenance import AnalyticsSettings
from service.analytics.runtime_metrics import RuntimeMetrics
from service.archive.manifest import RetentionPolicy
from service.clock import SystemClock
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.engine import embedded
from service.engine.context import Resources
from service.engine.database import migrate, open_pool
from service.engine.ledger import JobDefinition, Ledger
from service.engine.runner import Runner
from service.jobs import all_jobs
from service.setup import databases
from tests import mongo

_JOBS = ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")

_PLAIN = """
SELECT count(*) FROM (
    SELECT s.user_id, (s.started_at AT TIME ZONE u.timezone)::date AS day, count(*), sum(s.focus_seconds),
           count(*) FILTER (WHERE s.status = 'completed')
    FROM service.timer_sessions AS s JOIN service.users AS u ON u.id = s.user_id GROUP BY 1, 2) AS days"""


async def _load(pool: asyncpg.Pool, source: Source) -> tuple[float, Sync]:
    await pool.execute("TRUNCATE service.users, service.goals, service.timer_sessions, service.user_zone,"
                       " service.sync_state, service.stale_day")  # fmt: skip
    sync = Sync(pool, source)
    began = time.perf_counter()
    await sync.run_once()
    return time.perf_counter() - began, sync


async def _run(runner: Runner, meter: StageMeter) -> Cpu:
    """The CPU of all jobs; ``meter`` holds that of their stages. userBehavior makes people's profiles too."""
    meter.stages.clear()
    before = meter.now()
    for name in _JOBS:
        result = await runner.run_manual(f"analytics.{name}")
        if result.state != "succeeded":
            raise RuntimeError(f"{name}: {result.state} {result.error}")
    return meter.now() - before


def _print_stages(name: str, meter: StageMeter, whole: Cpu, unit: float) -> None:
    print(f"  {name:<28} PostgreSQL   Python  together  of a plain GROUP BY", flush=True)
    rest = Cpu(whole.postgres, whole.python)
    for cost in meter.stages.values():
        rest = rest - cost
    for stage, cost in {**meter.stages, "the rest": rest, "all": whole}.items():
        print(
            f"    {stage:<26} {cost.postgres:8.2f} s {cost.python:6.2f} s {cost.total:7.2f} s"
            f" {cost.total / unit:11.2f}",
            flush=True,
        )


def _memory(kind: str) -> float:
    """MB of this process: ``VmRSS`` now, ``VmHWM`` at its peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith(kind))


def _line_of_memory(stage: str, before: float) -> None:
    """The peak since the last line."""
    print(f"  memory, {stage:<32} {_memory('VmHWM') - before:+6.1f} MB (aim +40)", flush=True)
    Path("/proc/self/clear_refs").write_text("5")


async def _runner(pool: asyncpg.Pool) -> Runner:
    jobs = all_jobs()
    ledger = Ledger(pool, "bench", timedelta(seconds=60))
    await ledger.register(
        [JobDefinition(j.id, j.schedule, j.mode, "bench", j.timeout, j.max_attempts) for j in jobs.values()]
    )

    async def nothing(_since: datetime | None) -> None:
        return

    return Runner(
        pool,
        ledger,
        jobs,
        refresh=nothing,
        clock=SystemClock(),
        wake=asyncio.Event(),
        resources=Resources(AnalyticsSettings(), RetentionPolicy()),
    )


async def measure(sessions: int, dsn: str, url: str | None) -> None:
    """Load, roll up, add, roll up again; print."""
    users = min(100_000, max(1000, sessions // 10))
    now = datetime.now(UTC)
    dashboard = await databases.ensure_database(dsn, "bench_dashboard")
    ours = await databases.ensure_database(dsn, "bench_jobs")
    await fill_postgres(dashboard, sessions, users, now)
    pool = await open_pool(ours)
    await migrate(pool)
    if url:
        await fill_mongo_apart(url, "bench", sessions, users)
    watch = await asyncpg.connect(ours)
    meter = StageMeter(PostgresMeter(watch))
    vitals, stop = RuntimeMetrics(SystemClock()), asyncio.Event()
    watching = asyncio.ensure_future(vitals.serve(stop))
    imported = _memory("VmRSS")
    print(f"\n{sessions:,} sessions, {users:,} users, 50 zones, {YEAR} days; {imported:.0f} MB", flush=True)
    if url:
        seconds, sync = await _load(pool, MongoSource(url, database="bench"))
        await sync.close()
        _line("first load, MongoDB", seconds, f"{(sessions + users) / seconds:,.0f} rows/s")
        _line_of_memory("first load, MongoDB", imported)
    seconds, sync = await _load(pool, PostgresSource(dashboard))
    _line("first load, PostgreSQL", seconds, f"{(sessions + users) / seconds:,.0f} rows/s")
    _line_of_memory("first load, PostgreSQL", imported)
    await pool.execute("VACUUM ANALYZE")
    await pool.fetchval(_PLAIN)
    before = meter.now()
    days = await pool.fetchval(_PLAIN)
    unit = (meter.now() - before).postgres
    _line("plain GROUP BY", unit, f"{days:,} user days")
    runner = await _runner(pool)
    full = await _run(runner, meter)
    _print_stages("full run of four jobs", meter, full, unit)
    print(f"    {full.total / unit:.1f} × the plain GROUP BY (aim 10)", flush=True)
    _line_of_memory("full run", imported)
    await pool.execute("ANALYZE")
    connection = await asyncpg.connect(dashboard)
    new = max(1, int(sessions * 0.003))
    await connection.execute(SESSIONS, new, users, now, "new", 3 * 86_400)
    await connection.execute("UPDATE timer_sessions SET updated_at = now() WHERE id LIKE 'new%'")
    await connection.close()
    await sync.run_once()
    stale = await pool.fetchval("SELECT count(*) FROM service.stale_day")
    again = await _run(runner, meter)
    _print_stages(f"daily run, {stale:,} stale days", meter, again, unit)
    print(f"    {again.total / full.total:.3f} of the full run (aim 0.02)", flush=True)
    _line_of_memory("daily run", imported)
    stop.set()
    await watching
    print(f"  loop lag p99             {vitals.report()['loopLagMs']['p99']:8.1f} ms (aim 50)", flush=True)
    await watch.close()
    await sync.close()
    await pool.close()


def _line(name: str, seconds: float, more: str) -> None:
    print(f"  {name:<24} {seconds:8.2f} s   {more}", flush=True)


async def one_size(sessions: int) -> None:
    """Servers of its own, and one measurement."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as name:
        dsn, server = embedded.start(Path(name) / "postgres")
        try:
            if not mongo.BINARY.exists():
                print("no mongod here: MongoDB is left out")
                await measure(sessions, dsn, None)
                return
            with mongo.server() as url:
                await measure(sessions, dsn, url)
        finally:
            server.stop()


def main() -> None:
    """Each size in a process of its own, so that peak memory is its own."""
    log.configure("error", json=True)
    if sys.argv[1:2] == ["--one"]:
        with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
            runner.run(one_size(int(sys.argv[2])))
    else:
        for sessions in sys.argv[1:] or ["1000000"]:
            subprocess.run([sys.executable, "-m", "benchmarks.analytics_run", "--one", sessions], check=True)


if __name__ == "__main__":
    main()
