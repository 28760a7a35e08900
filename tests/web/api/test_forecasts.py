"""The forecast: slots exactly, people as an upper bound; and one slot as the run itself then does it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.dashboard.model import Preferences
from service.engine.job import TimeMode
from service.engine.run import Pause
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, TriggerLoop, timing_of
from service.errors import AlreadyRunning
from service.jobs import all_jobs
from service.messages.forecast import Audience, Forecaster, JobForecast, hourly_forecast
from service.messages.kind import Channel
from service.messages.reminder import reminders
from tests.given import GOALS, World, goal, user
from tests.web.contract import promised
from tests.web.given import DASHBOARD, VIEWER, Admin, admin

FORECAST = "/api/admin/forecast"
NOW = "2026-03-10T06:30:00Z"  # 7:30 in Berlin, 2:30 in New York
JOBS = all_jobs()
TIMINGS = {id_: timing_of(job) for id_, job in JOBS.items()}


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


@pytest.fixture
async def given(world: World) -> AsyncIterator[Admin]:
    """Berlin: Ann with a goal, Bob with none, Cy without mails, Dan inactive, Flo without address; Eve."""
    await world.at("2026-03-01T12:00:00Z")
    await world.live(
        user("ann"),
        user("bob"),
        user("cy", preferences=Preferences(email=False)),
        user("dan", active=False),
        user("eve", "America/New_York"),
        user("flo", email=None),
        goal("g1", due="2026-03-11"),
        goal("g2", "eve", due="2026-03-11"),
    )
    await world.at(NOW)
    ledger, runner = await world.ledger(), await world.runner()
    made = Forecaster(world.pool, ledger, runner, JOBS, TIMINGS, ZoneInfo("UTC"))
    async with admin(world.pool, forecaster=made) as given:
        yield given


async def ask(given: Admin, query: str, status: int = 200) -> Any:
    answer = await given.client.get(f"{FORECAST}?{query}", headers=VIEWER)
    body = await promised(answer, "GET", FORECAST)
    assert answer.status == status, body
    return body.get("data") or body["error"]


async def goals(given: Admin, query: str = "days=1") -> dict[str, tuple[int, int]]:
    (job,) = (await ask(given, f"{query}&job=goalDeadlines"))["jobs"]
    found = {hour["at"]: (hour["email"], hour["inApp"]) for hour in job["hours"]}
    assert (job["total"]["email"], job["total"]["inApp"]) == tuple(
        map(sum, zip(*found.values(), strict=True))
    )
    return found


async def test_each_slot_to_come_has_everybody_who_could_be_written_to(given: Admin) -> None:
    assert await goals(given) == {"2026-03-10T08:00:00Z": (2, 4), "2026-03-10T13:00:00Z": (1, 1)}
    assert len(await goals(given, "days=7")) == 14
    every = await ask(given, "days=7")
    assert every["upperBound"]
    assert {job["job"] for job in every["jobs"]} == {id_ for id_ in JOBS if id_.startswith("reminder.")}
    weekly = next(job for job in every["jobs"] if job["job"] == "reminder.weeklyReview")
    assert {hour["at"] for hour in weekly["hours"]} == {"2026-03-15T18:00:00Z", "2026-03-15T23:00:00Z"}


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("INSERT INTO service.suppression VALUES ('ann@example.org', 'complaint')", (1, 4)),
        ("INSERT INTO service.preference_override VALUES ('cy', 'deadlines', 'email', true, 't')", (3, 4)),
        ("INSERT INTO service.preference_override VALUES ('ann', '*', '*', false, 't')", (1, 3)),
        (
            "INSERT INTO service.recipient_setting (user_id, paused_until)"
            " VALUES ('bob', '2026-03-10T08:00:01Z')",
            (1, 3),
        ),
        (
            "INSERT INTO service.recipient_setting (user_id, paused_until)"
            " VALUES ('bob', '2026-03-10T08:00Z')",
            (2, 4),
        ),
    ],
)
async def test_what_people_decided_counts(given: Admin, wish: str, expected: tuple[int, int]) -> None:
    await given.pool.execute(wish)
    assert (await goals(given))["2026-03-10T08:00:00Z"] == expected


async def test_an_hour_of_ones_own_and_a_paused_job_count_too(given: Admin) -> None:
    await given.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, hours) VALUES ('bob', '{\"deadlines\": 10}')"
    )
    assert await goals(given) == {
        "2026-03-10T08:00:00Z": (1, 3),
        "2026-03-10T09:00:00Z": (1, 1),
        "2026-03-10T13:00:00Z": (1, 1),
    }
    await given.pool.execute(
        "UPDATE service.job_def SET paused_at = '2026-03-10T00:00Z', paused_until = '2026-03-10T09:00Z'"
    )
    assert set(await goals(given)) == {"2026-03-10T09:00:00Z", "2026-03-10T13:00:00Z"}


async def test_the_exact_forecast_is_what_the_run_then_does_and_writes_nothing(
    given: Admin, world: World
) -> None:
    foreseen = await ask(given, "exact=true&job=goalDeadlines")
    assert await world.mails() == {}
    assert (foreseen["at"], foreseen["groups"]) == ("2026-03-10T08:00:00Z", ["Europe/Berlin"])

    await world.at("2026-03-10T08:00:05Z")
    runner, ledger, only = await world.runner(), await world.ledger(), {GOALS: JOBS[GOALS]}
    await world.pool.execute("UPDATE service.job_schedule SET materialized_through = '2026-03-10T07:00Z'")
    trigger = TriggerLoop(ledger, only, {GOALS: TIMINGS[GOALS]}, ZoneInfo("UTC"), asyncio.Event())
    await trigger.sweep_once()
    run = await runner.run_one()

    assert run is not None
    counts = dict(run.counts)
    assert (counts.pop("planned"), counts.pop("in_app")) == (foreseen["email"], foreseen["inApp"]) == (1, 1)
    assert counts == foreseen["reasons"]


async def test_one_exact_question_at_a_time_and_only_about_one_reminder(given: Admin, world: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def refresh() -> None:
        begun.set()
        await go_on.wait()

    world.refresh = refresh
    made = Forecaster(world.pool, await world.ledger(), await world.runner(), JOBS, TIMINGS, ZoneInfo("UTC"))
    first = asyncio.ensure_future(made.exact("goalDeadlines"))
    await begun.wait()
    with pytest.raises(AlreadyRunning):
        await made.exact("goalDeadlines")
    go_on.set()
    assert (await first)["email"] == 1
    assert "job" in await ask(given, "exact=true", 400)
    await ask(given, "job=nothing", 404)
    await ask(given, "job=analytics.dailyAnalytics", 400)
    for wrong in ("days=0", "days=32", "exact=yes", "day=7"):
        await ask(given, wrong, 400)
    assert (await given.client.get(FORECAST, headers=DASHBOARD)).status == 403


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/25 9-17 * * 1-5", "0 0 * * *", "15 1 29 3 *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Cairo", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_slots_are_those_of_the_schedule_also_where_clocks_change(expression: str, zone: str) -> None:
    after = datetime(2026, 3, 25, 0, 30, tzinfo=UTC)
    until = after + timedelta(days=31)
    schedule = Schedule.parse(expression)
    timing = Timing(schedule, TimeMode.USER)
    crowd = Audience(zone, None, {Channel.EMAIL: 1})

    told = hourly_forecast(
        JobForecast(reminders(JOBS)[GOALS], timing, Pause(None), [crowd]), ZoneInfo("UTC"), after, until
    )

    slots = {slot.at for slot in schedule.slots(ZoneInfo(zone), after, until)}
    assert told["total"]["email"] == len(slots)
