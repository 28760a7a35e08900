"""What is gone at the dashboard goes here, but never much of it at once; what is lacking here is read."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.dashboard import sync_run
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.profiles.shapes import PROFILES
from service.dashboard.source import DigestPage
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import BadRequest
from tests.clock import stop_clock
from tests.conftest import with_database
from tests.dashboard.conftest import T0, Dashboard, MongoDashboard, PostgresDashboard
from tests.dashboard.test_conformance import count, fill

pytestmark = pytest.mark.either_dashboard

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Stage:
    """A dashboard and the copies of it; each ``look`` is that of a process that has just started."""

    def __init__(self, pool: asyncpg.Pool, dashboard: Dashboard) -> None:
        self.pool = pool
        self.dashboard = dashboard
        self.now = NOON

    async def look(self, sync: Sync | None = None, *, compare: bool | None = True) -> dict[str, Any]:
        """Health after a synchronisation."""
        sync = sync or Sync(self.pool, self.dashboard.source)
        self.report = await sync.run_once(compare=compare)
        return sync.health()

    async def later(self, time: timedelta) -> None:
        self.now += time
        await stop_clock(self.pool, self.now.isoformat())

    async def goals(self, numbers: Iterable[int], **values: Any) -> None:
        for n in numbers:
            await self.dashboard.put(
                "goals", n, **{"user": 1, "title": f"Goal {n}", "status": "active", "due": T0, **values}
            )

    async def users(self, numbers: Iterable[int]) -> None:
        for n in numbers:
            await self.dashboard.put("users", n, name=f"Person {n}", email=f"p{n}@example.org", active=True)

    async def drop(self, collection: str, numbers: Iterable[int]) -> None:
        for n in numbers:
            await self.dashboard.remove(collection, n)

    async def counts(self) -> list[int]:
        return [await count(self.pool, table) for table in ("users", "goals", "timer_sessions")]

    async def everything(self) -> list[Any]:
        """The copy, and what a change of it would leave behind."""
        found: list[Any] = []
        for table in ("users", "goals", "timer_sessions", "stale_day", "stale_period", "user_zone"):
            found += await self.pool.fetch(f"SELECT t::text FROM service.{table} AS t ORDER BY 1")
        return found


@pytest.fixture
async def stage(pool: asyncpg.Pool, dashboard: Dashboard) -> Stage:
    stage = Stage(pool, dashboard)
    await stage.later(timedelta(0))
    if isinstance(dashboard, MongoDashboard):  # in PostgreSQL tables are there before their rows
        for name in ("users", "goals", "timersessions"):
            await dashboard.database.create_collection(name)
    return stage


# ── A moment of emptiness ───────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _reloaded(dashboard: Dashboard) -> AsyncIterator[None]:
    """TRUNCATE and reload; a restore with drop."""
    if isinstance(dashboard, PostgresDashboard):
        await dashboard.connection.execute("CREATE TABLE aside AS TABLE users; TRUNCATE users")
        yield
        await dashboard.connection.execute("INSERT INTO users SELECT * FROM aside; DROP TABLE aside")
    else:
        assert isinstance(dashboard, MongoDashboard)
        users = dashboard.database["users"]
        documents = await users.find().to_list(None)
        await users.drop()
        yield
        await users.insert_many(documents)


@asynccontextmanager
async def _dropped(dashboard: Dashboard) -> AsyncIterator[None]:
    """The table itself is away."""
    if isinstance(dashboard, PostgresDashboard):
        await dashboard.connection.execute("ALTER TABLE users RENAME TO aside")
        yield
        await dashboard.connection.execute("ALTER TABLE aside RENAME TO users")
    else:
        assert isinstance(dashboard, MongoDashboard)
        await dashboard.database["users"].rename("aside")
        yield
        await dashboard.database["aside"].rename("users")


@asynccontextmanager
async def _elsewhere(dashboard: Dashboard) -> AsyncIterator[None]:
    """A deployment with the wrong name of a database: there is nothing in it."""
    right = dashboard.source
    if isinstance(dashboard, PostgresDashboard):
        name = f"{dashboard.url.rpartition('/')[2]}_wrong"
        await dashboard.connection.execute(f"CREATE DATABASE {name}")
        dashboard.source = PostgresSource(with_database(dashboard.url, name))
        yield
        await dashboard.source.close()
        await dashboard.connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    else:
        url, database = dashboard.address()
        dashboard.source = MongoSource(url, database=f"{database}_wrong")
        yield
        await dashboard.source.close()
    dashboard.source = right


@asynccontextmanager
async def _hidden(dashboard: Dashboard) -> AsyncIterator[None]:
    """Row level security lets us see nothing. In MongoDB, where there is none: everything is deleted."""
    if isinstance(dashboard, PostgresDashboard):
        right, role, word = dashboard.source, f"reader_{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
        await dashboard.connection.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD '{word}'; ALTER TABLE users ENABLE ROW LEVEL SECURITY;"
            f"GRANT SELECT ON users, goals, timer_sessions TO {role}"
        )
        parts = urlsplit(dashboard.url)
        netloc = f"{role}:{word}@{parts.netloc.rpartition('@')[2]}"
        dashboard.source = PostgresSource(urlunsplit(parts._replace(netloc=netloc)))
        yield
        await dashboard.source.close()
        dashboard.source = right
        await dashboard.connection.execute(
            f"ALTER TABLE users DISABLE ROW LEVEL SECURITY; DROP OWNED BY {role}; DROP ROLE {role}"
        )
    else:
        assert isinstance(dashboard, MongoDashboard)
        users = dashboard.database["users"]
        documents = await users.find().to_list(None)
        await users.delete_many({})
        yield
        await users.insert_many(documents)


Moment = Callable[[Dashboard], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("moment", [_reloaded, _dropped, _elsewhere, _hidden])
async def test_a_table_that_is_empty_for_a_moment_costs_nothing(stage: Stage, moment: Moment) -> None:
    await fill(stage.dashboard, people=30)
    assert (await stage.look())["healthy"]
    before = await stage.everything()

    async with moment(stage.dashboard):
        for _ in range(3):  # not a share of it the next day either
            health = await stage.look()
            assert not health["healthy"]
            assert "the dashboard lost 30 of 30 users since 2026-03-10 12:00 UTC" in health["error"]
            assert "python -m service sync --confirm users" in health["error"]
            assert health["lost"]["users"] == {
                "missing": 30, "of": 30, "waiting": 30, "since": "2026-03-10T12:00:00+00:00",
            }  # fmt: skip
            assert not stage.report.deleted
            await stage.later(DAY + HOUR)
        assert await stage.everything() == before

    health = await stage.look(compare=None)  # no sweep is due: it heals with the next synchronisation
    assert (health["healthy"], health["error"], health["lost"]) == (True, None, {})
    assert await stage.everything() == before
    assert not await stage.pool.fetchval("SELECT count(*) FROM service.missing_row")


async def test_every_process_knows_of_the_loss_and_of_its_end(stage: Stage) -> None:
    await fill(stage.dashboard, people=12)
    first, second = (Sync(stage.pool, stage.dashboard.source) for _ in range(2))
    await stage.look(first)
    await stage.look(second)
    async with _reloaded(stage.dashboard):
        assert not (await stage.look(first))["healthy"]
        assert second.health()["healthy"]
        assert not (await stage.look(second, compare=None))["healthy"]
    assert (await stage.look(second, compare=None))["healthy"]
    assert (await stage.look(first, compare=None))["healthy"]


async def test_what_is_back_in_part_is_waited_for_to_the_last_row(stage: Stage) -> None:
    await stage.goals(range(1, 101))
    await stage.look()
    await stage.drop("goals", range(1, 101))
    await stage.look()
    await stage.goals(range(1, 96))  # five are missing still: less than a fifth
    health = await stage.look()
    assert health["lost"]["goals"]["missing"] == 5
    assert await count(stage.pool, "goals") == 100
    await stage.goals(range(96, 101))
    assert (await stage.look(compare=None))["healthy"]
    assert await count(stage.pool, "goals") == 100


async def test_a_return_is_noticed_among_many_rows(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.dashboard.reconciliation._BATCH", 7)
    await stage.goals(range(1, 41))
    await stage.look()
    await stage.drop("goals", range(1, 41))
    assert (await stage.look())["lost"]["goals"]["waiting"] == 40
    await stage.goals(range(1, 41))
    assert (await stage.look(compare=None))["healthy"]


async def test_what_seems_to_be_gone_is_asked_for_once_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was made or moved while ids were walked is not taken for a deletion."""
    await stage.goals(range(1, 21))
    await stage.look()
    await stage.drop("goals", [7])

    async def digests(*arguments: Any, digests: Any = stage.dashboard.source.digests) -> DigestPage:
        page = await digests(*arguments)
        return DigestPage(page.rows[5:], page.after)

    monkeypatch.setattr(stage.dashboard.source, "digests", digests)
    assert (await stage.look())["healthy"]
    assert stage.report.deleted == {"goals": 1}
    assert await count(stage.pool, "goals") == 19


