"""Two and four replicas with wrong clocks, frozen for longer than their leases: each occurrence once."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import asyncpg
import pytest

from service.engine.ledger import Ledger
from tests.conftest import LONG
from tests.process import spawn
from tests.story.replica import DEFINITION, JOB, PAGES

_FROZEN = 1.6
"""Seconds; a lease is one second."""


_DOUBLED = """
SELECT coalesce(bool_or(n > 1), false)
FROM (SELECT count(*) AS n FROM effect GROUP BY run_id, page) AS e
"""


async def _backlog(pool: asyncpg.Pool, minutes: int) -> None:
    await pool.execute("CREATE TABLE effect (run_id bigint, page text)")
    await Ledger(pool, "test", timedelta(seconds=1)).register([DEFINITION])
    await pool.execute(
        "UPDATE service.job_schedule SET materialized_through = service.now() - make_interval(mins => $1)",
        minutes,
    )


async def _live(
    dsn: str, pool: asyncpg.Pool, replicas: int, freezes: int, *flags: str, enough: str = "SELECT false"
) -> None:
    """Start replicas, freeze one after the other at random moments, and wait until the backlog is done.

    ``enough``: a question; as soon as it is true, nothing more is waited for.
    """
    dice = random.Random(replicas)
    skews = [str(round(dice.uniform(-1, 1), 2)) for _ in range(replicas)]
    alive = [await spawn(sys.executable, "-m", "tests.story.replica", dsn, skew, *flags) for skew in skews]
    try:
        await _until(pool, "SELECT count(*) > 0 FROM effect")
        for _ in range(freezes):
            owner = await pool.fetchval("SELECT owner FROM service.job_run WHERE state = 'running' LIMIT 1")
            pid = int(owner.rpartition("-")[2]) if owner else dice.choice(alive).pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(_FROZEN)  # a freeze lasts; that is what is tested
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(dice.uniform(0.05, 0.3))
            if await pool.fetchval(enough):
                return
        await _until(pool, "SELECT count(*) = 0 FROM service.job_run WHERE state IN ('pending', 'running')")
    finally:
        for process in alive:
            process.kill()
            await process.wait()


async def _until(pool: asyncpg.Pool, question: str) -> None:
    async with asyncio.timeout(200):
        while not await pool.fetchval(question):
            await asyncio.sleep(0.05)


async def _effects(pool: asyncpg.Pool) -> Counter[tuple[int, str]]:
    return Counter((row["run_id"], row["page"]) for row in await pool.fetch("SELECT * FROM effect"))


@pytest.mark.long
@pytest.mark.parametrize("replicas", [2, 4] if LONG else [2])
async def test_each_occurrence_takes_effect_once(
    dsn: str, pool: asyncpg.Pool, replicas: int, long_form: bool
) -> None:
    freezes = 30 if long_form else 3
    await _backlog(pool, 20 * freezes)

    await _live(dsn, pool, replicas, freezes)

    runs = await pool.fetch("SELECT id, state, nominal_at FROM service.job_run ORDER BY nominal_at")
    gaps = {b["nominal_at"] - a["nominal_at"] for a, b in pairwise(runs)}
    assert gaps == {timedelta(minutes=1)}
    assert {run["state"] for run in runs} == {"succeeded"}
    pages = [str(page + 1) for page in range(PAGES)]
    assert await _effects(pool) == Counter({(run["id"], page): 1 for run in runs for page in pages})
    assert await pool.fetchval("SELECT max(epoch) FROM service.job_run WHERE job = $1", JOB.id) > 1


async def test_without_the_fence_a_zombie_writes_twice(dsn: str, pool: asyncpg.Pool) -> None:
    """The test above can fail: this is what it would have seen."""
    await _backlog(pool, 600)

    await _live(dsn, pool, 2, 40, "unfenced", enough=_DOUBLED)

    assert await pool.fetchval(_DOUBLED)
