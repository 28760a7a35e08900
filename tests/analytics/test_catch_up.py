"""After downtime every period is filled, oldest first; what rests on another statistic waits for it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from service.engine.ledger import Ledger
from service.engine.trigger import TriggerLoop, timing_of
from service.jobs import all_jobs
from tests.analytics.given import DAILY, JOBS, WEEKLY, Lab, at, people, session

DAY = timedelta(days=1)


def bell(ledger: Ledger) -> TriggerLoop:
    """Decides the slots of the analytics jobs."""
    jobs = {name: all_jobs()[name] for name in JOBS}
    timings = {name: timing_of(job) for name, job in jobs.items()}
    return TriggerLoop(ledger, jobs, timings, ZoneInfo("UTC"), asyncio.Event())


async def _down(lab: Lab, until: str) -> Ledger:
    """Everything is up to date on 10 March; then nobody is there ``until``."""
    await lab.clock(at("2026-03-10 12:30"))
    await lab.put(*people("ann", zone="Africa/Cairo", created=at("2026-03-02 08:00")))
    ledger = await lab.ledger()
    await lab.run()
    for n in range(30):
        await lab.put(session(f"s{n}", "ann", at("2026-03-08 22:30") + n * DAY))
    await lab.clock(at(until))
    await bell(ledger).sweep_once()
    return ledger


async def _runs(lab: Lab, job: str) -> list[asyncpg.Record]:
    return await lab.pool.fetch(
        "SELECT * FROM service.job_run WHERE job = $1 AND trigger <> 'manual' ORDER BY finished_at, id", job
    )


async def _work_off(lab: Lab, ledger: Ledger) -> None:
    runner = lab.runner(ledger)
    while await lab.pool.fetchval("SELECT count(*) FROM service.job_run WHERE state = 'pending'"):
        if await runner.run_one() is None:
            await lab.clock(lab.now + timedelta(minutes=1))


async def test_every_missed_period_is_filled_by_its_own_run_oldest_first(lab: Lab) -> None:
    ledger = await _down(lab, "2026-04-05 09:00")
    await _work_off(lab, ledger)
    await lab.check()
    daily = await _runs(lab, DAILY)
    assert [run["nominal_at"] for run in daily] == [at("2026-03-11 01:00") + n * DAY for n in range(26)]
    assert {(run["state"], run["counts"]["dailyNew"], run["attempt"]) for run in daily} == {
        ("succeeded", 1, 1)
    }
    counted = {job: sum(_new(run) for run in await _runs(lab, job)) for job in JOBS}
    # A month has figures, insights and a churn model.
    # userBehavior is useful for seven days: what lies before is filled by the first run that is.
    assert list(counted.values()) == [26, 4, 3, 26 * 4 - 1]
    behaviour = await _runs(lab, JOBS[3])
    assert {run["state"] for run in behaviour} == {"missed", "succeeded"}


def _new(run: Any) -> int:
    return sum(n for name, n in run["counts"].items() if name.endswith("New"))


async def test_weekly_and_monthly_wait_for_the_days_without_using_up_an_attempt(lab: Lab) -> None:
    await _down(lab, "2026-04-05 09:00")
    impatient = await lab.ledger(*JOBS[1:3])
    runner = lab.runner(impatient)
    while await runner.run_one():
        pass
    waiting = await lab.pool.fetch(
        "SELECT * FROM service.job_run WHERE state = 'pending' AND job = ANY ($1)", JOBS[1:3]
    )
    assert {(run["job"], run["nominal_at"], run["attempt"], run["reason"]) for run in waiting} == {
        *(
            (WEEKLY, at(f"{sunday} 02:00"), 0, f"waits for dailyAnalytics of {saturday}")
            for sunday, saturday in [
                ("2026-03-15", "2026-03-14"),
                ("2026-03-22", "2026-03-21"),
                ("2026-03-29", "2026-03-28"),
                ("2026-04-05", "2026-04-04"),
            ]
        ),
        (JOBS[2], at("2026-04-01 03:00"), 0, "waits for dailyAnalytics of 2026-03-31"),
    }
    assert {run["not_before"] for run in waiting} == {lab.now + timedelta(minutes=1)}
    assert list(await lab.figures("weekly"))[-1] == datetime(2026, 3, 1)
    await _work_off(lab, await lab.ledger())
    assert {run["attempt"] for run in await _runs(lab, WEEKLY)} == {1}
    await lab.check()
