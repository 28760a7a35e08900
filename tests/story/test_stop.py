"""SIGTERM means now: whatever hangs, the process ends within Docker's ten seconds, and says what it left."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.engine.database import MIGRATION_LOCK
from tests.process import process_of
from tests.story.watching import answer, until_ready, until_true

DOCKER = 10
_QUICK = {"SYNC_INTERVAL_SECONDS": "1", "SWEEP_SECONDS": "1", "CLAIM_JITTER_SECONDS": "0"}


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """The port of a host that accepts connections and says nothing; and an event: somebody connected."""
    connected, over = asyncio.Event(), asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connected
    finally:
        over.set()
        server.close()


async def stopped(process: asyncio.subprocess.Process) -> int:
    """Its exit code. It has as long as Docker gives it."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DOCKER):
        return await process.wait()


@asynccontextmanager
async def operator(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


_LONG = pytest.mark.long(only=True)


@pytest.mark.parametrize("kind", ["postgresql", pytest.param("mongodb", marks=_LONG)])
async def test_a_dashboard_that_hangs_does_not_delay_the_end(
    databases: tuple[str, str], tmp_path: Path, kind: str
) -> None:
    async with silent() as (port, connected):
        environ = {
            "DATABASE_URL": databases[0],
            "DASHBOARD_URL": f"{kind}://ann:secret@127.0.0.1:{port}/dashboard",
            **_QUICK,
        }
        async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
            await until_true(lambda: answer(url, "/livez"))
            async with asyncio.timeout(60):
                await connected.wait()
            assert await stopped(process) == 0


async def _any(connection: asyncpg.Connection, condition: str) -> bool:
    """Whether a session at this database is like that."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    return bool(await connection.fetchval(sql))


SLEEPS, WAITS = "wait_event = 'PgSleep'", "cardinality(pg_blocking_pids(pid)) > 0"
_RUN = {"jobType": "analytics", "jobName": "performanceMetrics"}


async def test_a_run_in_a_long_statement_is_released_and_the_statement_cancelled(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs, **_QUICK}
    async with process_of(tmp_path / "data", "serve", **environ) as (process, url), operator(ours) as us:
        await until_ready(url)
        await us.execute(
            "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;"
            " CREATE TRIGGER slow BEFORE INSERT ON service.rollup FOR EACH STATEMENT"
            " EXECUTE FUNCTION public.slow()"
        )
        asked = asyncio.create_task(answer(url, "/api/admin/jobs/run", _RUN))
        await until_true(lambda: _any(us, SLEEPS))

        code = await stopped(process)

        told = await asked
        assert code == 0
        assert told[1].get("state", "pending") == "pending"
        assert not await _any(us, SLEEPS)
        run = await us.fetchrow("SELECT state, owner, attempt FROM service.job_run")
        assert run is not None
        assert tuple(run) == ("pending", None, 0)


async def test_what_cannot_be_released_is_told_by_the_exit_code(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    environ = {
        "DATABASE_URL": ours, "DASHBOARD_URL": theirs, "SHUTDOWN_GRACE_SECONDS": "1", **_QUICK,
    }  # fmt: skip
    async with process_of(tmp_path / "data", "serve", **environ) as (process, url), operator(ours) as us:
        await until_ready(url)
        await us.execute("BEGIN; LOCK TABLE service.rollup IN EXCLUSIVE MODE")
        await answer(url, "/api/admin/jobs/run", {**_RUN, "wait": False})
        await until_true(lambda: _any(us, WAITS))
        await us.execute("LOCK TABLE service.job_run IN EXCLUSIVE MODE")

        code = await stopped(process)

    assert code == 5


async def test_a_migration_that_waits_for_a_lock_ends_at_once(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs}
    async with operator(ours) as us:
        await us.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        async with process_of(tmp_path / "data", "serve", **environ) as (process, _):
            await until_true(lambda: _any(us, WAITS))
            assert await stopped(process) == 0
        assert not await _any(us, WAITS)


@_LONG
async def test_a_start_that_waits_for_our_database_ends_at_once(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    async with silent() as (port, connected):
        ours = f"postgresql://ann@127.0.0.1:{port}/{urlsplit(databases[0]).path[1:]}"
        environ = {"DATABASE_URL": ours, "DASHBOARD_URL": databases[1]}
        async with process_of(tmp_path / "data", "serve", **environ) as (process, _):
            async with asyncio.timeout(60):
                await connected.wait()
            assert await stopped(process) == 0
