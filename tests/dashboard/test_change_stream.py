"""What is written at a MongoDB replica set arrives at once, and nothing depends on that."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from subprocess import Popen
from typing import Any

import asyncpg
import pytest
from bson import json_util

from service.dashboard.profiles.shapes import SourceQuery, Table
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import ChangeStreamUnavailable
from tests.dashboard.conftest import T0, MongoDashboard, PostgresDashboard
from tests.dashboard.test_conformance import count, fill
from tests.story.watching import until_true

NEVER = 3600.0
"""Seconds between two synchronisations of a process that only follows changes."""


def synced(pool: asyncpg.Pool, source: Any, interval: float = NEVER, **settings: Any) -> Sync:
    return Sync(pool, source, SyncSettings(interval=interval, **settings))


@asynccontextmanager
async def following(sync: Sync) -> AsyncIterator[Sync]:
    """Meanwhile a process serves; it is the one that follows the changes."""
    stop = asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    try:
        await until_state(sync, "live")
        yield sync
    finally:
        stop.set()
        await serving


async def until_state(sync: Sync, *states: str) -> None:
    async def reached() -> bool:
        return str(sync.health()["change_stream"]["state"]) in states

    await until_true(reached)


class Copy:
    """What the copy holds."""

    def __init__(self, pool: asyncpg.Pool, dashboard: MongoDashboard) -> None:
        self._pool = pool
        self._dashboard = dashboard

    async def title(self, number: int = 1) -> Any:
        key = self._dashboard.key(number)
        return await self._pool.fetchval("SELECT title FROM service.goals WHERE id = $1", key)

    async def until_title(self, text: str | None, number: int = 1) -> None:
        async def reached() -> bool:
            return bool(await self.title(number) == text)

        await until_true(reached)

    async def until_due(self, table: str) -> None:
        """Until a whole comparison of this table is asked for."""
        sql = "SELECT swept_at IS NULL FROM service.sync_state WHERE collection = $1"
        await until_true(lambda: self._pool.fetchval(sql, table))


@pytest.fixture
def copy(pool: asyncpg.Pool, mongo_dashboard: MongoDashboard) -> Copy:
    return Copy(pool, mongo_dashboard)


@pytest.fixture
async def other(pool: asyncpg.Pool, mongo_dashboard: MongoDashboard) -> Sync:
    """A process that synchronises when it is told to, and compares what is due."""
    return synced(pool, mongo_dashboard.source)


async def put_people(dashboard: MongoDashboard, people: int = 3) -> None:
    """People with a goal each, and one goal that was written later: the watermark is behind the others."""
    await fill(dashboard, people)
    for table in ("users", "goals", "timer_sessions"):
        await dashboard.put(
            table, 999, user=1, title="Last", email="l@example.org", kind="focus", status="completed",
            started=T0, ended=T0, updated=T0 + timedelta(hours=1),
        )  # fmt: skip


async def put_goals(dashboard: MongoDashboard, number: int) -> None:
    owner = dashboard.oid(1)
    await dashboard.database["goals"].insert_many(
        {"_id": dashboard.oid(n), "userId": owner, "title": "Old", "status": "active"}
        for n in range(1, number + 1)
    )


async def retitle(dashboard: MongoDashboard, text: str, number: int = 1) -> None:
    """As the dashboard's own controllers do it: the time of writing stays as it was."""
    goals = dashboard.database["goals"]
    await goals.find_one_and_update({"_id": dashboard.oid(number)}, {"$set": {"title": text}})


