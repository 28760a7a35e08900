"""The replica's writes: newer wins, unchanged rows stay, changed days become stale."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import asyncpg

from service.dashboard import replica
from service.dashboard.model import Goal, Preferences, QuietHours, TimerSession, User
from service.engine.database import Connection
from tests.kinds import DEADLINES, WEEKLY

T0 = datetime(2026, 3, 10, 9, tzinfo=UTC)
ANA = User(
    id="ana",
    name="Ana",
    email="ana@example.org",
    timezone="Pacific/Auckland",
    locale="en",
    active=True,
    created_at=T0,
    last_login_at=None,
    preferences=Preferences(email=False, kinds={WEEKLY.name: True}),
    updated_at=T0,
)
GOAL = Goal(
    id="g1", user_id="ana", title="Read", category=None, open=True, priority="high", target_value=10,
    current_value=3, unit="books", progress=30, due_date=date(2026, 4, 1), due_at=None, created_at=T0,
    completed_at=None, updated_at=T0,
)  # fmt: skip
SESSION = TimerSession(
    id="s1", user_id="ana", goal_id="g1", kind="focus", focus=True, status="completed",
    started_at=datetime(2026, 3, 10, 20, tzinfo=UTC), ended_at=datetime(2026, 3, 10, 21, tzinfo=UTC),
    paused_at=None, planned_seconds=1500, focus_seconds=1500, tags=("deep", "work"), updated_at=T0,
)  # fmt: skip


def test_preferences_survive_the_way_to_json_and_back() -> None:
    full = Preferences(
        email=False,
        reminders=True,
        in_app=None,
        kinds={DEADLINES.name: False, WEEKLY.name: True},
        quiet=QuietHours(time(22), time(8, 30)), work_start=time(9), work_end=time(17, 30),
        work_minutes=50, short_break_minutes=10, week_start=0,
    )  # fmt: skip
    for preferences in (full, Preferences()):
        assert replica.preferences_from_json(replica.preferences_to_json(preferences)) == preferences
    assert replica.preferences_to_json(Preferences()) == {}


async def test_what_is_stored_comes_back_as_it_was(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await replica.upsert_users(connection, [ANA])
        await replica.upsert_goals(connection, [GOAL])
        await replica.upsert_timer_sessions(connection, [SESSION])
        user = await connection.fetchrow("SELECT * FROM service.users")
        goal = await connection.fetchrow("SELECT to_jsonb(g) AS j FROM service.goals g")
        session = await connection.fetchrow("SELECT to_jsonb(s) AS j FROM service.timer_sessions s")
    assert user
    assert goal
    assert session
    assert replica.user_from_row(user) == ANA
    assert replica.goal_from_json(goal["j"]) == GOAL
    assert replica.session_from_json(session["j"]) == SESSION


async def test_the_last_reading_wins_whatever_its_stamp_and_an_unchanged_row_is_not_written(
    pool: asyncpg.Pool,
) -> None:
    async with pool.acquire() as connection:
        for name, stamp in (
            ("One", datetime(2099, 1, 1, tzinfo=UTC)),
            ("Two", T0),
            ("Three", T0),
            ("Four", None),
        ):
            read = replace(ANA, name=name, updated_at=stamp)
            assert await replica.upsert_users(connection, [read]) == 1
            assert await replica.upsert_users(connection, [read]) == 0
            assert await connection.fetchval("SELECT name FROM service.users") == name


async def test_a_session_that_was_only_touched_makes_no_day_stale(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await replica.upsert_users(connection, [ANA], mark=False)
        await replica.upsert_timer_sessions(connection, [SESSION], mark=False)
        touched = replace(SESSION, updated_at=T0 + timedelta(days=1))
        assert await replica.upsert_timer_sessions(connection, [touched], digests={"s1": 7}) == 1
        assert await _stale(connection) == []


async def test_a_moved_session_marks_both_local_days_as_stale(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await replica.upsert_users(connection, [ANA], mark=False)
        await replica.upsert_timer_sessions(connection, [SESSION])
        assert await _stale(connection) == [date(2026, 3, 11)]  # 20:00 UTC is the next day in Auckland
        await connection.execute("TRUNCATE service.stale_day")
        moved = replace(SESSION, started_at=SESSION.started_at - timedelta(days=3), updated_at=T0)
        await replica.upsert_timer_sessions(connection, [moved])
        assert await _stale(connection) == [date(2026, 3, 8), date(2026, 3, 11)]
        await connection.execute("TRUNCATE service.stale_day")
        await replica.delete(connection, "timer_sessions", ["s1"])
        assert await _stale(connection) == [date(2026, 3, 8)]


async def _stale(connection: Connection) -> list[date]:
    rows = await connection.fetch("SELECT local_day FROM service.stale_day ORDER BY 1")
    return [row["local_day"] for row in rows]
