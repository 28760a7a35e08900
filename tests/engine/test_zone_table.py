"""SQL has the local time of Python for every zone, from ``service.zone``; every stored zone is in it."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service import zones as names
from service.engine import schema, zone_table
from service.engine.database import migrate, open_pool
from service.engine.ledger import Ledger
from service.engine.schedule import Schedule
from service.zone_periods import FIRST, LAST, ZonePeriods, periods
from tests.analytics.given import Lab, session
from tests.conftest import with_database
from tests.given import goal, user
from tests.zone_cases import ACCEPTED, INSTANTS, REFUSED
from tests.zone_data import NEW, NewData

STORABLE = [case.name for case in REFUSED if "\0" not in case.name]  # PostgreSQL takes no NUL
_USER = (
    "INSERT INTO service.users (id, name, timezone, timezone_valid, active) VALUES ($1, 'x', $2, true, true)"
)
_SETTING = "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ($1, $2)"
_SESSION = """
INSERT INTO service.timer_sessions (id, user_id, kind, focus, status, started_at, focus_seconds)
VALUES ($1 || $2::timestamptz, $1, 'focus', true, 'completed', $2, 1500)
"""
_WRONG = """
SELECT t.* FROM unnest($1::text[], $2::timestamptz[], $3::timestamp[]) AS t (zone, at, local)
JOIN service.zone AS k ON k.name = t.zone WHERE service.local_time(t.at, k) IS DISTINCT FROM t.local
"""


async def _live(pool: asyncpg.Pool, stored: dict[str, str], *instants: datetime) -> None:
    """People with their zones, each with a session at each instant."""
    await pool.executemany(_USER, list(stored.items()))
    await pool.executemany(_SESSION, [(who, at) for who in stored for at in instants])


async def _pairs(pool: asyncpg.Pool, question: str) -> dict[str, Any]:
    """The answer's first column, and its second."""
    return {row[0]: row[1] for row in await pool.fetch(question)}


async def _fill(pool: asyncpg.Pool, default_zone: str | None = None) -> None:
    async with pool.acquire() as connection:
        await zone_table.fill(connection, default_zone)


