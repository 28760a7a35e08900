"""Profiles and insights from real rows: with their evidence, null without support, nothing from noise."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from service.analytics import rollups, user_profiles
from service.dashboard import replica
from service.dashboard.model import TimerSession
from service.engine.run import RunRequest
from tests.given import World, user

AS_OF = date(2026, 3, 31)


def sessions(owner: str, *, early: float, late: float, days: int = 80, seed: int = 1) -> list[TimerSession]:
    """Two focus sessions a day in Kathmandu, at 9:15 and 15:15; completed with these probabilities."""
    dice = random.Random(seed)
    made = []
    for n in range(days):
        day = AS_OF - timedelta(days=n)
        for hour, chance in ((9, early), (15, late)):
            start = datetime(day.year, day.month, day.day, hour, 15, tzinfo=UTC) - timedelta(
                hours=5, minutes=45
            )
            done = dice.random() < chance
            made.append(
                TimerSession(
                    id=f"{owner}-{n}-{hour}", user_id=owner, goal_id=None, kind="focus", focus=True,
                    status="completed" if done else "cancelled", started_at=start,
                    ended_at=start + timedelta(minutes=25), paused_at=None, planned_seconds=1500,
                    focus_seconds=1500,
                )
            )  # fmt: skip
    return made


async def live(world: World, *people: list[TimerSession]) -> None:
    """Let these sessions be in the replica, and every day rebuilt."""
    await world.at("2026-04-01T06:00:00Z")
    owners = sorted({one.user_id for made in people for one in made})
    await world.live(*(user(owner, "Asia/Kathmandu") for owner in owners))
    async with world.pool.acquire() as connection:
        for made in people:
            await replica.upsert_timer_sessions(connection, made)
        while (await rollups.rebuild_stale_days(connection)).days:
            continue


async def profiles(world: World) -> dict[str, dict[str, Any]]:
    await (await world.runner()).run_manual("analytics.userBehavior")
    rows = await world.pool.fetch("SELECT user_id, figures FROM service.user_profile")
    return {row["user_id"]: row["figures"] for row in rows}


async def test_a_profile_says_when_and_how_somebody_works(world: World) -> None:
    await live(world, sessions("ann", early=1.0, late=0.4))

    found = (await profiles(world))["ann"]

    assert found["peakHours"] == [9, 15]
    assert found["chronotype"] == "morning lark"
    assert found["preferredLength"] == {"minutes": 25, "share": 1.0}
    assert found["consistency"]["activeShare"] == round(27 / 28, 4)  # the first of April has just begun
    assert found["churnRisk"] == {"probability": None, "reason": "insufficient"}
    (noon, *_) = [one for one in found["insights"] if one["rule"] == "noon"]
    done = sum(
        one.status == "completed" for one in sessions("ann", early=1.0, late=0.4) if one.id.endswith("-15")
    )
    assert noon["evidence"] == f"80 of 80 against {done} of 80"
    assert noon["text"].startswith(
        "You finish sessions before noon more often than after noon: 100 % against "
    )


async def test_noise_tells_nothing_and_little_supports_nothing(world: World) -> None:
    await live(
        world,
        *(sessions(f"u{n:02}", early=0.7, late=0.7, seed=n) for n in range(20)),
        sessions("new", early=1.0, late=0.0, days=2),
    )

    found = await profiles(world)

    assert [one["insights"] for one in found.values()] == [[]] * 20
    assert "new" not in found  # computed when it is asked for
    asked = await user_profiles.user_profile(world.pool, "new")
    assert asked
    assert asked["figures"]["insights"] == asked["figures"]["peakHours"] == []
    assert asked["figures"]["chronotype"] is None
    assert asked["figures"]["preferredLength"] is None
    async with world.pool.acquire() as connection:
        await user_profiles.make_profiles(connection, ["new"], asked["asOf"])
    stored = await user_profiles.user_profile(world.pool, "new")
    assert stored
    assert stored["figures"] == asked["figures"]


async def test_profiles_are_renewed_for_the_active_and_otherwise_left(world: World) -> None:
    await live(world, sessions("ann", early=1.0, late=0.4), sessions("bob", early=1.0, late=1.0))
    await profiles(world)
    before = await world.pool.fetch("SELECT * FROM service.user_profile ORDER BY user_id")
    await profiles(world)
    assert await world.pool.fetch("SELECT * FROM service.user_profile ORDER BY user_id") == before

    await world.pool.execute("DELETE FROM service.timer_sessions WHERE id LIKE 'bob-%-15'")
    after = await profiles(world)

    assert after["bob"]["peakHours"] == [9]
    assert after["ann"]["peakHours"] == [9, 15]


async def test_everybodys_insights_of_a_month_are_stored_with_their_evidence(world: World) -> None:
    await live(world, *(sessions(f"u{n}", early=0.9, late=0.5, seed=n) for n in range(10)))
    runner = await world.runner()
    for name in ("dailyAnalytics", "monthlyInsights"):
        await runner.run_manual(f"analytics.{name}")

    found = await world.pool.fetchval(
        "SELECT figures FROM service.rollup WHERE statistic = 'insights' AND period = '2026-03-01'"
    )
    (noon,) = [one for one in found["insights"] if one["rule"] == "noon"]
    assert noon["text"].startswith("People finish sessions before noon more often than after noon: ")
    model = await world.pool.fetchval("SELECT figures FROM service.rollup WHERE statistic = 'churnModel'")
    assert model["reason"] == "insufficient"


async def test_the_churn_model_is_fitted_on_who_left_and_who_stayed(world: World) -> None:
    stayed = [sessions(f"s{n:02}", early=1.0, late=1.0, days=75, seed=n) for n in range(25)]
    left = [
        [one for one in sessions(f"l{n:02}", early=1.0, late=1.0, days=75) if one.started_at.month < 3][
            2 * n :
        ]
        for n in range(25)
    ]
    await live(world, *stayed, *left)
    async with world.pool.acquire() as connection:
        model = await user_profiles.fit_churn(connection, AS_OF)
        await rollups.store(connection, "churnModel", {datetime(2026, 3, 1): model})

    found = await profiles(world)

    assert (model["rows"], model["left"]) == (50, 25)
    assert found["s00"]["churnRisk"]["probability"] < 0.5


async def test_a_profile_rests_on_ninety_days(world: World) -> None:
    usual = sessions("ann", early=1.0, late=1.0)
    evening, forgotten = (
        replace(
            usual[0],
            id=f"ann-{days}",
            started_at=datetime(2026, 4, 1, hour, 15, tzinfo=UTC) - timedelta(days=days, hours=5, minutes=45),
            ended_at=None,
            focus_seconds=seconds,
        )
        for days, hour, seconds in ((85, 21, 2400), (95, 22, 3000))
    )
    await live(world, [*usual, evening, forgotten])

    assert (await profiles(world))["ann"]["peakHours"] == [9, 15, 21]


async def test_a_run_for_the_past_leaves_newer_profiles_alone(world: World) -> None:
    await live(world, sessions("ann", early=1.0, late=0.4))
    await profiles(world)
    before = await world.pool.fetch("SELECT * FROM service.user_profile")

    past = datetime(2026, 3, 20, 6, tzinfo=UTC)
    await (await world.runner()).run_manual("analytics.userBehavior", RunRequest(as_of=past))

    assert await world.pool.fetch("SELECT * FROM service.user_profile") == before


async def test_cells_hold_every_ended_session_by_local_time(world: World) -> None:
    made = [
        replace(one, goal_id="g" if n % 3 else None, planned_seconds=1500 if n % 2 else 3060)
        for n, one in enumerate(sessions("ann", early=0.7, late=0.5))
    ]
    await live(world, made)

    async with world.pool.acquire() as connection:
        (person,) = await connection.fetch(user_profiles._SQL["profile_facts"], ["ann"], AS_OF)
        month = await connection.fetchrow(user_profiles._SQL["month_counts"], date(2026, 3, 1))

    alike: dict[tuple[int, ...], list[int]] = {}
    for n, one in enumerate(made):
        day = AS_OF - timedelta(days=n // 2)
        key = (day.toordinal(), int(one.id.endswith("-9")), int(n % 3 > 0), 25 if n % 2 else 50)
        tally = alike.setdefault(key, [0, 0])
        tally[0] += one.status == "completed"
        tally[1] += 1
    expected = sorted([*key, *tally] for key, tally in alike.items())
    assert [cell[1:] for cell in person["cells"]] == expected
    assert month is not None
    assert [cell[1:] for cell in month["cells"]] == [
        cell for cell in expected if cell[0] >= date(2026, 3, 1).toordinal()
    ]
    assert month["people"] == 1
    assert len(month["days"]) == len({one.started_at.date() for one in made})