# ── A day's bound ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_fifth_within_a_day_and_not_more(stage: Stage) -> None:
    await stage.goals(range(1, 101))
    await stage.look()

    await stage.drop("goals", range(1, 10))
    assert (await stage.look())["healthy"]
    assert await count(stage.pool, "goals") == 91

    await stage.later(HOUR)
    await stage.drop("goals", range(10, 21))
    assert (await stage.look())["healthy"]
    assert await count(stage.pool, "goals") == 80

    await stage.later(HOUR)
    await stage.drop("goals", range(21, 23))
    health = await stage.look()
    assert not health["healthy"]
    assert "the dashboard lost 22 of 100 goals since 2026-03-10 14:00 UTC" in health["error"]
    assert await count(stage.pool, "goals") == 80

    await stage.later(DAY)
    assert not (await stage.look())["healthy"]
    assert await count(stage.pool, "goals") == 80

    assert await Sync(stage.pool, stage.dashboard.source).confirm_loss("goals", "command line") == 2
    assert (await stage.look(compare=None))["healthy"]
    assert await count(stage.pool, "goals") == 78


async def test_the_next_day_has_a_bound_of_its_own(stage: Stage) -> None:
    await stage.goals(range(1, 101))
    await stage.look()
    for first, left in ((1, 80), (21, 64), (37, 52), (49, 42)):  # a fifth each day, from what is left
        await stage.drop("goals", range(first, 101 - left))
        assert (await stage.look())["healthy"], left
        assert await count(stage.pool, "goals") == left
        await stage.later(DAY)


