"""Two dashboards to read from, one conformance suite: the same people in MongoDB and in PostgreSQL."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Protocol

import asyncpg
import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient

from service.sources.mongo import MongoSource
from service.sources.postgres import PostgresSource
from service.sources.sync import Source
from tests import mongo
from tests.conftest import with_database

T0 = datetime(2026, 3, 10, 9, tzinfo=UTC)


class Dashboard(Protocol):
    """A dashboard that a test fills in canonical words; ids are small numbers, as text in our tables."""

    source: Source
    profile: str

    def key(self, n: int) -> str: ...
    async def put(self, collection: str, n: int, **values: Any) -> None: ...
    async def remove(self, collection: str, n: int) -> None: ...
    async def rename(self, collection: str, old: str, new: str) -> None: ...


# canonical word → stored word
_MONGO: dict[str, dict[str, str]] = {
    "users": {"name": "name", "email": "email", "timezone": "timezone", "active": "isActive",
              "last_login": "lastLoginAt", "preferences": "preferences"},
    "goals": {"user": "userId", "title": "title", "status": "status", "due": "deadline",
              "target": "targetValue", "current": "currentValue", "unit": "unit"},
    "timer_sessions": {"user": "userId", "kind": "type", "status": "status", "started": "createdAt",
                       "ended": "endTime", "planned": "duration", "focus": "elapsedTime"},
}  # fmt: skip
_POSTGRES: dict[str, dict[str, str]] = {
    "users": {"name": "name", "email": "email", "timezone": "timezone", "active": "is_active",
              "last_login": "last_login_at", "preferences": "preferences"},
    "goals": {"user": "user_id", "title": "title", "status": "status", "due": "due_at",
              "target": "target_value", "current": "current_value", "unit": "unit"},
    "timer_sessions": {"user": "user_id", "kind": "kind", "status": "status", "started": "started_at",
                       "ended": "ended_at", "planned": "planned_seconds", "focus": "focus_seconds"},
}  # fmt: skip
TABLES = """
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text, timezone text, locale text,
    is_active boolean, last_login_at timestamptz, preferences jsonb,
    created_at timestamptz, updated_at timestamptz);
CREATE TABLE goals (id bigint PRIMARY KEY, user_id bigint, title text, category text, status text,
    priority text, target_value numeric, current_value numeric, unit text, due_at timestamptz, due_date date,
    completed_at timestamptz, created_at timestamptz, updated_at timestamptz);
CREATE TABLE timer_sessions (id bigint PRIMARY KEY, user_id bigint, goal_id bigint, kind text, status text,
    started_at timestamptz, ended_at timestamptz, paused_at timestamptz, planned_seconds int,
    focus_seconds int, category text, tags text[], updated_at timestamptz);
CREATE INDEX ON users (updated_at, id);
CREATE INDEX ON goals (updated_at, id);
CREATE INDEX ON timer_sessions (updated_at, id);
"""


class MongoDashboard:
    """Profile A in MongoDB."""

    profile = "A"

    def __init__(self, url: str, name: str) -> None:
        self.source: Source = MongoSource(url, database=name, timeout=3)
        self.client: Any = AsyncIOMotorClient(url)
        self.database: Any = self.client[name]

    def key(self, n: int) -> str:
        return str(self.oid(n))

    def oid(self, n: int) -> ObjectId:
        return ObjectId(f"{n:024x}")

    def _collection(self, collection: str) -> Any:
        return self.database[collection.replace("_", "")]

    async def put(self, collection: str, n: int, **values: Any) -> None:
        words = _MONGO[collection]
        stored = {words.get(word, word): value for word, value in values.items()}
        stored["updatedAt"] = stored.pop("updated", T0)
        if "userId" in stored and isinstance(stored["userId"], int):
            stored["userId"] = self.oid(stored["userId"])
        if collection == "timer_sessions":
            for field in ("duration", "elapsedTime"):
                if isinstance(stored.get(field), int):
                    stored[field] *= 1000
        else:
            stored.setdefault("createdAt", T0)
        await self._collection(collection).replace_one({"_id": self.oid(n)}, stored, upsert=True)

    async def remove(self, collection: str, n: int) -> None:
        await self._collection(collection).delete_one({"_id": self.oid(n)})

    async def rename(self, collection: str, old: str, new: str) -> None:
        field = _MONGO[collection][old]
        await self._collection(collection).update_many({}, {"$rename": {field: new}})


class PostgresDashboard:
    """The canonical snake_case shape in PostgreSQL."""

    profile = "PG"

    def __init__(self, url: str) -> None:
        self.url = url
        self.source: Source = PostgresSource(url, timeout=3)
        self.connection: asyncpg.Connection

    def key(self, n: int) -> str:
        return str(n)

    async def open(self) -> None:
        self.connection = await asyncpg.connect(self.url)
        await self.connection.execute(TABLES)

    async def put(self, collection: str, n: int, **values: Any) -> None:
        words = _POSTGRES[collection]
        stored = {words.get(word, word): value for word, value in values.items()}
        stored = {"id": n, "updated_at": stored.pop("updated", T0), **stored}
        if collection != "timer_sessions":
            stored.setdefault("created_at", T0)
        if "preferences" in stored:
            stored["preferences"] = json.dumps(stored["preferences"])
        columns, marks = ", ".join(stored), ", ".join(f"${i + 1}" for i in range(len(stored)))
        await self.connection.execute(f"DELETE FROM {collection} WHERE id = $1", n)
        await self.connection.execute(
            f"INSERT INTO {collection} ({columns}) VALUES ({marks})", *stored.values()
        )

    async def remove(self, collection: str, n: int) -> None:
        await self.connection.execute(f"DELETE FROM {collection} WHERE id = $1", n)

    async def rename(self, collection: str, old: str, new: str) -> None:
        column = _POSTGRES[collection][old]
        await self.connection.execute(f"ALTER TABLE {collection} RENAME COLUMN {column} TO {new}")


@pytest.fixture
async def mongo_dashboard(mongod: str) -> AsyncIterator[MongoDashboard]:
    """An empty MongoDB dashboard."""
    name = f"dash_{uuid.uuid4().hex[:10]}"
    dashboard = MongoDashboard(mongod, name)
    yield dashboard
    await dashboard.source.close()
    dashboard.client.close()
    await mongo.drop(mongod, name)


@pytest.fixture
async def postgres_dashboard(postgres: str) -> AsyncIterator[PostgresDashboard]:
    """An empty PostgreSQL dashboard."""
    name = f"dash_{uuid.uuid4().hex[:10]}"
    server = await asyncpg.connect(postgres)
    await server.execute(f"CREATE DATABASE {name}")
    dashboard = PostgresDashboard(with_database(postgres, name))
    await dashboard.open()
    yield dashboard
    await dashboard.source.close()
    await dashboard.connection.close()
    await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture(params=["mongo", "postgres"])
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    """Each of the two dashboards in turn."""
    found: Dashboard = request.getfixturevalue(f"{request.param}_dashboard")
    return found
