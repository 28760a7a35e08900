"""The zone that a dashboard stores is used as the table says, or the default is used and it is counted."""

from datetime import timedelta
from typing import Any

import asyncpg

from service import zones
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.engine import zone_table
from service.zone_periods import ZonePeriods
from tests.dashboard.conftest import T0, Dashboard
from tests.dashboard.test_conformance import fill
from tests.zone_cases import CASES
from tests.zone_data import NewData


async def _people(pool: asyncpg.Pool) -> dict[str, tuple[str, bool]]:
    rows = await pool.fetch("SELECT u.id, r.timezone, u.timezone_valid FROM service.users AS u"
                            " JOIN service.recipient AS r USING (id)")  # fmt: skip
    return {row["id"]: (row["timezone"], row["timezone_valid"]) for row in rows}


def _storable(dashboard: Dashboard) -> list[Any]:
    return [case for case in CASES if dashboard.profile == "A" or "\0" not in case.name]


async def test_each_stored_name_is_used_as_the_table_says(pool: asyncpg.Pool, dashboard: Dashboard) -> None:
    await fill(dashboard, 1)
    cases = dict(enumerate(_storable(dashboard), start=100))
    for n, case in cases.items():
        await dashboard.put("users", n, name=f"Person {n}", email="p@example.org", timezone=case.name)
    sync = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Tokyo"))
    report = await sync.run_once()

    found = await _people(pool)
    for n, case in cases.items():
        zone, valid = found[dashboard.key(n)]
        assert valid is bool(case.accepted), case.name
        assert zone in (case.accepted or {"Asia/Tokyo"}), case.name
    refused = sum(not case.accepted for case in cases.values())
    assert report.rejected["users.timezone"] == refused
    assert sync.health()["rejected"]["users"] == {"timezone": refused}
    assert sync.health()["zone_data"] == zones.version()
    stored = {
        row["id"]: row["timezone"] for row in await pool.fetch("SELECT id, timezone FROM service.users")
    }
    assert stored == {id_: zone for id_, (zone, _) in found.items()}


async def _edited_later(dashboard: Dashboard) -> None:
    """A day later: what is older is not read again with the changes."""
    later = {"updated": T0 + timedelta(days=1)}
    await dashboard.put("users", 9, name="Late", email="l@example.org", timezone="UTC", **later)


async def test_a_zone_that_new_data_brings_is_read_again_once(
    pool: asyncpg.Pool, dashboard: Dashboard, new_data: NewData
) -> None:
    """Nobody edits the account for it, and the rest is not loaded again."""
    await fill(dashboard)
    await _edited_later(dashboard)
    await dashboard.put("users", 1, name="Person 1", email="p@example.org", timezone="Asia/Newtown")
    await dashboard.put("users", 2, name="Person 2", email="p@example.org", timezone="Mars/Olympus")
    before = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Kathmandu"))
    await before.run_once()
    assert (await _people(pool))[dashboard.key(1)] == ("Asia/Kathmandu", False)
    assert before.health()["rejected"]["users"] == {"timezone": 2}

    new_data({"Asia/Newtown": ZonePeriods([], [3600])})
    async with pool.acquire() as connection:
        await zone_table.fill(connection)
    sync = Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Kathmandu"))
    report = await sync.run_once()

    assert (await _people(pool))[dashboard.key(1)] == ("Asia/Newtown", True)
    assert (await _people(pool))[dashboard.key(2)] == ("Asia/Kathmandu", False)
    assert (await _people(pool))[dashboard.key(3)] == ("Europe/Berlin", True)
    assert (report.changed["users"], report.changed.total()) == (1, 1)
    assert sync.health()["rejected"]["users"] == {"timezone": 1}
    assert not (
        await Sync(pool, dashboard.source, SyncSettings(default_timezone="Asia/Kathmandu")).run_once()
    ).changed.total()
