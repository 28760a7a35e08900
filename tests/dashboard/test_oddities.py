"""What only one kind of database can hold, and what must not matter."""

from datetime import timedelta

import asyncpg
from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from service.dashboard.dashboard_state import StateQuery
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from tests.dashboard.conftest import T0, MongoDashboard, PostgresDashboard
from tests.dashboard.test_conformance import count, fill


async def test_ids_of_several_types_in_one_collection_are_all_read(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    await fill(mongo_dashboard)
    users = mongo_dashboard.database["users"]
    for key in (7, 8, "ana", "ben", ObjectId()):
        await users.insert_one({"_id": key, "name": "x", "email": "x@example.org", "updatedAt": T0})
    sync = Sync(pool, mongo_dashboard.source, SyncSettings(batch=2))
    await sync.run_once()
    assert await count(pool, "users") == 8
    assert set((await sync.current_state(StateQuery(["7", "ana"]))).users) == {"7", "ana"}
    assert not (await sync.run_once(compare=True)).deleted


async def test_a_date_beyond_the_calendar_is_named_and_its_document_stays(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    await fill(mongo_dashboard)
    await mongo_dashboard.put("goals", 5, user=1, title="Far", status="active", due=DatetimeMS(2**55))
    report = await Sync(pool, mongo_dashboard.source).run_once()
    assert dict(report.rejected) == {"goals.due": 1}
    assert await count(pool, "goals") == 4


async def test_a_date_before_christ_is_named_and_its_row_stays(
    pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard
) -> None:
    await fill(postgres_dashboard)
    await postgres_dashboard.connection.execute("UPDATE goals SET due_at = '0044-03-15 BC' WHERE id = 1")
    await postgres_dashboard.connection.execute("UPDATE goals SET due_at = 'infinity' WHERE id = 2")
    report = await Sync(pool, postgres_dashboard.source).run_once()
    assert dict(report.rejected) == {"goals.due": 2}
    assert await count(pool, "goals") == 3


async def test_without_a_time_of_writing_new_records_come_at_once_and_edits_with_the_sweep(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    await fill(mongo_dashboard)
    users = mongo_dashboard.database["users"]
    await users.update_many({}, {"$unset": {"updatedAt": ""}})
    sync = Sync(pool, mongo_dashboard.source)
    await sync.run_once()
    await users.insert_one({"_id": mongo_dashboard.oid(9), "name": "New", "email": "n@example.org"})
    await users.update_one({"_id": mongo_dashboard.oid(1)}, {"$set": {"name": "Edited"}})
    await sync.run_once(compare=False)
    assert await count(pool, "users") == 4
    await sync.run_once(compare=True)
    assert await pool.fetchval("SELECT count(*) FROM service.users WHERE name = 'Edited'") == 1


async def test_a_time_of_writing_without_an_index_is_a_warning(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    await fill(mongo_dashboard)
    for name in ("users", "goals"):
        await mongo_dashboard.database[name].create_index("updatedAt")
    sync = Sync(pool, mongo_dashboard.source)
    await sync.run_once()
    assert sync.health()["warnings"] == ["timersessions.updatedAt has no index: every reading scans it all"]


async def test_a_tail_that_the_dashboard_began_to_add_is_noticed_and_all_sessions_are_read_again(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    async def resumed(first: int, last: int, elapsed: int) -> None:
        for n in range(first, last + 1):
            await mongo_dashboard.put(
                "timer_sessions", n, user=1, kind="focus", status="completed", started=T0, startTime=T0,
                ended=T0 + timedelta(minutes=25), planned=1500, focus=elapsed,
            )  # fmt: skip

    await fill(mongo_dashboard)
    await resumed(1, 10, 0)
    sync = Sync(pool, mongo_dashboard.source)
    await sync.run_once()
    assert sync.health()["session_tail"] == "excluded"
    assert await pool.fetchval("SELECT DISTINCT focus_seconds FROM service.timer_sessions") == 1500
    await resumed(1, 10, 1500)
    await sync.run_once()
    assert sync.health()["session_tail"] == "included"


async def test_our_own_reading_never_writes_into_the_dashboard(
    postgres_dashboard: PostgresDashboard,
) -> None:
    await postgres_dashboard.source.ping()
    pool = postgres_dashboard.source._pool  # type: ignore[attr-defined]
    assert await pool.fetchval("SHOW default_transaction_read_only") == "on"
