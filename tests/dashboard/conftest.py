"""Two dashboards to read from, one conformance suite: the same people in MongoDB and in PostgreSQL."""

import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient

from service.app import Service, open_service
from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.settings import Settings
from tests import mongo
from tests.clock import stop_clock
from tests.conftest import with_database

T0 = datetime(2026, 3, 10, 9, tzinfo=UTC)
BEFORE_NINE = datetime(2026, 3, 10, 7, 58, tzinfo=UTC)
"""The same day, two minutes before nine in Berlin."""


class Dashboard(Protocol):
    """A dashboard that a test fills in canonical words; ids are small numbers, as text in our tables."""

    source: Source
    profile: str

    def key(self, n: int) -> str: ...
    async def put(self, collection: str, n: int, **values: Any) -> None: ...
    async def remove(self, collection: str, n: int) -> None: ...
    async def rename(self, collection: str, old: str, new: str) -> None: ...
    async def rename_back(self, collection: str, old: str, new: str) -> None: ...
    async def empty(self, collection: str) -> None: ...
    async def refill(self, collection: str) -> None: ...
    async def lose(self, collection: str) -> None: ...
    async def open_inbox(self) -> None: ...
    async def close_inbox(self) -> None: ...
    async def refuse(self, kind: str) -> None: ...
    async def notes(self) -> list[dict[str, Any]]: ...
    async def mark_read(self) -> None: ...
    def address(self) -> tuple[str, str]: ...


