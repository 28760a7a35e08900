"""One holder at a time; whoever is silent for too long loses it, and whatever they still meant to write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from service.engine.lease import HeldLease, Lease, revoke
from service.errors import LeaseLost

LONG, SHORT = timedelta(seconds=30), timedelta(seconds=1)
_LATER = "UPDATE service.lease SET until = service.now() - interval '1 second'"
_WRITE = "INSERT INTO service.erased (user_key) VALUES ('x')"


def _lease(pool: asyncpg.Pool, owner: str, length: timedelta = LONG) -> Lease:
    return Lease(pool, "sync", owner, length)


async def _written(pool: asyncpg.Pool) -> int:
    found: int = await pool.fetchval("SELECT count(*) FROM service.erased")
    return found


@asynccontextmanager
async def _taken(lease: Lease, max_wait: float = 0.0) -> AsyncIterator[HeldLease]:
    async with lease.hold(max_wait) as held:
        assert held
        yield held


async def test_one_holds_it_and_then_the_next(pool: asyncpg.Pool) -> None:
    one, other = _lease(pool, "one"), _lease(pool, "other")
    async with _taken(one) as held:
        async with other.hold() as nothing:
            assert nothing is None
        async with held.step() as connection:
            await connection.execute(_WRITE)
    async with _taken(other):
        assert await _written(pool) == 1
    async with _taken(Lease(pool, "a name of its own", "one")):
        assert await pool.fetchval("SELECT count(*) FROM service.lease") == 2


async def test_many_who_want_it_get_it_one_after_the_other(pool: asyncpg.Pool) -> None:
    inside = most = turns = 0

    async def want(n: int) -> None:
        nonlocal inside, most, turns
        async with _taken(_lease(pool, str(n)), max_wait=60):
            inside, turns = inside + 1, turns + 1
            most = max(most, inside)
            await pool.fetchval("SELECT pg_sleep(0.01)")
            inside -= 1

    await asyncio.gather(*(want(n) for n in range(8)))
    assert (most, turns) == (1, 8)


async def test_who_was_silent_too_long_writes_nothing(pool: asyncpg.Pool) -> None:
    one, other = _lease(pool, "one"), _lease(pool, "other")
    async with _taken(one) as held:
        await pool.execute(_LATER)
        async with _taken(other) as heir:
            with pytest.raises(LeaseLost):
                async with held.step() as connection:
                    await connection.execute(_WRITE)
            with pytest.raises(LeaseLost):
                await held.check()
            assert not await held.renew()
            async with heir.step() as connection:
                await connection.execute(_WRITE)
            assert await _written(pool) == 1
        await held.release()  # not the other's
        assert await pool.fetchval("SELECT epoch FROM service.lease") == 2


async def test_a_transaction_during_which_it_is_lost_does_not_take_effect(pool: asyncpg.Pool) -> None:
    one, other = _lease(pool, "one"), _lease(pool, "other")
    async with _taken(one) as held:
        with pytest.raises(LeaseLost):  # noqa: PT012
            async with held.step() as connection:
                await connection.execute(_WRITE)
                await pool.execute(_LATER)
                async with _taken(other):
                    pass
        assert await _written(pool) == 0


async def test_a_heartbeat_keeps_it_also_during_a_long_transaction(pool: asyncpg.Pool) -> None:
    one, other = _lease(pool, "one", SHORT), _lease(pool, "other", SHORT)
    async with _taken(one) as held:
        async with held.step() as connection:
            await connection.fetchval("SELECT pg_sleep(2.5)")
            await connection.execute(_WRITE)
        async with other.hold() as nothing:
            assert nothing is None
    assert await _written(pool) == 1


async def test_the_server_ends_the_transaction_of_who_stands_still(pool: asyncpg.Pool) -> None:
    """Nobody has to wait for the locks of a process that is frozen in the middle of a transaction."""
    one, other = _lease(pool, "one", SHORT), _lease(pool, "other", SHORT)
    gone_on = False
    with pytest.raises(LeaseLost):  # noqa: PT012
        async with _taken(one) as held, held.step() as connection:
            await connection.execute(_WRITE)
            await pool.execute(_LATER)
            async with _taken(other, max_wait=30), asyncio.timeout(30):
                await pool.execute(_WRITE + " ON CONFLICT DO NOTHING")  # waits for the row's fate
                gone_on = True
    assert gone_on
    assert await _written(pool) == 1  # the other's


async def test_it_can_be_taken_away(pool: asyncpg.Pool) -> None:
    async with _taken(_lease(pool, "one")) as held:
        with pytest.raises(LeaseLost):  # noqa: PT012
            async with held.step() as connection:
                await connection.execute(_WRITE)
                async with pool.acquire() as lent, lent.transaction():
                    await revoke(lent, "sync")
        assert await _written(pool) == 0
    async with _taken(_lease(pool, "other")):
        assert await pool.fetchval("SELECT epoch FROM service.lease") == 3
