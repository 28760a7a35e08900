"""A dashboard that lacks what jobs rest on: those jobs wait, red, by name; the others go on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.engine.run import RunRequest
from service.errors import BadRequest, DashboardIncomplete, SchemaUnknown
from tests.dashboard.conftest import Dashboard, MongoDashboard, Opened, PostgresDashboard, Stage
from tests.given import inbox

pytestmark = pytest.mark.either_dashboard

DAY = timedelta(days=1)
NINE = datetime(2026, 3, 10, 8, tzinfo=UTC)
"""Nine in the morning of a Tuesday in Berlin, where everybody lives."""
PEOPLE = 14
WRITTEN = NINE - DAY
"""When everything was last written, unless a test says otherwise."""


def at(hour: int, minute: int = 0, second: int = 1) -> datetime:
    """A moment of that Tuesday by Berlin's clock."""
    return datetime(2026, 3, 10, hour - 1, minute, second, tzinfo=UTC)


async def person(dashboard: Dashboard, n: int, *, since: datetime = NINE - 60 * DAY, **values: Any) -> None:
    """Somebody with an account ``since`` then."""
    await dashboard.put("users", n, **{
        "name": f"Person {n}", "email": f"p{n}@example.org", "timezone": "Europe/Berlin", "active": True,
        "created": since, "updated": WRITTEN, **values,
    })  # fmt: skip


async def goal(
    dashboard: Dashboard, n: int, due: datetime | None = datetime(2026, 3, 11, tzinfo=UTC)
) -> None:
    values = {} if due is None else {"due": due}
    await dashboard.put("goals", n, user=n, title=f"Goal {n}", status="active", updated=WRITTEN, **values)


async def session(dashboard: Dashboard, number: int, n: int, started: datetime) -> None:
    ended = started + timedelta(minutes=25)
    await dashboard.put(
        "timer_sessions", number, user=n, kind="focus", status="completed", started=started, ended=ended,
        planned=1500, focus=1500, updated=WRITTEN,
    )  # fmt: skip


async def fill(dashboard: Dashboard, people: int = PEOPLE) -> None:
    """Everybody has a goal due tomorrow, and focused on each of the last four days."""
    for n in range(1, people + 1):
        await person(dashboard, n)
        await goal(dashboard, n)
        for ago in range(1, 5):
            await session(dashboard, 10 * n + ago, n, NINE - ago * DAY)


@pytest.fixture
async def stage(dashboard: Dashboard, opened: Opened) -> Stage:
    """Everything is in order at two minutes before nine."""
    await fill(dashboard)
    stage = await opened(dashboard)
    await stage.service.sync.run_once()
    assert await stage.missing() == []
    return stage


# ── A field ─────────────────────────────────────────────────────────────────────────────────────────────────


async def addresses(stage: Stage) -> int:
    found: int = await stage.pool.fetchval("SELECT count(email) FROM service.users")
    return found