# canonical word → stored word
_MONGO: dict[str, dict[str, str]] = {
    "users": {"name": "name", "email": "email", "timezone": "timezone", "active": "isActive",
              "last_login": "lastLoginAt", "preferences": "preferences", "created": "createdAt"},
    "goals": {"user": "userId", "title": "title", "status": "status", "due": "deadline",
              "target": "targetValue", "current": "currentValue", "unit": "unit", "created": "createdAt"},
    "timer_sessions": {"user": "userId", "kind": "type", "status": "status", "started": "createdAt",
                       "ended": "endTime", "planned": "duration", "focus": "elapsedTime"},
}  # fmt: skip
_POSTGRES: dict[str, dict[str, str]] = {
    "users": {"name": "name", "email": "email", "timezone": "timezone", "active": "is_active",
              "last_login": "last_login_at", "preferences": "preferences", "created": "created_at"},
    "goals": {"user": "user_id", "title": "title", "status": "status", "due": "due_at",
              "target": "target_value", "current": "current_value", "unit": "unit", "created": "created_at"},
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
INBOX = """
CREATE TABLE notifications (id text PRIMARY KEY, user_id bigint NOT NULL, type text NOT NULL,
    title varchar(100) NOT NULL, message varchar(500) NOT NULL, data jsonb, related_id bigint,
    related_model text, priority text, channels jsonb NOT NULL, status text NOT NULL,
    scheduled_for timestamptz, sent_at timestamptz,
    read_at timestamptz, action jsonb, expires_at timestamptz, created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL, colour text DEFAULT 'blue')
"""


class MongoDashboard:
    """Profile A in MongoDB."""

    profile = "A"

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self.source: Source = MongoSource(url, database=name, timeout=3)
        self.client: Any = AsyncIOMotorClient(url, tz_aware=True)
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

    async def rename_back(self, collection: str, old: str, new: str) -> None:
        field = _MONGO[collection][old]
        await self._collection(collection).update_many({}, {"$rename": {new: field}})

    async def empty(self, collection: str) -> None:
        """All rows are gone for now; the collection stays."""
        name = self._collection(collection).name
        await self.database[name].rename(f"{name}_away")
        await self.database.create_collection(name)

    async def refill(self, collection: str) -> None:
        """The same rows as before ``empty`` or ``lose``."""
        name = self._collection(collection).name
        await self.database.drop_collection(name)
        await self.database[f"{name}_away"].rename(name)

    async def lose(self, collection: str) -> None:
        """There is no such collection any more."""
        name = self._collection(collection).name
        await self.database[name].rename(f"{name}_away")

    async def open_inbox(self) -> None:
        await self.database.create_collection("notifications")

    async def close_inbox(self) -> None:
        await self.database.drop_collection("notifications")

    async def refuse(self, kind: str) -> None:
        await self.database.command("collMod", "notifications", validator={"type": {"$ne": kind}})

    async def notes(self) -> list[dict[str, Any]]:
        """The inbox in canonical words, ids as text."""
        found = await self.database["notifications"].find().sort("userId", 1).to_list(None)
        return [
            {_snake(k).lstrip("_"): str(v) if isinstance(v, ObjectId) else v for k, v in one.items()}
            for one in found
        ]

    async def mark_read(self) -> None:
        change = {"$set": {"status": "read", "readAt": T0, "title": "Seen"}}
        await self.database["notifications"].update_many({}, change)

    def address(self) -> tuple[str, str]:
        return self._url, str(self.database.name)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


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

    async def rename_back(self, collection: str, old: str, new: str) -> None:
        column = _POSTGRES[collection][old]
        await self.connection.execute(f"ALTER TABLE {collection} RENAME COLUMN {new} TO {column}")

    async def empty(self, collection: str) -> None:
        await self.lose(collection)
        await self.connection.execute(f"CREATE TABLE {collection} (LIKE {collection}_away INCLUDING ALL)")

    async def refill(self, collection: str) -> None:
        await self.connection.execute(f"DROP TABLE IF EXISTS {collection}")
        await self.connection.execute(f"ALTER TABLE {collection}_away RENAME TO {collection}")

    async def lose(self, collection: str) -> None:
        await self.connection.execute(f"ALTER TABLE {collection} RENAME TO {collection}_away")

    async def open_inbox(self) -> None:
        await self.connection.execute(INBOX)

    async def close_inbox(self) -> None:
        await self.connection.execute("DROP TABLE notifications")

    async def refuse(self, kind: str) -> None:
        await self.connection.execute(f"ALTER TABLE notifications ADD CHECK (type <> '{kind}')")

    async def notes(self) -> list[dict[str, Any]]:
        """The inbox in canonical words, ids as text, without what is not there."""
        found = await self.connection.fetch("SELECT * FROM notifications ORDER BY user_id")
        return [{k: self._told(k, v) for k, v in one.items() if v is not None} for one in found]

    def _told(self, name: str, value: Any) -> Any:
        if name in {"data", "channels", "action"}:
            return json.loads(value)
        return str(value) if name.endswith("id") else value

    async def mark_read(self) -> None:
        change = "UPDATE notifications SET status = 'read', read_at = $1, title = 'Seen'"
        await self.connection.execute(change, T0)

    def address(self) -> tuple[str, str]:
        return self.url, ""


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


# ── The whole service beside a dashboard ────────────────────────────────────────────────────────────────────


class Stage:
    """A dashboard and the whole service that reads it, without its loops: a test moves the clock."""

    def __init__(self, dashboard: Dashboard, service: Service) -> None:
        self.dashboard = dashboard
        self.service = service
        self.pool = service.pool

    async def clock(self, moment: datetime) -> None:
        await stop_clock(self.pool, moment.isoformat())

    async def plan(self, moment: datetime) -> None:
        """Decide the slots of a moment; what is planned is not delivered yet."""
        await self.clock(moment)
        await self.service.trigger.sweep_once()
        while await self.service.runner.run_one():
            pass

    async def turn(self, moment: datetime) -> None:
        """What the loops do at a moment: decide slots, run what is due, deliver."""
        await self.plan(moment)
        await self.service.delivery.run_once()

    async def runs(self) -> dict[str, tuple[str, str | None]]:
        """Each job's last run: state and reason."""
        rows = await self.pool.fetch("SELECT job, state, reason FROM service.job_run ORDER BY nominal_at, id")
        return {row["job"].partition(".")[2]: (row["state"], row["reason"]) for row in rows}

    async def mails(self) -> Counter[str]:
        """How many mails are in which state, and why."""
        rows = await self.pool.fetch(
            "SELECT state, reason FROM service.delivery_with_state WHERE channel = 'email'"
        )
        return Counter(" ".join(filter(None, row)) for row in rows)

    async def missing(self) -> list[str]:
        """What health names, by its canonical name; red exactly when there is something."""
        health = self.service.sync.health()
        assert health["healthy"] is not bool(health["missing"]), health
        return [".".join(filter(None, (one["table"], one["field"]))) for one in health["missing"]]


Opened = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def opened(dsn: str, pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[Opened]:
    """Opens the service beside a dashboard that a test has filled; mails go to ``tmp_path / "inbox"``."""
    await stop_clock(pool, BEFORE_NINE.isoformat())
    async with AsyncExitStack() as stack:

        async def opened(dashboard: Dashboard, **environ: str) -> Stage:
            url, name = dashboard.address()
            url = urlunsplit(urlsplit(url)._replace(path=f"/{name}")) if name else url
            given = {"DATABASE_URL": dsn, "DASHBOARD_URL": url, "DATA_DIR": str(tmp_path)}
            settings = Settings.load({**given, "CLAIM_JITTER_SECONDS": "0", **environ})
            service = await stack.enter_async_context(open_service(settings))
            service.trigger._clock_trusted = None  # the test moves the database's clock, and no other
            return Stage(dashboard, service)

        yield opened
