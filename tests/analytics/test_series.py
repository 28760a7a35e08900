"""The detector over stored series: ranges for a chart, one open anomaly per series, closed when over."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from service.analytics import rollups
from service.analytics.anomaly import series
from service.analytics.anomaly.series import ACTIVITY, DAYS
from tests.analytics.judged import SYNCED
from tests.given import World

FIRST = datetime(2026, 1, 5)
DAY = timedelta(days=1)


async def days_of(world: World, values: list[float]) -> None:
    """So many service days, from Monday the 5th of January on, with these sessions."""
    figures = {
        FIRST + n * DAY: {"totalSessions": value, "totalFocusTime": 25 * value, "activeUsers": value / 2,
                          "newUsers": 3, "goalsCompleted": 5}
        for n, value in enumerate(values)
    }  # fmt: skip
    async with world.pool.acquire() as connection:
        await rollups.store(connection, "daily", figures)


async def watched(world: World, days: int) -> series.JudgedSeries:
    until = (FIRST + days * DAY).replace(tzinfo=UTC)
    family = replace(DAYS, measures={"sessions": DAYS.measures["sessions"]})
    async with world.pool.acquire() as connection, connection.transaction():
        return await series.detect(connection, family, until)


def usual(days: int) -> list[float]:
    dice = random.Random(7)
    return [round((300 if n % 7 < 5 else 120) * dice.uniform(0.93, 1.07)) for n in range(days)]


async def anomalies(world: World) -> list[dict[str, Any]]:
    return [dict(row) for row in await world.pool.fetch("SELECT * FROM service.anomaly ORDER BY id")]


async def test_a_collapse_is_opened_explained_and_closed(world: World) -> None:
    values = usual(60)
    values[56] = 20.0
    await days_of(world, values)

    before = await watched(world, 56)
    assert await anomalies(world) == []
    await watched(world, 57)
    (opened,) = await anomalies(world)
    await watched(world, 60)
    (closed,) = await anomalies(world)

    assert before == series.JudgedSeries(56, 0)
    assert (opened["series"], opened["direction"], opened["value"]) == ("day.sessions", "low", 20)
    assert (opened["closed_at"], opened["low"] > 100) == (None, True)
    assert opened["explanation"].startswith("sessions on Monday, 2026-03-02: 20, expected ")
    assert closed["id"] == opened["id"]
    assert closed["closed_at"] is not None


async def test_quiet_days_open_nothing_and_every_point_has_its_range(world: World) -> None:
    await days_of(world, usual(60))

    await watched(world, 60)

    assert await anomalies(world) == []
    rows = await world.pool.fetch("SELECT * FROM service.series_point ORDER BY at")
    assert len(rows) == 60
    assert [row["expected"] is None for row in rows[:14]] == [True] * 14
    assert all(row["low"] < row["expected"] < row["high"] for row in rows[14:])


async def test_day_by_day_is_the_same_as_all_at_once(world: World) -> None:
    values = usual(50)
    values[40] = 900.0
    await days_of(world, values)

    await watched(world, 50)
    at_once = await world.pool.fetch("SELECT * FROM service.series_point ORDER BY at")
    found = [{**row, "id": 0} for row in await anomalies(world)]
    await world.pool.execute("TRUNCATE service.series, service.series_point, service.anomaly")
    for days in range(1, 51):
        await watched(world, days)

    assert await world.pool.fetch("SELECT * FROM service.series_point ORDER BY at") == at_once
    again = [{**row, "id": 0} for row in await anomalies(world)]
    moving = {"opened_at", "closed_at"}
    assert [{k: v for k, v in row.items() if k not in moving} for row in again] == [
        {k: v for k, v in row.items() if k not in moving} for row in found
    ]


async def test_a_second_look_judges_nothing_again(world: World) -> None:
    await days_of(world, usual(30))
    await watched(world, 30)

    assert await watched(world, 30) == series.JudgedSeries(0, 0)
    assert await watched(world, 20) == series.JudgedSeries(0, 0)


async def test_a_state_of_another_version_is_built_again(world: World) -> None:
    await days_of(world, usual(30))
    await watched(world, 30)
    await world.pool.execute("""UPDATE service.series SET state = state || '{"version": 0}'""")

    assert (await watched(world, 30)).points == 30


async def test_hours_without_sessions_are_zero(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    until = datetime(2026, 3, 10, 8, tzinfo=UTC)
    async with world.pool.acquire() as connection, connection.transaction():
        found = await series.detect(connection, ACTIVITY, until)

    assert found.points == 3 * 28 * 24
    assert await world.pool.fetchval("SELECT sum(value) FROM service.series_point") == 0


async def test_both_jobs_watch(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.pool.execute(SYNCED, datetime(2026, 3, 10, 8, tzinfo=UTC))
    runner = await world.runner()
    await runner.run_manual("analytics.dailyAnalytics")
    await runner.run_manual("analytics.performanceMetrics")

    names = {row["name"] for row in await world.pool.fetch("SELECT name FROM service.series")}
    assert {"day.sessions", "hour.sessions", "hour.mailsSent"} <= names
