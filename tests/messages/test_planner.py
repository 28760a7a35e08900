"""The planner decides about a page in pieces, and holds the messages of few people at a time."""

import pytest

from service.messages import delivery_rows
from tests.given import GOALS, World, goal, user

_PEOPLE = 250


async def test_a_page_of_many_is_planned_a_hundred_at_a_time_and_counted_as_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:03d}" for n in range(_PEOPLE)]
    due = ("2026-03-11", "2026-03-15")  # tomorrow, or on no day of which anybody is told
    goals = [goal(f"g-{name}", name, due[n % 5 == 0]) for n, name in enumerate(names)]
    await world.live(*map(user, names), *goals)
    together = []
    plan = delivery_rows.plan

    async def counted(*args: object) -> set[tuple[str, str]]:
        together.append(len(args[-1]))  # type: ignore[arg-type]
        return await plan(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery_rows, "plan", counted)
    await (await world.runner()).run_manual(GOALS)

    assert together == [160, 160, 80], "a mail and a notification each"
    row = await world.pool.fetchrow("SELECT done, counts FROM service.job_run")
    assert row
    assert (row["done"], row["counts"]) == (250, {"planned": 200, "in_app": 200, "not_due": 50})