@pytest.mark.parametrize(
    ("rows", "gone", "left"), [(10, 9, 1), (10, 10, 10), (2, 2, 2), (1, 1, 0), (30, 11, 30)]
)
async def test_small_tables(stage: Stage, rows: int, gone: int, left: int) -> None:
    await stage.goals(range(1, rows + 1))
    await stage.look()
    await stage.drop("goals", range(1, gone + 1))
    assert (await stage.look())["healthy"] == (left == rows - gone)
    assert await count(stage.pool, "goals") == left


async def test_the_last_rows_do_not_go_one_by_one(stage: Stage) -> None:
    await stage.goals(range(1, 4))
    await stage.look()
    for n, left in ((1, 2), (2, 1), (3, 1)):
        await stage.later(HOUR)
        await stage.drop("goals", [n])
        await stage.look()
        assert await count(stage.pool, "goals") == left


# ── A person's word ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_confirmation_covers_the_rows_that_were_missing_once(stage: Stage) -> None:
    await stage.users(range(1, 61))
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.look(sync)
    await stage.drop("users", range(1, 31))
    assert (await stage.look(sync))["lost"]["users"]["missing"] == 30
    await stage.drop("users", range(31, 51))  # nobody has seen that yet
    assert await sync.confirm_loss("users", "command line") == 30
    health = await stage.look(sync)
    assert stage.report.deleted == {"users": 30}
    assert health["lost"]["users"]["missing"] == 20
    assert await count(stage.pool, "users") == 30

    await stage.users(range(1, 51))
    assert (await stage.look(sync))["healthy"]
    assert await count(stage.pool, "users") == 60
    await stage.drop("users", range(1, 31))
    assert not (await stage.look(sync))["healthy"]
    assert await count(stage.pool, "users") == 60


