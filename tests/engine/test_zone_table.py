"""Every stored zone is read through ``service.zone``: SQL computes with what both sides know, and never fails
for one that is none."""

import asyncio
import hashlib
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
from tests.analytics.given import Lab
from tests.conftest import with_database
from tests.zone_cases import ACCEPTED, CASES, INSTANTS, REFUSED

NEW_IN_2026F = {"America/Vancouver", "Africa/Casablanca"}
STORABLE = [case for case in CASES if "\0" not in case.name]  # PostgreSQL takes no NUL
_USER = (
    "INSERT INTO service.users (id, name, timezone, timezone_valid, active) VALUES ($1, 'x', $2, true, true)"
)
_SESSION = """
INSERT INTO service.timer_sessions (id, user_id, kind, focus, status, started_at, focus_seconds)
VALUES ($1 || $2::timestamptz, $1, 'focus', true, 'completed', $2, 1500)
"""


async def _live(pool: asyncpg.Pool, stored: dict[str, str], *instants: datetime) -> None:
    """People with what is stored as their zone, each with a session at each instant."""
    await pool.executemany(_USER, list(stored.items()))
    await pool.executemany(_SESSION, [(who, at) for who in stored for at in instants])


async def _offsets(pool: asyncpg.Pool, who: str) -> tuple[timedelta, ...]:
    rows = await pool.fetch(
        "SELECT local_start - started_at AT TIME ZONE 'UTC' AS ahead FROM service.local_session"
        " WHERE user_id = $1 ORDER BY started_at",
        who,
    )
    return tuple(row["ahead"] for row in rows)


async def _pairs(pool: asyncpg.Pool, question: str) -> dict[str, Any]:
    """The answer's first column, and its second."""
    return {row[0]: row[1] for row in await pool.fetch(question)}


async def _fill(pool: asyncpg.Pool, default_zone: str | None = None) -> None:
    async with pool.acquire() as connection:
        await zone_table.fill(connection, default_zone)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let PostgreSQL's zone data lack some names at the next start."""

    def without(*gone: str) -> None:
        listed = ", ".join(f"'{name}'" for name in gone)
        monkeypatch.setitem(
            zone_table._SQL,
            "database_names",
            f"SELECT name FROM pg_timezone_names WHERE name NOT IN ({listed})",
        )

    return without


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PostgreSQL's zone data is whole again."""
    whole = zone_table._SQL["database_names"]
    return lambda: monkeypatch.setitem(zone_table._SQL, "database_names", whole)


async def test_sql_computes_with_the_zone_of_the_table(pool: asyncpg.Pool) -> None:
    await _fill(pool, "Asia/Tokyo")
    people = {f"u{n}": case for n, case in enumerate(STORABLE)}
    await _live(pool, {who: case.name for who, case in people.items()}, *INSTANTS)

    found = {who: await _offsets(pool, who) for who in people}
    used = await _pairs(pool, "SELECT id, timezone FROM service.recipient")
    for who, case in people.items():
        if not case.accepted:
            assert (used[who], found[who]) == ("Asia/Tokyo", (timedelta(hours=9),) * 3), case.name
            continue
        assert used[who] in case.accepted
        expected = case.offsets
        if case.name in NEW_IN_2026F:  # SQL has the offsets of PostgreSQL's own data, which may be older
            plain = [
                await pool.fetchval("SELECT $1 AT TIME ZONE $2 - $1 AT TIME ZONE 'UTC'", at, case.name)
                for at in INSTANTS
            ]
            assert tuple(plain[:2]) == expected[:2]
            expected = tuple(plain)
        assert found[who] == expected, case.name


async def test_sql_agrees_about_every_name_that_is_accepted(pool: asyncpg.Pool) -> None:
    """In January and July of 2025, which no version of the data tells otherwise any more."""
    accepted = await zone_table.accepted(pool)
    assert set(accepted) > set(names.places()) - {"America/Coyhaique"}
    for at in (datetime(2025, 1, 15, 12, tzinfo=UTC), datetime(2025, 7, 15, 12, tzinfo=UTC)):
        rows = await pool.fetch("SELECT name, $1 AT TIME ZONE used AS local FROM service.zone", at)
        told = {row["name"]: row["local"] for row in rows if row["name"]}
        ours = {name: at.astimezone(names.zone_of(name)).replace(tzinfo=None) for name in told}
        assert told == ours


async def test_starts_repeat_and_run_side_by_side(pool: asyncpg.Pool) -> None:
    before = await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name")
    await asyncio.gather(*(migrate(pool) for _ in range(4)))

    assert await pool.fetch("SELECT *, xmin FROM service.zone ORDER BY name") == before
    assert await pool.fetchval("SELECT used FROM service.zone WHERE name = ''") == "UTC"
    await migrate(pool, "US/Eastern")
    await migrate(pool)
    assert await pool.fetchval("SELECT used FROM service.zone WHERE name = ''") == "America/New_York"


# ── PostgreSQL with other names ─────────────────────────────────────────────────────────────────────────────


