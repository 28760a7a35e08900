"""kill -9 of a real process around every commit of every job; two processes on one database."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from service.engine.run import Trigger
from tests.analytics.given import DAILY, JOBS, Lab, at, people, session
from tests.given import goal
from tests.process import spawn

DAY = timedelta(days=1)
LEASE = timedelta(seconds=61)


class Parent:
    """Forks workers; see tests.analytics.worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def child(self, line: str) -> str:
        """Let a worker live until its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(120):
            return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def _parent(dsn: str) -> AsyncIterator[Parent]:
    pipe = asyncio.subprocess.PIPE
    process = await spawn(sys.executable, "-m", "tests.analytics.worker", dsn, stdin=pipe, stdout=pipe)
    try:
        yield Parent(process)
    finally:
        process.kill()
        await process.wait()


async def _hundred_days(lab: Lab) -> None:
    await lab.clock(at("2026-05-03 06:30"))
    await lab.put(*people("ann", "ben", zone="America/Havana", created=at("2026-01-20 08:00")))
    for n in range(100):
        start = at("2026-01-22 23:30") + n * DAY
        await lab.put(
            session(f"s{n}", ("ann", "ben")[n % 2], start, 25 + n), goal(f"g{n}", "ann", created_at=start)
        )


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.long(only=True))])
async def test_a_death_around_any_commit_of_any_job_leaves_the_same_rows(
    lab: Lab, dsn: str, moment: str, long_form: bool
) -> None:
    await _hundred_days(lab)
    ledger = await lab.ledger(attempts=10_000)
    deaths = dict.fromkeys(JOBS, 0)
    async with _parent(dsn) as parent:
        for job in JOBS:
            for step in range(1, 100 if long_form else 4):
                await ledger.request(job, Trigger.ONCE)
                end = await parent.child(f"{moment} {step}")
                assert end in {"dead", "done"}
                deaths[job] += end == "dead"
                await lab.clock(lab.now + LEASE)
                await lab.put(session(f"late{step}", "ben", at("2026-02-03 12:00") + step * DAY))
                if end == "done":
                    break
            assert await parent.child("whole") == "done"
    assert min(deaths.values()) >= 3, deaths
    await lab.run()
    await lab.check()


async def test_a_run_that_died_is_taken_over_and_goes_on(lab: Lab, dsn: str) -> None:
    await _hundred_days(lab)
    ledger = await lab.ledger(attempts=10_000)
    run = await ledger.request(DAILY, Trigger.ONCE)
    async with _parent(dsn) as parent:
        assert await parent.child("before 3") == "dead"
        assert await lab.pool.fetchval("SELECT working FROM service.watermark WHERE statistic = 'daily'")
        assert not await lab.figures("daily")
        await lab.clock(lab.now + LEASE)
        assert await parent.child("whole") == "done"
    ended = await ledger.get(run.id)
    assert ended
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    await lab.run()
    await lab.check()


async def test_two_replicas_derive_each_period_once(lab: Lab, dsn: str) -> None:
    await _hundred_days(lab)
    await lab.ledger(attempts=10_000)
    await lab.pool.execute(
        "UPDATE service.job_schedule SET materialized_through = materialized_through - interval '20 days'"
    )
    async with _parent(dsn) as parent:
        for _ in range(30):
            assert await parent.child("two") == "done"
            if not await lab.pool.fetchval("SELECT count(*) FROM service.job_run WHERE state = 'pending'"):
                break
            await lab.clock(lab.now + timedelta(minutes=2))
    runs = await lab.pool.fetch("SELECT * FROM service.job_run")
    assert {run["state"] for run in runs} <= {"succeeded", "missed"}
    assert len({run["owner"] for run in runs if run["state"] == "succeeded"}) >= 2
    new = sum(n for run in runs for name, n in run["counts"].items() if name.endswith("New"))
    assert new == await lab.pool.fetchval("SELECT count(*) FROM service.rollup")
    assert await lab.revisions() == []
    await lab.run()
    await lab.check()
