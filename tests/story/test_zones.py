"""Zones that PostgreSQL does not know, or takes for something else, stop no run and no statistic."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.app import open_service
from service.demo import sample
from service.engine import zone_table
from service.engine.job import JobType
from service.messages.kind import Channel
from service.settings import Settings
from service.web.recipients.preference_form import switch_name
from service.zone_periods import ZonePeriods
from tests.acme import JOBS, KINDS
from tests.analytics.given import Lab, session
from tests.given import World, goal, user
from tests.messages.asking import Asking
from tests.web.given import admin, delivery
from tests.zone_data import NewData

PLACES = {"ann": "Europe/Berlin", "ben": "Asia/Tokyo", "eve": "America/New_York"}
REMINDERS = sorted(id_ for id_, job in JOBS.items() if job.type is JobType.REMINDER)
SWITCHES = [switch_name(kind, channel) for kind in KINDS for channel in Channel]
ALL_ON = dict.fromkeys(SWITCHES, "on") | {"shown": " ".join(SWITCHES)}


@pytest.fixture
async def world(pool: asyncpg.Pool) -> World:
    """Three people, each with a goal due tomorrow, a session of yesterday, and one that is running."""
    world = World(pool, dict(JOBS))
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
    token = f"token-{who}-{zone}".replace("/", "-")
    await delivery(world.pool, token, who)
    async with admin(world.pool) as given:
        form: dict[str, Any] = ALL_ON | {"timezone": zone}
        return await (await given.client.post(f"/preferences/{token}", data=form)).text()


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


async def test_a_zone_that_postgresql_does_not_know_is_a_zone_like_any_other(
    world: World, new_data: NewData
) -> None:
    """It is new in our data: a quarter of an hour behind Kathmandu until noon, then an hour behind that."""
    noon = datetime(2026, 3, 9, 12, tzinfo=UTC)
    new_data({"Asia/Newtown": ZonePeriods([noon], [19_800, 16_200])})
    assert not await world.pool.fetchval("SELECT true FROM pg_timezone_names WHERE name = 'Asia/Newtown'")
    async with world.pool.acquire() as connection:
        await zone_table.fill(connection)
    page = await _choose(world, "eve", "Asia/Newtown")
    await world.live(user("ivy", "Asia/Newtown"), goal("g-ivy", "ivy", due="2026-03-11"))
    await Lab(world.pool).put(session("s-ivy", "ivy", noon - timedelta(minutes=15), 30))

    assert '<option value="Asia/Newtown">' in page
    _all_succeeded(await _run_all(world))
    assert await _due_mails(world) == {*PLACES, "ivy"}
    hours = await world.pool.fetchval("SELECT hours FROM service.user_day WHERE user_id = 'ivy'")
    assert hours == {"16": 900, "17": 900}  # 17:15 to 17:30, and 16:30 to 16:45


async def test_a_run_that_was_planned_under_a_former_name_is_for_the_same_people(world: World) -> None:
    """0.1.0 planned it and stopped; who lived in Asia/Calcutta then lives in Asia/Kolkata now."""
    await world.at("2026-03-11T03:00:00Z")
    await world.live(user("ivy", "Asia/Kolkata"), goal("g-ivy", "ivy", due="2026-03-12"))
    asking = await Asking.of(world)
    await world.at("2026-03-11T03:30:00Z")
    await asking.trigger.sweep_once()
    await world.pool.execute(
        "UPDATE service.job_run SET zones = '{Asia/Calcutta}' WHERE 'Asia/Kolkata' = ANY (zones)"
    )
    while await asking.runner.run_one():
        continue

    assert "ivy" in await _due_mails(world)
    told = await asking.explainer.explain("reminder.goalDeadlines", "ivy")
    assert [run["state"] for run in told["recorded"]["runs"]] == ["succeeded"]


def _settings(dsn: str, folder: Path, **more: str) -> Settings:
    places = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "DATA_DIR": str(folder)}
    return Settings.load(places | more)


@pytest.fixture
async def dashboard(dsn: str) -> str:
    """A dashboard in the same database, where some have no zone."""
    await sample.write(dsn, sample.people(1, datetime.now(UTC).date(), 20))
    return dsn


@pytest.mark.parametrize("mode", ["user", "service"])
async def test_an_alias_in_the_settings_is_its_zone_in_sql_too(
    dashboard: str, tmp_path: Path, mode: str
) -> None:
    aliases = {"DEFAULT_TIMEZONE": "us/eastern", "SERVICE_TIMEZONE": "GB", "REMINDER_TIME_MODE": mode}
    async with open_service(_settings(dashboard, tmp_path, **aliases)) as service:
        for kind, name in (("reminder", "goalDeadlines"), ("analytics", "dailyAnalytics")):
            result = await service.manager.run_job(kind, name)
            assert result.state == "succeeded"
        zones = await service.pool.fetch("SELECT timezone FROM service.recipient WHERE NOT timezone_valid")
        hashes = await service.pool.fetch("SELECT schedule_hash FROM service.job_def WHERE mode = 'service'")

    assert {row["timezone"] for row in zones} == {"America/New_York"}
    assert {row["schedule_hash"].rpartition(":")[2] for row in hashes} == {"Europe/London"}
