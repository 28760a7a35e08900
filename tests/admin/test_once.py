"""The same act with the same key is carried out once, whatever it is and whoever dies meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.admin.consoles import Console, console, people
from tests.admin.contract import promised
from tests.admin.given import ADMIN
from tests.given import GOALS, World

RUN = "/api/admin/jobs/run"
JOB = {"jobType": "reminder", "jobName": "goalDeadlines"}
_HELD = "SELECT pg_advisory_lock(hashtext('service.erasure'))"
"""Whoever holds it keeps every reminder's run from planning its first page."""


@pytest.fixture
async def given(world: World) -> AsyncIterator[Console]:
    await people(world)
    async with console(world) as made:
        yield made


async def ask(given: Console, pattern: str, key: str = "k", method: str = "POST", **more: Any) -> Any:
    """Status, body, and whether it was answered before."""
    path = more.pop("path", pattern)
    headers = ADMIN | {"Idempotency-Key": key} | more.pop("headers", {})
    answer = await given.client.request(method, path, headers=headers, **more)
    body = await promised(answer, method, pattern)
    return answer.status, body, "Idempotent-Replayed" in answer.headers


async def runs(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("SELECT job, state FROM service.job_run ORDER BY id")
    return [(row["job"], row["state"]) for row in rows]


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Runs of reminders get as far as their first page, and no further."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_HELD)
    try:
        yield
    finally:
        await connection.close()


@asynccontextmanager
async def process(dsn: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The API in a process of its own, and its address."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.admin.acting_worker", dsn, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield started, await line(started)
    finally:
        if started.returncode is None:
            os.kill(started.pid, signal.SIGKILL)
            await started.wait()


async def line(started: asyncio.subprocess.Process) -> str:
    assert started.stdout
    async with asyncio.timeout(90):
        return (await started.stdout.readline()).decode().strip()


async def comes(pool: asyncpg.Pool, sql: str) -> None:
    """Wait until a query has a row."""
    async with asyncio.timeout(90):
        while not await pool.fetch(sql):
            await asyncio.sleep(0.02)


_RUNNING = "SELECT 1 FROM service.job_run WHERE state = 'running'"


@pytest.mark.parametrize(("wait", "status"), [(True, 200), (False, 202)])
async def test_a_run_is_asked_for_once(given: Console, *, wait: bool, status: int) -> None:
    first = await ask(given, RUN, json=JOB | {"wait": wait})
    await given.runner.run_one()
    again = await ask(given, RUN, json=JOB | {"wait": wait})

    assert first[0] == status
    assert again == (*first[:2], True)
    assert await runs(given.world.pool) == [(GOALS, "succeeded")]
    told = [(who, act, what["run"]) for who, act, what in await given.audit()]
    assert told == [("admin", "run", first[1]["runId"])]
    assert (await ask(given, RUN, json=JOB | {"wait": not wait}))[0] == 409


async def test_a_run_that_failed_is_told_alike_again(given: Console) -> None:
    await given.world.pool.execute("ALTER TABLE service.delivery ADD CHECK (user_id <> 'ann')")
    first = await ask(given, RUN, json=JOB)

    assert (first[0], first[1]["state"]) == (500, "failed")
    assert await ask(given, RUN, json=JOB) == (*first[:2], True)
    assert len(await given.audit()) == len(await runs(given.world.pool)) == 1


async def test_what_was_refused_leaves_no_run_no_trace_and_the_key_free(given: Console, dsn: str) -> None:
    assert (await ask(given, RUN, json=JOB | {"asOf": "2026-04-01T09:00:00Z"}))[0] == 400
    assert (await ask(given, RUN, json=JOB | {"jobName": "x"}))[0] == 404
    async with held(dsn):
        other = asyncio.ensure_future(given.manager.run_job("reminder", "goalDeadlines"))
        await comes(given.world.pool, _RUNNING)
        assert (await ask(given, RUN, json=JOB))[0] == 409
    await other
    assert await runs(given.world.pool) == [(GOALS, "succeeded")]
    assert await given.audit() == []
    assert (await ask(given, RUN, json=JOB))[0] == 200


async def test_whoever_asks_meanwhile_is_told_which_run_it_is(given: Console, dsn: str) -> None:
    async with held(dsn):
        first = asyncio.ensure_future(ask(given, RUN, json=JOB))
        await comes(given.world.pool, _RUNNING)
        status, body, _ = await ask(given, RUN, json=JOB)
    ended = await first

    assert (status, body["runId"], body["state"]) == (409, ended[1]["runId"], "running")
    assert "ask again" in body["error"]
    assert await ask(given, RUN, json=JOB) == (*ended[:2], True)


async def test_a_run_whose_process_was_killed_is_found_and_not_doubled(given: Console, dsn: str) -> None:
    pool = given.world.pool
    async with process(dsn) as (other, address), held(dsn), aiohttp.ClientSession(address) as client:
        headers = ADMIN | {"Idempotency-Key": "k"}
        asked = asyncio.ensure_future(client.post(RUN, json=JOB, headers=headers))
        await comes(pool, _RUNNING)
        os.kill(other.pid, signal.SIGKILL)
        await asyncio.wait([asked])
        assert asked.exception()
        status, body, _ = await ask(given, RUN, json=JOB)
        assert (status, body["state"]) == (409, "running")
    await pool.execute("UPDATE service.job_run SET lease_until = '2026-03-10T07:00:00Z'")
    assert await given.runner.run_one()

    status, found, again = await ask(given, RUN, json=JOB)

    assert (status, found["runId"], found["state"], again) == (200, body["runId"], "succeeded", True)
    assert found["counts"]["planned"] == 2
    assert await ask(given, RUN, json=JOB) == (status, found, True)
    assert await runs(pool) == [(GOALS, "succeeded")]
    assert [act for _, act, _ in await given.audit()] == ["run"]


async def test_a_rehearsal_acts_on_nothing_and_takes_no_key(given: Console) -> None:
    assert (await ask(given, RUN, json=JOB | {"dryRun": True}))[0] == 200
    assert await given.audit() == []
    assert await runs(given.world.pool) == []
    assert not (await ask(given, RUN, json=JOB))[2]
