"""One person's zone that PostgreSQL cannot compute with stops nobody's run and nobody's statistic."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from service.domain.dashboard import Kind
from service.jobs import all_jobs
from service.jobs.job import JobType
from tests.admin.given import admin, delivery
from tests.analytics.given import Lab, session
from tests.given import World, goal, user

PLACES = {"ann": "Europe/Berlin", "ben": "Asia/Tokyo", "eve": "America/New_York"}
REMINDERS = sorted(id_ for id_, job in all_jobs().items() if job.type is JobType.REMINDER)
ALL_ON = {str(kind): "on" for kind in Kind} | {f"app.{kind}": "on" for kind in Kind}
NO_ZONES = ("localtime", "posixrules", "Factory", "Mars/Olympus", "", "FOO5BAR", "Europe/Berlin ; --")


@pytest.fixture
async def world(pool: asyncpg.Pool) -> World:
    """Three people, each with a goal due tomorrow, a session of yesterday, and one that is running."""
    world = World(pool)
    await world.at("2026-03-10T12:00:00Z")
    for name, zone in PLACES.items():
        await world.live(user(name, zone), goal(f"g-{name}", name, due="2026-03-11"))
    yesterday, now = datetime(2026, 3, 9, 10, tzinfo=UTC), datetime(2026, 3, 10, 11, tzinfo=UTC)
    lab = Lab(pool)
    for name in PLACES:
        running = session(f"r-{name}", name, now, status="running", ended_at=None)
        await lab.put(session(f"s-{name}", name, yesterday), running)
    return world


async def _run_all(world: World) -> dict[str, str]:
    """Every reminder, then every statistic; the state of each run."""
    runner = await world.runner()
    states = {}
    for id_ in REMINDERS:
        result = await runner.run_manual(id_)
        states[id_] = result.state if result.state == "succeeded" else f"{result.state}: {result.error}"
    lab = Lab(world.pool)
    for name in ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior"):
        result = await lab.runner(await lab.ledger()).run_manual(f"analytics.{name}")
        states[name] = result.state if result.state == "succeeded" else f"{result.state}: {result.error}"
    return states


async def _choose(world: World, who: str, zone: str) -> str:
    """Somebody types a zone on the preference page; the page that comes back."""
    await delivery(world.pool, f"token-{who}-{zone}", who)
    async with admin(world.pool) as given:
        form: dict[str, Any] = ALL_ON | {"timezone": zone}
        return await (await given.client.post(f"/preferences/token-{who}-{zone}", data=form)).text()


async def _due_mails(world: World) -> set[str]:
    rows = await world.pool.fetch(
        "SELECT user_id FROM service.delivery WHERE job = 'reminder.goalDeadlines' AND kind = 'deadlines'"
        " AND channel = 'email' AND run_id IS NOT NULL"
    )
    return {row["user_id"] for row in rows}


def _all_succeeded(states: dict[str, str]) -> None:
    assert {name: state for name, state in states.items() if state != "succeeded"} == {}


async def test_localtime_on_the_preference_page_stops_nothing(world: World) -> None:
    await _choose(world, "ann", "localtime")

    _all_succeeded(await _run_all(world))
    assert await _due_mails(world) == set(PLACES)


async def test_it_stops_nothing_after_the_person_chose_another_zone_either(world: World) -> None:
    await _choose(world, "ann", "localtime")
    await world.at("2026-03-10T12:01:00Z")
    await _choose(world, "ann", "Asia/Tokyo")

    _all_succeeded(await _run_all(world))
    assert await _due_mails(world) == set(PLACES)


@pytest.mark.parametrize("name", NO_ZONES)
async def test_a_row_with_an_unknown_zone_stops_nothing(world: World, name: str) -> None:
    await world.pool.execute("UPDATE service.users SET timezone = $1 WHERE id = 'ann'", name)
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ('ben', $1)", name
    )
    await world.pool.execute("UPDATE service.user_zone SET timezone = $1 WHERE user_id = 'eve'", name)
    await world.pool.execute("INSERT INTO service.user_zone VALUES ('eve', '2026-03-10T11:30:00Z', $1)", name)
    later = session("later", "eve", datetime(2026, 3, 10, 11, 45, tzinfo=UTC))
    await Lab(world.pool).put(later)

    _all_succeeded(await _run_all(world))
    assert await _due_mails(world) == set(PLACES)
    assert await (await world.ledger()).places()
