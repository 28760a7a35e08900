"""The dashboard of a stage, in MongoDB or PostgreSQL: people, each with a goal, and their sessions.

What is written here goes past the proxy, as the dashboard's own writes do.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

import asyncpg
from bson import ObjectId
from pymongo import MongoClient

from tests.dashboard.conftest import TABLES
from tests.mongo import MongoServer
from tests.postgres_server import PostgresServer

_FIRST_SECONDS = 1500
_NOTIFICATIONS = {"email": True, "push": True, "reminders": True}
Rows = Mapping[str, Sequence[Any]]
"""Whole rows or documents, by table."""


@dataclass(frozen=True, slots=True)
class Session:
    """A focus session; ``start`` is aware. ``written``: the stamp that the dashboard gives its row."""

    id: str
    person: str
    start: datetime
    seconds: int
    written: datetime


class Store(Protocol):
    """Where a dashboard lives. ``url`` leads through the proxy at ``port``."""

    def url(self, port: int) -> str: ...
    def new_id(self) -> str: ...
    async def fill(self, people: Sequence[str], now: datetime) -> None: ...
    async def put_sessions(self, sessions: Sequence[Session]) -> None: ...
    async def delete_sessions(self, ids: Sequence[str]) -> None: ...
    async def close_goals(self, people: Sequence[str]) -> None: ...
    async def take_out(self, share: float, *, dropped: bool) -> Rows: ...
    async def put_back(self, rows: Rows) -> None: ...
    async def drop(self) -> None: ...


class Dashboard:
    """A dashboard, and what its sessions add up to.

    ``closed``: people whose goals were closed while no mail to them was in hand.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.people: list[str] = []
        self.sessions: dict[str, Session] = {}
        self.closed: set[str] = set()

    async def fill(self, people: int) -> None:
        """Everybody in UTC with one goal that is due tomorrow, and a session yesterday."""
        self.people = [self.store.new_id() for _ in range(people)]
        now = datetime.now(UTC)
        await self.store.fill(self.people, now)
        await self.write_sessions(self.people, days=1, written=now)

    async def write_sessions(
        self, people: Iterable[str], *, days: int, written: datetime | None = None
    ) -> None:
        """A session of so many days ago for each; ``written``: its stamp, None: of that time."""
        start = datetime.combine(datetime.now(UTC).date() - timedelta(days=days), time(10), UTC)
        stamp = written or start + timedelta(seconds=_FIRST_SECONDS)
        await self._put(
            Session(self.store.new_id(), person, start, _FIRST_SECONDS, stamp) for person in people
        )

    async def edit_sessions(self, ids: Iterable[str]) -> None:
        """Each was a minute longer; that is written without a new stamp."""
        known = self.sessions
        await self._put(replace(known[id_], seconds=known[id_].seconds + 60) for id_ in ids)

    async def delete_sessions(self, ids: Sequence[str]) -> None:
        """These are gone."""
        await self.store.delete_sessions(ids)
        for id_ in ids:
            del self.sessions[id_]

    async def _put(self, sessions: Iterable[Session]) -> None:
        written = list(sessions)
        if written:
            await self.store.put_sessions(written)
        self.sessions.update({one.id: one for one in written})

    async def close_goals(self, people: Sequence[str]) -> None:
        """They reach their goals: whoever has no mail in hand must not get one any more."""
        self.closed |= set(people)
        await self.store.close_goals(people)

    def figures(self) -> Counter[tuple[str, date]]:
        """Seconds of each person and day."""
        seconds: Counter[tuple[str, date]] = Counter()
        for one in self.sessions.values():
            seconds[one.person, one.start.date()] += one.seconds
        return seconds


# ── MongoDB ─────────────────────────────────────────────────────────────────────────────────────────────────


