"""The bell on the real aiocron: a ring wakes the sweep, and without a ring the sweep comes all the same."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import aiocron
import pytest

from service.engine import trigger as module
from service.engine.job import Job, TimeMode
from service.engine.ledger import Ledger
from service.engine.run import PlannedRun
from service.engine.trigger import TriggerLoop, timing_of
from tests.given import GOALS, World, goal, user

NEVER = 3600.0
_SLOT = "2026-03-10T08:00:00Z"


class Bell(asyncio.Event):
    """Counts how often it was rung."""

    rings = 0

    def set(self) -> None:
        self.rings += 1
        super().set()


class Tower:
    """A trigger with its bells. ``sweep``: the seconds after which it looks without being rung for."""

    def __init__(self, ledger: Ledger, jobs: dict[str, Job], sweep: float) -> None:
        self.wake = asyncio.Event()
        self.stop = asyncio.Event()
        timings = {id_: timing_of(job) for id_, job in jobs.items()}
        self.trigger = TriggerLoop(
            ledger, jobs, timings, ZoneInfo("Europe/Berlin"), self.wake, sweep=sweep, use_crons=True
        )
        self.bell = self.trigger._ring = Bell()

    async def __aenter__(self) -> "Tower":
        self._serving = asyncio.create_task(self.trigger.serve(self.stop))
        await self.swept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        async with asyncio.timeout(30):
            await self._serving

    async def swept(self) -> None:
        """The next sweep is over: it wakes the runner."""
        async with asyncio.timeout(30):
            await self.wake.wait()
        self.wake.clear()


@pytest.fixture(autouse=True)
def one_job(world: World) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}


async def _decided(world: World) -> list[str]:
    rows = await world.pool.fetch("SELECT nominal_at FROM service.job_run ORDER BY nominal_at")
    return [f"{row['nominal_at']:%Y-%m-%dT%H:%M:%SZ}" for row in rows]


async def _found(world: World, tower: Tower) -> list[str]:
    """What the sweeps decided, as soon as there is anything."""
    async with asyncio.timeout(30):
        while not (found := await _decided(world)):
            await tower.swept()
    return found


async def _night_before(world: World) -> Ledger:
    """Ann's nine o'clock is eight in UTC."""
    await world.at("2026-03-10T00:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    return await world.ledger()


async def test_a_ring_wakes_the_sweep_and_that_the_runner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVERY_MINUTE", "* * * * * *")  # aiocron can count seconds
    ledger = await _night_before(world)

    async with Tower(ledger, world.jobs, NEVER) as tower:
        await world.at(_SLOT)
        found = await _found(world, tower)

    assert found == [_SLOT]
    assert tower.bell.rings >= 1


async def test_bells_that_are_taken_away_are_not_missed(world: World) -> None:
    ledger = await _night_before(world)

    async with Tower(ledger, world.jobs, 0.02) as tower:
        for cron in tower.trigger._crons:
            cron.stop()
        rung = tower.bell.rings
        await world.at(_SLOT)
        found = await _found(world, tower)

    assert found == [_SLOT]
    assert tower.bell.rings == rung


async def test_bells_that_never_hung_are_not_missed(world: World) -> None:
    ledger = await _night_before(world)
    tower = Tower(ledger, world.jobs, 0.02)
    tower.trigger._use_crons = False

    async with tower:
        assert tower.trigger._crons == []
        await world.at(_SLOT)
        found = await _found(world, tower)

    assert (found, tower.bell.rings) == ([_SLOT], 0)


async def test_a_ring_too_many_decides_nothing_twice(world: World) -> None:
    ledger = await _night_before(world)

    async with Tower(ledger, world.jobs, NEVER) as tower:
        await world.at(_SLOT)
        for _ in range(5):
            tower.bell.set()
            tower.bell.set()
            await tower.swept()

    assert await _decided(world) == [_SLOT]


class RungDuringTheSweep(Ledger):
    """While the first sweep is under way the bell rings: what it announces may be missed by that sweep."""

    ring: Callable[[], None] | None = None

    async def materialise(self, job: str, plan: Callable[[datetime, datetime], Sequence[PlannedRun]]) -> int:
        written = await super().materialise(job, plan)
        if self.ring:
            await self._pool.execute(
                "CREATE OR REPLACE FUNCTION service.now() RETURNS timestamptz LANGUAGE sql VOLATILE AS"
                f" $$SELECT '{_SLOT}'::timestamptz$$"
            )
            self.ring()
            self.ring = None
        return written


async def test_a_ring_during_a_sweep_asks_for_another_sweep(world: World) -> None:
    registered = await _night_before(world)
    ledger = RungDuringTheSweep(world.pool, "a", timedelta(seconds=60))
    ledger._definitions = registered._definitions
    tower = Tower(ledger, world.jobs, NEVER)
    tower.trigger._use_crons = False  # the next minute must not help out
    ledger.ring = tower.bell.set

    async with tower:
        found = await _found(world, tower)

    assert found == [_SLOT]


async def test_at_the_end_every_bell_is_taken_down(world: World) -> None:
    ledger = await _night_before(world)

    async with Tower(ledger, world.jobs, NEVER) as tower:
        hung = list(tower.trigger._crons)
        assert all(cron.handle is not None for cron in hung)

    assert len(hung) == len(world.jobs)
    assert [cron.handle for cron in hung] == [None] * len(hung)
    assert tower.trigger._crons == []


async def test_after_a_step_of_the_clock_the_bells_are_hung_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await _night_before(world)
    step = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + step))

    async with Tower(ledger, world.jobs, NEVER) as tower:
        before = list(tower.trigger._crons)
        tower.bell.set()
        await tower.swept()
        unmoved = list(tower.trigger._crons)
        step = 7200.0
        for _ in range(2):  # the second ring is heard by a loop that has looked at the clock
            tower.bell.set()
            await tower.swept()
        after = list(tower.trigger._crons)

    assert unmoved == before
    assert len(after) == len(before)
    assert not set(map(id, after)) & set(map(id, before))
    assert all(cron.handle is None for cron in before)


async def test_each_bell_rings_by_the_clock_of_its_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hung: list[tuple[str, tzinfo]] = []

    class Bell(aiocron.Cron):  # type: ignore[misc]
        def __init__(self, spec: str, *args: Any, **options: Any) -> None:
            hung.append((spec, options["tz"]))
            super().__init__(spec, *args, **options)

    monkeypatch.setattr(aiocron, "Cron", Bell)
    base = world.jobs[GOALS]
    jobs = [
        replace(base, name="own", mode=TimeMode.USER, schedule="0 9 * * *"),
        replace(base, name="ours", mode=TimeMode.SERVICE, schedule="30 8 * * *"),
        replace(base, name="steps", mode=TimeMode.UTC, schedule="0 */6 * * *"),
    ]
    world.jobs = {job.id: job for job in jobs}

    async with Tower(await _night_before(world), world.jobs, NEVER):
        pass

    assert hung == [("* * * * *", UTC), ("30 8 * * *", ZoneInfo("Europe/Berlin")), ("0 */6 * * *", UTC)]
