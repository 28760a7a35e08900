"""One look at what is wrong serves all requests of a moment."""

import asyncio
from collections.abc import Sequence
from unittest.mock import AsyncMock

import asyncpg

from service.engine.conditions import Condition, ConditionSeverity
from tests.web.given import ADMIN, Admin, admin

HEALTH = "/api/admin/jobs/health"


def _counted(given: Admin) -> list[int]:
    """One entry for each look from now on."""
    looks: list[int] = []

    async def look() -> Sequence[Condition]:
        looks.append(len(looks))
        return ()

    given.manager._conditions = look
    return looks


async def test_requests_of_a_moment_share_one_look(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        looks = _counted(given)
        asked = (given.client.get(HEALTH, headers=ADMIN) for _ in range(40))
        answers = await asyncio.gather(*asked)

        texts = {await answer.text() for answer in answers}

    assert len(texts) <= len(looks) < 5


async def test_what_a_request_changes_the_next_one_sees(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        looks = _counted(given)
        await given.client.get(HEALTH, headers=ADMIN)
        before = len(looks)
        pause, body = "/api/admin/jobs/reminder/goalDeadlines/pause", {"reason": "holidays"}
        paused = await given.client.post(pause, json=body, headers=ADMIN)
        assert paused.status == 200
        await given.client.get(HEALTH, headers=ADMIN)

    assert len(looks) == before + 1


async def test_a_problem_makes_health_red_and_a_warning_does_not(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        states = []
        for severity in (ConditionSeverity.WARNING, ConditionSeverity.PROBLEM):
            found = [Condition("broken", severity=severity, details={"what": "it is broken"})]
            given.manager._conditions = AsyncMock(return_value=found)
            states.append((await given.manager.health_check())["status"])

    assert states == ["healthy", "unhealthy"]