class MongoStore:
    """Profile A."""

    def __init__(self, server: MongoServer, name: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(server.url, tz_aware=True)
        self._name = name

    @property
    def documents(self) -> Any:
        """The database."""
        return self._client[self._name]

    def url(self, port: int) -> str:
        return f"mongodb://127.0.0.1:{port}/{self._name}?directConnection=true"

    def new_id(self) -> str:
        return str(ObjectId())

    async def fill(self, people: Sequence[str], now: datetime) -> None:
        due = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        users = [
            {"_id": ObjectId(id_), "name": f"Person {n}", "email": f"p{n}@example.org", "timezone": "UTC",
             "preferences": {"notifications": _NOTIFICATIONS}, "isActive": True, "lastLoginAt": now,
             "createdAt": now - timedelta(days=90), "updatedAt": now}
            for n, id_ in enumerate(people)
        ]  # fmt: skip
        goals = [
            {"_id": ObjectId(), "userId": user["_id"], "title": "A goal", "category": "work",
             "targetValue": 10, "currentValue": 3, "unit": "pages", "status": "active", "priority": "high",
             "deadline": due, "startDate": now, "tags": [], "createdAt": now, "updatedAt": now}
            for user in users
        ]  # fmt: skip
        if users:
            await self.put_back({"users": users, "goals": goals})

    async def put_sessions(self, sessions: Sequence[Session]) -> None:
        documents = [
            {"_id": ObjectId(one.id), "userId": ObjectId(one.person), "type": "focus", "status": "completed",
             "taskName": "work", "duration": one.seconds * 1000, "elapsedTime": one.seconds * 1000,
             "startTime": one.start, "endTime": one.start + timedelta(seconds=one.seconds),
             "createdAt": one.start, "updatedAt": one.written, "interruptions": [], "tags": []}
            for one in sessions
        ]  # fmt: skip

        def put() -> None:
            for document in documents:
                self.documents.timersessions.replace_one({"_id": document["_id"]}, document, upsert=True)

        await asyncio.to_thread(put)

    async def delete_sessions(self, ids: Sequence[str]) -> None:
        wanted = {"_id": {"$in": [ObjectId(id_) for id_ in ids]}}
        await asyncio.to_thread(self.documents.timersessions.delete_many, wanted)

    async def close_goals(self, people: Sequence[str]) -> None:
        theirs = {"userId": {"$in": [ObjectId(id_) for id_ in people]}}
        reached = {"$set": {"status": "completed", "updatedAt": datetime.now(UTC)}}
        await asyncio.to_thread(self.documents.goals.update_many, theirs, reached)

    async def take_out(self, share: float, *, dropped: bool) -> Rows:
        """Users and goals, of the same people. ``dropped``: with their collections."""

        def taken_out() -> Rows:
            gone = {}
            for name in ("users", "goals"):
                documents = list(self.documents[name].find().sort("_id", 1))
                gone[name] = documents[: round(len(documents) * share)]
                if dropped:
                    self.documents[name].drop()
                else:
                    self.documents[name].delete_many({"_id": {"$in": [one["_id"] for one in gone[name]]}})
            return gone

        return await asyncio.to_thread(taken_out)

    async def put_back(self, rows: Rows) -> None:
        def put() -> None:
            for name, documents in rows.items():
                self.documents[name].insert_many(documents)

        await asyncio.to_thread(put)

    async def drop(self) -> None:
        await asyncio.to_thread(self._client.drop_database, self._name)
        self._client.close()


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────────


class PostgresStore:
    """Profile PG, in a database of its own."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._server = server
        self._name = f"{name}_dashboard"
        self._ids = itertools.count(1)

    def url(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{self._name}"

    def new_id(self) -> str:
        return str(next(self._ids))

    async def _run(self, statement: str, *values: Any, database: str = "") -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._server.url(database=database or self._name))
        try:
            if not values:
                await connection.execute(statement)
                return []
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def fill(self, people: Sequence[str], now: datetime) -> None:
        await self._run(f"CREATE DATABASE {self._name}", database="postgres")
        await self._run(TABLES)
        due = (now.date() + timedelta(days=1)).isoformat()
        at, long_ago = now.isoformat(), (now - timedelta(days=90)).isoformat()
        users = [
            {"id": id_, "name": f"Person {n}", "email": f"p{n}@example.org", "timezone": "UTC",
             "locale": "en", "is_active": True, "last_login_at": at,
             "preferences": {"notifications": _NOTIFICATIONS}, "created_at": long_ago, "updated_at": at}
            for n, id_ in enumerate(people)
        ]  # fmt: skip
        goals = [
            {"id": id_, "user_id": id_, "title": "A goal", "category": "work", "status": "active",
             "priority": "high", "target_value": 10, "current_value": 3, "unit": "pages", "due_date": due,
             "created_at": at, "updated_at": at}
            for id_ in people
        ]  # fmt: skip
        await self.put_back({"users": users, "goals": goals})

    async def put_sessions(self, sessions: Sequence[Session]) -> None:
        await self.delete_sessions([one.id for one in sessions])
        rows = [
            {"id": one.id, "user_id": one.person, "kind": "focus", "status": "completed",
             "started_at": one.start.isoformat(), "planned_seconds": one.seconds,
             "ended_at": (one.start + timedelta(seconds=one.seconds)).isoformat(),
             "focus_seconds": one.seconds, "updated_at": one.written.isoformat()}
            for one in sessions
        ]  # fmt: skip
        await self.put_back({"timer_sessions": rows})

    async def delete_sessions(self, ids: Sequence[str]) -> None:
        await self._run("DELETE FROM timer_sessions WHERE id = ANY ($1::text[]::bigint[])", list(ids))

    async def close_goals(self, people: Sequence[str]) -> None:
        await self._run(
            "UPDATE goals SET status = 'completed', updated_at = now()"
            " WHERE user_id = ANY ($1::text[]::bigint[])",
            list(people),
        )

    async def take_out(self, share: float, *, dropped: bool) -> Rows:
        """Users and goals, of the same people; tables are not ``dropped`` here."""
        gone = {}
        for name in ("users", "goals"):
            most = f"SELECT round(count(*) * $1::float8) FROM {name}"
            rows = await self._run(
                f"DELETE FROM {name} WHERE id IN (SELECT id FROM {name} ORDER BY id LIMIT ({most}))"
                f" RETURNING to_jsonb({name})::text",
                share,
            )
            gone[name] = [json.loads(row[0]) for row in rows]
        return gone

    async def put_back(self, rows: Rows) -> None:
        for name, put in rows.items():
            await self._run(
                f"INSERT INTO {name} SELECT * FROM jsonb_populate_recordset(NULL::{name}, $1)",
                json.dumps(put),
            )

    async def drop(self) -> None:
        await self._run(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)", database="postgres")


def store_of(kind: str, mongo: MongoServer, postgres: PostgresServer, name: str) -> tuple[Store, int]:
    """The store of a dashboard of this kind, and the port of its server."""
    if kind == "MongoDB":
        return MongoStore(mongo, name), mongo.port
    return PostgresStore(postgres, name), postgres.port