async def test_what_is_back_before_the_confirmation_is_carried_out_stays(stage: Stage) -> None:
    await stage.users(range(1, 31))
    await stage.look()
    await stage.drop("users", range(1, 31))
    await stage.look()
    assert await Sync(stage.pool, stage.dashboard.source).confirm_loss("users", "command line") == 30
    await stage.users(range(1, 21))
    assert (await stage.look(compare=None))["healthy"]
    assert await count(stage.pool, "users") == 20
    await stage.drop("users", range(1, 21))
    assert not (await stage.look())["healthy"]


async def test_nothing_can_be_confirmed_that_nobody_asked(stage: Stage) -> None:
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.users(range(1, 31))
    await stage.look(sync)
    with pytest.raises(BadRequest, match="no users are missing"):
        await sync.confirm_loss("users", "command line")
    await stage.drop("users", range(1, 31))
    await stage.look(sync)
    with pytest.raises(BadRequest, match="no timer sessions are missing"):
        await sync.confirm_loss("timer_sessions", "command line")
    assert await sync.confirm_loss("users", "somebody") == 30
    with pytest.raises(BadRequest):
        await sync.confirm_loss("users", "somebody")
    audit = await stage.pool.fetch("SELECT who, act, what FROM service.audit")
    assert [tuple(row) for row in audit] == [("somebody", "confirm loss", {"table": "users", "rows": 30})]


async def test_an_erased_person_is_not_asked_about(stage: Stage, tmp_path: Any) -> None:
    await fill(stage.dashboard, people=15)
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.look(sync)
    for table in ("users", "goals", "timer_sessions"):
        await stage.drop(table, range(1, 16))
    await stage.look(sync)
    people = PersonalData(stage.pool, Archive(stage.pool, tmp_path, sync))
    await people.erase(stage.dashboard.key(1), "tester")
    assert await stage.pool.fetchval("SELECT count(*) FROM service.missing_row") == 42
    assert (await stage.look(sync))["lost"]["users"]["missing"] == 14


# ── Both ways ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_there_and_not_here_is_read_however_old_its_time_of_writing(stage: Stage) -> None:
    await fill(stage.dashboard, people=20)
    await stage.look()
    before = await stage.everything()
    await stage.pool.execute("DELETE FROM service.users; DELETE FROM service.goals")  # as 0.1.0 may have done
    await stage.look()
    assert await stage.counts() == [20, 20, 20]
    assert await stage.everything() == before

    started = LONG_AGO
    await stage.dashboard.put(
        "timer_sessions", 77, user=1, kind="focus", status="completed", started=started,
        ended=started + HOUR, planned=1500, focus=1500, updated=started + HOUR,
    )  # fmt: skip
    await stage.look(compare=False)
    assert await count(stage.pool, "timer_sessions") == 20
    await stage.pool.execute("TRUNCATE service.stale_day")
    await stage.look()
    assert await count(stage.pool, "timer_sessions") == 21
    assert [str(row["local_day"]) for row in await stage.pool.fetch("SELECT * FROM service.stale_day")] == [
        "2024-01-01"
    ]


