"""One replica of several, its clock wrong by SKEW seconds.

``python -m tests.story.replica DSN SKEW [unfenced]`` decides and runs the occurrences of a job that is
due every minute. Each page leaves a row in ``effect``, which has no key: only the fence keeps the page of a
zombie out.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg

from service import log
from service.clock import SystemClock
from service.engine import ledger as ledger_module
from service.engine.context import Resources, RunContext
from service.engine.database import open_pool
from service.engine.job import CatchUp, Job, JobType, TimeMode
from service.engine.ledger import JobDefinition, Ledger, Run
from service.engine.runner import Runner
from service.engine.trigger import TriggerLoop, timing_of

LEASE = timedelta(seconds=1)
PAGES = 5


class SkewedClock(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, skew: float) -> None:
        self._skew = timedelta(seconds=skew)

    def now(self) -> datetime:
        return super().now() + self._skew


class CountingLedger(Ledger):
    """Writes down each page that got through."""

    async def advance(
        self, connection: asyncpg.Connection, run: Run, cursor: str, done: int, counts: Mapping[str, int]
    ) -> None:
        await connection.execute("INSERT INTO effect VALUES ($1, $2)", run.id, cursor)
        await super().advance(connection, run, cursor, done, counts)


async def _pages(context: RunContext) -> None:
    for page in range(int(context.cursor or 0) + 1, PAGES + 1):
        await asyncio.sleep(0.02)
        async with context.step(long=False) as connection:
            await context.advance(connection, str(page), 1)


JOB = Job(
    type=JobType.ANALYTICS,
    name="everyMinute",
    about="",
    schedule="* * * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=1),
    steps=_pages,
    max_attempts=1000,
)
TIMING = timing_of(JOB)
DEFINITION = JobDefinition(
    JOB.id, JOB.schedule, JOB.mode, TIMING.schedule.hash, JOB.timeout, JOB.max_attempts
)


async def _no_refresh(_since: datetime | None) -> None:
    return


async def work(dsn: str, skew: float) -> None:
    """Sweep and run until killed."""
    pool = await open_pool(dsn, max_size=5)
    ledger = CountingLedger(pool, f"replica-{os.getpid()}", LEASE)
    await ledger.register([DEFINITION])
    jobs = {JOB.id: JOB}
    trigger = TriggerLoop(ledger, jobs, {JOB.id: TIMING}, ZoneInfo("UTC"), asyncio.Event())
    runner = Runner(
        pool,
        ledger,
        jobs,
        refresh=_no_refresh,
        clock=SkewedClock(skew),
        wake=asyncio.Event(),
        resources=Resources(),
    )
    while True:
        await trigger.sweep_once()
        if await runner.run_one() is None:
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    log.configure("error", json=True)
    if sys.argv[3:] == ["unfenced"]:
        unfenced = "SELECT cancel_requested_at FROM service.job_run WHERE id = $1 AND $2::bigint > 0"
        ledger_module._SQL |= {"fence": unfenced, "fence_again": unfenced}
        for name in ("finish", "heartbeat"):
            fenced = ledger_module._SQL[name]
            open_ = fenced.replace("AND epoch = $2 AND state = 'running'", "AND $2::bigint > 0")
            assert open_ != fenced
            ledger_module._SQL[name] = open_
    asyncio.run(work(sys.argv[1], float(sys.argv[2])))
