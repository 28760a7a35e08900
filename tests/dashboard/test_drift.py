"""What is written at the dashboard without a time of writing, or with a wrong one, arrives all the same."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from tests.clock import stop_clock
from tests.dashboard.conftest import T0, Dashboard
from tests.dashboard.test_conformance import count, fill

pytestmark = pytest.mark.either_dashboard

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SOON = timedelta(minutes=6)
FUTURE = T0 + timedelta(days=400)


class Drift:
    """A dashboard, its copy, and a clock."""

    def __init__(self, pool: asyncpg.Pool, dashboard: Dashboard, **settings: Any) -> None:
        self.pool = pool
        self.dashboard = dashboard
        self.sync = Sync(pool, dashboard.source, SyncSettings(**settings))
        self.now = NOON

    async def later(self, time: timedelta, *, compare: bool | None = None) -> Any:
        """Synchronise some time later; what is due is compared."""
        self.now += time
        await stop_clock(self.pool, self.now.isoformat())
        report = await self.sync.run_once(compare=compare)
        assert self.sync.health()["healthy"]
        return report

    async def goal(self, number: int = 1, **values: Any) -> None:
        usual = {"user": 1, "title": f"Goal {number}", "status": "active", "due": T0}
        await self.dashboard.put("goals", number, **{**usual, **values})

    async def session(self, number: int, at: datetime, minutes: int = 25, **values: Any) -> None:
        end, seconds = at + timedelta(minutes=minutes), minutes * 60
        usual = {"user": 1, "kind": "focus", "status": "completed", "started": at, "ended": end}
        numbers = {"planned": 1500, "focus": seconds}
        await self.dashboard.put("timer_sessions", number, **{**usual, **numbers, **values})

    async def title(self, number: int = 1) -> Any:
        return await self.pool.fetchval(
            "SELECT title FROM service.goals WHERE id = $1", self.dashboard.key(number)
        )

    async def stale_days(self) -> list[date]:
        rows = await self.pool.fetch("SELECT DISTINCT local_day FROM service.stale_day ORDER BY 1")
        return [row["local_day"] for row in rows]


@pytest.fixture
async def drift(pool: asyncpg.Pool, dashboard: Dashboard) -> Drift:
    """Three people, a goal and a session each; others were written later, so that T0 is long past."""
    drift = Drift(pool, dashboard)
    await fill(dashboard)
    await dashboard.put("users", 9, name="Last", email="last@example.org", active=True, updated=NOON)
    await drift.goal(9, updated=NOON)
    await drift.session(9, T0, updated=NOON)
    await drift.later(timedelta(0))
    await pool.execute("TRUNCATE service.stale_day")
    return drift


async def test_a_zone_written_without_a_stamp_arrives_within_minutes(drift: Drift) -> None:
    """copy_drift, 1: everything else stays as before, and the zone history has one new line."""
    before = await drift.pool.fetchrow("SELECT * FROM service.users WHERE id = $1", drift.dashboard.key(1))
    await drift.dashboard.put(
        "users", 1, name="Person 1", email="p1@example.org", timezone="America/New_York", active=True,
        last_login=T0, preferences={"notifications": {"email": True, "weeklyReports": False}},
    )  # fmt: skip

    await drift.later(SOON)

    after = await drift.pool.fetchrow("SELECT * FROM service.users WHERE id = $1", drift.dashboard.key(1))
    assert before
    assert after
    changed = {name for name in before.keys() if before[name] != after[name]}  # noqa: SIM118 — a Record
    assert changed == {"timezone", "digest"}
    zones = await drift.pool.fetch(
        "SELECT timezone FROM service.user_zone WHERE user_id = $1 ORDER BY since", drift.dashboard.key(1)
    )
    assert [row["timezone"] for row in zones] == ["Europe/Berlin", "America/New_York"]


async def test_a_due_date_moved_by_a_script_arrives_within_minutes(drift: Drift) -> None:
    await drift.goal(1, due=datetime(2026, 4, 6, tzinfo=UTC))

    assert not (await drift.later(SOON, compare=False)).changed["goals"]
    assert (await drift.later(timedelta(0))).changed["goals"] == 1

    due = await drift.pool.fetchval(
        "SELECT due_date FROM service.goals WHERE id = $1", drift.dashboard.key(1)
    )
    assert due == date(2026, 4, 6)


async def test_preferences_a_log_in_and_a_title_written_without_a_stamp_arrive(drift: Drift) -> None:
    later = NOON - timedelta(hours=1)
    await drift.dashboard.put(
        "users", 1, name="Person 1", email="p1@example.org", timezone="Europe/Berlin", active=True,
        last_login=later, preferences={"notifications": {"email": False}},
    )  # fmt: skip
    await drift.goal(1, title="Another title")

    await drift.later(SOON)

    person = await drift.pool.fetchrow(
        "SELECT last_login_at, preferences FROM service.users WHERE id = $1", drift.dashboard.key(1)
    )
    assert person
    assert (person["last_login_at"], person["preferences"]["email"]) == (later, False)
    assert await drift.title() == "Another title"


async def test_sessions_imported_with_their_true_past_times_arrive(drift: Drift) -> None:
    """copy_drift, 4: at the nightly pass, and their days are counted again."""
    for number, day in ((11, 6), (12, 7)):
        at = datetime(2026, 3, day, 9, tzinfo=UTC)
        await drift.session(number, at, updated=at)

    await drift.later(timedelta(hours=25))

    assert await count(drift.pool, "timer_sessions") == 6
    assert await drift.stale_days() == [date(2026, 3, 6), date(2026, 3, 7)]


async def test_sessions_of_the_last_days_are_compared_every_hour(drift: Drift) -> None:
    recent, old = NOON - timedelta(days=1), NOON - timedelta(days=9)
    for number, at in ((11, recent), (12, old)):
        await drift.session(number, at, updated=T0 - timedelta(days=30))

    await drift.later(timedelta(minutes=61))
    assert await count(drift.pool, "timer_sessions") == 5
    await drift.dashboard.remove("timer_sessions", 11)
    await drift.later(timedelta(minutes=61))
    assert await count(drift.pool, "timer_sessions") == 4
    await drift.later(timedelta(hours=24))
    assert await count(drift.pool, "timer_sessions") == 5


async def test_a_stamp_from_the_future_keeps_nothing_back(drift: Drift) -> None:
    """copy_drift, 5."""
    await drift.goal(1, title="One", updated=FUTURE)
    await drift.later(timedelta(0), compare=False)
    assert await drift.title() == "One"
    await drift.goal(2, title="Edited", updated=drift.now)
    await drift.later(timedelta(0), compare=False)
    assert await drift.title(2) == "Edited"
    await drift.goal(1, title="Two", updated=drift.now)
    await drift.later(SOON)
    assert await drift.title() == "Two"
    await drift.goal(1, title="Three", updated=drift.now - timedelta(days=1))
    await drift.later(SOON)
    assert await drift.title() == "Three"


async def test_a_backup_brings_back_what_it_held(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    """copy_drift, 11, smaller: goals are open again, people are back, and what came later is gone."""
    drift = Drift(pool, dashboard)
    await drift.session(1, T0)
    for number in range(1, 101):
        await dashboard.put(
            "users", number, name=f"Person {number}", email=f"p{number}@example.org", active=True
        )
        await drift.goal(number, user=number)
    await drift.later(timedelta(0))
    for number in range(1, 31):
        await drift.goal(number, user=number, status="completed", updated=T0 + timedelta(hours=1))
    for number in range(97, 101):
        await dashboard.remove("users", number)
    for number in range(101, 107):
        await dashboard.put("users", number, name="New", email="new@example.org", active=True, updated=NOON)
    await drift.later(SOON)
    assert await pool.fetchval("SELECT count(*) FROM service.goals WHERE open") == 70

    for number in range(1, 31):
        await drift.goal(number, user=number)
    for number in range(97, 101):
        await dashboard.put(
            "users", number, name=f"Person {number}", email=f"p{number}@example.org", active=True
        )
    for number in range(101, 107):
        await dashboard.remove("users", number)
    await drift.later(SOON)

    assert await pool.fetchval("SELECT count(*) FROM service.goals WHERE open") == 100
    ids = {row["id"] for row in await pool.fetch("SELECT id FROM service.users")}
    assert ids == {dashboard.key(number) for number in range(1, 101)}


async def test_what_was_touched_and_not_changed_makes_no_day_stale(drift: Drift) -> None:
    """copy_drift, 12."""
    for number in (1, 2, 3):
        await drift.session(number, T0, user=number, updated=NOON)
    await drift.later(timedelta(hours=25))
    assert await drift.stale_days() == []

    await drift.dashboard.remove("timer_sessions", 1)
    await drift.session(1, T0, minutes=50)
    await drift.later(timedelta(hours=25))
    assert await drift.stale_days() == [T0.date()]
    seconds = await drift.pool.fetchval(
        "SELECT focus_seconds FROM service.timer_sessions WHERE id = $1", drift.dashboard.key(1)
    )
    assert seconds == 3000


# ── A pass in parts ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pass_goes_on_where_it_was_and_begins_anew_where_its_rows_are_lost(
    pool: asyncpg.Pool, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlogged tables are empty after a crash of the server; that is not taken for an empty dashboard."""
    monkeypatch.setattr("service.dashboard.reconciliation._PAGE", 2)
    drift = Drift(pool, dashboard, interval=0)
    await fill(dashboard)
    for number in range(1, 10):
        await drift.goal(number, updated=NOON if number == 9 else T0)
    await drift.later(timedelta(0))
    await drift.goal(8, title="Edited")

    async def staged() -> int:
        return int(await pool.fetchval("SELECT count(*) FROM service.staged_row WHERE collection = 'goals'"))

    await drift.later(SOON)
    assert await staged() == 2
    await drift.later(timedelta(0))
    assert await staged() == 4
    await pool.execute("TRUNCATE service.staged_row")
    await drift.later(timedelta(0))
    assert await staged() == 2
    for _ in range(5):
        await drift.later(timedelta(0))
    assert (await staged(), await drift.title(8), await count(pool, "goals")) == (0, "Edited", 9)


