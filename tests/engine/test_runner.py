"""The runner stops before another process may take its run, and leaves nothing behind where it is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.engine.run import RunState, Tick, Trigger
from service.errors import AlreadyRunning
from service.messages.reminder import FactsPage
from tests.given import GOALS, World
from tests.interleaving import waits


@pytest.fixture
async def world(world: World) -> World:
    """One job, which reads for ever."""

    async def read(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
        await asyncio.Event().wait()
        yield FactsPage([], "", 0)

    world.jobs = {GOALS: replace(world.reminder(), read=read)}
    return world


async def test_a_run_whose_lease_cannot_be_renewed_stops_while_it_is_its_owners(world: World) -> None:
    runner = await world.runner(lease=0.6)
    await runner._ledger.request(GOALS, Trigger.ONCE)
    await world.pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON service.job_run FOR EACH ROW"
        " WHEN (OLD.lease_until <> NEW.lease_until) EXECUTE FUNCTION refuse()"
    )

    async with asyncio.timeout(60):
        run = await runner.run_one()

    assert run
    assert (run.state, run.epoch) == (RunState.RUNNING, 1)


async def test_a_run_that_takes_longer_than_it_may_is_put_back(world: World) -> None:
    world.jobs = {GOALS: replace(world.jobs[GOALS], timeout=timedelta(seconds=0.3))}
    runner = await world.runner()
    await runner._ledger.request(GOALS, Trigger.ONCE)

    async with asyncio.timeout(60):
        run = await runner.run_one()

    assert run
    assert (run.state, run.attempt) == (RunState.PENDING, 1)


async def test_of_two_who_ask_for_a_run_at_once_one_is_refused_and_leaves_nothing(world: World) -> None:
    runner, other = await world.runner(), await world.runner("other")
    ledger: Any = other._ledger

    async with world.pool.acquire() as connection, connection.transaction():
        run = await ledger.request(GOALS, Trigger.MANUAL, connection=connection)
        assert await ledger.claim_requested(run, connection)
        refused = await waits(world.pool, runner.run_manual(GOALS))

    with pytest.raises(AlreadyRunning):
        await refused
    assert [row["id"] for row in await world.pool.fetch("SELECT id FROM service.job_run")] == [run.id]
