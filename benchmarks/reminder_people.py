"""People with one goal each, many of whom get a mail of goalDeadlines: in PostgreSQL, and in MongoDB.

Person and goal have the same number everywhere. Every fifth goal is due tomorrow; where there are few people
every goal is. ``python -m benchmarks.reminder_people URL PEOPLE`` fills a MongoDB: its memory is its own.
"""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from bson import ObjectId
from pymongo import MongoClient

from service.demo import sample

ZONES = ("Europe/London", "Europe/Berlin", "Europe/Istanbul", "Asia/Dubai", "Asia/Kolkata", "Asia/Tokyo")
"""East of Greenwich: what is due tomorrow by UTC is due tomorrow or today for all of them, at any hour."""
DOMAINS = 20
_FEW = 20_000
_BATCH = 20_000

_USERS = """
INSERT INTO users (id, name, email, timezone, is_active, preferences, created_at, updated_at)
SELECT 'u' || lpad(n::text, 7, '0'), 'Person ' || n, 'p' || n || '@d' || n % $3 || '.example.org',
       ($2::text[])[1 + n % cardinality($2::text[])], true, '{"notifications": {"email": true}}',
       $4::timestamptz, $4::timestamptz + n * interval '1 second'
FROM generate_series(0, $1::int - 1) AS n"""
_GOALS = """
INSERT INTO goals (id, user_id, title, status, target_value, current_value, unit, due_at, created_at,
                   updated_at)
SELECT 'g' || lpad(n::text, 7, '0'), 'u' || lpad(n::text, 7, '0'), 'Goal ' || n, 'active', 10, 3, 'books',
       $3::timestamptz + CASE WHEN n % $2 = 0 THEN 1 ELSE 40 + n % 100 END * interval '1 day',
       $4::timestamptz, $4::timestamptz + n * interval '1 second'
FROM generate_series(0, $1::int - 1) AS n"""


def due_every(people: int) -> int:
    """The goal of every so manieth person is due."""
    return 1 if people <= _FEW else 5


def _days(now: datetime) -> tuple[datetime, datetime]:
    """Today's midnight, and when everything was written."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today, today - timedelta(days=20)


async def fill_postgres(dsn: str, people: int, now: datetime, every: int) -> None:
    """Replace what is in a dashboard's database; the goal of ``every`` so manieth person is due."""
    today, written = _days(now)
    await sample.write(dsn, sample.people(1, now.date(), 1))
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("TRUNCATE users, goals, timer_sessions")
        await connection.execute(_USERS, people, list(ZONES), DOMAINS, written)
        await connection.execute(_GOALS, people, every, today, written)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def fill_mongo(url: str, people: int, now: datetime, every: int) -> None:
    """The same people and goals as documents of profile A, in the database that the URL names."""
    today, written = _days(now)
    with MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        _insert(database.users, (_user(n, written) for n in range(people)))
        _insert(database.goals, (_goal(n, every, today, written) for n in range(people)))
        for collection in (database.users, database.goals, database.timersessions):
            collection.create_index("updatedAt")
        database.goals.create_index("userId")


def _user(n: int, written: datetime) -> dict[str, Any]:
    return {
        "_id": _id(1, n),
        "name": f"Person {n}",
        "email": f"p{n}@d{n % DOMAINS}.example.org",
        "timezone": ZONES[n % len(ZONES)],
        "isActive": True,
        "preferences": {"notifications": {"email": True}},
        "createdAt": written,
        "updatedAt": written + timedelta(seconds=n),
    }


def _goal(n: int, every: int, today: datetime, written: datetime) -> dict[str, Any]:
    return {
        "_id": _id(2, n),
        "userId": _id(1, n),
        "title": f"Goal {n}",
        "status": "active",
        "targetValue": 10,
        "currentValue": 3,
        "unit": "books",
        "deadline": today + timedelta(days=1 if n % every == 0 else 40 + n % 100),
        "createdAt": written,
        "updatedAt": written + timedelta(seconds=n),
    }


def _id(kind: int, n: int) -> ObjectId:
    return ObjectId(f"{kind:02x}{n:022x}")


def _insert(collection: Any, documents: Iterator[dict[str, Any]]) -> None:
    while batch := list(islice(documents, _BATCH)):
        collection.insert_many(batch, ordered=False)


def write_recipients(file: Path, people: int, most: int) -> int:
    """The people who get a mail, a line of JSON each; returns how many, ``most`` at the most."""
    numbers = range(0, people, due_every(people))[:most]
    with file.open("w") as lines:
        for n in numbers:
            words = {"name": f"Person {n}", "goal": f"Goal {n}", "token": f"{n:032x}"}
            lines.write(json.dumps({"email": f"p{n}@d{n % DOMAINS}.example.org", **words}) + "\n")
    return len(numbers)


if __name__ == "__main__":
    fill_mongo(sys.argv[1], int(sys.argv[2]), datetime.now(UTC), due_every(int(sys.argv[2])))
