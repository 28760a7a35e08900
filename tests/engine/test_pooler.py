"""Through a real PgBouncer in transaction mode, and with a role that owns its schema and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from service.dashboard.postgres import PostgresSource
from service.dashboard.profiles.shapes import Table
from service.demo import sample
from service.engine import schema
from service.engine.database import long_statements, migrate, open_pool
from service.engine.session import Timeouts
from service.settings import Settings
from service.setup import databases
from tests import certificates, postgres_server
from tests.postgres_server import PostgresServer
from tests.process import process_of

_SQL_STATE = "SELECT current_setting('statement_timeout') || current_setting('TimeZone')"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server on TCP."""
    with postgres_server.server() as running:
        yield running


@pytest.fixture(scope="module")
def pooler(server: PostgresServer) -> Iterator[str]:
    """The URL of a PgBouncer before it, which has fewer sessions than we open connections."""
    with postgres_server.pgbouncer(server.port, default_pool_size=3) as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{{}}?pgbouncer=true"


@pytest.fixture
async def database(server: PostgresServer) -> AsyncIterator[str]:
    """The name of an empty database."""
    admin = await asyncpg.connect(server.url())
    await admin.execute("CREATE DATABASE jobs")
    yield "jobs"
    await admin.execute("DROP DATABASE jobs WITH (FORCE)")
    await admin.close()


async def test_the_service_works_through_a_pooler(pooler: str, database: str) -> None:
    pools = await asyncio.gather(
        *(open_pool(pooler.format(database), min_size=8, max_size=8) for _ in range(2))
    )
    try:
        lists = await asyncio.gather(*map(migrate, pools))
        names = [path.stem for path in schema.files()]
        assert sorted(name for applied in lists for name in applied) == names

        async def ask(n: int) -> object:
            pool = pools[n % 2]
            if n % 3 == 0:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.execute("SET LOCAL work_mem = '1MB'")
                    return await connection.fetchval(f"SELECT $1::int + {n % 29} - {n % 29}", n)
            return await pool.fetchval(f"SELECT $1::int + {n % 31} - {n % 31}", n)

        assert await asyncio.gather(*map(ask, range(400))) == list(range(400))
        assert await pools[0].fetchval("SELECT $1::jsonb", {"a": ["\0b"]}) == {"a": ["b"]}
    finally:
        await asyncio.gather(*(pool.close() for pool in pools))


async def test_nothing_is_left_in_sessions_of_the_server(pooler: str, database: str) -> None:
    pool = await open_pool(pooler.format(database), min_size=4, max_size=4)
    before = await pool.fetchval(_SQL_STATE)
    async with pool.acquire() as connection, connection.transaction(), long_statements(connection):
        assert (await connection.fetchval(_SQL_STATE)).startswith("30min")
    states = await asyncio.gather(*(pool.fetchval(_SQL_STATE) for _ in range(20)))
    await pool.close()
    assert set(states) == {before}
    assert before.endswith("UTC")


async def test_transactions_through_a_pooler_have_the_limits_of_direct_ones(
    pooler: str, database: str
) -> None:
    limits = Timeouts(statement=7, lock=0.2, idle_transaction=3)
    pool = await open_pool(pooler.format(database), timeouts=limits)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    try:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            assert [await connection.fetchval(f"SHOW {name}") for name in names] == ["7s", "200ms", "3s"]
            async with connection.transaction():
                assert await connection.fetchval("SHOW lock_timeout") == "200ms"
        await pool.execute("CREATE TABLE held (n int)")
        async with pool.acquire() as operator, operator.transaction():
            await operator.execute("LOCK TABLE held")
            async with pool.acquire() as connection:
                with pytest.raises(asyncpg.LockNotAvailableError):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO held VALUES (1)")
    finally:
        await pool.close()


async def test_a_statement_through_a_pooler_ends_with_the_clients_timeout(
    server: PostgresServer, pooler: str, database: str
) -> None:
    pool = await open_pool(pooler.format(database), timeouts=Timeouts(command=0.5))
    direct = await asyncpg.connect(server.url(database=database))
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
    try:
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                await pool.execute("SELECT pg_sleep(600)")
            while await direct.fetchval(busy):
                pass
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        await direct.close()
        await pool.close()