async def test_without_addresses_reminders_wait_and_leave_when_they_are_back(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.dashboard.rename("users", "email", "contact")
    await stage.turn(at(9))

    assert (await stage.runs())["goalDeadlines"] == ("pending", "waiting for users.email at the dashboard")
    assert await stage.mails() == {}
    assert await stage.missing() == ["users.email"]
    health = stage.service.sync.health()
    assert health["missing"][0]["looks_like"] == "contact"
    assert "goalDeadlines" in health["missing"][0]["jobs"]
    assert "dailyAnalytics" not in health["missing"][0]["jobs"]
    assert "users.email" in health["error"]
    assert "it was filled in 100 %" in health["error"]
    assert "`contact` looks like it" in health["error"]
    assert await addresses(stage) == PEOPLE

    await stage.dashboard.rename_back("users", "email", "contact")
    await stage.turn(at(9, 5))
    assert (await stage.runs())["goalDeadlines"] == ("succeeded", None)
    assert await stage.mails() == {"sent": PEOPLE}
    assert len(inbox(tmp_path / "inbox")) == PEOPLE
    assert await stage.missing() == []


async def test_statistics_need_no_addresses(stage: Stage) -> None:
    await stage.dashboard.rename("users", "email", "contact")

    await stage.turn(datetime(2026, 3, 11, 1, 0, 1, tzinfo=UTC))

    assert (await stage.runs())["dailyAnalytics"] == ("succeeded", None)


async def test_people_who_came_while_addresses_were_missing_are_read_in_full_when_they_are_back(
    stage: Stage,
) -> None:
    await stage.dashboard.rename("users", "email", "contact")
    await stage.service.sync.run_once()
    await _newcomer(stage.dashboard)
    await stage.service.sync.run_once()
    assert await addresses(stage) == PEOPLE
    assert await stage.pool.fetchval("SELECT count(*) FROM service.users") == PEOPLE + 1

    await stage.dashboard.rename_back("users", "email", "contact")
    await stage.service.sync.run_once()

    assert await addresses(stage) == PEOPLE + 1
    assert await stage.missing() == []


async def _newcomer(dashboard: Dashboard) -> None:
    """Person 20, written while the address is called ``contact``."""
    if isinstance(dashboard, PostgresDashboard):
        await dashboard.connection.execute(
            "INSERT INTO users (id, name, contact, timezone, created_at, updated_at)"
            " VALUES (20, 'Person 20', 'p20@example.org', 'UTC', $1, $1)",
            WRITTEN,
        )
    else:
        assert isinstance(dashboard, MongoDashboard)
        await dashboard.database["users"].insert_one(
            {"_id": dashboard.oid(20), "name": "Person 20", "contact": "p20@example.org",
             "createdAt": WRITTEN, "updatedAt": WRITTEN}
        )  # fmt: skip


async def test_mails_that_were_planned_before_wait_too(stage: Stage) -> None:
    await stage.plan(at(9))
    assert await stage.mails() == {"planned": PEOPLE}
    await stage.dashboard.rename("users", "email", "contact")

    await stage.service.delivery.run_once()

    assert set(await stage.mails()) == {"planned"}
    assert not stage.service.sync.health()["healthy"]

    await stage.dashboard.rename_back("users", "email", "contact")
    await stage.turn(at(9, 2))
    assert await stage.mails() == {"sent": PEOPLE}
    assert await stage.missing() == []


async def test_addresses_that_are_all_empty_now_are_missing_as_well(stage: Stage) -> None:
    for n in range(1, PEOPLE + 1):
        await person(stage.dashboard, n, email=None if n % 2 else "", updated=at(9))

    await stage.turn(at(9))

    assert await stage.missing() == ["users.email"]
    assert (await stage.runs())["goalDeadlines"][0] == "pending"
    assert await addresses(stage) == PEOPLE


async def test_one_who_took_their_address_away_gets_no_mail_and_the_others_theirs(stage: Stage) -> None:
    await person(stage.dashboard, 4, email=None, updated=at(9))

    await stage.turn(at(9))

    assert await stage.mails() == {"sent": PEOPLE - 1}
    assert await addresses(stage) == PEOPLE - 1


async def test_without_due_dates_only_their_reminder_waits_and_is_missed_with_the_reason(
    stage: Stage,
) -> None:
    await stage.dashboard.rename("goals", "due", "finish_by")
    await stage.turn(at(9))

    waiting = "waiting for goals.due at the dashboard"
    assert (await stage.runs())["goalDeadlines"] == ("pending", waiting)
    assert await stage.missing() == ["goals.due"]
    assert "`finish_by` looks like it" in stage.service.sync.health()["error"]
    assert (
        await stage.pool.fetchval("SELECT count(*) FROM service.goals WHERE due_date IS NOT NULL") == PEOPLE
    )

    await stage.turn(at(18))
    assert (await stage.runs())["dailyCheck"] == ("succeeded", None)
    assert (await stage.mails())["sent"] == PEOPLE

    await stage.turn(at(20, 1))
    assert (await stage.runs())["goalDeadlines"] == ("missed", f"too late: {waiting}")
    assert not await stage.pool.fetchval(
        "SELECT count(*) FROM service.refusal AS d JOIN service.job_run AS r ON r.id = d.run_id"
        " WHERE r.job = 'reminder.goalDeadlines'"
    )


@pytest.mark.parametrize("field", ["started", "kind", "status", "user"])
async def test_without_a_field_of_sessions_only_the_jobs_that_rest_on_them_wait(
    stage: Stage, field: str
) -> None:
    await stage.dashboard.rename("timer_sessions", field, "elsewhere")

    await stage.turn(at(9))
    await stage.turn(at(18))

    runs = await stage.runs()
    assert runs["goalDeadlines"] == ("succeeded", None)
    assert runs["dailyCheck"] == ("pending", f"waiting for timer_sessions.{field} at the dashboard")
    assert await stage.mails() == {"sent": PEOPLE}
    assert await stage.missing() == [f"timer_sessions.{field}"]
    assert await stage.pool.fetchval("SELECT count(*) FROM service.timer_sessions") == 4 * PEOPLE

    await stage.dashboard.rename_back("timer_sessions", field, "elsewhere")
    await stage.turn(at(18, 2))
    assert (await stage.runs())["dailyCheck"] == ("succeeded", None)


async def test_goals_without_any_due_date_are_no_fault_of_a_few(
    mongo_dashboard: MongoDashboard, opened: Opened
) -> None:
    """MongoDB stores no field that is not set."""
    for n in range(1, 10):
        await person(mongo_dashboard, n)
        await goal(mongo_dashboard, n, due=None)
        await session(mongo_dashboard, n, n, NINE - DAY)
    stage = await opened(mongo_dashboard)
    await stage.service.sync.run_once()
    assert await stage.missing() == []

    await person(mongo_dashboard, 10)
    await goal(mongo_dashboard, 10, due=None)
    await stage.service.sync.run_once()
    assert await stage.missing() == ["goals.due"]

    await goal(mongo_dashboard, 11)
    await stage.service.sync.run_once()
    assert await stage.missing() == []


async def test_the_newest_goals_without_due_dates_are_no_fault_where_older_ones_keep_theirs(
    mongo_dashboard: MongoDashboard, opened: Opened
) -> None:
    await fill(mongo_dashboard)
    stage = await opened(mongo_dashboard)
    await stage.service.sync.run_once()
    for n in range(100, 160):
        await mongo_dashboard.put("goals", n, user=1, title="Some day", status="active", updated=WRITTEN)

    await stage.service.sync.run_once()

    assert await stage.missing() == []


# ── A table ─────────────────────────────────────────────────────────────────────────────────────────────────


async def foreign(dashboard: Dashboard, people: int) -> None:
    """Of this dashboard only the people fit: tasks instead of goals, pomodoros of another name."""
    for n in range(1, people + 1):
        await person(dashboard, n, since=NINE - 3 * DAY)
    if isinstance(dashboard, PostgresDashboard):
        for table in ("goals", "timer_sessions"):
            await dashboard.connection.execute(f"DROP TABLE {table}")
        await dashboard.connection.execute(
            "CREATE TABLE tasks (id int PRIMARY KEY, owner bigint);"
            "CREATE TABLE pomodoros (id int PRIMARY KEY, owner bigint, minutes int);"
            "INSERT INTO pomodoros"
            f" SELECT n, n % {people} + 1, 25 FROM generate_series(1, {20 * people}) AS n"
        )
        return
    assert isinstance(dashboard, MongoDashboard)
    await dashboard.database["tasks"].insert_one({"owner": dashboard.oid(1), "text": "x"})
    await dashboard.database["pomodoros"].insert_many(
        [{"owner": dashboard.oid(n % people + 1), "minutes": 25} for n in range(20 * people)]
    )


@pytest.mark.parametrize("people", [3, 12])
async def test_of_a_dashboard_of_which_only_the_people_fit_nobody_is_told_to_begin(
    dashboard: Dashboard, opened: Opened, people: int
) -> None:
    await foreign(dashboard, people)
    stage = await opened(dashboard)
    await stage.service.sync.run_once()
    await stage.turn(at(9))
    await stage.turn(at(10))
    await stage.turn(at(18))

    assert await stage.missing() == ["goals", "timer_sessions"]
    runs = await stage.runs()
    assert {runs[job][0] for job in ("goalDeadlines", "inactiveUsers", "dailyCheck")} == {"pending"}
    assert "goals" in str(runs["goalDeadlines"][1])
    assert "timer_sessions" in str(runs["dailyCheck"][1])
    assert await stage.mails() == {}


async def test_a_mapping_file_that_names_tables_which_do_not_exist_is_red(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    """On a dashboard of people and goals, which lie in tables of other names."""
    await dashboard.put("users", 1, name="Ada", email="ada@example.org", timezone="UTC", active=True)
    await dashboard.put("goals", 1, user=1, title="Read", status="active")
    tables = 'users = "members"\ngoals = "aims"\ntimer_sessions = "laps"'
    mapping = parse_mapping(f'extends = "{dashboard.profile}"\n[tables]\n{tables}')
    sync = Sync(pool, dashboard.source, SyncSettings(profile=mapping))
    with pytest.raises(SchemaUnknown, match="members"):
        await sync.run_once()
    health = sync.health()
    assert not health["healthy"]
    assert "members" in health["error"]


async def test_a_table_that_was_there_and_is_not_is_missed_by_name(stage: Stage) -> None:
    await stage.dashboard.lose("timer_sessions")
    await stage.turn(at(9))
    await stage.turn(at(18))

    runs = await stage.runs()
    assert runs["goalDeadlines"] == ("succeeded", None)
    assert runs["dailyCheck"] == ("pending", "waiting for timer_sessions at the dashboard")
    assert await stage.missing() == ["timer_sessions"]
    await stage.service.sync.run_once(compare=True)
    assert await stage.pool.fetchval("SELECT count(*) FROM service.timer_sessions") == 4 * PEOPLE

    await stage.dashboard.refill("timer_sessions")
    await stage.turn(at(18, 2))
    assert (await stage.runs())["dailyCheck"] == ("succeeded", None)
    assert await stage.missing() == []


async def test_a_new_mongodb_dashboard_has_no_collections_yet(
    mongo_dashboard: MongoDashboard, opened: Opened
) -> None:
    """MongoDB makes a collection with its first document."""
    stage = await opened(mongo_dashboard)
    await stage.service.sync.run_once()
    assert await stage.missing() == []
    for n in range(1, 4):
        await person(mongo_dashboard, n)
    await mongo_dashboard.database["sessions"].insert_one({"_id": "express", "session": "{}"})
    await mongo_dashboard.database["notifications"].insert_one({"userId": mongo_dashboard.oid(1)})
    await stage.service.sync.run_once()
    assert await stage.missing() == []

    await goal(mongo_dashboard, 1)
    await session(mongo_dashboard, 1, 1, NINE - DAY)
    await stage.service.sync.run_once()
    assert await stage.missing() == []
    assert await stage.pool.fetchval("SELECT count(*) FROM service.timer_sessions") == 1


async def test_a_mapping_file_may_say_that_there_is_no_such_table_or_field(
    dashboard: Dashboard, opened: Opened, tmp_path: Path
) -> None:
    await fill(dashboard)
    await dashboard.lose("timer_sessions")
    await dashboard.rename("goals", "due", "finish_by")
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        f'extends = "{dashboard.profile}"\n[tables]\ntimer_sessions = ""\n[goals]\ndue = ""\n', "utf-8"
    )
    stage = await opened(dashboard, DASHBOARD_SCHEMA=str(mapping))
    await stage.service.sync.run_once(compare=True)
    await stage.turn(at(9))
    await stage.turn(at(18))

    assert await stage.missing() == []
    assert stage.service.sync.health()["complete"]
    runs = await stage.runs()
    assert runs["goalDeadlines"] == ("succeeded", None)
    said = "the mapping file says that the dashboard has no timer_sessions"
    assert runs["dailyCheck"] == ("skipped", said)
    with pytest.raises(BadRequest, match=said):
        await stage.service.runner.run_manual("reminder.dailyCheck", RunRequest(dry_run=True))


# ── Asked by somebody ───────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_asks_is_told_what_is_missing(stage: Stage) -> None:
    await stage.dashboard.rename("goals", "due", "finish_by")
    job, key = "reminder.goalDeadlines", stage.dashboard.key(1)
    await stage.clock(at(9))

    with pytest.raises(DashboardIncomplete, match=r"goals\.due"):
        await stage.service.runner.run_manual(job, RunRequest(dry_run=True))
    with pytest.raises(DashboardIncomplete, match=r"goals\.due"):
        await stage.service.runner.run_manual(job)
    told = await stage.service.explainer.explain(job, key)
    rules = {rule["rule"]: rule for rule in told["rules"]["email"]}
    assert rules["dashboard"]["verdict"] == "stopped"
    assert "goals.due" in rules["dashboard"]["detail"]
    assert await stage.runs() == {}


async def test_the_api_says_what_is_missing_too(stage: Stage) -> None:
    await stage.dashboard.rename("goals", "due", "finish_by")
    await stage.service.sync.run_once()
    job = {"jobType": "reminder", "jobName": "goalDeadlines"}
    async with TestClient(TestServer(await stage.service.web_app())) as client:
        answer = await client.post("/api/admin/jobs/run", json=job)
        assert answer.status == 503
        assert "goals.due" in (await answer.json())["error"]
        answer = await client.get("/api/admin/jobs/health")
        check = (await answer.json())["checks"]["dashboard"]
    assert check["status"] == "unhealthy"
    assert check["details"]["missing"][0]["jobs"] == ["goalDeadlines"]


async def test_a_run_asked_for_before_anybody_noticed_fails_and_says_why(stage: Stage) -> None:
    await stage.dashboard.rename("goals", "due", "finish_by")

    result = await stage.service.runner.run_manual("reminder.goalDeadlines")

    assert result.state == "failed"
    assert "goals.due" in str(result.error)
