"""Series under late, edited and deleted data: points and anomalies are those of a fresh run."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.analytics import rollups
from service.analytics.anomaly import series
from service.analytics.anomaly.series import ACTIVITY, DAYS, SeriesFamily
from service.dashboard import replica
from service.dashboard.model import TimerSession
from tests.analytics.given import Lab, at, people, session
from tests.analytics.judged import DAY, HOUR
from tests.given import World

_BEGIN = at("2026-03-02 00:00")
"""A Monday."""


async def judged(pool: asyncpg.Pool, until: datetime, family: SeriesFamily = ACTIVITY) -> series.JudgedSeries:
    async with pool.acquire() as connection, connection.transaction():
        return await series.detect(connection, family, until)


async def stored(pool: asyncpg.Pool) -> tuple[list[Any], list[Any], list[Any]]:
    """Points, anomalies that hold, and states, without the moments at which they were written."""
    return (
        [tuple(row) for row in await pool.fetch("SELECT * FROM service.series_point ORDER BY series, at")],
        [
            tuple(row)
            for row in await pool.fetch(
                "SELECT series, since, until, severity, direction, value, explanation, calm, detail,"
                " closed_at IS NULL FROM service.anomaly WHERE withdrawn_at IS NULL ORDER BY series, since"
            )
        ],
        [
            tuple(row)
            for row in await pool.fetch("SELECT name, state, through FROM service.series ORDER BY 1")
        ],
    )


async def from_the_beginning(pool: asyncpg.Pool, until: datetime, family: SeriesFamily = ACTIVITY) -> None:
    """Forget all but where each series began, and judge it again."""
    await pool.execute("""
        DELETE FROM service.anomaly;
        DELETE FROM service.series_snapshot;
        DELETE FROM service.series_point AS p
        WHERE at > (SELECT min(at) FROM service.series_point AS q WHERE q.series = p.series);
        UPDATE service.series SET state = state || '{"version": 0}'
    """)
    await judged(pool, until, family)


async def begun(pool: asyncpg.Pool, first: datetime) -> None:
    """The series of hours begin here, not 28 days back."""
    names = [ACTIVITY.name(column) for column in ACTIVITY.measures]
    await pool.execute(
        """INSERT INTO service.series SELECT n, '{"version": 0}', $2 FROM unnest($1::text[]) AS n""",
        names,
        first,
    )
    await pool.execute(
        "INSERT INTO service.series_point (series, at, value) SELECT n, $2, 0 FROM unnest($1::text[]) AS n",
        names,
        first,
    )


async def points(pool: asyncpg.Pool, name: str, since: datetime) -> list[float]:
    rows = await pool.fetch(
        "SELECT value FROM service.series_point WHERE series = $1 AND at >= $2 ORDER BY at", name, since
    )
    return [round(row["value"], 4) for row in rows]


def sessions_by_day(dice: random.Random, first: datetime, days: int) -> list[TimerSession]:
    """About six an hour by day."""
    found = []
    for n in range(days * 40):
        start = first + timedelta(days=n // 40, hours=8, seconds=dice.randrange(10 * 3600))
        found.append(
            session(f"s{n:05}", f"u{dice.randrange(9)}", start, minutes=dice.choice((5, 25, 50, 140)))
        )
    return found


# ── Focus ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_focus_lies_in_the_hours_in_which_it_happened(lab: Lab) -> None:
    day = _BEGIN
    await lab.put(*people("ann"))
    await lab.put(
        session("long", "ann", day + timedelta(hours=9, minutes=30), minutes=120, focus_seconds=6000),
        session("given-up", "ann", day + timedelta(hours=14, minutes=50), minutes=60, status="abandoned",
                focus_seconds=1200),
        session("no-length", "ann", day + timedelta(hours=20, minutes=5), minutes=0, focus_seconds=600),
        session("break", "ann", day + timedelta(hours=21), focus=False),
        session("over-midnight", "ann", day + timedelta(hours=23, minutes=30), minutes=60),
    )  # fmt: skip

    await judged(lab.pool, day + timedelta(hours=26))

    minutes = await points(lab.pool, "hour.focusMinutes", day)
    at_hour = {n: value for n, value in enumerate(minutes) if value}
    assert at_hour == {9: 25, 10: 50, 11: 25, 14: 10, 15: 10, 20: 10, 23: 30, 24: 30}


async def test_an_hour_whose_sessions_run_on_is_only_shown(lab: Lab) -> None:
    until = _BEGIN + timedelta(hours=12)
    running = session(
        "s", "ann", until - timedelta(minutes=70), status="running", ended_at=None, focus_seconds=0
    )
    await lab.put(*people("ann"), running, session("t", "ann", until - timedelta(hours=5)))
    await judged(lab.pool, until)
    shown = await lab.pool.fetch(
        "SELECT at, value FROM service.series_point WHERE provisional AND series LIKE 'hour.%' ORDER BY at"
    )
    through = await lab.pool.fetchval("SELECT through FROM service.series WHERE name = 'hour.focusMinutes'")
    assert [tuple(row) for row in shown] == [(until - 2 * HOUR, 0), (until - HOUR, 0)]
    assert through == until - 3 * HOUR

    await lab.put(
        replace(running, status="completed", ended_at=until + timedelta(minutes=20), focus_seconds=5400)
    )
    await judged(lab.pool, until + HOUR)

    assert await points(lab.pool, "hour.focusMinutes", until - 2 * HOUR) == [10, 60, 20]
    assert not await lab.pool.fetchval("SELECT bool_or(provisional) FROM service.series_point")


async def test_a_session_that_never_ends_is_waited_for_four_hours(lab: Lab) -> None:
    until = _BEGIN + timedelta(hours=12)
    await lab.put(*people("ann"), session("s", "ann", until - 4 * HOUR, status="running", ended_at=None))
    await judged(lab.pool, until)
    assert await lab.pool.fetchval("SELECT count(*) FROM service.series_point WHERE provisional") == 4
    await judged(lab.pool, until + HOUR)
    assert await lab.pool.fetchval("SELECT count(*) FROM service.series_point WHERE provisional") == 0


# ── Judged again ────────────────────────────────────────────────────────────────────────────────────────────


async def test_whatever_the_order_of_data_points_are_those_of_a_fresh_run(lab: Lab) -> None:
    dice = random.Random(1)
    first = _BEGIN - 4 * DAY
    everything = sessions_by_day(dice, first, 7)
    await begun(lab.pool, first)
    late = [one for one in everything if dice.random() < 0.1]
    in_time = [one for one in everything if one not in late]
    await lab.put(*people(*(f"u{n}" for n in range(9))), *(one for one in in_time if one.started_at < _BEGIN))
    now = _BEGIN
    await judged(lab.pool, now)

    async def arrive() -> None:
        known = [one for one in late if one.started_at < now and one.id not in lab.sessions]
        await lab.put(*dice.sample(known, min(4, len(known))))

    async def edit() -> None:
        one = dice.choice([one for one in lab.sessions.values() if one.started_at > now - 3 * DAY])
        await lab.put(replace(one, focus_seconds=one.focus_seconds // 2, started_at=one.started_at - HOUR))

    async def remove() -> None:
        recent = [one.id for one in lab.sessions.values() if one.started_at > now - 3 * DAY]
        await lab.remove("timer_sessions", dice.choice(recent))

    for turn in range(10):
        begin, now = now, now + dice.choice((1, 2, 7)) * HOUR
        await lab.put(*(one for one in in_time if begin <= one.started_at < now))
        await dice.choice((arrive, edit, remove))()
        if turn % 4:
            await judged(lab.pool, now)
    for change in (arrive, edit, remove):
        await change()
        await judged(lab.pool, now)
        step_by_step = await stored(lab.pool)
        await from_the_beginning(lab.pool, now)
        for before, after in zip(step_by_step, await stored(lab.pool), strict=True):
            assert before == after


async def outage(lab: Lab) -> tuple[datetime, Sequence[TimerSession]]:
    """A week of quiet use, then two hours of which nothing is known; their end, and what there was."""
    hours = [
        session(f"h{n}-{k}", f"u{k % 9}", _BEGIN + n * HOUR + timedelta(minutes=k), minutes=4)
        for n in range(24 * 7 + 14)
        for k in range(12 + n % 3)
    ]
    until = _BEGIN + (24 * 7 + 14) * HOUR
    lost = [one for one in hours if one.started_at >= until - 2 * HOUR]
    await lab.put(*people(*(f"u{n}" for n in range(9))), *hours[: len(hours) - len(lost)])
    return until, lost


async def anomalies(pool: asyncpg.Pool, name: str) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        "SELECT * FROM service.anomaly WHERE series = $1 AND since > $2 ORDER BY since",
        name,
        _BEGIN + 6 * DAY,
    )
    return [dict(row) for row in rows]


async def test_an_anomaly_that_does_not_hold_any_more_is_withdrawn(lab: Lab) -> None:
    until, lost = await outage(lab)
    await judged(lab.pool, until)
    (opened,) = await anomalies(lab.pool, "hour.sessions")
    await lab.put(*lost)
    await judged(lab.pool, until)
    (withdrawn,) = await anomalies(lab.pool, "hour.sessions")

    assert opened["closed_at"] is None
    assert withdrawn["id"] == opened["id"]
    assert withdrawn["withdrawn_at"]
    assert withdrawn["closed_at"]
    assert withdrawn["explanation"] == (
        opened["explanation"] + "; withdrawn: it does not hold for the revised figures"
    )

    await lab.remove("timer_sessions", *(one.id for one in lost))
    await judged(lab.pool, until)
    (again,) = await anomalies(lab.pool, "hour.sessions")
    assert (again["id"], again["withdrawn_at"], again["closed_at"]) == (opened["id"], None, None)
    assert again["explanation"] == opened["explanation"]


async def test_a_load_of_everything_judges_everything_again(lab: Lab) -> None:
    until, lost = await outage(lab)
    await judged(lab.pool, until)
    async with lab.pool.acquire() as connection, connection.transaction():
        await replica.upsert_timer_sessions(connection, lost, mark=False)
    await judged(lab.pool, until)
    assert [one["withdrawn_at"] for one in await anomalies(lab.pool, "hour.sessions")] == [None]
    async with lab.pool.acquire() as connection, connection.transaction():
        await replica.mark_everything_stale(connection, "timer_sessions")
    await judged(lab.pool, until)
    (withdrawn,) = await anomalies(lab.pool, "hour.sessions")
    assert withdrawn["withdrawn_at"]


async def test_states_are_kept_for_a_fortnight_then_by_the_month(lab: Lab) -> None:
    for days in (1, 40, 47):
        await judged(lab.pool, _BEGIN + days * DAY)
    rows = await lab.pool.fetch(
        "SELECT through FROM service.series_snapshot WHERE series = 'hour.sessions' ORDER BY 1"
    )
    kept = [row["through"].date() for row in rows]
    last = (_BEGIN + 46 * DAY).date()
    months = [day for day in kept if day <= last - 14 * DAY]
    assert [day.isoformat() for day in months] == ["2026-03-01", "2026-04-01"]
    assert kept[len(months) :] == [last - n * DAY for n in reversed(range(14))]


async def test_a_revised_day_is_judged_again_and_so_are_those_after_it(world: World) -> None:
    dice = random.Random(3)

    async def store(days: dict[int, float], *, final: bool = True) -> None:
        figures = {
            _BEGIN.replace(tzinfo=None) + n * DAY: dict.fromkeys(
                ("totalSessions", "totalFocusTime", "activeUsers", "newUsers", "goalsCompleted"), value
            )
            for n, value in days.items()
        }
        async with world.pool.acquire() as connection:
            await rollups.store(connection, "daily", figures)
            await connection.execute("UPDATE service.rollup SET final = $1", final)

    await store({n: float(dice.randrange(280, 320)) for n in range(60)})
    await store({59: 20.0}, final=False)
    until = _BEGIN + 60 * DAY
    await judged(world.pool, until, DAYS)
    marked = "SELECT count(*) FROM service.series_point WHERE provisional"
    assert await world.pool.fetchval(marked) == 5 * 60
    assert [one["closed_at"] for one in await anomalies(world.pool, "day.sessions")] == [None]
    assert await judged(world.pool, until, DAYS) == series.JudgedSeries(0, 0)

    await store({59: 301.0, 40: 250.0})
    await judged(world.pool, until, DAYS)

    (withdrawn,) = await anomalies(world.pool, "day.sessions")
    assert withdrawn["withdrawn_at"]
    assert await world.pool.fetchval(marked) == 0
    await store({45: 310.0})
    assert (await judged(world.pool, until, DAYS)).points == 5 * 60
    revised = await stored(world.pool)
    await from_the_beginning(world.pool, until, DAYS)
    assert await stored(world.pool) == revised
