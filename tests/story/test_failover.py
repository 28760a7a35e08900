"""Our PostgreSQL fails over: sessions that are open are of no use, those that are opened afterwards are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.line import Line
from tests.process import process_of
from tests.story.watching import Progress, answer, database_check, run, until_ready

_QUICK = {"SYNC_INTERVAL_SECONDS": "1", "SWEEP_SECONDS": "1", "CLAIM_JITTER_SECONDS": "0"}


@asynccontextmanager
async def outside(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The operator of the database server."""
    connection = await asyncpg.connect(dsn, server_settings={"default_transaction_read_only": "off"})
    try:
        yield connection
    finally:
        await connection.close()


async def _fail_over(operator: asyncpg.Connection, dsn: str) -> None:
    """All sessions end; those that are opened now are read-only for as long as they last."""
    await operator.execute(f"ALTER DATABASE {urlsplit(dsn).path[1:]} SET default_transaction_read_only = on")
    await operator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def _promote(operator: asyncpg.Connection, dsn: str) -> None:
    """Sessions that are opened from now on may write; those that are open stay read-only."""
    await operator.execute(f"ALTER DATABASE {urlsplit(dsn).path[1:]} RESET default_transaction_read_only")


@pytest.mark.long(only=True)
async def test_the_service_recovers_from_a_failover_by_itself(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs, **_QUICK}
    async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
        await until_ready(url)
        assert (await database_check(url))["status"] == "running"
        async with outside(ours) as operator:
            await _fail_over(operator, ours)
            await until_ready(url, 503, says="read-only")
            check = await database_check(url)
            assert check["status"] == "unhealthy"
            assert "read-only" in check["details"]["problem"]
            assert (await answer(url, "/livez"))[0] == 200

            await _promote(operator, ours)
            await until_ready(url)
            assert (await database_check(url))["status"] == "running"
            await Progress(operator).until_all_go_on()
            status, told = await run(url)
            assert (status, told["state"]) == (200, "succeeded")


@pytest.mark.long(only=True)
async def test_the_service_goes_on_when_its_sessions_lead_to_a_frozen_host(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    line = Line(ours)
    environ = {"DATABASE_URL": await line.start(), "DASHBOARD_URL": theirs, **_QUICK}
    try:
        async with (
            process_of(tmp_path / "data", "serve", **environ) as (_, url),
            outside(ours) as operator,
        ):
            await until_ready(url)
            line.strand()
            await Progress(operator).until_all_go_on(240)
            await until_ready(url)
            status, told = await run(url)
            assert (status, told["state"]) == (200, "succeeded")
    finally:
        await line.close()
