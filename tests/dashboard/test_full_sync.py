"""A full synchronisation: asked for once, done page by page by whoever synchronises, on both dashboards."""

from datetime import timedelta

import pytest

from service.dashboard import full_sync
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import AlreadyRunning, BadRequest
from tests.dashboard.test_drift import Drift, drift

__all__ = ["drift"]


async def test_every_row_is_read_again_page_by_page_and_the_next_process_goes_on(drift: Drift) -> None:
    """With no time at all, a process reads one page of two rows; another one goes on after it."""
    await drift.pool.execute("UPDATE service.users SET name = 'Broken here'")
    await drift.pool.execute("UPDATE service.goals SET title = 'Broken here'")
    async with drift.pool.acquire() as connection:
        await full_sync.request(connection, "Zoe (admin)", "edited by hand")
        with pytest.raises(AlreadyRunning, match=r"since 2026-03-10T12:00:00Z \(0 goals, 0 timer sessions"):
            await full_sync.request(connection, "Zoe (admin)", "again")

    left, rounds = ["some"], 0
    while left and rounds < 20:
        hasty = SyncSettings(interval=0, batch=2)
        sync = Sync(drift.pool, drift.dashboard.source, hasty)
        await sync.run_once()
        under_way = sync.health()["full_sync"]
        left, rounds = sorted(under_way), rounds + 1
        if rounds == 1:
            assert (left, under_way["users"]["rows"]) == (["goals", "timer_sessions", "users"], 2)

    assert left == []
    assert rounds > 3
    assert await drift.pool.fetchval("SELECT count(*) FROM service.users WHERE name = 'Broken here'") == 0
    assert await drift.title() == "Goal 1"
    audit = await drift.pool.fetch("SELECT who, act, what ->> 'reason' AS reason FROM service.audit")
    assert [tuple(row) for row in audit] == [("Zoe (admin)", "full-sync", "edited by hand")]


async def test_rows_that_the_dashboard_lacks_are_gone_after_it(drift: Drift) -> None:
    """Under the same bound as ever: one of four goals is a small loss, all four are not."""
    await drift.dashboard.remove("goals", 1)
    async with drift.pool.acquire() as connection:
        await full_sync.request(connection, "admin", "tidying")
    await drift.later(timedelta(seconds=1))
    assert await drift.title() is None
    rows = await drift.pool.fetchval("SELECT count(*) FROM service.goals")

    await drift.dashboard.empty("goals")
    await drift.sync.run_once(full=True)
    assert await drift.pool.fetchval("SELECT count(*) FROM service.goals") == rows
    assert drift.sync.health()["lost"]["goals"]["waiting"] == rows


async def test_where_somebody_lived_is_not_rebuilt_from_the_present(drift: Drift) -> None:
    await drift.dashboard.put("users", 1, name="Person 1", timezone="Asia/Tokyo", active=True)
    await drift.later(timedelta(minutes=6))
    history = "SELECT * FROM service.user_zone ORDER BY user_id, since"
    before = await drift.pool.fetch(history)
    assert len(before) > await drift.pool.fetchval("SELECT count(*) FROM service.users")

    await drift.sync.run_once(full=True)

    assert await drift.pool.fetch(history) == before


async def test_before_the_first_copy_there_is_nothing_to_read_again(drift: Drift) -> None:
    await drift.pool.execute("UPDATE service.sync_state SET phase = 'loading'")
    async with drift.pool.acquire() as connection:
        with pytest.raises(BadRequest, match="the first copy reads everything"):
            await full_sync.request(connection, "admin", "too early")
