"""A dashboard of many people for benchmarks: the same users and sessions in PostgreSQL and in MongoDB."""

import asyncio
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import asyncpg
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from service.demo import sample

YEAR = 365
_BATCH = 20_000

_USERS = """
INSERT INTO users (id, name, email, timezone, is_active, preferences, created_at, updated_at)
SELECT 'u' || n, 'User ' || n, 'u' || n || '@example.org', ($2::text[])[1 + n % cardinality($2::text[])],
       true, '{}', $3::timestamptz - make_interval(days => 20 + n % 340),
       $3::timestamptz - make_interval(secs => 7 * n)
FROM generate_series(0, $1 - 1) AS n"""
_GOALS = """
INSERT INTO goals (id, user_id, title, status, target_value, current_value, unit, due_at, created_at,
                   updated_at)
SELECT 'g' || n, 'u' || n % $2, 'Goal ' || n, (ARRAY['active', 'completed', 'paused'])[1 + n % 3], 10, n % 10,
       'books', date_trunc('day', $3::timestamptz, 'UTC') + make_interval(days => n % 60 - 30),
       $3::timestamptz - make_interval(days => 60), $3::timestamptz - make_interval(secs => 5 * n)
FROM generate_series(0, $1 - 1) AS n"""
SESSIONS = """
INSERT INTO timer_sessions (id, user_id, kind, status, started_at, ended_at, planned_seconds, focus_seconds,
                            tags, updated_at)
SELECT $4 || lpad(n::text, 9, '0'), 'u' || (hashint8(n) & 2147483647) % $2,
       (ARRAY['focus', 'focus', 'focus', 'pomodoro', 'break'])[1 + n % 5],
       (ARRAY['completed', 'completed', 'completed', 'completed', 'cancelled'])[1 + n / 7 % 5],
       at, at + make_interval(secs => 600 + n % 2400), 1500, 600 + n % 2400, '{}', at + interval '1 hour'
FROM generate_series(0, $1 - 1) AS n
CROSS JOIN LATERAL (SELECT $3::timestamptz - interval '2 hours'
                        - make_interval(secs => (hashint8(7919::bigint * n) & 2147483647) % $5) AS at) AS t"""


def _zones() -> list[str]:
    return random.Random(1).sample(sorted(z for z in available_timezones() if "/" in z), 50)


async def fill_postgres(dsn: str, sessions: int, users: int, now: datetime, goals: int = 0) -> None:
    await sample.write(dsn, sample.people(1, now.date(), 1))
    connection = await asyncpg.connect(dsn)
    await connection.execute("TRUNCATE users, goals, timer_sessions")
    await connection.execute(_USERS, users, _zones(), now)
    await connection.execute(_GOALS, goals, users, now)
    await connection.execute(SESSIONS, sessions, users, now, "s", YEAR * 86_400)
    await connection.close()


async def fill_mongo_apart(url: str, name: str, sessions: int, users: int, goals: int = 0) -> None:
    """``fill_mongo`` in a process of its own: its memory is not the service's."""
    counts = [str(sessions), str(users), str(goals)]
    filler = [sys.executable, "-m", "benchmarks.dashboards", url, name, *counts]
    await asyncio.to_thread(subprocess.run, filler, check=True)


def fill_mongo(url: str, name: str, sessions: int, users: int, now: datetime, goals: int) -> None:
    """The same people, sessions and goals as documents of profile A."""
    dice, zones = random.Random(2), _zones()
    with MongoClient[dict[str, Any]](url) as client:
        database = client[name]
        people = (
            {
                "_id": _id("users", n),
                "name": f"User {n}",
                "email": f"u{n}@example.org",
                "timezone": zones[n % 50],
                "isActive": True,
                "createdAt": now - timedelta(days=20 + n % 340),
                "updatedAt": now - timedelta(seconds=7 * n),
            }
            for n in range(users)
        )
        _insert(database.users, people)
        _insert(database.goals, (_goal(n, users, now) for n in range(goals)))
        _insert(database.timersessions, (_document(dice, n, users, now) for n in range(sessions)))
        for collection in (database.users, database.goals, database.timersessions):
            collection.create_index("updatedAt")


def session_id(n: int) -> ObjectId:
    """The id of a session. Like those that MongoDB makes, ids rise with the time of insertion."""
    return _id("timersessions", n)


def _id(collection: str, n: int) -> ObjectId:
    return ObjectId(f"{len(collection):02x}{n:022x}")


def _document(dice: random.Random, n: int, users: int, now: datetime) -> dict[str, Any]:
    at = now - timedelta(seconds=7200 + dice.randrange(YEAR * 86_400))
    seconds = 600 + n % 2400
    return {
        "_id": session_id(n),
        "userId": _id("users", dice.randrange(users)),
        "type": ("focus", "pomodoro", "break")[n % 3],
        "status": "cancelled" if n % 5 == 4 else "completed",
        "duration": 1_500_000,
        "elapsedTime": 1000 * seconds,
        "createdAt": at,
        "startTime": at,
        "endTime": at + timedelta(seconds=seconds),
        "updatedAt": at + timedelta(hours=1),
    }


def _goal(n: int, users: int, now: datetime) -> dict[str, Any]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "_id": _id("goals", n),
        "userId": _id("users", n % users),
        "title": f"Goal {n}",
        "status": ("active", "completed", "paused")[n % 3],
        "targetValue": 10,
        "currentValue": n % 10,
        "unit": "books",
        "deadline": today + timedelta(days=n % 60 - 30),
        "createdAt": now - timedelta(days=60),
        "updatedAt": now - timedelta(seconds=5 * n),
    }


def _insert(collection: Any, documents: Any) -> None:
    batch: list[dict[str, Any]] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        try:
            collection.insert_many(batch, ordered=False)
        except BulkWriteError as error:
            raise RuntimeError(str(error.details)[:500]) from None


if __name__ == "__main__":
    _url, _name, *_counts = sys.argv[1:]
    _sessions, _users, _goals = map(int, _counts)
    fill_mongo(_url, _name, _sessions, _users, datetime.now(UTC), _goals)