async def test_without_former_names_they_mean_the_same(pool: asyncpg.Pool, hide: Any) -> None:
    hide("Asia/Calcutta", "US/Pacific", "Europe/Kiev", "EST5EDT", "GB", "CET")
    await _fill(pool)
    await _live(pool, {"a": "Asia/Calcutta", "b": "EST5EDT", "c": "CET", "d": "US/Pacific"}, *INSTANTS)

    rows = await _pairs(pool, "SELECT id, timezone FROM service.recipient")
    assert rows == {
        "a": "Asia/Kolkata", "b": "America/New_York", "c": "Europe/Brussels", "d": "America/Los_Angeles",
    }  # fmt: skip
    assert [hours.total_seconds() / 3600 for hours in await _offsets(pool, "c")] == [1, 2, 1]


async def test_with_old_data_the_new_name_means_the_former(pool: asyncpg.Pool, hide: Any) -> None:
    await _live(pool, {"a": "Europe/Kyiv"}, *INSTANTS)
    hide("Europe/Kyiv")
    await _fill(pool)

    assert await pool.fetchval("SELECT timezone FROM service.recipient") == "Europe/Kiev"
    assert [hours.total_seconds() / 3600 for hours in await _offsets(pool, "a")] == [2, 3, 2]
    assert await pool.fetchval("SELECT timezone FROM service.users") == "Europe/Kyiv"


async def test_a_zone_that_got_lost_falls_back_and_comes_back(
    pool: asyncpg.Pool, hide: Any, show: Any
) -> None:
    """Where somebody lived is kept meanwhile, and so is what they chose."""
    await _live(pool, {"a": "Europe/Berlin"}, *INSTANTS)
    await pool.execute("INSERT INTO service.recipient_setting (user_id, timezone) VALUES ('a', 'Asia/Tokyo')")
    history = "SELECT timezone FROM service.user_zone WHERE since < now() - interval '1 year'"
    hide("Europe/Berlin", "Asia/Tokyo", "Japan", *names.equal_groups("Europe/Berlin"), "Europe/Oslo",
         "Europe/Stockholm", "Europe/Copenhagen", "Arctic/Longyearbyen")  # fmt: skip
    await _fill(pool, "Asia/Kathmandu")

    assert await pool.fetchval("SELECT timezone FROM service.recipient") == "Asia/Kathmandu"
    assert await _offsets(pool, "a") == (timedelta(hours=5, minutes=45),) * 3
    assert await pool.fetchval(history) == "Europe/Berlin"
    show()
    await _fill(pool)
    assert await pool.fetchval("SELECT timezone FROM service.recipient") == "Asia/Tokyo"
    assert await pool.fetchval(history) == "Europe/Berlin"
    assert [hours.total_seconds() / 3600 for hours in await _offsets(pool, "a")] == [1, 2, 1]


async def test_another_name_for_the_same_zone_is_no_move(pool: asyncpg.Pool) -> None:
    await _live(pool, {"a": "Asia/Kolkata"})
    for name in ("Asia/Calcutta", " asia/kolkata", "Asia/Kolkata"):
        await pool.execute("UPDATE service.users SET timezone = $1", name)
    await pool.execute(
        "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ('a', 'Asia/Calcutta')"
    )

    assert await pool.fetchval("SELECT count(*) FROM service.user_zone") == 1


async def test_one_group_for_one_zone(pool: asyncpg.Pool) -> None:
    """Else people would be looked for under a name under which nobody's slots are planned."""
    await _live(pool, {"a": "Asia/Kolkata", "b": "Asia/Calcutta", "c": "localtime", "d": "utc"})
    places = await Ledger(pool, "a", timedelta(seconds=60)).places()

    assert sorted(zone for zone, _ in places) == ["Asia/Kolkata", "UTC"]
    at = datetime(2026, 3, 10, tzinfo=UTC)
    assert all(Schedule.parse("0 9 * * *").next(names.zone_of(zone), at) for zone, _ in places)


# ── An upgrade from the release before ──────────────────────────────────────────────────────────────────────


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
    setting = "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ($1, $2)"
    await former.execute(setting, "ann", "localtime")
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

    await migrate(former)  # a further start finds nothing to heal
    assert (
        await former.fetch("SELECT user_id, timezone FROM service.user_zone ORDER BY user_id, since") == rows
    )
    await lab.take()
    await lab.run()
    await lab.check()


async def test_whoever_chose_what_is_no_zone_follows_the_dashboard_again(pool: asyncpg.Pool) -> None:
    bad = [case.name for case in REFUSED if "\0" not in case.name]
    await _live(pool, {f"u{n}": "Europe/Berlin" for n in range(len(bad))})
    setting = "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ($1, $2)"
    await pool.executemany(setting, [(f"u{n}", name) for n, name in enumerate(bad)])
    kept = [case.name for case in ACCEPTED]
    await _live(pool, {f"k{n}": "Asia/Tokyo" for n in range(len(kept))})
    await pool.executemany(setting, [(f"k{n}", name) for n, name in enumerate(kept)])
    follow = "SELECT DISTINCT timezone FROM service.recipient WHERE starts_with(id, 'u')"
    assert [row["timezone"] for row in await pool.fetch(follow)] == ["Europe/Berlin"]

    await _fill(pool)

    assert [row["timezone"] for row in await pool.fetch(follow)] == ["Europe/Berlin"]
    stored = await _pairs(pool, "SELECT user_id, timezone FROM service.recipient_setting")
    assert stored == {f"u{n}": None for n in range(len(bad))} | {f"k{n}": name for n, name in enumerate(kept)}
