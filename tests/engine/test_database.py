"""What Python values become on their way into jsonb; how migrations wait, and who may apply them."""

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from service.engine import schema
from service.engine.database import MIGRATION_LOCK, MigrationWaits, migrate, open_pool
from service.engine.session import Timeouts
from service.errors import ConfigurationError
from tests.releases import last_release


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0b\0\0", "ab"),
        (r"typed: \u0000", r"typed: \u0000"),
        ("\\\0", "\\"),
        ("\\\\\0\\u0000\0", "\\\\\\u0000"),
    ],
)
async def test_only_a_real_nul_is_left_out(pool: asyncpg.Pool, given: str, kept: str) -> None:
    assert await pool.fetchval("SELECT $1::jsonb", {given: [given]}) == {kept: [kept]}


def _one_more(monkeypatch: pytest.MonkeyPatch, folder: Path, sql: str) -> None:
    """A migration that no release has."""
    path = folder / "9999_one_more.sql"
    path.write_text(sql)
    known = schema.files()
    monkeypatch.setattr(schema, "files", lambda: [*known, path])


async def test_a_migration_gives_up_waiting_for_a_table_that_somebody_holds(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _one_more(monkeypatch, tmp_path, "ALTER TABLE service.job_def ADD COLUMN one_more int")
    waiting = MigrationWaits(lock=0.1, attempts=2, pause=0.01)
    async with pool.acquire() as holding, holding.transaction():
        await holding.execute("SELECT count(*) FROM service.job_def")
        async with asyncio.timeout(60):
            with pytest.raises(ConfigurationError, match=r"9999_one_more: another session holds a lock"):
                await migrate(pool, waiting=waiting)
    assert await migrate(pool, waiting=waiting) == ["9999_one_more"]
    assert await pool.fetchval("SELECT version FROM service.schema_range") == 9999


async def test_a_migration_gives_up_waiting_for_another_migrator(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _one_more(monkeypatch, tmp_path, "SELECT 1")
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        async with asyncio.timeout(60):
            with pytest.raises(ConfigurationError, match="another process has been migrating"):
                await migrate(pool, waiting=MigrationWaits(turn=0.1))
    assert await migrate(pool, waiting=MigrationWaits(turn=0.1)) == ["9999_one_more"]


async def test_a_migration_may_take_longer_than_other_statements(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _one_more(monkeypatch, tmp_path, "SELECT pg_sleep(0.8)")
    pool = await open_pool(dsn, timeouts=Timeouts(statement=0.4, command=0.5))
    assert await migrate(pool) == ["9999_one_more"]
    await pool.close()


async def test_a_release_that_may_not_write_migrates_nothing(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _one_more(monkeypatch, tmp_path, "SELECT 1")
    newer = schema.SCHEMA + 1
    await pool.execute("UPDATE service.schema_range SET version = $1, writable_from = $1", newer)
    assert await migrate(pool) == []

    await pool.execute("UPDATE service.schema_range SET readable_from = $1", newer)
    with pytest.raises(ConfigurationError, match=rf"too old for the database \(needs {newer}\): upgrade it"):
        await migrate(pool)


async def test_the_last_release_may_write_to_what_this_one_has_migrated(pool: asyncpg.Pool) -> None:
    found = await schema.read_range(pool)
    assert found.version == schema.SCHEMA
    assert found.readable_from <= found.writable_from <= last_release().schema


async def test_a_migration_that_takes_away_waits_for_processes_of_older_releases(
    pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{schema.SCHEMA + n:04}_{name}" for n, name in ((1, "contract"), (2, "expand"))]
    texts = ("-- contract: after 0.1.1\nDROP TABLE service.dashboard_gap;", "-- expand\nSELECT 1;")
    for name, text in zip(names, texts, strict=True):
        (tmp_path / f"{name}.sql").write_text(text)
    present = schema.files()
    monkeypatch.setattr(schema, "files", lambda: [*present, *sorted(tmp_path.glob("*.sql"))])
    alive = (
        "INSERT INTO service.replica (name, version, started_at, seen_at, vitals)"
        " VALUES ($1, $2, now(), now(), '{}')"
    )
    await pool.execute(alive, "new", "0.1.2")
    await pool.execute(alive, "old", "0.1.1")

    assert await migrate(pool) == [], "both wait: they are applied in order"
    await pool.execute("UPDATE service.replica SET seen_at = now() - interval '6 minutes' WHERE name = 'old'")
    assert await migrate(pool) == names


def test_every_migration_says_whether_older_releases_can_go_on() -> None:
    first_lines = {path.stem: path.read_text().partition("\n")[0] for path in schema.files()}
    silent = [name for name, line in first_lines.items() if not re.fullmatch(_KINDS, line)]
    assert silent == [name for name in first_lines if schema.number(name) <= 28]


_KINDS = r"-- expand|-- contract: after \d+\.\d+\.\d+"
