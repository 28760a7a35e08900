"""JobManager keeps the original's names, and starts and stops as often as a test suite likes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.engine.job import Job
from service.engine.run import RunRequest
from service.engine.schedule import Schedule
from service.errors import BadRequest, UnknownJob, UnknownJobType
from service.jobs import all_jobs
from service.manager import JobManager
from service.manager.conditions import job_conditions
from service.manager.health import last_slots
from tests.acme import JOBS
from tests.given import World
from tests.web.given import AskedRunner, admin

NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)
ANALYTICS = {
    *("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior"),
    *("performanceMetrics", "dataCleanup"),
}


async def test_status_health_and_statistics_have_the_originals_shape(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        status = given.manager.get_status()
        assert status["isInitialized"] is True
        reminder = status["jobs"]["reminder"]
        assert (reminder["isRunning"], reminder["activeJobs"], reminder["jobCount"]) == (
            True,
            ["goalDeadlines"],
            1,
        )
        assert status["jobs"]["analytics"]["activeJobs"] == []
        health = await given.manager.health_check()
        assert health["status"] == "healthy"
        assert health["checks"]["reminder"]["status"] == "running"
        assert health["checks"]["reminder"]["activeJobs"] == 1
        statistics = await given.manager.get_job_statistics()
        assert statistics["overview"] == {"totalJobTypes": 2, "runningJobTypes": 1, "totalActiveJobs": 1}


async def test_initialize_and_shutdown_can_be_repeated(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await given.manager.initialize()
        await given.manager.shutdown()
        await given.manager.shutdown()
        assert (await given.manager.health_check())["status"] == "unhealthy"
        await given.manager.initialize()
        await given.manager.restart("reminder")
        assert given.life == ["open", "close", "open", "close", "open"]


async def test_a_foreign_application_can_carry_the_manager(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await given.manager.shutdown()
        app = web.Application()
        app.cleanup_ctx.append(given.manager.cleanup_ctx)
        async with TestClient(TestServer(app, host="127.0.0.1")):
            assert given.manager.get_status()["isInitialized"]
        assert not given.manager.get_status()["isInitialized"]


async def test_unknown_names_and_senseless_options_are_refused(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        with pytest.raises(UnknownJobType, match=r"^Unknown job type: x$"):
            await given.manager.run_job("x", "goalDeadlines")
        with pytest.raises(UnknownJob, match=r"^Unknown job: x$"):
            await given.manager.run_job("reminder", "x")
        with pytest.raises(BadRequest):
            await given.manager.run_job("reminder", "goalDeadlines", RunRequest(force=True))
        with pytest.raises(BadRequest):
            await given.manager.schedule_once("reminder", "goalDeadlines", timedelta(days=31))


def test_a_job_is_unwell_when_it_failed_waits_too_long_or_lost_its_last_two_slots() -> None:
    well = {
        "last_state": "succeeded", "last_trigger": "manual", "last_waived_at": None,
        "materialized_through": NOW, "oldest_pending": None, "paused": False,
        "last_success_at": NOW - timedelta(hours=1), "first_created": NOW - timedelta(days=9),
    }  # fmt: skip
    slots = [NOW - timedelta(days=1), NOW]
    assert job_conditions("a.b", well, NOW, slots) == []
    for key, trouble in (
        ("run_failed", {"last_state": "failed"}),
        ("slots_undecided", {"materialized_through": NOW - timedelta(minutes=6)}),
        ("watermark_ahead", {"materialized_through": NOW + timedelta(minutes=2)}),
        ("run_waiting", {"oldest_pending": NOW - timedelta(minutes=16)}),
        ("success_stale", {"last_success_at": NOW - timedelta(days=2)}),
        ("success_stale", {"last_success_at": None}),
    ):
        assert [one.key for one in job_conditions("a.b", well | trouble, NOW, slots)] == [key]
    assert job_conditions("a.b", well | {"last_success_at": None, "paused": True}, NOW, slots) == []


def test_a_slot_is_lost_only_when_it_has_passed_in_every_zone() -> None:
    breaks = Schedule.parse("*/25 9-17 * * 1-5")
    in_los_angeles = datetime(2026, 3, 10, 0, 50, tzinfo=UTC)  # Monday 17:50 there

    early_in_utc = datetime(2026, 3, 10, 10, tzinfo=UTC)
    assert last_slots(breaks, "user", early_in_utc)[0] < in_los_angeles
    assert last_slots(breaks, "service", early_in_utc)[0] > in_los_angeles
    a_day_later = datetime(2026, 3, 12, 6, tzinfo=UTC)
    assert last_slots(breaks, "user", a_day_later)[0] > in_los_angeles


async def test_every_statistic_is_counted_watched_and_named_when_it_fails(pool: asyncpg.Pool) -> None:
    world = World(pool)
    jobs, ledger = all_jobs(), await world.ledger()
    schedules = {id_: Schedule.parse(job.schedule) for id_, job in jobs.items()}
    manager = JobManager(pool, ledger, AskedRunner(), jobs, schedules=schedules)
    await manager.initialize()
    status = manager.get_status()["jobs"]["analytics"]
    names = status["activeJobs"]

    assert len(names) == len(set(names)) == status["jobCount"] >= 5
    assert set(names) <= ANALYTICS
    assert set(status["jobs"]) == set(names)
    well = (await manager.health_check())["checks"]["analytics"]
    assert (well["status"], well["activeJobs"], well["details"]["jobs"]) == ("running", len(names), names)
    for name in names:
        await pool.execute(
            "INSERT INTO service.job_run"
            " (job, trigger, nominal_at, not_before, state, started_at, finished_at)"
            " VALUES ('analytics.' || $1, 'manual', now(), now(), 'failed', now(), now())",
            name,
        )
    health = await manager.health_check()
    assert (health["status"], health["checks"]["reminder"]["status"]) == ("unhealthy", "running")
    unwell = health["checks"]["analytics"]
    assert (unwell["status"], set(unwell["details"]["problems"])) == ("unhealthy", set(names))
    await manager.shutdown()


@pytest.mark.parametrize("job", [j for id_, j in JOBS.items() if id_.startswith("analytics.")])
def test_the_rarest_statistic_too_is_stale_after_two_slots(job: Job) -> None:
    slots = last_slots(Schedule.parse(job.schedule), job.mode, NOW)
    row = {
        "last_state": "succeeded", "last_trigger": "manual", "last_waived_at": None,
        "materialized_through": NOW, "oldest_pending": None, "paused": False,
        "first_created": NOW - timedelta(days=400),
    }  # fmt: skip

    assert len(slots) == 2
    assert job_conditions("a.b", row | {"last_success_at": slots[0]}, NOW, slots) == []
    late = job_conditions("a.b", row | {"last_success_at": slots[0] - timedelta(seconds=1)}, NOW, slots)
    assert late[0].key == "success_stale"


@pytest.mark.parametrize("mode", ["user", "service"])
@pytest.mark.parametrize(
    "cron", ["*/25 9-17 * * 1-5", "0 * * * *", "0 9 * * *", "0 19 * * 0", "0 9 1 * *", "0 3 29 2 *"]
)
def test_the_last_slots_are_those_of_seventy_days_wherever_they_are_found(cron: str, mode: str) -> None:
    schedule = Schedule.parse(cron)
    late, early = (timedelta(hours=12), timedelta(hours=14)) if mode == "user" else (timedelta(0),) * 2
    for hours in range(0, 60 * 24, 37):
        now = datetime(2026, 1, 30, 8, 30, tzinfo=UTC) + timedelta(hours=hours)
        whole = schedule.slots(ZoneInfo("UTC"), now - timedelta(days=70), now - late)
        assert last_slots(schedule, mode, now) == [slot.at - early for slot in whole][-2:]
