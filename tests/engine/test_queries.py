"""Every query of every ``.sql`` file is one that PostgreSQL accepts."""

import re
from pathlib import Path

import asyncpg
import pytest

from service.engine import queries, schema

_FILES = sorted(
    path
    for folder in ("service", "tests/acme_jobs")
    for path in Path(folder).rglob("*.sql")
    if "migrations" not in path.parts and path.name != "postgres.sql"
)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
async def test_every_query_can_be_prepared(pool: asyncpg.Pool, path: Path) -> None:
    found = queries.load(str(path.with_suffix(".py")))

    assert found
    async with pool.acquire() as connection:
        for sql in found.values():
            if not sql.lower().startswith(("create temp", "truncate", "drop")) and "incoming_" not in sql:
                await connection.prepare(sql)


_ZONE_DATA = re.compile(r"\bAT\s+TIME\s+ZONE\s+(?!'UTC')|\btimezone\s*\(\s*(?!'UTC')", re.IGNORECASE)
"""What reads PostgreSQL's own zone data; from UTC and to it nothing has to be read."""
_LAST_USE = "0025_zones_checked"


@pytest.mark.parametrize(
    "path", [*_FILES, *(path for path in schema.files() if path.stem > _LAST_USE)], ids=lambda path: path.stem
)
def test_no_query_reads_the_zone_data_of_postgresql(path: Path) -> None:
    assert _ZONE_DATA.findall(path.read_text("utf-8")) == []


async def test_no_view_and_no_function_reads_the_zone_data_of_postgresql(pool: asyncpg.Pool) -> None:
    rows = await pool.fetch(
        "SELECT proname AS name, prosrc AS text FROM pg_proc WHERE pronamespace = 'service'::regnamespace"
        " UNION ALL SELECT viewname, definition FROM pg_views WHERE schemaname = 'service'"
    )

    assert {"local_session", "user_time", "zones_touched"} <= {row["name"] for row in rows}
    assert [row["name"] for row in rows if _ZONE_DATA.search(row["text"])] == []


_OUTLASTS_A_TRANSACTION = re.compile(
    r"pg_(?:try_)?advisory_lock|\bLISTEN\b|WITH HOLD|set_config\([^)]*false\)"
    r"|(?:;|^--[^\n]*\n|\A)\s*SET (?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)[a-z_.]+ (?:=|TO)"
    r"|CREATE TEMP TABLE(?![^;]*ON COMMIT DROP)",
    re.MULTILINE,
)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_no_statement_outlasts_its_transaction(path: Path) -> None:
    """A session is given back as it is: nobody resets it."""
    assert _OUTLASTS_A_TRANSACTION.findall(path.read_text("utf-8")) == []


def test_what_outlasts_a_transaction_is_recognised() -> None:
    for sql in ("SELECT pg_advisory_lock(1)", "SET work_mem = '1GB'", "CREATE TEMP TABLE t AS SELECT 1"):
        assert _OUTLASTS_A_TRANSACTION.search(sql)
