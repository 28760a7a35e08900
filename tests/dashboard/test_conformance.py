"""One suite over both kinds of dashboard: what is there comes over, and only as it is."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.dashboard.dashboard_state import StateQuery
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import AnswerDoubted, DashboardIncomplete, SchemaUnknown, SourceUnavailable
from tests.dashboard.conftest import T0, Dashboard

HOUR = timedelta(hours=1)


async def fill(dashboard: Dashboard, people: int = 3) -> None:
    """People 1…n, each with a goal due at midnight UTC and one completed session of 25 minutes."""
    for n in range(1, people + 1):
        await dashboard.put(
            "users", n, name=f"Person {n}", email=f"p{n}@example.org", timezone="Europe/Berlin", active=True,
            last_login=T0, preferences={"notifications": {"email": True, "weeklyReports": False}},
        )  # fmt: skip
        await dashboard.put(
            "goals", n, user=n, title=f"Goal {n}", status="active", target=10, current=3, unit="books",
            due=datetime(2026, 4, 1, tzinfo=UTC),
        )  # fmt: skip
        await dashboard.put(
            "timer_sessions", n, user=n, kind="focus", status="completed", started=T0,
            ended=T0 + timedelta(minutes=25), planned=1500, focus=1500,
        )  # fmt: skip


async def count(pool: asyncpg.Pool, table: str) -> int:
    found: int = await pool.fetchval(f"SELECT count(*) FROM service.{table}")
    return found


async def test_the_first_load_brings_everything_over_in_canonical_form(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    report = await sync.run_once()
    assert report.profile == dashboard.profile
    user = await pool.fetchrow("SELECT * FROM service.users WHERE id = $1", dashboard.key(1))
    goal = await pool.fetchrow("SELECT * FROM service.goals WHERE id = $1", dashboard.key(1))
    session = await pool.fetchrow("SELECT * FROM service.timer_sessions WHERE id = $1", dashboard.key(1))
    assert user
    assert goal
    assert session
    assert (user["name"], user["email"], user["timezone"]) == ("Person 1", "p1@example.org", "Europe/Berlin")
    assert user["preferences"] == {"email": True, "kinds": {"weekly": False}}
    assert (goal["user_id"], goal["due_date"], goal["due_at"]) == (dashboard.key(1), date(2026, 4, 1), None)
    assert (goal["open"], goal["progress"]) == (True, 30)
    assert (session["focus_seconds"], session["planned_seconds"], session["status"]) == (
        1500,
        1500,
        "completed",
    )
    assert await count(pool, "stale_day") == 6 - 3  # goal and session of one person lie on one day
    health = sync.health()
    assert (health["healthy"], health["profile"], health["complete"]) == (True, dashboard.profile, True)


async def test_new_and_edited_records_follow_and_nothing_else_is_written(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await dashboard.put("users", 9, name="Newcomer", email="n@example.org", timezone="UTC", updated=T0 + HOUR)
    await dashboard.put(
        "goals", 2, user=2, title="Renamed", status="completed", due=datetime(2026, 4, 2, 17, tzinfo=UTC),
        updated=T0 + HOUR,
    )  # fmt: skip
    report = await sync.run_once()
    assert dict(report.changed) == {"users": 1, "goals": 1, "timer_sessions": 0}
    goal = await pool.fetchrow("SELECT * FROM service.goals WHERE id = $1", dashboard.key(2))
    assert goal
    assert (goal["title"], goal["open"], goal["due_date"]) == ("Renamed", False, None)
    assert goal["due_at"] == datetime(2026, 4, 2, 17, tzinfo=UTC)


async def test_a_write_that_became_visible_late_is_found_within_the_overlap(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await dashboard.put("users", 8, name="Late", email="l@example.org", updated=T0 - timedelta(minutes=2))
    await sync.run_once(compare=False)
    assert await count(pool, "users") == 4


async def test_what_was_deleted_at_the_dashboard_goes_with_the_sweep(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await pool.execute("TRUNCATE service.stale_day")
    await dashboard.remove("timer_sessions", 1)
    await dashboard.remove("users", 2)
    assert not (await sync.run_once(compare=False)).deleted
    report = await sync.run_once(compare=True)
    assert dict(report.deleted) == {"users": 1, "timer_sessions": 1}
    assert await count(pool, "users") == 2
    assert await count(pool, "stale_day") == 2  # of the session, and of the signup


class Cut:
    """A source whose connection breaks after some pages."""

    def __init__(self, inner: Source, pages: int) -> None:
        self._inner = inner
        self.left = pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def page(self, *arguments: Any) -> Any:
        if self.left == 0:
            raise SourceUnavailable("cut")
        self.left -= 1
        return await self._inner.page(*arguments)


async def test_a_broken_first_load_goes_on_where_it_was(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard, people=20)
    with pytest.raises(SourceUnavailable):
        await Sync(pool, Cut(dashboard.source, 3), SyncSettings(batch=4)).run_once()
    assert await count(pool, "users") == 12
    seen: list[tuple[str, int]] = []
    report = await Sync(
        pool, dashboard.source, SyncSettings(batch=4, progress=lambda c, n: seen.append((c, n)))
    ).run_once()
    assert seen[0] == ("users", 16)
    assert report.changed["users"] == 8
    assert [await count(pool, table) for table in ("users", "goals", "timer_sessions")] == [20, 20, 20]


async def test_malformed_records_are_counted_by_name_and_stop_nothing(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    await dashboard.put("users", 4, name="Nul", email="x@example.org", timezone="Mars/Olympus")
    await dashboard.put("goals", 4, user=None, title="Whose?", status="active")
    await dashboard.put("goals", 5, user=1, title=" ", status="active")
    await dashboard.put("timer_sessions", 4, user=1, kind="focus", status="sleeping", started=T0, planned=60)
    await dashboard.put(
        "timer_sessions", 5, user=1, kind="focus", status="completed", started=T0, ended=T0 - HOUR, planned=60
    )
    sync = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Tokyo"))
    report = await sync.run_once()
    expected = {
        "users.timezone": 1,
        "goals.user": 1,
        "goals.title": 1,
        "timer_sessions.status": 1,
        "timer_sessions.impossible_times": 1,
    }
    assert dict(report.rejected) == expected
    zone = await pool.fetchrow("SELECT * FROM service.users WHERE id = $1", dashboard.key(4))
    assert zone
    assert (zone["timezone"], zone["timezone_valid"]) == ("Asia/Tokyo", False)
    assert await count(pool, "goals") == 3
    assert not (await sync.run_once()).rejected  # read again by the overlap, not counted again
    restarted = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Tokyo"))
    await restarted.run_once()
    assert restarted.health()["rejected"]["goals"] == {"user": 1, "title": 1}


async def test_a_renamed_field_raises_the_alarm_instead_of_matching_nothing(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await dashboard.rename("goals", "title", "headline")
    await dashboard.put("users", 9, name="Newcomer", email="n@example.org", updated=T0 + HOUR)
    await sync.run_once(compare=True)
    health = sync.health()
    assert not health["healthy"]
    assert [(one["table"], one["field"]) for one in health["missing"]] == [("goals", "title")]
    assert "goals.title" in health["error"]
    assert [await count(pool, table) for table in ("users", "goals")] == [4, 3]
    with pytest.raises(DashboardIncomplete, match=r"goals\.title"):
        await sync.require(frozenset({"goals"}))
    await sync.require(frozenset({"users.email", "timer_sessions"}))


async def test_a_dashboard_that_never_fitted_is_refused(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard)
    await dashboard.rename("goals", "title", "headline")
    sync = Sync(pool, dashboard.source)
    with pytest.raises(SchemaUnknown, match="goals has no title"):
        await sync.run_once()
    health = sync.health()
    assert (health["healthy"], health["schema_unknown"]) == (False, True)
    assert "goals has no title" in health["error"]


async def test_an_empty_dashboard_is_healthy_and_its_profile_pending(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    sync = Sync(pool, dashboard.source)
    assert (await sync.run_once()).pending
    health = sync.health()
    assert (health["healthy"], health["profile"]) == (True, "pending")
    await fill(dashboard)
    assert (await sync.run_once()).changed["users"] == 3


@pytest.mark.parametrize(
    "source",
    [
        lambda: MongoSource("mongodb://127.0.0.1:1/dash", timeout=0.3),
        lambda: PostgresSource("postgresql://127.0.0.1:1/dash", timeout=0.3),
    ],
)
async def test_a_dashboard_that_is_down_is_unavailable_and_health_says_so(
    pool: asyncpg.Pool, source: Any
) -> None:
    sync = Sync(pool, source())
    with pytest.raises(SourceUnavailable):
        await sync.run_once()
    assert (sync.health()["healthy"], sync.health()["schema_unknown"]) == (False, False)
    await sync.close()


async def test_standing_asks_the_dashboard_itself(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await dashboard.put("goals", 2, user=2, title="Done", status="completed", updated=T0 + HOUR)
    await dashboard.remove("users", 3)
    ids = [dashboard.key(n) for n in (1, 2, 3)]
    standing = await sync.current_state(StateQuery(ids, [*ids, "no such id"]))
    assert set(standing.users) == set(ids[:2])
    assert standing.users[ids[0]].name == "Person 1"
    assert standing.open_goals.keys() == {ids[0], ids[2]}


async def test_the_latest_sessions_of_some_users_are_asked_for(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    values = {"kind": "focus", "status": "active", "planned": 1500, "focus": 0}
    for number, user, started in ((4, 1, T0 + HOUR), (5, 2, T0 - HOUR), (6, 3, T0 + HOUR)):
        await dashboard.put("timer_sessions", number, user=user, started=started, **values)
    one, two = dashboard.key(1), dashboard.key(2)

    state = await sync.current_state(StateQuery([one, two], recent={one: T0 + HOUR, two: T0, "nobody": T0}))

    found = {user: [session.id for session in sessions] for user, sessions in state.recent_sessions.items()}
    assert found == {one: [dashboard.key(4)], two: [two]}
    assert state.recent_sessions[one][0].status == "running"


async def test_without_sessions_that_were_there_the_latest_are_doubted(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    await dashboard.empty("timer_sessions")

    with pytest.raises(AnswerDoubted, match="timer_sessions that it had"):
        await sync.current_state(StateQuery([dashboard.key(1)], recent={dashboard.key(1): T0}))


async def test_a_changed_reading_rule_loads_everything_again(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    await Sync(pool, dashboard.source).run_once()
    report = await Sync(pool, dashboard.source, SyncSettings(deadline_date_only="never")).run_once()
    assert report.changed["goals"] == 3
    assert await pool.fetchval("SELECT count(*) FROM service.goals WHERE due_at IS NOT NULL") == 3


async def test_a_clock_from_the_future_does_not_hide_later_writes(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    await dashboard.put(
        "users", 7, name="Future", email="f@example.org", updated=datetime(2099, 1, 1, tzinfo=UTC)
    )
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    now = await pool.fetchval("SELECT service.now()")
    await dashboard.put("users", 1, name="Edited", email="p1@example.org", updated=now)
    await sync.run_once(compare=False)
    assert await pool.fetchval("SELECT name FROM service.users WHERE id = $1", dashboard.key(1)) == "Edited"
