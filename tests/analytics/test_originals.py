"""What is archived comes back exactly, whatever it holds; what could not, is left alone."""

import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from service.errors import BadRequest
from tests.archive.archiving import JANUARY, Case
from tests.dashboard.conftest import MongoDashboard, PostgresDashboard
from tests.given import World

_EDITED = datetime(2026, 8, 20, 11, tzinfo=UTC)
_MONTH = date(2026, 1, 1)


def _document(dashboard: MongoDashboard, n: int) -> dict[str, Any]:
    return {
        "_id": dashboard.oid(n), "userId": dashboard.oid(1), "type": "pomodoro", "status": "completed",
        "createdAt": JANUARY, "startTime": JANUARY, "endTime": JANUARY + timedelta(minutes=25),
        "duration": 1500000, "elapsedTime": 1500000, "updatedAt": _EDITED,
    }  # fmt: skip


async def test_every_kind_of_value_comes_back(
    world: World, mongo_dashboard: MongoDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, mongo_dashboard, tmp_path / "archive", old=0)
    odd = {
        "zeta": 1, "alpha": Int64(1), "double": 1.0, "nan": float("nan"), "minus": float("-inf"),
        "long": 2**40, "decimal": Decimal128("1.10"), "far": DatetimeMS(2**52),
        "uuid": Binary.from_uuid(uuid.uuid4()),
        "raw": b"\0\1", "regex": Regex("^a", "i"), "stamp": Timestamp(1, 2), "none": None,
        "nested": {"b": [1, {"a": ObjectId()}], "a": {}}, "text": "ä\0\U0001f345", "$odd": 1, "a.b": 2,
        "lowest": bson.MinKey(),
    }  # fmt: skip
    await mongo_dashboard.database.timersessions.insert_one({**_document(mongo_dashboard, 1), "odd": odd})
    before = await case.stored()

    assert (await case.clean(confirm=True)).counts["archived.2026-01"] == 1
    assert mongo_dashboard.key(1) not in await case.stored()
    await case.archive.restore(_MONTH)

    assert await case.stored() == before


async def test_broken_text_is_left_at_the_dashboard(
    world: World, mongo_dashboard: MongoDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, mongo_dashboard, tmp_path / "archive")
    raw = bson.encode({**_document(mongo_dashboard, 1), "taskName": "broken!"}).replace(
        b"broken!", b"\xff\xfe\xfdken!"
    )
    await mongo_dashboard.database.timersessions.insert_one(bson.raw_bson.RawBSONDocument(raw))
    before = await case.stored()

    result = await case.clean()

    assert result.state == "succeeded"
    assert (await case.stored())[mongo_dashboard.key(1)] == before[mongo_dashboard.key(1)]
    assert len(await case.noted()) == 60


async def test_every_kind_of_column_comes_back(
    world: World, postgres_dashboard: PostgresDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")
    connection = postgres_dashboard.connection
    await connection.execute(
        """
        CREATE TYPE mood AS ENUM ('fine', 'tired');
        ALTER TABLE timer_sessions ADD exact numeric, ADD near float8, ADD raw bytea, ADD any_json jsonb,
            ADD mood mood, ADD span tstzrange, ADD "odd name" interval,
            ADD twice int GENERATED ALWAYS AS (focus_seconds * 2) STORED,
            ADD serial bigint GENERATED ALWAYS AS IDENTITY, ADD marks numeric[], ADD far timestamptz;
        UPDATE timer_sessions SET exact = 12345678901234567890.123456789, near = 'NaN', raw = '\\x00ff',
            any_json = '{"a": [1.10, null]}', mood = 'tired', span = '[2026-01-01,)',
            "odd name" = '1 mon 2 days 03:00',
            marks = '{{1.5,NULL},{2,3}}', far = 'infinity';
        UPDATE timer_sessions SET any_json = 'null' WHERE id = 1000;
        """
    )
    case.dashboard.source._column_types.clear()  # type: ignore[attr-defined]
    before = await case.stored()

    result = await case.clean()

    assert result.state == "succeeded", result.error
    assert {"1000"} == {
        key for key in await case.stored() if int(key) < 5000
    }  # JSON null would come back as NULL
    for month in (1, 2, 3):
        assert (await case.archive.restore(date(2026, month, 1))).refused == 0
    assert await case.stored() == before


async def test_a_row_that_the_dashboard_refuses_keeps_no_other_out(
    world: World, postgres_dashboard: PostgresDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")
    await case.clean()
    await postgres_dashboard.connection.execute("DELETE FROM users WHERE id = 1")
    await postgres_dashboard.connection.execute(
        "ALTER TABLE timer_sessions ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID"
    )

    restored = await case.archive.restore(_MONTH)

    assert restored.refused > 0
    assert restored.put_back == restored.rows - restored.refused > 0
    assert len(await case.noted()) == 60 - restored.put_back


async def test_without_the_right_to_write_the_run_says_so(
    world: World, postgres_dashboard: PostgresDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")
    await postgres_dashboard.connection.execute("ALTER TABLE timer_sessions ENABLE ROW LEVEL SECURITY")
    await postgres_dashboard.connection.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE insufficient_privilege USING MESSAGE = 'permission denied for timer_sessions'; END$$;"
        "CREATE TRIGGER no BEFORE DELETE ON timer_sessions FOR EACH STATEMENT EXECUTE FUNCTION no()"
    )

    result = await case.clean()

    assert result.state == "failed"
    assert result.error == (
        "the dashboard does not let us write: permission denied for timer_sessions; grant it"
    )
    await postgres_dashboard.connection.execute("DROP TRIGGER no ON timer_sessions")
    assert (await case.clean()).state == "succeeded"
    assert len(await case.stored()) == 300


async def test_an_archive_goes_back_only_into_its_own_kind(
    world: World, mongo_dashboard: MongoDashboard, tmp_path: Path
) -> None:
    case = await Case.at(world, mongo_dashboard, tmp_path / "archive")
    await case.clean()
    manifest = next(case.folder.glob("*2026-01*.json"))
    manifest.write_text(manifest.read_text().replace("mongodb", "postgresql"))

    with pytest.raises(BadRequest, match="came from postgresql"):
        await case.archive.restore(_MONTH)
    with pytest.raises(BadRequest, match="nothing of 2025-01"):
        await case.archive.restore(date(2025, 1, 1))


async def test_a_write_with_an_old_time_is_seen_too(
    world: World, postgres_dashboard: PostgresDashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the time of writing decides whether a row is the one that was archived, but all of it."""
    case = await Case.at(world, postgres_dashboard, tmp_path / "archive")

    async def remove(rows: Any, remove: Any = case.archive.remove) -> Any:
        await postgres_dashboard.connection.execute(
            "UPDATE timer_sessions SET category = 'x' WHERE id = 1000"
        )
        return await remove(rows)

    monkeypatch.setattr(case.archive, "remove", remove)

    result = await case.clean()

    assert result.state == "succeeded"
    assert result.counts["edited"] == 1
    await case.archive.restore(_MONTH)
    row = await postgres_dashboard.connection.fetchval("SELECT category FROM timer_sessions WHERE id = 1000")
    assert row == "x"


async def test_the_dashboards_sessions_stay_read_only(postgres_dashboard: PostgresDashboard) -> None:
    source: Any = postgres_dashboard.source
    pool = await source._open()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("DELETE FROM users")