async def test_what_came_with_a_return_is_read_at_once(stage: Stage) -> None:
    await stage.users(range(1, 31))
    await stage.look()
    await stage.drop("users", range(1, 31))
    await stage.look()
    await stage.users(range(1, 31))
    await stage.dashboard.put("users", 99, name="Long known", email="l@example.org", updated=LONG_AGO)
    assert (await stage.look(compare=None))["healthy"]
    assert await count(stage.pool, "users") == 31


async def test_a_backup_of_some_hours_ago(stage: Stage) -> None:
    """Some are back, some are gone; nobody needs to be asked."""
    await stage.users(range(1, 101))
    await stage.goals(range(1, 101), updated=T0)
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.look(sync)
    await stage.drop("users", range(1, 5))  # four accounts were deleted …
    await stage.dashboard.put("users", 101, name="New", email="n@example.org", updated=NOON)  # … and one made
    for n in range(1, 31):
        await stage.dashboard.put(
            "goals", n, user=1, title=f"Goal {n}", status="completed", updated=T0 + HOUR
        )
    await stage.later(HOUR)
    await stage.look(sync)
    assert await stage.counts() == [97, 100, 0]

    await stage.users(range(1, 5))
    await stage.drop("users", [101])
    health = await stage.look(sync)
    assert health["healthy"]
    assert await stage.counts() == [100, 100, 0]


async def test_rows_that_cannot_be_read_and_those_of_the_erased_do_not_come_over(
    stage: Stage, tmp_path: Any
) -> None:
    await fill(stage.dashboard, people=20)
    await stage.dashboard.put("goals", 77, user=1, title=" ", status="active")
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.look(sync)
    await PersonalData(stage.pool, Archive(stage.pool, tmp_path, sync)).erase(
        stage.dashboard.key(1), "tester"
    )
    for _ in range(3):
        await stage.pool.execute("TRUNCATE service.stale_day")
        health = await stage.look(sync)
        assert health["healthy"]
        assert health["rejected"]["goals"] == {"title": 1}
        assert await stage.counts() == [19, 19, 19]
        assert not await count(stage.pool, "stale_day")


async def test_what_cannot_be_read_is_read_again_only_when_it_changes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.goals(range(1, 21))
    fetched: list[list[str]] = []

    async def fetch(table: Any, ids: Any, fetch: Any = stage.dashboard.source.fetch) -> Any:
        fetched.append(list(ids))
        return await fetch(table, ids)

    monkeypatch.setattr(stage.dashboard.source, "fetch", fetch)
    sync = Sync(stage.pool, stage.dashboard.source)

    async def rejected() -> Any:
        fetched.clear()
        return (await stage.look(sync))["rejected"].get("goals", {}), fetched

    await stage.goals([77], title=" ")
    assert await rejected() == ({"title": 1}, [])
    for _ in range(2):
        assert await rejected() == ({"title": 1}, [])
    await stage.goals([77], title="", status=None)
    assert await rejected() == ({"title": 1}, [])  # read by its time of writing
    unstamped: dict[str, Any] = {"updated": None}
    await stage.goals([78], title=" ", **unstamped)
    assert await rejected() == ({"title": 2}, [[stage.dashboard.key(78)]])
    assert await rejected() == ({"title": 2}, [])
    await stage.goals([77], title="Readable", status=None)
    assert await rejected() == ({"title": 1, "status": 1}, [])
    await stage.drop("goals", [78])
    assert await rejected() == ({"status": 1}, [])
    await stage.goals([5], title=" ", **unstamped)  # the copy keeps what it was
    assert await rejected() == ({"title": 1, "status": 1}, [[stage.dashboard.key(5)]])
    assert await rejected() == ({"title": 1, "status": 1}, [])
    await stage.goals([5])
    assert await rejected() == ({"status": 1}, [])
    restarted = Sync(stage.pool, stage.dashboard.source)
    assert (await stage.look(restarted, compare=False))["rejected"] == {"goals": {"status": 1}}