class Counted:
    """A source that counts what is read by id."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.fetched: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def fetch(self, table: Any, ids: Any) -> Any:
        self.fetched.append(len(ids))
        return await self._inner.fetch(table, ids)


# ── Changes ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_goes_with_an_account_stays_counted_whatever_goes_first(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard
) -> None:
    await fill(mongo_dashboard)
    async with following(synced(pool, mongo_dashboard.source)) as sync:
        await sync.run_once(compare=True)  # no comparison is due when the next process starts
    sessions = await count(pool, "timer_sessions")
    for table in ("timer_sessions", "goals", "users"):
        await mongo_dashboard.remove(table, 3)

    async with following(synced(pool, mongo_dashboard.source)) as sync:
        kept = "SELECT count(*) = 2 FROM service.kept_row JOIN service.departed_user USING (user_id)"
        await until_true(lambda: pool.fetchval(kept))
        assert await count(pool, "timer_sessions") == sessions
        await sync.run_once(compare=True)
        assert await count(pool, "timer_sessions") == sessions

        await mongo_dashboard.put("users", 3, email="u3@example.org")
        await until_true(lambda: pool.fetchval("SELECT count(*) = 0 FROM service.departed_user"))
        await sync.run_once(compare=True)
        assert await count(pool, "timer_sessions") == sessions - 1


async def test_edits_insertions_and_deletions_arrive_without_a_pass(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy
) -> None:
    await fill(mongo_dashboard)
    async with following(synced(pool, mongo_dashboard.source)) as sync:
        await retitle(mongo_dashboard, "Edited")
        await copy.until_title("Edited")
        await mongo_dashboard.put("goals", 9, user=1, title="Imported", status="active")
        await copy.until_title("Imported", 9)
        await mongo_dashboard.remove("goals", 2)
        await copy.until_title(None, 2)
        await mongo_dashboard.remove("users", 3)
        await retitle(mongo_dashboard, " ", 9)
        await retitle(mongo_dashboard, "After all that", 3)
        await copy.until_title("After all that", 3)
        stream = sync.health()["change_stream"]
        assert stream["lag"] >= 0
        assert stream["tables"] == ["users", "goals", "timer_sessions"]
    assert await copy.title(9) == "Imported"  # the copy keeps what was readable last
    assert [await count(pool, table) for table in ("users", "goals")] == [2, 3]
    assert not await pool.fetchval("SELECT count(*) FROM service.missing_row")
    assert await pool.fetchval("SELECT sum(deleted) FROM service.sweep") == 2


async def test_a_thousand_edits_are_read_in_few_parts(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy
) -> None:
    await put_goals(mongo_dashboard, 1000)
    await fill(mongo_dashboard)
    source = Counted(mongo_dashboard.source)
    async with following(synced(pool, source)):
        source.fetched.clear()
        for n in (1, 2):
            await mongo_dashboard.database["goals"].update_many({}, {"$set": {"title": f"New {n}"}})
        await until_true(
            lambda: pool.fetchval("SELECT count(*) = 1000 FROM service.goals WHERE title = 'New 2'")
        )
    assert len(source.fetched) <= 6


async def test_a_field_that_is_renamed_overwrites_nothing(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy
) -> None:
    """The next synchronisation says what is missing; until then the copy keeps addresses and titles."""
    await put_people(mongo_dashboard, people=12)
    async with following(synced(pool, mongo_dashboard.source)):
        await mongo_dashboard.rename("users", "email", "contact")
        await mongo_dashboard.rename("goals", "title", "headline")
        await mongo_dashboard.database["users"].update_many({}, {"$set": {"name": "Renamed"}})
        await until_true(lambda: pool.fetchval("SELECT bool_and(name = 'Renamed') FROM service.users"))
    assert await pool.fetchval("SELECT count(email) FROM service.users") == 13
    assert await copy.title() == "Goal 1"


# ── What is gone ────────────────────────────────────────────────────────────────────────────────────────────


async def _drop(users: Any) -> None:
    await users.drop()


async def _delete_all(users: Any) -> None:
    await users.delete_many({})


@pytest.mark.parametrize("lose", [_drop, _delete_all])
async def test_a_table_that_is_emptied_is_not_emptied_here(
    pool: asyncpg.Pool,
    mongo_dashboard: MongoDashboard,
    copy: Copy,
    other: Sync,
    lose: Callable[[Any], Awaitable[None]],
) -> None:
    await fill(mongo_dashboard, people=30)
    users = mongo_dashboard.database["users"]
    documents = await users.find().to_list(None)
    async with following(synced(pool, mongo_dashboard.source)):
        await other.run_once()  # the pass that a new stream asks for
        await lose(users)
        await copy.until_due("users")
        assert await count(pool, "users") == 30
        await other.run_once()
        assert "the dashboard lost 30 of 30 users" in other.health()["error"]
        assert await count(pool, "users") == 30
        await mongo_dashboard.database["restored"].insert_many(documents)
        await mongo_dashboard.database["restored"].rename("users", dropTarget=True)
        await copy.until_due("users")
        await other.run_once()
        assert other.health()["healthy"]
        await retitle(mongo_dashboard, "Goes on")
        await copy.until_title("Goes on")
    assert await count(pool, "users") == 30
    assert await pool.fetchval("SELECT coalesce(sum(deleted), 0) FROM service.sweep") == 0


async def test_a_small_table_that_is_emptied_is_a_loss_at_once(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy
) -> None:
    await fill(mongo_dashboard)
    async with following(synced(pool, mongo_dashboard.source)):
        await mongo_dashboard.database["users"].delete_many({})
        await until_true(lambda: pool.fetchval("SELECT count(*) = 3 FROM service.missing_row"))
    assert await count(pool, "users") == 3


async def test_rows_that_go_during_a_pass_are_found_by_it(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were staged as present; the pass goes on where it was, and nothing begins anew."""
    monkeypatch.setattr("service.dashboard.reconciliation._PAGE", 40)
    await put_goals(mongo_dashboard, 55)
    await fill(mongo_dashboard)
    other = synced(pool, mongo_dashboard.source, interval=0)
    async with following(synced(pool, mongo_dashboard.source)):
        await other.run_once()
        staged = "SELECT count(*) FROM service.staged_row WHERE collection = 'goals'"
        assert await pool.fetchval(staged) == 40
        gone = [mongo_dashboard.oid(n) for n in range(1, 12)]
        await mongo_dashboard.database["goals"].delete_many({"_id": {"$in": gone}})
        await until_true(lambda: pool.fetchval(f"SELECT ({staged}) = 29"))
        for _ in range(3):
            await other.run_once()
    assert await count(pool, "goals") == 44


