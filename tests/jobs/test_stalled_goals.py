"""acme.stalledGoals, a reminder of a package outside the service, on the real parts of the service."""

from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import asyncpg
import pytest

from service.dashboard import replica
from service.dashboard.model import Preferences, TimerSession
from tests.acme import JOBS, STALLED
from tests.acme_jobs.stalled_goals import JOB, KIND
from tests.given import Scripted, World, goal, user

ELEVEN = "2026-03-20T10:00:00Z"
"""Eleven o'clock in Berlin."""


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool, dict(JOBS))


def _made(days_ago: int) -> datetime:
    return datetime(2026, 3, 20, 10, tzinfo=UTC) - timedelta(days=days_ago)


async def _worked_on(world: World, goal_id: str, days_ago: int) -> None:
    at = _made(days_ago)
    done = TimerSession(
        id=f"{goal_id}-{days_ago}", user_id="ann", goal_id=goal_id, kind="focus", focus=True,
        status="completed", started_at=at, ended_at=at + timedelta(minutes=25), paused_at=None,
        planned_seconds=1500, focus_seconds=1500,
    )  # fmt: skip
    async with world.pool.acquire() as connection:
        await replica.upsert_timer_sessions(connection, [done], mark=False)


async def _run(world: World, at: str = ELEVEN) -> dict[str, int]:
    await world.at(at)
    return dict((await (await world.runner()).run_manual(STALLED)).counts)


@pytest.mark.parametrize(("days", "counts"), [(13, {"not_due": 1}), (14, {"planned": 1, "in_app": 1})])
async def test_a_goal_is_at_rest_after_fourteen_days_without_a_session(
    world: World, days: int, counts: dict[str, int]
) -> None:
    await world.live(user(), goal("old", created_at=_made(90)))
    await _worked_on(world, "old", days)

    assert await _run(world) == counts


async def test_it_is_said_once_and_again_after_a_session(world: World) -> None:
    await world.live(user(), goal("g1", created_at=_made(20)))

    assert await _run(world) == {"planned": 1, "in_app": 1}
    assert await _run(world, "2026-03-21T10:00:00Z") == {"already_sent": 1}
    await _worked_on(world, "g1", 0)
    assert await _run(world, "2026-03-30T09:00:00Z") == {"not_due": 1}
    assert await _run(world, "2026-04-03T09:00:00Z") == {"planned": 1, "in_app": 1}


async def test_what_arrives_speaks_the_recipients_language_and_names_the_goal(world: World) -> None:
    await world.live(
        user(locale="de"), goal("g1", title="Zehn Bücher lesen", created_at=_made(20)),
        user("ben"), goal("g2", "ben", title="Read ten books", created_at=_made(20)),
    )  # fmt: skip
    transport = Scripted()

    await _run(world)
    await world.delivery(transport).run_once()

    mails = {
        mail["To"]: mail["Subject"]
        for envelope in transport.received
        if (mail := message_from_bytes(envelope.content, policy=policy.default))
    }
    assert mails == {
        "Ann <ann@example.org>": "Ruht seit zwei Wochen: Zehn Bücher lesen",
        "Ben <ben@example.org>": "At rest for two weeks: Read ten books",
    }
    notes = await world.pool.fetch(
        "SELECT user_id, type, title, message FROM service.notification ORDER BY 1"
    )
    assert [tuple(note) for note in notes] == [
        ("ann", "goal_reminder", "Ruht seit zwei Wochen", "Zehn Bücher lesen"),
        ("ben", "goal_reminder", "At rest for two weeks", "Read ten books"),
    ]


async def test_a_goal_that_was_closed_meanwhile_is_not_mentioned(world: World) -> None:
    await world.live(user(), goal("g1", created_at=_made(20)))
    await _run(world)
    await world.live(goal("g1", open=False, created_at=_made(20)))

    await world.delivery(Scripted()).run_once()

    assert await world.mails() == {"ann": ("skipped", "revalidated_away")}


@pytest.mark.parametrize(
    ("preferences", "planned"),
    [
        (Preferences(), {"planned": 1, "in_app": 1}),
        (Preferences(reminders=False), {"pref_category_off": 1}),
        (Preferences(kinds={KIND.name: False}), {"pref_category_off": 1}),
        (Preferences(kinds={"daily": False}), {"planned": 1, "in_app": 1}),
    ],
)
async def test_it_obeys_what_the_dashboard_says(
    world: World, preferences: Preferences, planned: dict[str, int]
) -> None:
    await world.live(user(preferences=preferences), goal("g1", created_at=_made(20)))

    assert await _run(world) == planned


async def test_it_counts_as_a_nudge_together_with_those_of_the_service(world: World) -> None:
    await world.live(user(last_login_at=_made(3), created_at=_made(90)), goal("g1", created_at=_made(20)))
    await world.at("2026-03-20T09:00:00Z")
    await (await world.runner()).run_manual("reminder.inactiveUsers")

    assert await _run(world) == {"cap_daily": 1, "in_app": 1}


async def test_people_choose_an_hour_of_their_own_for_it(world: World) -> None:
    await world.live(user())
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, hours) VALUES ('ann', $1)", {KIND.name: 7}
    )

    group = await world.pool.fetchval(
        "SELECT service.slot_group(timezone, hours, $1) FROM service.recipient", JOB.own_hours
    )

    assert group == "Europe/Berlin@7"


async def test_figures_of_such_a_package_are_a_run_like_any_other(world: World) -> None:
    await world.live(user(), goal("g1", created_at=_made(90)), goal("g2", created_at=_made(3)))
    await world.at(ELEVEN)

    result = await (await world.runner()).run_manual("analytics.acme.goalAges")

    assert (result.state, dict(result.counts)) == ("succeeded", {"young": 1, "old": 1})
