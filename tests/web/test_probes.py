"""Probes answer in time, also while the database hangs: not refuses, which is easy, but keeps silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientResponse

from service.engine.database import open_pool
from service.engine.run import RunRequest, Tick
from service.engine.single_flight import SingleFlight
from service.messages.decision import Decision
from service.messages.reminder import PersonFacts
from tests.given import GOALS, World, goal, user
from tests.line import line_to
from tests.process import until
from tests.web.given import ADMIN, Admin, admin


async def test_readiness_and_metrics_answer_while_the_database_keeps_silent(dsn: str) -> None:
    async with line_to(dsn) as (line, pool), admin(pool) as given:
        assert (await given.client.get("/readyz")).status == 200
        assert given.client.app is not None
        line.fall_silent()
        async with asyncio.timeout(60):
            # The answer of a moment ago may still be good.
            while (answer := await given.client.get("/readyz")).status == 200:
                pass
        assert "has not answered" in (await answer.json())["error"]
        assert (await given.client.get("/livez")).status == 200
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(given.client.get("/readyz") for _ in range(50)))
            text = await (await given.client.get("/metrics")).text()
        assert {one.status for one in answers} == {503}
        assert "jobs_database_up 0.0" in text
        line.speak()
        async with asyncio.timeout(60):
            while (await given.client.get("/readyz")).status != 200:
                pass


async def _probes(given: Admin) -> dict[str, int]:
    return {path: (await given.client.get(path)).status for path in ("/livez", "/startupz", "/readyz")}


@asynccontextmanager
async def _asking(given: Admin, times: int = 8) -> AsyncIterator[list[asyncio.Task[ClientResponse]]]:
    """More requests than the pool has connections."""
    asked = [
        asyncio.create_task(given.client.get("/api/admin/jobs/status", headers=ADMIN)) for _ in range(times)
    ]
    try:
        yield asked
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_probes_answer_while_others_hang_on_a_silent_database(dsn: str) -> None:
    async with line_to(dsn) as (line, pool), admin(pool) as given:
        line.fall_silent()
        async with _asking(given) as hanging:
            async with asyncio.timeout(60):
                found = await _probes(given)
                again = await asyncio.gather(*(_probes(given) for _ in range(20)))
            over = [one.done() for one in hanging]
            line.speak()
            answers = await asyncio.gather(*hanging)

        assert found == {"/livez": 200, "/startupz": 200, "/readyz": 503}
        assert all(one == found for one in again)
        assert not any(over)
        assert {one.status for one in answers} == {200}


async def test_probes_answer_while_every_connection_waits_for_a_lock(dsn: str) -> None:
    pool = await open_pool(dsn, min_size=3, max_size=3)
    async with admin(pool) as given:
        locking = await asyncpg.connect(dsn)
        async with locking.transaction():
            await locking.execute("SAVEPOINT held; LOCK TABLE service.job_def")
            async with asyncio.timeout(60), _asking(given) as hanging:
                while pool.get_idle_size():
                    await asyncio.sleep(0.01)
                found = await _probes(given)
                again = await asyncio.gather(*(_probes(given) for _ in range(20)))
                over = [one.done() for one in hanging]
                await locking.execute("ROLLBACK TO SAVEPOINT held")
                answers = await asyncio.gather(*hanging)
        await locking.close()
        async with asyncio.timeout(60):
            while (await given.client.get("/readyz")).status != 200:
                pass
    await pool.close()

    assert found == {"/livez": 200, "/startupz": 200, "/readyz": 503}
    assert all(one == found for one in again)
    assert not any(over)
    assert {one.status for one in answers} == {200}


async def test_probes_answer_while_the_service_works_as_fast_as_it_can(pool: asyncpg.Pool) -> None:
    world = World(pool)
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:04d}" for n in range(3000)]
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    runner, stop, done = await world.runner(), asyncio.Event(), Counter[str]()

    async def repeat(what: str, work: Callable[[], Awaitable[Any]]) -> None:
        while not stop.is_set():
            await work()
            done[what] += 1

    async with admin(pool) as given, asyncio.TaskGroup() as load:
        load.create_task(repeat("runs", lambda: runner.run_manual(GOALS, RunRequest(dry_run=True))))
        for _ in range(8):
            ask = partial(given.client.get, "/api/admin/jobs/status", headers=ADMIN)
            load.create_task(repeat("answers", ask))
        await until(lambda: bool(done["runs"] and done["answers"]))
        found, within = [], []
        for _ in range(10):
            runs = done["runs"]
            found.append(await _probes(given))
            within.append(done["runs"] == runs)
        stop.set()

    assert all(set(one.values()) == {200} for one in found)
    assert (
        sum(within) >= 5
    )  # the run that was under way when they were asked still was when they had answered


async def test_a_page_of_users_leaves_others_their_turn(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:03d}" for n in range(500)]
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    job, turns, seen = world.reminder(), count(), set[int]()
    turn = 0

    async def others() -> None:
        nonlocal turn
        for turn in turns:  # noqa: B007 — read by decide
            await asyncio.sleep(0)

    def decide(facts: PersonFacts, tick: Tick) -> Decision:
        seen.add(turn)
        return job.decide(facts, tick)

    world.jobs[GOALS] = replace(job, decide=decide)
    asking = asyncio.create_task(others())
    await (await world.runner()).run_manual(GOALS, RunRequest(dry_run=True))
    asking.cancel()

    assert len(seen) >= 5


def counted(answers: list[Awaitable[int]]) -> tuple[list[int], Callable[[], Awaitable[int]]]:
    asked: list[int] = []

    async def question() -> int:
        asked.append(len(asked))
        return await answers[asked[-1]]

    return asked, question


async def test_many_askers_share_one_question_and_its_answer_while_it_is_fresh() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    asked, question = counted([first, second])
    shared = SingleFlight(question, deadline=60, ttl=3600)

    waiting = [asyncio.ensure_future(shared.get()) for _ in range(9)]
    first.set_result(1)
    assert set(await asyncio.gather(*waiting)) == {1}
    assert await shared.get() == 1
    assert asked == [0]


async def test_a_question_that_is_overdue_is_answered_at_once_until_it_is_answered_itself() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    asked, question = counted([first, second])
    shared = SingleFlight(question, deadline=0)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await shared.get()
    assert asked in ([], [0])
    first.set_result(1)
    second.set_result(2)
    while asked != [0, 1]:
        with suppress(TimeoutError):
            assert await shared.get() in {1, 2}
