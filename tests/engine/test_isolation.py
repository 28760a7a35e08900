"""Bulkheads: a job that fails leaves the other jobs alone, a user who fails leaves the other users alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.engine.job import Job
from service.engine.ledger import Ledger
from service.engine.run import RunResult, RunState, Tick
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, TriggerLoop
from service.jobs import goal_deadlines
from service.manager import JobManager
from service.messages import reminder as reminder_module
from service.messages.decision import Decision
from service.messages.reminder import FactsPage
from tests.given import GOALS, World, goal, user

BROKEN = "reminder.broken"


@pytest.fixture(autouse=True)
def one_job(world: World) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}


def _broken(jobs: Mapping[str, Job], **changes: Any) -> dict[str, Job]:
    """The job that works, and before it one that does not."""
    broken = replace(jobs[GOALS], name="broken", **changes)
    return {broken.id: broken, GOALS: jobs[GOALS]}


def _trigger(world: World, ledger: Ledger) -> TriggerLoop:
    timings = {id_: Timing(Schedule.parse(job.schedule), job.mode) for id_, job in world.jobs.items()}
    return TriggerLoop(ledger, world.jobs, timings, ZoneInfo("UTC"), asyncio.Event(), use_crons=False)


async def _runs(world: World) -> list[tuple[str, str, str, str | None]]:
    rows = await world.pool.fetch(
        "SELECT job, to_char(nominal_at AT TIME ZONE 'UTC', 'DD HH24:MI') AS at, state, reason"
        " FROM service.job_run ORDER BY nominal_at, job"
    )
    return [(row["job"], row["at"], row["state"], row["reason"]) for row in rows]


async def _night_before(world: World) -> Ledger:
    """Ann's goal is due tomorrow; her nine o'clock is eight in UTC."""
    await world.at("2026-03-10T00:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    return await world.ledger()


# ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _no_plan(_local: datetime) -> datetime:
    raise ZeroDivisionError("this job's slots cannot be judged")


async def test_a_job_whose_slots_cannot_be_planned_does_not_keep_the_others_from_their_hour(
    world: World,
) -> None:
    world.jobs = _broken(world.jobs, useful_until=_no_plan)
    trigger = _trigger(world, await _night_before(world))

    await world.at("2026-03-10T08:00:00Z")
    for _ in range(2):
        with suppress(ZeroDivisionError):
            await trigger.sweep_once()

    assert await _runs(world) == [(GOALS, "10 08:00", "pending", None)]


async def _no_facts(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
    raise ZeroDivisionError("this job's facts cannot be read")
    yield


async def test_a_job_whose_facts_cannot_be_read_fails_alone(world: World) -> None:
    world.jobs = _broken(world.jobs, read=_no_facts)
    trigger = _trigger(world, await _night_before(world))
    runner = await world.runner()

    await world.at("2026-03-10T08:00:00Z")
    await trigger.sweep_once()
    ended = {run.job: run for run in [await runner.run_one(), await runner.run_one()] if run}

    assert (ended[BROKEN].state, ended[GOALS].state) == (RunState.FAILED, RunState.SUCCEEDED)
    assert "ZeroDivisionError: this job's facts cannot be read" in (ended[BROKEN].error or "")
    assert ended[GOALS].error is None
    assert await world.mails() == {"ann": ("planned", None)}
    assert await runner.run_one() is None


async def test_the_loop_goes_on_to_the_next_job_by_itself(world: World) -> None:
    world.jobs = _broken(world.jobs, read=_no_facts)
    trigger = _trigger(world, await _night_before(world))
    runner = await world.runner()
    stop = asyncio.Event()
    await world.at("2026-03-10T08:00:00Z")
    await trigger.sweep_once()

    serving = asyncio.create_task(runner.serve(stop))
    async with asyncio.timeout(60):
        while (await _runs(world))[-1][2] != "succeeded":
            await asyncio.sleep(0.02)
        stop.set()
        await serving

    assert await _runs(world) == [
        (BROKEN, "10 08:00", "failed", None),
        (GOALS, "10 08:00", "succeeded", None),
    ]


async def test_a_job_that_decides_badly_for_everybody_fails_alone(world: World) -> None:
    world.jobs = _broken(world.jobs, decide=_failing("ann"))
    trigger = _trigger(world, await _night_before(world))
    runner = await world.runner()

    await world.at("2026-03-10T08:00:00Z")
    await trigger.sweep_once()
    await runner.run_one()
    await runner.run_one()

    assert [(job, state) for job, _, state, _ in await _runs(world)] == [
        (BROKEN, "failed"),
        (GOALS, "succeeded"),
    ]
    assert await world.mails() == {"ann": ("planned", None)}


# ── Users ───────────────────────────────────────────────────────────────────────────────────────────────────


def _failing(*ids: str) -> Callable[[goal_deadlines.Facts, Tick], Decision]:
    def decide(facts: goal_deadlines.Facts, tick: Tick) -> Decision:
        if facts.user.id in ids:
            raise ZeroDivisionError(f"about {facts.user.id}")
        return goal_deadlines.decide(facts, tick)

    return decide


async def _run(world: World, people: int, failing: int) -> tuple[RunResult, list[str]]:
    """A run over so many people, the last of whom cannot be decided; with the names of these."""
    names = [f"u{n:02d}" for n in range(people)]
    bad = names[people - failing :]
    await world.at("2026-03-10T08:00:00Z")
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    world.jobs = {GOALS: replace(world.reminder(), decide=_failing(*bad))}
    return await (await world.runner()).run_manual(GOALS), bad


async def test_a_user_who_cannot_be_decided_is_named_and_the_run_is_partial(world: World) -> None:
    result, bad = await _run(world, 10, 1)

    assert (result.state, result.counts) == ("partial", {"planned": 9, "in_app": 9, "user_error": 1})
    assert (result.error or "").startswith("Traceback (most recent call last)")
    assert "ZeroDivisionError: about u09" in (result.error or "")
    assert await world.reasons() == dict.fromkeys(bad, "user_error")
    assert await world.pool.fetchval("SELECT detail FROM service.refusal_in_words") == "ZeroDivisionError"
    assert sorted(await world.mails()) == [f"u{n:02d}" for n in range(9)]


@pytest.mark.parametrize(
    ("people", "failing", "state"),
    [(10, 0, "succeeded"), (10, 2, "partial"), (10, 3, "failed"), (4, 1, "failed"), (5, 1, "partial")],
)
@pytest.mark.parametrize("page", [3, 1000])
async def test_above_a_fifth_the_run_has_failed_however_the_pages_fall(
    world: World, monkeypatch: pytest.MonkeyPatch, people: int, failing: int, state: str, page: int
) -> None:
    monkeypatch.setattr(reminder_module, "_PAGE", page)

    result, bad = await _run(world, people, failing)

    assert result.state == state
    assert len(await world.mails()) == people - failing
    assert await world.reasons() == dict.fromkeys(bad, "user_error")


async def test_once_repaired_those_who_were_left_out_are_told_and_nobody_twice(world: World) -> None:
    await _run(world, 10, 3)
    world.jobs = {GOALS: replace(world.reminder(), decide=goal_deadlines.decide)}

    again = await (await world.runner()).run_manual(GOALS)

    assert again.counts == {"planned": 3, "in_app": 3, "already_sent": 7}
    assert len(await world.mails()) == 10


# ── Pauses ──────────────────────────────────────────────────────────────────────────────────────────────────


def _manager(world: World, ledger: Ledger, runner: Any = None) -> JobManager:
    return JobManager(world.pool, ledger, runner, world.jobs)


async def test_a_timed_pause_ends_by_itself_and_the_job_runs_again(world: World) -> None:
    ledger = await _night_before(world)
    trigger, runner = _trigger(world, ledger), await world.runner()
    until = datetime.fromisoformat("2026-03-10T12:00:00Z")
    await _manager(world, ledger).pause("reminder", "goalDeadlines", "ann", "holiday", until)

    await world.at("2026-03-10T08:00:00Z")
    await trigger.sweep_once()
    while_paused = await runner.run_one()
    await world.at("2026-03-11T08:00:00Z")
    await trigger.sweep_once()
    afterwards = await runner.run_one()

    assert while_paused is None
    assert afterwards is not None
    assert afterwards.state is RunState.SUCCEEDED
    assert await _runs(world) == [
        (GOALS, "10 08:00", "skipped", "paused"),
        (GOALS, "11 08:00", "succeeded", None),
    ]
    assert await world.mails() == {"ann": ("planned", None)}


async def test_the_status_tells_of_a_timed_pause_until_it_is_over(world: World) -> None:
    ledger = await _night_before(world)
    manager = _manager(world, ledger)
    await manager.pause(
        "reminder", "goalDeadlines", "ann", "holiday", datetime.fromisoformat("2026-03-10T12:00:00Z")
    )

    def told() -> tuple[bool, str | None]:
        status = manager.get_status()["jobs"]["reminder"]["jobs"]["goalDeadlines"]
        return status["paused"], status["pausedUntil"]

    during = told()
    await world.at("2026-03-10T12:00:00Z")
    await manager.refresh()

    assert during == (True, "2026-03-10T12:00:00Z")
    assert told() == (False, None)


async def test_a_pause_of_one_job_leaves_the_others_running(world: World) -> None:
    world.jobs = _broken(world.jobs)
    ledger = await _night_before(world)
    trigger = _trigger(world, ledger)
    await ledger.pause(BROKEN, "ann", "holiday")

    await world.at("2026-03-10T08:00:00Z")
    await trigger.sweep_once()

    assert await _runs(world) == [
        (BROKEN, "10 08:00", "skipped", "paused"),
        (GOALS, "10 08:00", "pending", None),
    ]


async def test_a_slot_within_a_timed_pause_is_skipped_even_when_it_is_looked_at_later(world: World) -> None:
    """As when the process was down meanwhile: the pause was meant for the slot, not for the sweep."""
    ledger = await _night_before(world)
    trigger = _trigger(world, ledger)
    await ledger.pause(GOALS, "ann", "holiday", datetime.fromisoformat("2026-03-10T08:05:00Z"))

    await world.at("2026-03-10T08:06:00Z")
    await trigger.sweep_once()

    assert await _runs(world) == [(GOALS, "10 08:00", "skipped", "paused")]
