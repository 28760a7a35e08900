"""A year of sixty people: their sessions and goals in the real replica, aggregated by the real jobs."""

import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg

from service.dashboard import replica
from service.dashboard.model import TimerSession
from service.demo import sample
from service.engine.database import open_pool
from tests.analytics.judged import SYNCED
from tests.conftest import with_database
from tests.given import World, goal, user

TODAY = date(2026, 3, 22)
NOW = "2026-03-22T09:00:00Z"
"""A Sunday: the 21st and its week are over, but not yet everywhere."""
PEOPLE = 60
DAYS = 365
COLLAPSE = sample.quiet_day(TODAY)
"""Nearly nobody came."""
JOBS = ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")
_ZONES = ("Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata")


async def year(pool: asyncpg.Pool, people: int = PEOPLE, days: int = DAYS) -> None:
    """Fill an empty database; the clock stops at ``NOW``."""
    world = World(pool)
    await world.at(NOW)
    dice = random.Random(5)
    # Half come in the first three weeks; the others in waves, every four weeks.
    joined = sorted(
        dice.choice((dice.randrange(21), dice.randrange(days) // 28 * 28 + dice.randrange(3)))
        for _ in range(people)
    )
    users = [
        user(f"u{n:03d}", _ZONES[n % 3], created_at=_begun(days - gone) + timedelta(hours=9))
        for n, gone in enumerate(joined)
    ]
    goals = [
        goal(f"g{one.id}-{at}", one.id, **life)
        for one, gone in zip(users, joined, strict=True)
        for at in range(gone, days)
        if dice.random() < 0.04
        for life in [_life(dice, days - at)]
    ]
    sessions = [
        session(row)
        for one in users
        for row in sample.history(
            7, {"id": one.id, "created_at": one.created_at, "timezone": one.timezone}, TODAY, days
        )
    ]
    async with pool.acquire() as connection, connection.transaction():
        await replica.upsert_users(connection, users)
        await replica.upsert_goals(connection, goals)
        for n in range(0, len(sessions), 2000):
            await replica.upsert_timer_sessions(connection, sessions[n : n + 2000])
    await pool.execute(SYNCED, datetime.fromisoformat(NOW))
    runner = await world.runner()
    for job in JOBS:
        assert (await runner.run_manual(f"analytics.{job}")).state == "succeeded"


def _begun(days: int) -> datetime:
    return datetime.combine(TODAY - timedelta(days=days), time(), UTC)


def _life(dice: random.Random, days: int) -> dict[str, Any]:
    """A goal made so many days ago: reached since, or open."""
    made = _begun(days) + timedelta(hours=dice.randrange(6, 20))
    reached = made + timedelta(days=dice.randrange(3, 40))
    done = dice.random() < 0.7 and reached.date() < TODAY
    return {"created_at": made, "completed_at": reached if done else None, "open": not done}


def session(row: dict[str, Any]) -> TimerSession:
    """A row of the sample dashboard as our own."""
    values = row | {"tags": tuple(row["tags"]), "focus": row["kind"] != "break"}
    return TimerSession(**values)


async def make(server: str, template: str) -> str:
    """Name of a new database of ``server`` that has lived the year."""
    name = f"year_{uuid.uuid4().hex[:8]}"
    await copied(server, name, template)
    pool = await open_pool(with_database(server, name))
    await year(pool)
    await pool.close()
    return name


async def copied(server: str, name: str, origin: str) -> None:
    """A copy of a database of ``server``."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {origin} STRATEGY file_copy")
    finally:
        await connection.close()