# ── Local time ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_zone_has_the_local_time_of_its_zoneinfo_at_every_change_and_anywhere(
    pool: asyncpg.Pool,
) -> None:
    dice, second = random.Random(7), timedelta(seconds=1)
    rows = await pool.fetch("SELECT z.name, (z.starts, z.offsets) = (u.starts, u.offsets) AS same"
                            " FROM service.zone AS z JOIN service.zone AS u ON u.name = z.used"
                            " WHERE z.name <> ''")  # fmt: skip
    assert {row["name"]: row["same"] for row in rows} == dict.fromkeys(names.names(), True)
    for name in sorted(set(map(names.current_name, names.names()))):
        changes = periods(name).changes
        anywhere = [FIRST + dice.randrange((LAST - FIRST) // second) * second for _ in range(30)]
        instants = [FIRST, LAST - second, *changes, *(at - second for at in changes), *anywhere]
        local = [at.astimezone(names.zone_of(name)).replace(tzinfo=None) for at in instants]
        assert await pool.fetch(_WRONG, [name] * len(instants), instants, local) == []


async def test_its_periods_are_a_table_without_gaps(pool: asyncpg.Pool) -> None:
    gaps = await pool.fetch(
        "SELECT zone FROM (SELECT zone, utc_from, utc_to, lag(utc_to) OVER zones AS before, offset_s,"
        " lag(offset_s) OVER zones AS former FROM service.zone_period"
        " WINDOW zones AS (PARTITION BY zone ORDER BY utc_from)) AS p"
        " WHERE coalesce(before, '-infinity') <> utc_from OR utc_from >= utc_to OR former = offset_s"
    )
    assert gaps == []
    rows = await pool.fetch("SELECT offset_s FROM service.zone_period WHERE zone = 'Asia/Kathmandu'"
                            " AND utc_to = 'infinity'")  # fmt: skip
    assert [row["offset_s"] for row in rows] == [20_700]


async def test_sql_computes_with_the_zone_of_the_table(pool: asyncpg.Pool) -> None:
    people = {f"u{n}": case for n, case in enumerate(ACCEPTED)}
    stored = {who: str(names.canonical_name(case.name)) for who, case in people.items()}
    await _live(pool, stored, *INSTANTS)

    used = await _pairs(pool, "SELECT id, timezone FROM service.recipient")
    for who, case in people.items():
        assert used[who] in case.accepted
        rows = await pool.fetch(
            "SELECT local_start - started_at AT TIME ZONE 'UTC' AS ahead FROM service.local_session"
            " WHERE user_id = $1 ORDER BY started_at",
            who,
        )
        assert tuple(row["ahead"] for row in rows) == case.offsets, case.name


async def test_the_time_zone_of_the_session_plays_no_part(pool: asyncpg.Pool) -> None:
    at = datetime(2026, 7, 15, 12, tzinfo=UTC)
    await _live(pool, {"a": "Europe/Berlin"}, at)
    async with pool.acquire() as connection:
        await connection.fetchval("SELECT set_config('TimeZone', 'Pacific/Kiritimati', false)")
        row = await connection.fetchrow(
            "SELECT local_start, service.user_time('a', $1) AS same, service.signup_day('nobody', $1)"
            " FROM service.local_session",
            at,
        )
    assert row
    assert tuple(row) == (datetime(2026, 7, 15, 14), datetime(2026, 7, 15, 14), date(2026, 7, 15))


# ── What is stored ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in STORABLE if name])
async def test_what_is_no_zone_cannot_be_stored(pool: asyncpg.Pool, name: str) -> None:
    await pool.execute(_USER, "a", "Europe/Berlin")
    for statement in (
        "UPDATE service.users SET timezone = $1",
        "UPDATE service.user_zone SET timezone = $1",
        "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ('a', $1)",
    ):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await pool.execute(statement, name)


async def test_another_name_for_the_same_zone_is_no_move(pool: asyncpg.Pool) -> None:
    await _live(pool, {"a": "Asia/Kolkata"})
    for name in ("Asia/Calcutta", "Asia/Kolkata"):
        await pool.execute("UPDATE service.users SET timezone = $1", name)
    await pool.execute(_SETTING, "a", "Asia/Calcutta")

    assert await pool.fetchval("SELECT count(*) FROM service.user_zone") == 1


async def test_one_group_for_one_zone(pool: asyncpg.Pool) -> None:
    """Else people would be looked for under a name under which nobody's slots are planned."""
    await _live(pool, {"a": "Asia/Kolkata", "b": "Asia/Calcutta", "d": "UTC"})
    places = await Ledger(pool, "a", timedelta(seconds=60)).places()

    assert sorted(zone for zone, _ in places) == ["Asia/Kolkata", "UTC"]
    at = datetime(2026, 3, 10, tzinfo=UTC)
    assert all(Schedule.parse("0 9 * * *").next(names.zone_of(zone), at) for zone, _ in places)


# ── Starts ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_starts_repeat_and_run_side_by_side(pool: asyncpg.Pool) -> None:
    before = await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name")
    await asyncio.gather(*(migrate(pool) for _ in range(4)))

    assert await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name") == before
    await migrate(pool, "US/Eastern")
    await migrate(pool)
    assert await pool.fetchval("SELECT used FROM service.zone WHERE name = ''") == "America/New_York"


async def test_a_former_release_takes_no_name_away(pool: asyncpg.Pool) -> None:
    """It deletes the names that its PostgreSQL lacks, and calls others as that calls them."""
    await _live(pool, {"a": "Europe/Kyiv"}, *INSTANTS)
    await pool.execute("DELETE FROM service.zone WHERE name = 'Europe/Kyiv'")
    await pool.execute("UPDATE service.zone SET used = 'Europe/Kiev' WHERE name = 'Europe/Kyiv'")
    days = [row[0] for row in await pool.fetch("SELECT local_start FROM service.local_session ORDER BY 1")]
    assert [at.hour for at in days] == [14, 15, 14]

    await _fill(pool)

    assert await pool.fetchval("SELECT timezone FROM service.recipient") == "Europe/Kyiv"


async def test_new_data_opens_just_the_days_whose_offset_it_changes(
    pool: asyncpg.Pool, new_data: NewData
) -> None:
    """Two days of March become two hours later in Berlin: what was late on the 10th was on the 11th."""
    lab = Lab(pool)
    late = datetime(2026, 3, 10, 22, 30, tzinfo=UTC)
    await lab.clock(datetime(2026, 3, 10, tzinfo=UTC))
    await lab.put(user("ann", "Europe/Berlin"), user("tom", "Asia/Tokyo"))
    await lab.clock(datetime(2026, 3, 20, tzinfo=UTC))
    for who in ("ann", "tom"):
        for n, at in enumerate((late, late + timedelta(days=4), late - timedelta(days=30))):
            await lab.put(session(f"{who}{n}", who, at))
    await lab.put(goal("g", "ann", created_at=late - timedelta(days=9), completed_at=late, open=False))
    await lab.run()
    berlin = periods("Europe/Berlin")
    n = sum(change < late for change in berlin.changes)
    span = [datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 12, tzinfo=UTC)]
    moved = ZonePeriods(
        [*berlin.changes[:n], *span, *berlin.changes[n:]],
        [*berlin.offsets[: n + 1], 7200, *berlin.offsets[n:]],
    )

    new_data({"Europe/Berlin": moved})
    await _fill(pool)

    rows = await pool.fetch("SELECT user_id, local_day FROM service.stale_day ORDER BY 2")
    assert [tuple(row) for row in rows] == [("ann", date(2026, 3, 10)), ("ann", date(2026, 3, 11))]
    assert await pool.fetchval("SELECT version FROM service.zone_data") == NEW
    await lab.run()
    await lab.check()


async def test_older_data_changes_nothing(pool: asyncpg.Pool, new_data: NewData) -> None:
    await pool.execute("UPDATE service.zone_data SET version = '2199b'")
    before = await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name")
    new_data({"Europe/Berlin": ZonePeriods([], [0])})

    await _fill(pool)

    assert await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name") == before
    assert await pool.fetchval("SELECT version FROM service.zone_data") == "2199b"


# ── An upgrade from a release before ────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def former(postgres: str) -> AsyncIterator[asyncpg.Pool]:
    """A database as 0.1.0 left it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(postgres)
    await server.execute(f"CREATE DATABASE {name}")
    pool = await open_pool(with_database(postgres, name))
    await pool.execute(
        "CREATE TABLE public.service_migration (name text PRIMARY KEY, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for path in schema.files():
        if path.stem < "0015":
            text = path.read_text("utf-8")
            await pool.execute(text)
            checksum = hashlib.sha256(text.encode()).hexdigest()
            await pool.execute("INSERT INTO public.service_migration VALUES ($1, $2)", path.stem, checksum)
    yield pool
    await pool.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


async def test_an_upgrade_heals_what_was_stored_and_counts_the_days_again(former: asyncpg.Pool) -> None:
    """Ann chose localtime and then Tokyo; ben's stored zone is none; eve's was taken for an abbreviation."""
    lab = Lab(former)
    await lab.clock(datetime(2026, 7, 1, tzinfo=UTC))
    late = [datetime(2026, 7, day, 22, 30, tzinfo=UTC) for day in (1, 3, 5)]  # after midnight in Berlin
    await former.executemany(_USER, [("ann", "Europe/Berlin"), ("ben", "Mars/Olympus"), ("eve", "CET")])
    await former.execute(_SESSION, "ann", late[0])
    await lab.clock(datetime(2026, 7, 2, tzinfo=UTC))
    await former.execute(_SETTING, "ann", "localtime")
    await lab.clock(datetime(2026, 7, 4, tzinfo=UTC))
    await former.execute("UPDATE service.recipient_setting SET timezone = 'Asia/Tokyo' WHERE user_id = 'ann'")
    async with former.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL service.loading = 'on'")  # 0.1.0 could not even mark these days
        await connection.executemany(_SESSION, [("ann", late[1]), ("ann", late[2])])
        await connection.executemany(_SESSION, [(who, at) for who in ("ben", "eve") for at in late])

    await lab.clock(datetime(2026, 7, 10, tzinfo=UTC))
    await migrate(former, "Asia/Kathmandu")

    rows = await former.fetch("SELECT user_id, timezone FROM service.user_zone ORDER BY user_id, since")
    assert [tuple(row) for row in rows] == [
        ("ann", "Europe/Berlin"),
        ("ann", "Asia/Tokyo"),
        ("ben", "Asia/Kathmandu"),
        ("eve", "Europe/Brussels"),
    ]
    people = await former.fetch("SELECT id, timezone, timezone_valid FROM service.users ORDER BY id")
    assert [tuple(row) for row in people] == [
        ("ann", "Europe/Berlin", True), ("ben", "Asia/Kathmandu", False), ("eve", "Europe/Brussels", True),
    ]  # fmt: skip
    chosen = await _pairs(former, "SELECT user_id, timezone FROM service.recipient_setting")
    assert chosen == {"ann": "Asia/Tokyo"}
    stale = await former.fetch("SELECT user_id, local_day FROM service.stale_day ORDER BY 1, 2")
    days = {
        who: {row["local_day"] for row in stale if row["user_id"] == who} for who in ("ann", "ben", "eve")
    }
    assert days["ann"] >= {date(2026, 7, 2), date(2026, 7, 4)}  # the days of localtime are Berlin's
    assert days["ben"] >= {date(2026, 7, day) for day in (2, 4, 6)}
    assert days["eve"] >= {date(2026, 7, day) for day in (2, 4, 6)}  # CET had no summer time

    await lab.take()
    await lab.run()
    await lab.check()


async def test_an_upgrade_lets_whoever_chose_what_is_no_zone_follow_the_dashboard(
    former: asyncpg.Pool,
) -> None:
    await _live(former, {f"u{n}": "Europe/Berlin" for n in range(len(STORABLE))})
    kept = {f"k{n}": str(names.canonical_name(case.name)) for n, case in enumerate(ACCEPTED)}
    await _live(former, dict.fromkeys(kept, "Asia/Tokyo"))
    await former.executemany(_SETTING, [(f"u{n}", name) for n, name in enumerate(STORABLE)])
    await former.executemany(_SETTING, [(f"k{n}", case.name) for n, case in enumerate(ACCEPTED)])

    await migrate(former)

    stored = await _pairs(former, "SELECT user_id, timezone FROM service.recipient_setting")
    assert stored == {f"u{n}": None for n in range(len(STORABLE))} | kept
    follow = "SELECT DISTINCT timezone FROM service.recipient WHERE starts_with(id, 'u')"
    assert [row["timezone"] for row in await former.fetch(follow)] == ["Europe/Berlin"]


async def test_an_upgrade_counts_again_what_postgresql_took_for_another_time(
    former: asyncpg.Pool, new_data: NewData
) -> None:
    """Its data had Berlin an hour ahead of UTC in winter; ours has it at two."""
    late = datetime(2026, 1, 10, 22, 30, tzinfo=UTC)
    await _live(former, {"a": "Europe/Berlin", "b": "Asia/Tokyo"}, late)
    await former.execute("DELETE FROM service.stale_day")
    new_data({"Europe/Berlin": ZonePeriods([], [7200])})

    await migrate(former)

    rows = await former.fetch("SELECT user_id, local_day FROM service.stale_day ORDER BY 2")
    assert [tuple(row) for row in rows] == [("a", date(2026, 1, 10)), ("a", date(2026, 1, 11))]