# ── The position ────────────────────────────────────────────────────────────────────────────────────────────


def _of_other_collections(token: dict[str, Any]) -> None:
    token["collections"]["users"] = "0" * 32


def _too_old(token: dict[str, Any]) -> None:
    data = token["after"]["_data"]
    token["after"] = {"_data": f"{data[:2]}5F000000{data[10:]}"}


@pytest.mark.parametrize("spoil", [_of_other_collections, _too_old])
async def test_where_history_is_lost_a_new_stream_begins_and_all_is_compared(
    pool: asyncpg.Pool,
    mongo_dashboard: MongoDashboard,
    copy: Copy,
    other: Sync,
    spoil: Callable[[dict[str, Any]], None],
) -> None:
    await put_people(mongo_dashboard)
    async with following(synced(pool, mongo_dashboard.source)):
        await retitle(mongo_dashboard, "First")
        await copy.until_title("First")
    await other.run_once()
    token = json_util.loads(await pool.fetchval("SELECT token FROM service.change_stream"))
    spoil(token)
    await pool.execute("UPDATE service.change_stream SET token = $1", json_util.dumps(token))
    await retitle(mongo_dashboard, "Untold")

    async with following(synced(pool, mongo_dashboard.source)):
        await copy.until_due("goals")
        assert await copy.title() == "First"
        await retitle(mongo_dashboard, "Told", 2)
        await copy.until_title("Told", 2)
        await other.run_once()
        assert await copy.title() == "Untold"


async def test_what_happens_while_nobody_follows_is_told_afterwards(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy, other: Sync
) -> None:
    await put_people(mongo_dashboard)
    async with following(synced(pool, mongo_dashboard.source)):
        pass
    await other.run_once()
    await retitle(mongo_dashboard, "Meanwhile")
    async with following(synced(pool, mongo_dashboard.source)):
        await copy.until_title("Meanwhile")