async def test_many_differences_are_read_in_parts(
    pool: asyncpg.Pool, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade: others get the lock of the copy between the parts."""
    monkeypatch.setattr("service.dashboard.reconciliation._BATCH", 4)
    drift = Drift(pool, dashboard, interval=0)
    await fill(dashboard)
    for number in range(1, 10):
        await drift.goal(number, updated=NOON if number == 9 else T0)
    await drift.later(timedelta(0))
    await pool.execute("UPDATE service.goals SET digest = NULL")

    async def without_digest() -> int:
        return int(await pool.fetchval("SELECT count(*) FROM service.goals WHERE digest IS NULL"))

    counts = []
    for time in (SOON, *[timedelta(0)] * 7):
        await drift.later(time)
        counts.append(await without_digest())
    left = sorted(set(counts), reverse=True)
    assert left[0] > left[1] > left[-1] == 0


async def test_a_long_pass_is_repeated_less_often(drift: Drift) -> None:
    await drift.later(SOON)
    await drift.pool.execute("UPDATE service.sync_state SET pass_lasted = '10 seconds'")
    await drift.goal(1, title="Edited")

    await drift.later(timedelta(minutes=24))
    assert await drift.title() == "Goal 1"
    await drift.later(timedelta(minutes=2))
    assert await drift.title() == "Edited"


async def test_rows_of_a_former_release_get_their_digests_and_nothing_else_happens(drift: Drift) -> None:
    for table in ("users", "goals", "timer_sessions"):
        await drift.pool.execute(f"UPDATE service.{table} SET digest = NULL")
    await drift.pool.execute("TRUNCATE service.stale_day")

    await drift.later(timedelta(hours=25))

    for table in ("users", "goals", "timer_sessions"):
        assert await drift.pool.fetchval(f"SELECT count(*) FROM service.{table} WHERE digest IS NULL") == 0
    assert await drift.stale_days() == []
    assert not (await drift.later(timedelta(hours=25))).changed.total()


async def test_health_says_when_each_table_was_compared(drift: Drift) -> None:
    await drift.later(SOON)

    compared = {table: datetime.fromisoformat(at) for table, at in drift.sync.health()["compared_at"].items()}

    assert compared == {"users": drift.now, "goals": drift.now, "timer_sessions": NOON}


async def test_a_full_synchronisation_mends_what_no_digest_tells(drift: Drift) -> None:
    await drift.pool.execute("UPDATE service.goals SET title = 'Broken here'")

    await drift.later(SOON, compare=True)
    assert await drift.title() == "Broken here"
    await drift.sync.run_once(full=True)
    assert await drift.title() == "Goal 1"
