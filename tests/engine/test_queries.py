"""Every query of every ``.sql`` file is one that PostgreSQL accepts."""

from pathlib import Path

import asyncpg
import pytest

from service.engine import queries

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