async def test_a_dashboard_is_read_through_a_pooler(
    server: PostgresServer, pooler: str, database: str
) -> None:
    admin = await asyncpg.connect(server.url(database=database))
    await admin.execute(
        "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 9)"
    )
    await admin.close()
    source = PostgresSource(pooler.format(database), connections=6)
    try:
        counts = await asyncio.gather(*(source.count(Table("users", {})) for _ in range(40)))
        samples = await asyncio.gather(*(source.sample(Table("users", {}), n) for n in range(1, 8)))
    finally:
        await source.close()
    assert set(counts) == {9}
    assert [len(rows) for rows in samples] == list(range(1, 8))


async def test_a_role_that_owns_its_schema_and_nothing_else_is_enough(
    server: PostgresServer, pooler: str, database: str
) -> None:
    admin = await asyncpg.connect(server.url(database=database))
    await admin.execute(
        "CREATE ROLE small LOGIN; REVOKE CREATE ON DATABASE jobs FROM public; REVOKE CREATE ON SCHEMA public"
        " FROM public; CREATE SCHEMA service AUTHORIZATION small"
    )
    try:
        pool = await open_pool(server.url("small", database))
        assert await migrate(pool) == [path.stem for path in schema.files()]
        assert await migrate(pool) == []
        assert (
            await admin.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            == 0
        )
        assert await pool.fetchval("SELECT version FROM service.schema_range") == schema.SCHEMA
        await pool.close()
    finally:
        await admin.execute("DROP OWNED BY small CASCADE; DROP ROLE small")
        await admin.close()


async def test_the_table_of_migrations_of_a_former_release_is_taken_over(
    server: PostgresServer, database: str
) -> None:
    pool = await open_pool(server.url(database=database))
    applied = await migrate(pool)
    await pool.execute(
        "DROP VIEW public.service_migration; ALTER TABLE service.migration SET SCHEMA public;"
        "ALTER TABLE public.migration RENAME TO service_migration"
    )
    assert await migrate(pool) == []
    former = [row["name"] for row in await pool.fetch("SELECT name FROM public.service_migration ORDER BY 1")]
    await pool.execute("INSERT INTO public.service_migration (name, checksum) VALUES ('0000_former', 'x')")
    ours = await pool.fetchval("SELECT count(*) FROM service.migration WHERE applied_at IS NOT NULL")
    await pool.close()
    assert former == applied
    assert ours == len(applied) + 1


async def test_a_private_authority_is_trusted(server: PostgresServer, tmp_path: Path) -> None:
    certificate = certificates.make(tmp_path)
    with postgres_server.pgbouncer(server.port, certificate) as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        settings = Settings(database_pooler="transaction", database_ca_file=certificate.authority)
        pool = await databases.connect(settings, url, attempts=1)
        assert await pool.fetchval("SELECT 1") == 1
        await pool.close()
        source = PostgresSource(url, pooler="transaction", ca_file=certificate.authority)
        await source.ping()
        await source.close()


@pytest.mark.long(only=True)
async def test_commands_work_through_a_pooler(
    server: PostgresServer, pooler: str, database: str, tmp_path: Path
) -> None:
    url = pooler.format(database)
    await sample.write(server.url(database=database), sample.people(1, date(2026, 3, 10), days=20))
    environ = {"DATABASE_URL": url, "DASHBOARD_URL": url}
    for arguments in (
        ("check-config",),
        ("migrate",),
        ("sync",),
        ("run", "reminder", "goalDeadlines"),
        ("run", "analytics", "dailyAnalytics"),
        ("run", "analytics", "dataCleanup"),
    ):
        async with process_of(tmp_path / "data", *arguments, **environ) as (process, _), asyncio.timeout(90):
            assert await process.wait() == 0, (arguments, (tmp_path / "stderr").read_text())
