"""No session outlives a change of the server's role, its lifetime, or a server that keeps silent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.engine.database import long_statements, open_pool
from service.engine.database_errors import PoolExhausted, is_transient
from service.engine.session import Timeouts
from tests.line import Line, line_to

_WRITE = "CREATE TABLE IF NOT EXISTS written (n int)"
_PID = "SELECT pg_backend_pid()"
_END_THE_SLEEPER = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'
"""


@asynccontextmanager
async def other(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else at the same server."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _set_read_only(connection: asyncpg.Connection, dsn: str, *, on: bool) -> None:
    """Sessions that are opened from now on are read-only, or not; those that are open stay as they are."""
    name = urlsplit(dsn).path[1:]
    await connection.execute(
        f"ALTER DATABASE {name} {'SET default_transaction_read_only = on' if on else 'RESET ALL'}"
    )


async def _pids(pool: asyncpg.Pool) -> set[int]:
    """Of all sessions that the pool can have."""
    lent = [await pool.acquire() for _ in range(pool.get_max_size())]
    found = {one.get_server_pid() for one in lent}
    for one in lent:
        await pool.release(one)
    return found


@pytest.fixture
async def failed_over(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """All four sessions of this pool are read-only, and whoever connects now may write."""
    async with other(dsn) as outside:
        await outside.execute(f"{_WRITE}; CREATE SEQUENCE numbers")
        await _set_read_only(outside, dsn, on=True)
        pool = await open_pool(dsn, min_size=4, max_size=4)
        await _pids(pool)
        await _set_read_only(outside, dsn, on=False)
        yield pool
        await pool.close()


async def _copy(connection: Any) -> None:
    await connection.copy_records_to_table("written", records=[(1,)])


async def _prepared(connection: Any) -> None:
    await (await connection.prepare("INSERT INTO written VALUES ($1)")).fetch(1)


async def _cursor(connection: Any) -> None:
    async with connection.transaction():
        async for _ in connection.cursor("SELECT nextval('numbers')"):
            pass


async def _transaction(connection: Any) -> None:
    async with connection.transaction():
        await connection.fetchval("SELECT count(*) FROM written")
        await connection.fetchval("INSERT INTO written VALUES ($1) RETURNING n", 1)


_WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "execute": lambda c: c.execute("INSERT INTO written VALUES (1)"),
    "values": lambda c: c.execute("INSERT INTO written VALUES ($1)", 1),
    "many": lambda c: c.executemany("INSERT INTO written VALUES ($1)", [(1,)]),
    "fetch": lambda c: c.fetch("INSERT INTO written VALUES ($1) RETURNING n", 1),
    "lock": lambda c: c.fetchrow("SELECT n FROM written FOR UPDATE"),
    "copy": _copy,
    "prepared": _prepared,
    "cursor": _cursor,
    "transaction": _transaction,
}


@pytest.mark.parametrize("way", _WAYS)
async def test_one_refused_write_is_enough_to_open_all_sessions_anew(
    failed_over: asyncpg.Pool, way: str
) -> None:
    old = await _pids(failed_over)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with failed_over.acquire() as connection:
            await _WAYS[way](connection)

    async with asyncio.timeout(60):
        await asyncio.gather(*(failed_over.execute("INSERT INTO written VALUES ($1)", n) for n in range(20)))
    assert not old & await _pids(failed_over)


async def test_what_asks_the_pool_itself_counts_too(failed_over: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await failed_over.execute("INSERT INTO written VALUES (1)")
    await failed_over.execute("INSERT INTO written VALUES (1)")


async def test_a_session_that_the_server_ended_takes_the_others_along(dsn: str) -> None:
    pool = await open_pool(dsn, min_size=3, max_size=3)
    old = await _pids(pool)
    async with other(dsn) as outside:
        waiting = asyncio.ensure_future(pool.execute("SELECT pg_sleep(600)"))
        async with asyncio.timeout(60):
            while not await outside.fetchval(_END_THE_SLEEPER):
                pass
        with pytest.raises(asyncpg.PostgresError):
            await waiting
    async with asyncio.timeout(60):
        assert not old & await _pids(pool)
    await pool.close()


async def test_ordinary_errors_cost_no_session(pool: asyncpg.Pool) -> None:
    old = await _pids(pool)
    for _ in range(3):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await pool.fetchval("SELECT 1 / 0")
    assert await _pids(pool) == old


async def test_a_session_is_not_lent_again_after_its_lifetime(dsn: str) -> None:
    pool = await open_pool(dsn, min_size=1, max_size=1)
    first = await pool.fetchval(_PID)
    assert await pool.fetchval(_PID) == first

    async with pool.acquire() as lent:
        session: Any = lent
        session.begin(Timeouts(lifetime=0))
        assert await lent.fetchval(_PID) == first  # whoever has it keeps it
    second = await pool.fetchval(_PID)

    assert second != first
    assert await pool.fetchval(_PID) == second
    await pool.close()


async def test_limits_hold_for_every_session_also_after_it_was_lent(dsn: str) -> None:
    pool = await open_pool(dsn, max_size=1, timeouts=Timeouts(statement=7, lock=5, idle_transaction=3))
    for _ in range(2):
        async with pool.acquire() as connection:
            shown = [
                await connection.fetchval(f"SHOW {name}")
                for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            ]
            for lasting in ("SET statement_timeout = 0", " set search_path TO public", "LISTEN news"):
                with pytest.raises(ValueError, match="would outlast its transaction"):
                    await connection.execute(lasting)
            async with connection.transaction(), long_statements(connection):
                await connection.execute("SET LOCAL lock_timeout = 0; SET CONSTRAINTS ALL DEFERRED")
            with pytest.raises(ValueError, match="need a transaction"):
                async with long_statements(connection):
                    pass
        assert shown == ["7s", "5s", "3s"]
    await pool.close()


async def test_a_session_is_given_back_without_a_question_and_without_a_transaction(dsn: str) -> None:
    pool = await open_pool(dsn, max_size=1)
    async with other(dsn) as outside:
        last = "SELECT query FROM pg_stat_activity WHERE pid = $1"
        async with pool.acquire() as connection:
            pid = connection.get_server_pid()
            await connection.execute("SELECT 'the last statement'")
        assert await outside.fetchval(last, pid) == "SELECT 'the last statement'"

        async with pool.acquire() as connection:
            await connection.transaction().start()
            await connection.execute(_WRITE)
        assert await pool.fetchval("SELECT to_regclass('written')") is None
        assert await pool.fetchval(_PID) == pid
    await pool.close()


async def test_an_exhausted_pool_says_so_in_time_and_goes_on_when_one_is_given_back(dsn: str) -> None:
    pool = await open_pool(dsn, max_size=2, timeouts=Timeouts(acquire=0.2))
    async with pool.acquire():
        async with pool.acquire(), asyncio.timeout(60):
            for ask in (pool.fetchval("SELECT 1"), pool.acquire()):
                with pytest.raises(PoolExhausted, match=r"within 0 s \(2 of at most 2 .* DATABASE_POOL_SIZE"):
                    await ask
            patient = asyncio.ensure_future(pool.acquire(timeout=60))
            await asyncio.sleep(0)
        assert await (await patient).fetchval("SELECT 1") == 1
        await pool.release(patient.result())
    assert is_transient(PoolExhausted())
    await pool.close()


async def test_the_server_ends_a_statement_but_lets_statistics_take_their_time(dsn: str) -> None:
    pool = await open_pool(dsn, max_size=1, timeouts=Timeouts(statement=0.2, command=0.4, long_statement=60))
    with pytest.raises(asyncpg.QueryCanceledError):
        await pool.execute("SELECT pg_sleep(60)")
    async with pool.acquire() as connection, connection.transaction(), long_statements(connection):
        await connection.execute("SELECT pg_sleep(0.8)")
    with pytest.raises(asyncpg.QueryCanceledError):
        await pool.execute("SELECT pg_sleep(60)")
    await pool.close()


async def _stranded(line: Line, pool: asyncpg.Pool, way: Callable[[Any], Awaitable[Any]]) -> None:
    async with pool.acquire() as connection:
        line.strand()
        await way(connection)


@pytest.mark.parametrize("way", ["fetch", "transaction"])
async def test_a_silent_line_is_given_up_and_the_next_session_works(dsn: str, way: str) -> None:
    async with line_to(dsn, timeouts=Timeouts(command=0.5)) as (line, pool):
        await pool.execute(_WRITE)
        async with asyncio.timeout(60):
            with pytest.raises((TimeoutError, asyncpg.InterfaceError)):
                await _stranded(line, pool, _WAYS[way])
            assert await pool.fetchval("SELECT count(*) FROM written") == 0


async def test_who_stops_waiting_on_a_silent_line_is_free_at_once(dsn: str) -> None:
    async with line_to(dsn) as (line, pool):
        assert await pool.fetchval("SELECT 1") == 1
        line.strand()
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pool.fetchval("SELECT 1")
            assert await pool.fetchval("SELECT 1") == 1


async def test_the_kernel_watches_the_line(dsn: str) -> None:
    async with line_to(dsn) as (_, pool), pool.acquire() as lent:
        session: Any = lent
        line = session._con._transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