async def test_stamps_alone_change_nothing(stage: Stage) -> None:
    await fill(stage.dashboard, people=5)
    sync = Sync(stage.pool, stage.dashboard.source)
    await stage.look(sync)
    await stage.pool.execute("TRUNCATE service.stale_day")
    for n in range(1, 6):
        await stage.dashboard.put(
            "timer_sessions", n, user=n, kind="focus", status="completed", started=T0,
            ended=T0 + timedelta(minutes=25), planned=1500, focus=1500, updated=T0 + HOUR,
        )  # fmt: skip
    await stage.look(sync)
    assert await stage.pool.fetchval("SELECT count(*) FROM service.stale_period") == 0


# ── Ids ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def _walk(dashboard: Dashboard, limit: int, table: str = "goals") -> list[str]:
    found, after = [], ""
    described = getattr(PROFILES[dashboard.profile], table)
    while (page := await dashboard.source.digests(described, after, limit)).after != after:
        assert len(page.rows) <= limit
        found += [id_ for id_, _ in page.rows]
        after = page.after
    return found


@pytest.mark.parametrize("limit", [1, 4, 9, 100])
async def test_ids_are_walked_once_each(stage: Stage, limit: int) -> None:
    assert await _walk(stage.dashboard, limit) == []
    numbers = [1, 2, 3, 9, 10, 11, 100, 2000, 30000]
    await stage.goals(numbers)
    assert await _walk(stage.dashboard, limit) == [stage.dashboard.key(n) for n in numbers]


async def test_ids_of_several_types_are_walked(pool: asyncpg.Pool, mongo_dashboard: MongoDashboard) -> None:
    keys = [7, 8, "ana", "ben", "Zoë", mongo_dashboard.oid(3), 2**40]
    await mongo_dashboard.database["goals"].insert_many([{"_id": key} for key in keys])
    assert sorted(await _walk(mongo_dashboard, 2)) == sorted(map(str, keys))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "f0000000-0000-0000-0000-000000000001"]),
        ('text COLLATE "C"', ["B", "a", "b", "Ä", "ä", "z"]),
        ("varchar(20)", ["a b", "A-b", "a_b", "ab", "Z"]),
    ],
)
async def test_ids_are_compared_as_sets_in_whatever_order_they_come(
    pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard, kind: str, values: list[str]
) -> None:
    ask: Callable[..., Awaitable[Any]] = postgres_dashboard.connection.execute
    await ask(f"ALTER TABLE users ALTER id TYPE {kind} USING NULL")
    for value in values:
        await ask(
            "INSERT INTO users (id, name, email, updated_at) VALUES ($1, 'x', 'x@y.example', $2)", value, T0
        )
    sync = Sync(pool, postgres_dashboard.source, SyncSettings(batch=2))
    await sync.run_once()
    assert sorted(await _walk(postgres_dashboard, 2, "users")) == sorted(values)
    report = await sync.run_once(compare=True)
    assert not report.deleted
    assert await count(pool, "users") == len(values)


_MANY_SESSIONS = """
INSERT INTO service.timer_sessions (id, user_id, kind, status, started_at, focus, focus_seconds, digest)
SELECT 's' || n, 'u1', 'focus', 'completed', '2026-01-01', true, 60, n FROM generate_series(1, 30000) AS n
"""


async def test_known_documents_are_looked_up_without_reading_the_whole_table(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_MANY_SESSIONS)
        await connection.execute("ANALYZE service.timer_sessions")
        ids = [f"s{n}" for n in range(500)]
        rows = await connection.fetch(f"EXPLAIN {sync_run._SQL['known']}", "timer_sessions", ids, [0] * 500)
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on timer_sessions" not in plan, plan
