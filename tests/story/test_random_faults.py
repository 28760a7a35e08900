"""Our PostgreSQL breaks something off at a random moment of a run: each run settles by itself."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from service.demo import sample
from tests.postgres_server import PostgresServer, server
from tests.process import process_of
from tests.story.watching import until_ready, until_true

pytestmark = [pytest.mark.long(only=True), pytest.mark.timeout(1500)]

TRIES = 20
_QUICK = {"SYNC_INTERVAL_SECONDS": "1", "SWEEP_SECONDS": "1", "CLAIM_JITTER_SECONDS": "0"}
_OURS = "datname = 'jobs' AND pid <> pg_backend_pid() AND application_name <> 'operator'"
_ONE = f"(SELECT pid FROM pg_stat_activity WHERE {_OURS} AND state <> 'idle' ORDER BY random() LIMIT 1)"

Fault = Callable[[PostgresServer, asyncpg.Connection], Awaitable[None]]


async def _terminate(_server: PostgresServer, operator: asyncpg.Connection) -> None:
    await operator.execute(f"SELECT pg_terminate_backend({_ONE})")


async def _cancel(_server: PostgresServer, operator: asyncpg.Connection) -> None:
    await operator.execute(f"SELECT pg_cancel_backend({_ONE})")


async def _terminate_all(_server: PostgresServer, operator: asyncpg.Connection) -> None:
    await operator.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS}")


async def _restart(server: PostgresServer, _operator: asyncpg.Connection) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


FAULTS: dict[str, Fault] = {
    "terminated": _terminate, "cancelled": _cancel, "all terminated": _terminate_all, "restarted": _restart,
}  # fmt: skip


@asynccontextmanager
async def operator_of(server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        server.url(database="jobs"), server_settings={"application_name": "operator"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _request(operator: asyncpg.Connection) -> int:
    """A run that a free process takes."""
    run: int = await operator.fetchval(
        "INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)"
        " VALUES ('reminder.dailyCheck', 'once', service.now(), 'pending', service.now()) RETURNING id"
    )
    return run


async def _settled(operator: asyncpg.Connection, run: int) -> bool:
    """Nobody waits until a run that was put back is due again."""
    await operator.execute(
        "UPDATE service.job_run SET not_before = service.now()"
        " WHERE state = 'pending' AND not_before > service.now()"
    )
    row = await operator.fetchrow("SELECT state FROM service.job_run WHERE id = $1", run)
    assert row is not None
    assert row["state"] in {"pending", "running", "succeeded"}, row["state"]
    return bool(row["state"] == "succeeded")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_run_settles_whenever_something_is_broken_off(tmp_path: Path, fault: str) -> None:
    """In half a lease: none is left to it."""
    moments = random.Random(14)
    with server() as ours:
        for name in ("jobs", "dashboard"):
            connection = await asyncpg.connect(ours.url())
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.close()
        await sample.write(ours.url(database="dashboard"), sample.people(1, date(2026, 3, 10), count=200))
        environ = {"DATABASE_URL": ours.url(database="jobs"), "DASHBOARD_URL": ours.url(database="dashboard")}
        async with process_of(tmp_path / "data", "serve", **environ, **_QUICK) as (_, url):
            await until_ready(url)
            for _ in range(TRIES):
                async with operator_of(ours) as operator:
                    run = await _request(operator)
                    await asyncio.sleep(moments.uniform(0, 1.5))  # the moment is what is tried
                    await FAULTS[fault](ours, operator)
                async with operator_of(ours) as operator:
                    await until_true(lambda run=run, operator=operator: _settled(operator, run), 40)  # type: ignore[misc]
