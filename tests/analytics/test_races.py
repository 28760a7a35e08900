"""A sync and a rebuild on two connections at the same time: no day is lost between them."""

import asyncio
import re
from datetime import UTC, date, datetime

import asyncpg
import pytest

from service.analytics import rollups
from service.analytics.rollups import RebuiltDays
from service.dashboard import replica
from tests.analytics.given import Lab, at, people, session

_FIRST = session("s1", "ann", at("2026-03-10 09:00"))
_SECOND = session("s2", "ann", at("2026-03-10 11:00"))


async def _absorb(pool: asyncpg.Pool) -> RebuiltDays:
    async with pool.acquire() as connection, connection.transaction(), asyncio.timeout(60):
        return await rollups.rebuild_stale_days(connection)


async def _started(pool: asyncpg.Pool) -> int | None:
    found: int | None = await pool.fetchval(
        "SELECT started FROM service.user_day WHERE local_date = '2026-03-10'"
    )
    return found


async def _sync_while_absorbing(lab: Lab) -> int | None:
    """A sync writes on a day that is stale already and stays open; the day is rebuilt meanwhile."""
    await lab.put(*people("ann"), _FIRST)
    async with lab.pool.acquire() as syncing:
        transaction = syncing.transaction()
        await transaction.start()
        await replica.upsert_timer_sessions(syncing, [_SECOND])
        await _absorb(lab.pool)
        await transaction.commit()
    await _absorb(lab.pool)
    return await _started(lab.pool)


async def test_a_sync_that_is_open_while_its_day_is_rebuilt_does_not_lose_it(lab: Lab) -> None:
    assert await _sync_while_absorbing(lab) == 2


async def test_a_mark_that_skips_what_is_marked_already_would_lose_it(lab: Lab) -> None:
    """The test above can fail: this is what it would have seen."""
    marking = await lab.pool.fetchval("SELECT pg_get_functiondef('service.mark_stale'::regproc)")
    skipping = re.sub(r"DO UPDATE SET .*", "DO NOTHING", marking)
    assert skipping != marking
    await lab.pool.execute(skipping)
    assert await _sync_while_absorbing(lab) == 1


async def test_a_day_that_a_sync_holds_does_not_keep_others_waiting(lab: Lab) -> None:
    await lab.put(*people("ann", "ben"), _FIRST, session("b", "ben", at("2026-03-10 09:00")))
    async with lab.pool.acquire() as syncing, syncing.transaction():
        await replica.upsert_timer_sessions(syncing, [_SECOND])
        assert await _absorb(lab.pool) == RebuiltDays(days=1, changed=1)


async def test_a_sync_that_meets_an_open_rebuild_waits_and_marks_anew(lab: Lab) -> None:
    await lab.put(*people("ann"), _FIRST)
    async with lab.pool.acquire() as rebuilding:
        transaction = rebuilding.transaction()
        await transaction.start()
        await rollups.rebuild_stale_days(rebuilding)
        writing = asyncio.create_task(lab.put(_SECOND))
        async with asyncio.timeout(60):
            while not await lab.pool.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            ):
                assert not writing.done()
        await transaction.commit()
        await writing
    assert await _started(lab.pool) == 1
    await _absorb(lab.pool)
    assert await _started(lab.pool) == 2


@pytest.mark.parametrize("seed", range(3))
async def test_many_syncs_against_a_rebuild_that_never_rests(lab: Lab, seed: int) -> None:
    names = [f"u{n}" for n in range(5)]
    await lab.put(*people(*names))

    async def write(worker: int) -> None:
        async with lab.pool.acquire() as connection:
            for n in range(25):
                start = datetime(2026, 3, 1 + (n + seed) % 4, worker, tzinfo=UTC)
                one = session(f"{worker}.{n % 7}", names[(n * worker + seed) % 5], start, 5 + n)
                async with connection.transaction():
                    await replica.upsert_timer_sessions(connection, [one])
                    await asyncio.sleep(0)

    writers = asyncio.gather(*(write(worker) for worker in range(1, 5)))
    while not writers.done():
        await _absorb(lab.pool)
    await writers
    await _absorb(lab.pool)
    await lab.take()
    rows = await lab.pool.fetch("SELECT user_id, local_date, started, focus_seconds FROM service.user_day")
    found = {(r["user_id"], r["local_date"]): (r["started"], r["focus_seconds"]) for r in rows}
    expected = lab.truth().days
    assert found == {key: (day["started"], day["focus_seconds"]) for key, day in expected.items()}
    assert date(2026, 3, 1) in {day for _, day in expected}
