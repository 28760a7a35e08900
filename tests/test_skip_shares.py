"""A reason for which a job suddenly leaves out far more people than it used to is told at the top."""

from collections.abc import Iterable

import asyncpg
import pytest

from service.jobs import all_jobs
from service.manager.skip_shares import SkipShare
from tests.given import GOALS, World, goal, user
from tests.web.console.consoles import Console, console

PEOPLE = 40


def share(people: int, most: int, *, reason: str = "no_email", slots: int = 28, of: int = 300) -> SkipShare:
    return SkipShare("reminder.weeklyReview", reason, people, of, 7, slots, most, of)


@pytest.mark.parametrize(
    ("judged", "unusual"),
    [
        (share(286, 23), True),
        (share(70, 23), True),
        (share(69, 23), False),  # three times as many are not over three times
        (share(9, 0), False),
        (share(10, 0), True),
        (share(286, 23, slots=1), True),
        (share(286, 0, slots=0), False),  # nothing to compare with
        (share(286, 23, reason="cap_weekly", slots=6), False),  # new after three nudges
        (share(286, 23, reason="cap_weekly", slots=7), True),
    ],
)
def test_a_share_over_three_times_its_highest_is_unusual(judged: SkipShare, unusual: bool) -> None:
    assert judged.unusual is unusual


def test_the_sentence_says_how_many_and_how_many_before() -> None:
    assert share(286, 23).what == (
        "weeklyReview left out 286 of 300 people (95 %) as no_email,"
        " in the 28 slots before at most 23 of 300 people (8 %)"
    )


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool, {GOALS: all_jobs()[GOALS]})


async def _day(given: Console, day: int, without: Iterable[int]) -> None:
    """A day of March: everybody's goal is due the day after, and these have no address at nine o'clock."""
    missing = set(without)
    zones = ("Europe/Berlin", "Asia/Tokyo")
    await given.world.live(
        *(
            user(f"p{n}", zones[n % 2], email=None if n in missing else f"p{n}@example.org")
            for n in range(PEOPLE)
        ),
        *(goal(f"g{n}-{day}", f"p{n}", due=f"2026-03-{day + 1:02}") for n in range(PEOPLE)),
    )
    for at in ("00:00:30", "08:00:30", "12:00:00"):
        await given.world.at(f"2026-03-{day:02}T{at}Z")
        await given.trigger.sweep_once()
        while await given.runner.run_one():
            pass


async def test_a_third_of_all_addresses_is_gone(world: World) -> None:
    """More than a quarter of them is still there, so no job waits; the warning tells it all the same."""
    await world.at("2026-03-09T23:00:00Z")
    async with console(world) as given:
        await given.sign_in("the-viewer")
        for day in (10, 11, 12):
            await _day(given, day, without=(1, 2))
            assert given.manager.get_status()["warnings"] == []
            assert (await given.manager.health_check())["warnings"] == []

        await _day(given, 13, without=range(15))

        health = await given.manager.health_check()
        [warning] = health["warnings"]
        assert health["checks"]["reminder"]["status"] == "running"
        assert warning["what"] == (
            "goalDeadlines left out 15 of 40 people (38 %) as no_email,"
            " in the 3 slots before at most 2 of 40 people (5 %)"
        )
        assert given.manager.get_status()["warnings"] == [warning]
        page = await given.read("/console")
        assert f"<li><b>{warning['what']}.</b>" in page
        link = f"/console/runs/{warning['runId']}?reason=no_email"
        assert link in page
        assert "p14" in await given.read(link) or "p13" in await given.read(link)

        await _day(given, 14, without=(1, 2))
        assert (await given.manager.health_check())["warnings"] == []
