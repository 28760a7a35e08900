"""``sync`` as an operator types it when the dashboard has lost people: it says so, and takes their word."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.demo import sample
from tests.cli.conftest import Typist
from tests.conftest import with_database

_TODAY = datetime(2026, 3, 10, tzinfo=UTC).date()


@pytest.fixture
async def dashboard(
    postgres: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """A dashboard of forty people, and this service on it."""
    name = f"dashboard_{uuid.uuid4().hex[:8]}"
    server = await asyncpg.connect(postgres)
    await server.execute(f"CREATE DATABASE {name}")
    url = with_database(postgres, name)
    await sample.write(url, sample.people(1, _TODAY, count=40, days=3))
    connection = await asyncpg.connect(url)
    for setting, value in (("DATABASE_URL", dsn), ("DASHBOARD_URL", url), ("DATA_DIR", str(tmp_path))):
        monkeypatch.setenv(setting, value)
    yield connection
    await connection.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


async def _told(typed: Typist, *words: str) -> tuple[int, dict[str, Any]]:
    told = await typed("sync", *words, "--json")
    return told.code, {row["what"]: row["value"] for row in json.loads(told.out)}


async def test_a_loss_is_told_and_accepted_once(
    typed: Typist, dashboard: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    assert (await _told(typed))[0] == 0
    told = await typed("sync", "--confirm", "users")
    assert (told.code, told.out) == (2, b"")
    assert "there is nothing to confirm: no users are missing" in told.err

    await dashboard.execute("TRUNCATE users CASCADE")
    code, health = await _told(typed)
    assert (code, health["healthy"]) == (1, "False")
    assert "the dashboard lost 40 of 40 users since 20" in health["error"]
    assert "confirm with `python -m service sync --confirm users`" in health["error"]
    assert await pool.fetchval("SELECT count(*) FROM service.users") == 40

    code, health = await _told(typed, "--confirm", "users")
    assert health["accepted"] == "40 users are gone"
    assert "users" not in health["lost"]
    assert await pool.fetchval("SELECT count(*) FROM service.users") == 0
    audit = await pool.fetchrow("SELECT who, act, what FROM service.audit")
    assert audit
    assert tuple(audit) == ("command line", "confirm loss", {"table": "users", "rows": 40})

    assert (await typed("sync", "--confirm", "users")).code == 2
