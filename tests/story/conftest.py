"""Every story plays in a world of its own."""

import uuid
from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from service.demo import sample
from tests.conftest import with_database

PEOPLE = sample.people(1, date(2026, 3, 10), count=10)


@pytest.fixture
async def databases(postgres: str) -> AsyncIterator[tuple[str, str]]:
    """Ours, empty, without a single table; and a dashboard with ten people."""
    names = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    connection = await asyncpg.connect(postgres)
    for name in names:
        await connection.execute(f"CREATE DATABASE {name}")
    ours, theirs = (with_database(postgres, name) for name in names)
    await sample.write(theirs, PEOPLE)
    yield ours, theirs
    for name in names:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