@pytest.mark.long(only=True)
async def test_a_process_that_freezes_between_reading_and_writing_loses_nothing(
    pool: asyncpg.Pool, dsn: str, mongo_dashboard: MongoDashboard, copy: Copy, other: Sync
) -> None:
    """Another takes over from the stored position; the first writes nothing when it thaws."""
    await put_people(mongo_dashboard)
    url, database = mongo_dashboard.address()
    words = (dsn, url, database, "2", "following")
    frozen = Popen([sys.executable, "-m", "tests.dashboard.copier", *words])
    try:
        await until_true(lambda: pool.fetchval("SELECT EXISTS (SELECT FROM service.change_stream)"))
        await other.run_once()
        await retitle(mongo_dashboard, "New")
        async with asyncio.timeout(90):
            _, status = await asyncio.to_thread(os.waitpid, frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        await retitle(mongo_dashboard, "Newer", 2)
        async with following(synced(pool, mongo_dashboard.source)):
            await copy.until_title("Newer", 2)
            assert await copy.title() == "New"
            await retitle(mongo_dashboard, "Newest")
            await copy.until_title("Newest")
            os.kill(frozen.pid, signal.SIGCONT)
            assert await asyncio.to_thread(frozen.wait, 90) == 0
            assert await copy.title() == "Newest"
    finally:
        frozen.kill()
        frozen.wait()


async def test_one_process_follows_and_another_says_so(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy
) -> None:
    await fill(mongo_dashboard)
    second = synced(pool, mongo_dashboard.source)
    stop = asyncio.Event()
    async with following(synced(pool, mongo_dashboard.source)):
        serving = asyncio.create_task(second.serve(stop))
        await until_state(second, "elsewhere")
        assert second.health()["change_stream"]["lag"] is None
    stop.set()
    await serving


# ── Without one ─────────────────────────────────────────────────────────────────────────────────────────────


class Silent:
    """A source whose change stream, once open, tells nothing any more."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def watch(self, *_: Any) -> Any:
        self.opened += 1
        return self

    watched = frozenset({"users"})

    async def next_batch(self) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


@pytest.mark.long(only=True)
async def test_a_stream_that_hangs_keeps_nothing_else_back(
    pool: asyncpg.Pool, mongo_dashboard: MongoDashboard, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dashboard.change_stream._ANSWER", 0.05)
    await fill(mongo_dashboard)
    source = Silent(mongo_dashboard.source)
    sync = synced(pool, source, interval=0.2)
    stop = asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    await until_state(sync, "interrupted")
    await mongo_dashboard.put("goals", 9, user=1, title="New", status="active")
    await copy.until_title("New", 9)
    assert "does not answer" in sync.health()["change_stream"]["reason"]
    stop.set()
    await serving


async def test_it_can_be_switched_off(pool: asyncpg.Pool, mongo_dashboard: MongoDashboard) -> None:
    await fill(mongo_dashboard)
    sync, stop = synced(pool, mongo_dashboard.source, change_stream=False), asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    await until_true(lambda: pool.fetchval("SELECT count(*) = 3 FROM service.timer_sessions"))
    stop.set()
    await serving
    assert sync.health()["change_stream"]["state"] == "off"
    assert not await count(pool, "change_stream")


async def test_postgresql_has_none(pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard) -> None:
    await fill(postgres_dashboard)
    sync, stop = synced(pool, postgres_dashboard.source), asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))
    await until_state(sync, "none")
    stop.set()
    await serving
    health = sync.health()
    assert health["healthy"]
    assert health["change_stream"]["reason"] == "no change stream: PostgreSQL has none"


async def test_queries_are_watched_if_their_ids_are_those_of_a_collection(
    mongo_dashboard: MongoDashboard,
) -> None:
    database, source = mongo_dashboard.database, mongo_dashboard.source
    await database.create_collection("users")
    await database.create_collection("seen", viewOn="users", pipeline=[])

    def table(pipeline: str, collection: str = "users") -> Table:
        return Table("people", {}, query=SourceQuery("mongodb", pipeline, collection))

    stream = await source.watch([table('[{"$match": {"x": 1}}, {"$set": {"y": 2}}]')], None)
    assert stream.watched == {"users"}
    await stream.close()
    for unwatched in (
        [table('[{"$group": {"_id": "$x"}}]')],
        [table('[{"$match": {}}]', "seen"), Table("seen", {})],
    ):
        with pytest.raises(ChangeStreamUnavailable):
            await source.watch(unwatched, None)
