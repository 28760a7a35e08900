"""The same people in MongoDB and in PostgreSQL come to the same rollups through the real sync."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from tests.analytics.given import Lab, at
from tests.dashboard.conftest import Dashboard, mongo_dashboard, postgres_dashboard

__all__ = ["mongo_dashboard", "postgres_dashboard"]

DAY = timedelta(days=1)
_WORDS = {
    "A": {"goal": "goalId", "paused": "pausedAt", "completed": "completedAt", "created_at": "createdAt"},
    "PG": {"goal": "goal_id", "paused": "paused_at", "completed": "completed_at"},
}
ZONES = ("Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Mars/Olympus")


async def _put(dashboard: Dashboard, collection: str, n: int, **values: Any) -> None:
    words = _WORDS[dashboard.profile]
    stored = {words.get(name, name): value for name, value in values.items()}
    if dashboard.profile == "A" and isinstance(stored.get("goalId"), int):
        stored["goalId"] = dashboard.oid(stored["goalId"])  # type: ignore[attr-defined]
    await dashboard.put(collection, n, **stored)


async def _session(
    dashboard: Dashboard, n: int, user: int, start: datetime, minutes: int, **changes: Any
) -> None:
    values = {
        "kind": "focus",
        "status": "completed",
        "started": start,
        "ended": start + timedelta(minutes=minutes),
        "planned": 1500,
        "focus": minutes * 60,
        "tags": ["deep"] if n % 3 == 0 else [],
        "updated": start + timedelta(minutes=minutes),
    }
    await _put(dashboard, "timer_sessions", n, user=user, **{**values, **changes})


async def _fill(dashboard: Dashboard) -> None:
    for n, zone in enumerate(ZONES, 1):
        await _put(dashboard, "users", n, name=f"P{n}", email=f"p{n}@example.org", timezone=zone, active=True,
                   created_at=at("2026-03-01 10:00") + n * DAY)  # fmt: skip
        await _put(dashboard, "goals", n, user=n, title=f"G{n}", status="completed" if n % 2 else "active",
                   created_at=at("2026-03-04 10:00"),
                   completed=at("2026-03-20 23:30") if n % 2 else None)  # fmt: skip
    for n in range(40):
        start, goal = at("2026-03-02 22:40") + n * timedelta(hours=17), 1 if n % 5 == 0 else None
        await _session(dashboard, n + 1, n % 4 + 1, start, 7 * n % 110, goal=goal)
    odd = at("2026-03-28 12:00")
    await _session(dashboard, 50, 1, odd, 25, kind="break")
    await _session(dashboard, 51, 1, odd, 25, status="cancelled")
    await _session(dashboard, 52, 2, odd, 300)  # far beyond its plan: abandoned
    await _session(dashboard, 53, 2, odd, -60, focus=60)  # ended before it began: rejected
    await _session(dashboard, 54, 3, odd, 0, status="paused", ended=None, paused=odd, focus=60)


async def _change(dashboard: Dashboard) -> None:
    now = at("2026-04-03 09:00")
    await _session(dashboard, 7, 3, at("2026-03-07 01:00"), 50, updated=now)
    await _session(dashboard, 60, 4, at("2026-03-05 23:59"), 20, updated=now)
    created, reached = at("2026-03-04 10:00"), at("2026-04-01 10:00")
    values = {"title": "G2", "status": "completed", "created_at": created, "completed": reached}
    await _put(dashboard, "goals", 2, user=2, updated=now, **values)
    await dashboard.remove("timer_sessions", 8)
    await dashboard.remove("users", 3)


async def _rollups(pool: asyncpg.Pool, dashboard: Dashboard) -> dict[str, list[Any]]:
    lab = Lab(pool)
    await lab.clock(at("2026-04-02 13:00"))
    await _fill(dashboard)
    sync = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Kathmandu"))
    await sync.run_once()
    await lab.run()
    await lab.clock(at("2026-04-03 13:00"))
    await _change(dashboard)
    await sync.run_once(compare=True)
    await lab.run()
    await lab.take()
    await lab.check()
    found = await lab.substance()
    names = {dashboard.key(n): n for n in range(1, 5)}
    for table in ("user_day", "user_span", "user_profile"):
        found[table] = sorted(((names[row[0]], *row[1:]) for row in found[table]), key=repr)
    return found


async def test_both_kinds_of_dashboard_come_to_the_same_rollups(
    pool: asyncpg.Pool,
    mongo_dashboard: Dashboard,
    postgres_dashboard: Dashboard,
) -> None:
    one = await _rollups(pool, mongo_dashboard)
    await Lab(pool).clear()
    await pool.execute("DELETE FROM service.sync_state")
    other = await _rollups(pool, postgres_dashboard)
    assert one == other
    days = {(row[0], str(row[1])): row for row in one["user_day"]}
    assert (2, "2026-03-28") in days
    assert len(one["rollup"]) > 150
