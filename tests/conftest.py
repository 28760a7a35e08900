"""The real parts of the tests: PostgreSQL (embedded, or TEST_DATABASE_URL), a fresh database per test."""

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog

from service.engine import embedded
from service.engine.database import migrate, open_pool
from tests import memory, mongo, zone_data
from tests.given import World

LONG = os.environ.get("LONG") == "1"
_SLOW = {"story", "browser", "demo", "cli"}
"""Folders whose tests wait for processes: they begin first, so that no worker ends with them alone."""


def pytest_configure() -> None:
    """Let the tests' folders lie in memory, where there is room."""
    if place := memory.in_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders with slow tests in front; skip what has only a long form."""
    items.sort(key=lambda item: item.path.parent.name not in _SLOW)
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if parameters.get("dashboard") == "mongo" and item.get_closest_marker("either_dashboard"):
            item.add_marker(pytest.mark.long(only=True))
        mark = item.get_closest_marker("long")
        if mark and mark.kwargs.get("only") and not LONG:
            item.add_marker(pytest.mark.skip(reason="only in the long form: LONG=1 (make test-long)"))


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """A command that set up the logs wrote them to this test's standard error, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def long_form() -> bool:
    """Whether the long forms are asked for (make test-long)."""
    return LONG


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """DSN of a real PostgreSQL server."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    folder = memory.folder("jobs-pg-")
    dsn, server = embedded.start(folder / "data")
    asyncio.run(hurry(dsn))
    yield dsn
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def hurry(dsn: str) -> None:
    """Tests kill the service, never this server: its disk need not be waited for."""
    connection = await asyncpg.connect(dsn)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        await connection.execute(f"ALTER SYSTEM SET {setting} = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.fixture(scope="session")
def mongod() -> Iterator[str]:
    """URL of a real MongoDB."""
    with mongo.server() as url:
        yield url


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """A database with all migrations applied (or TEST_TEMPLATE), copied by each test."""
    return os.environ.get("TEST_TEMPLATE") or migrated(postgres)


def migrated(postgres: str) -> str:
    """Make a database with all migrations applied; returns its name."""
    name = f"template_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        connection = await asyncpg.connect(postgres)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        pool = await open_pool(with_database(postgres, name))
        await migrate(pool)
        await pool.close()

    asyncio.run(make())
    return name


@pytest.fixture
async def dsn(postgres: str, template: str) -> AsyncIterator[str]:
    """DSN of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield with_database(postgres, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a fresh, migrated database."""
    pool = await open_pool(dsn, max_size=10)
    yield pool
    await pool.close()


@pytest.fixture
def new_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[zone_data.NewData]:
    """``new_data({"Asia/Newtown": periods})``: newer zone data from now on, with these clocks."""
    yield lambda clocks: zone_data.bring(tmp_path / zone_data.NEW, monkeypatch, clocks)
    zone_data.forget()


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    """A service on that database, with a clock and a dashboard of its own."""
    return World(pool)


@pytest.fixture(scope="session")
def lived_year(postgres: str, template: str) -> str:
    """Name of a database that has lived a year; see ``tests.lived``."""
    from tests import lived  # noqa: PLC0415 - the year is made by parts that most tests do not need

    return asyncio.run(lived.make(postgres, template))


@pytest.fixture
async def year(postgres: str, lived_year: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a copy of that database."""
    from tests import lived  # noqa: PLC0415 - see above

    name = f"test_{uuid.uuid4().hex[:12]}"
    await lived.copied(postgres, name, lived_year)
    pool = await open_pool(with_database(postgres, name))
    yield pool
    await pool.close()
