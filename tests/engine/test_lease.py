"""One holder at a time; whoever is silent for too long loses it, and whatever they still meant to write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from service.engine import lease as lease_module
from service.engine import queries
from service.engine.lease import HeldLease, Lease, revoke
from service.errors import LeaseLost
from tests.interleaving import goes_on, waits

SQL = queries.load(lease_module.__file__)
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


# ── Statement by statement ──────────────────────────────────────────────────────────────────────────────────


async def _entered(held: HeldLease) -> None:
    async with held.step():
        pytest.fail("a step began under a lease that is lost")


async def test_a_lease_that_is_over_is_lost_though_nobody_took_it(pool: asyncpg.Pool) -> None:
    async with _taken(_lease(pool, "one")) as held:
        await pool.execute(_LATER)

        with pytest.raises(LeaseLost):
            await _entered(held)
        assert not await held.ours()
        assert not await held.renew()


async def test_a_lease_that_ends_in_the_middle_of_a_step_is_lost_though_nobody_took_it(
    pool: asyncpg.Pool,
) -> None:
    async with _taken(_lease(pool, "one")) as held:
        with pytest.raises(LeaseLost):  # noqa: PT012
            async with held.step() as connection:
                await connection.execute(_WRITE)
                await pool.execute(_LATER)
    assert await _written(pool) == 0


async def test_who_takes_it_a_second_time_has_lost_the_first(pool: asyncpg.Pool) -> None:
    """As when its release was lost on the way: a process need not wait for itself."""
    one = _lease(pool, "one")
    async with _taken(one) as first, _taken(one) as second:
        with pytest.raises(LeaseLost):
            await _entered(first)
        assert not await first.ours()
        assert not await first.renew()
        await first.release()
        async with second.step() as connection:
            await connection.execute(_WRITE)
    assert await _written(pool) == 1


async def test_who_takes_it_in_the_middle_of_a_step_a_second_time_commits_only_the_second(
    pool: asyncpg.Pool,
) -> None:
    one = _lease(pool, "one")
    async with _taken(one) as first:
        with pytest.raises(LeaseLost):  # noqa: PT012
            async with AsyncExitStack() as stack, first.step() as connection:
                await connection.execute(_WRITE)
                await stack.enter_async_context(_taken(one))
    assert await _written(pool) == 0


@asynccontextmanager
async def _at_its_commit(pool: asyncpg.Pool, owner: str) -> AsyncIterator[None]:
    """A transaction under the lease after its last check, before its commit."""
    async with pool.acquire() as connection, connection.transaction():
        assert await connection.fetchrow(SQL["fence"], "sync", owner, 1)
        yield


async def test_nobody_takes_it_between_the_last_check_and_the_commit(pool: asyncpg.Pool) -> None:
    other = _lease(pool, "other")
    async with _taken(_lease(pool, "one")):
        async with _at_its_commit(pool, "one"):
            await pool.execute(_LATER)
            assert await goes_on(pool, other._taken(0.0)) is None
        assert await other._taken(0.0)


async def test_a_heartbeat_passes_between_the_last_check_and_the_commit(pool: asyncpg.Pool) -> None:
    async with _taken(_lease(pool, "one")) as held, _at_its_commit(pool, "one"):
        assert await goes_on(pool, held.renew())


async def test_nobody_revokes_it_between_the_last_check_and_the_commit(pool: asyncpg.Pool) -> None:
    async def revoked() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await revoke(connection, "sync")

    async with _taken(_lease(pool, "one")):
        async with _at_its_commit(pool, "one"):
            revocation = await waits(pool, revoked())
        await revocation
