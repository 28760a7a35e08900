"""A run whose owners die one after the other comes to its end: each a page further, or all at one person."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.engine.ledger import Run
from service.engine.run import RunState, Trigger
from tests.given import GOALS, World, goal, user
from tests.story.one_page_worker import PAGE

PEOPLE = 1600
DEATHS = 6
"""More than the attempts that a run has."""


@asynccontextmanager
async def _parent(dsn: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.story.one_page_worker", dsn, stdin=pipe, stdout=pipe
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


def _tell(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


async def _due(world: World, people: int = PEOPLE) -> Run:
    # The real clock: leases of real processes run out by it.
    today = await world.pool.fetchval("SELECT (service.now() AT TIME ZONE 'UTC')::date + 1")
    names = [f"u{n:05d}" for n in range(people)]
    await world.live(
        *(user(name, "UTC") for name in names),
        *(goal(f"g-{name}", name, today.isoformat()) for name in names),
    )
    return await (await world.ledger()).request(GOALS, Trigger.ONCE)


async def test_a_run_that_gets_further_at_each_takeover_is_not_given_up(world: World, dsn: str) -> None:
    run = await _due(world)
    async with _parent(dsn) as parent:
        for _ in range(DEATHS):
            _tell(parent, "page")
            _, pid = (await _line(parent)).split()
            os.kill(int(pid), signal.SIGKILL)
            assert await _line(parent) == "killed"
            await world.pool.execute("UPDATE service.job_run SET lease_until = service.now()")
        _tell(parent, "rest")
        assert await _line(parent) == "done"

    ended = await (await world.ledger()).get(run.id)
    assert ended is not None
    assert (ended.state, ended.done) == (RunState.SUCCEEDED, PEOPLE)
    mails = "SELECT count(DISTINCT user_id) FROM service.delivery_with_state WHERE channel = 'email'"
    assert await world.pool.fetchval(mails) == PEOPLE
    attempts = await world.pool.fetch("SELECT state FROM service.run_attempt ORDER BY epoch")
    assert [row["state"] for row in attempts] == ["lost"] * DEATHS + ["succeeded"]
    assert world.jobs[GOALS].max_attempts < DEATHS
    assert DEATHS * PAGE < PEOPLE


FATAL, FEW = "u00077", 250
_OVER = """
UPDATE service.job_run
SET lease_until = least(lease_until, service.now()), finished_at = service.now() - interval '1 hour'
"""
"""Nobody waits until a lease is over, or until a dead run is retried."""


async def test_a_person_whose_data_kills_the_process_is_passed_over(world: World, dsn: str) -> None:
    """Found by halving the pages; everybody else is decided."""
    run, deaths = await _due(world, FEW), 0
    async with _parent(dsn) as parent:
        while True:
            _tell(parent, f"fatal {FATAL}")
            if await _line(parent) == "done":
                break
            deaths += 1
            await world.pool.execute(_OVER)
            assert deaths < 20

    ended = await (await world.ledger()).get(run.id)
    assert ended is not None
    assert (ended.state, ended.done) == (RunState.PARTIAL, FEW)
    assert (ended.counts["user_error"], ended.counts["passed_over"]) == (1, 1)
    mails = "SELECT count(DISTINCT user_id) FROM service.delivery_with_state WHERE channel = 'email'"
    assert await world.pool.fetchval(mails) == FEW - 1
    decided = await world.pool.fetch("SELECT user_id, reason, detail FROM service.refusal_in_words")
    assert [tuple(row) for row in decided] == [
        (FATAL, "user_error", "Each attempt at this person ended the process, or failed.")
    ]
    assert deaths > world.jobs[GOALS].max_attempts
