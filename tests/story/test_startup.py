"""The start is over when the migrations are applied and the first reading of the dashboard is done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg

from service.engine.database import MIGRATION_LOCK
from tests.process import process_of
from tests.story.conftest import PEOPLE

_WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND NOT granted
"""


@asynccontextmanager
async def held(dsn: str, statement: str) -> AsyncIterator[asyncpg.Connection]:
    """A lock that lasts until its connection is closed, which also tells who waits."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"BEGIN; {statement}")
        yield connection
    finally:
        await connection.close()


async def _waited_for(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(90):
        while not await connection.fetchval(_WAITING):
            await asyncio.sleep(0.02)


async def _status(url: str, path: str) -> int:
    """0: nobody listens."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.get(f"{url}{path}") as answer:
                return answer.status
        except aiohttp.ClientConnectorError:
            return 0


async def _until(url: str, path: str, status: int) -> None:
    async with asyncio.timeout(90):
        while await _status(url, path) != status:
            await asyncio.sleep(0.05)


async def test_the_start_waits_for_the_migrations_and_for_the_first_reading(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    lock = f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs}
    async with (
        held(theirs, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE") as dashboard,
        held(ours, lock) as migrations,
        process_of(tmp_path / "data", "serve", **environ) as (_, url),
    ):
        await _waited_for(migrations)
        assert await _status(url, "/livez") == 0
        await migrations.close()

        await _waited_for(dashboard)
        await _until(url, "/livez", 200)
        assert await _status(url, "/startupz") == 503
        assert await _status(url, "/readyz") == 503
        await dashboard.close()

        await _until(url, "/startupz", 200)
        reading = await asyncpg.connect(ours)
        assert await reading.fetchval("SELECT count(*) FROM service.users") == len(PEOPLE.users)
        await reading.close()


async def test_a_dashboard_that_is_away_ends_the_start_too_and_health_names_it(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, _ = databases
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": "postgresql://nobody@127.0.0.1:1/away"}
    async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
        await _until(url, "/startupz", 200)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/api/admin/jobs/health") as answer:
            assert answer.status == 503
            assert (await answer.json())["checks"]["dashboard"]["status"] == "unhealthy"
