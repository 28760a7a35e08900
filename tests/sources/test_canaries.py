"""A dashboard that forgets for a moment what it had: nobody loses a message for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.clock import SystemClock
from service.domain.standing import Standing
from service.mail.smtp import SmtpConfig, SmtpPool
from service.pipeline.delivery import Delivery
from service.sources.sync import Sync
from tests.given import GOALS, World
from tests.smtp_server import RecordingServer
from tests.sources.conftest import Dashboard

NINE = "2026-03-10T08:00:00Z"
LATER = "2026-03-10T08:01:00Z"
PEOPLE = 60


class Stage:
    """A dashboard with people who each get one mail, this service beside it, and a real SMTP server."""

    def __init__(self, pool: asyncpg.Pool, dashboard: Dashboard, server: RecordingServer) -> None:
        self.pool = pool
        self.world = World(pool)
        self.dashboard = dashboard
        self.server = server
        self.sync = Sync(pool, dashboard.source)
        config = SmtpConfig("127.0.0.1", server.port, "none", connections=2)
        self.transport = SmtpPool(config, SystemClock())

    async def plan(self, people: int = PEOPLE) -> None:
        """Nine in Berlin: everybody has a goal due tomorrow, and a mail that waits to be sent."""
        for n in range(1, people + 1):
            await self.dashboard.put(
                "users",
                n,
                name=f"Person {n}",
                email=f"p{n}@example.org",
                timezone="Europe/Berlin",
                active=True,
            )
            await self.dashboard.put(
                "goals", n, user=n, title=f"Goal {n}", status="active", due=datetime(2026, 3, 11, tzinfo=UTC)
            )
        await session(self.dashboard, 1)
        await self.world.at(NINE)
        await self.sync.run_once()
        assert (await (await self.world.runner()).run_manual(GOALS)).state == "succeeded"

    def delivery(self, **changes: Any) -> Delivery:
        values = {"standing": self.sync.standing, "batch": 5, "connections": 2, **changes}
        return self.world.delivery(self.transport, **values)

    async def states(self) -> Counter[str]:
        return Counter(state for state, _ in (await self.world.mails()).values())

    def received(self) -> list[str]:
        return sorted(one.recipient for one in self.server.accepted)


async def session(dashboard: Dashboard, n: int, status: str = "completed") -> None:
    started = datetime(2026, 3, 10, 7, 30, tzinfo=UTC)
    ended = {} if status != "completed" else {"ended": started + timedelta(minutes=25)}
    await dashboard.put(
        "timer_sessions",
        n,
        user=1,
        kind="focus",
        status=status,
        started=started,
        planned=1500,
        focus=0,
        **ended,
    )


@pytest.fixture
async def stage(pool: asyncpg.Pool, dashboard: Dashboard) -> AsyncIterator[Stage]:
    async with RecordingServer() as server:
        stage = Stage(pool, dashboard, server)
        yield stage
        await stage.transport.close()


def addresses(*numbers: int) -> list[str]:
    return sorted(f"p{n}@example.org" for n in numbers)


class Emptied:
    """Asks the dashboard; before the ``at``-th question a collection loses all its rows."""

    def __init__(self, stage: Stage, collection: str, at: int) -> None:
        self._stage, self._collection, self._at, self._asked = stage, collection, at, 0
        self._turn = asyncio.Lock()

    async def __call__(self, *ids: Any) -> Standing:
        async with self._turn:
            self._asked += 1
            if self._asked == self._at:
                await self._stage.dashboard.empty(self._collection)
        return await self._stage.sync.standing(*ids)


@pytest.mark.parametrize("collection", ["users", "goals"])
async def test_a_table_emptied_while_mails_leave_costs_nobody_a_mail(stage: Stage, collection: str) -> None:
    await stage.plan()

    await stage.delivery(standing=Emptied(stage, collection, at=4)).run_once()

    states = await stage.states()
    assert 0 < states["sent"] < PEOPLE
    assert states["sent"] + states["planned"] == PEOPLE
    red = stage.sync.health()
    assert not red["healthy"]
    assert f"without 20 of 20 {collection} that it had" in red["error"]

    await stage.dashboard.refill(collection)
    await stage.world.at(LATER)
    await stage.delivery().run_once()

    assert await stage.states() == {"sent": PEOPLE}
    assert stage.received() == addresses(*range(1, PEOPLE + 1))
    assert stage.sync.health()["healthy"]
    assert stage.sync.health()["error"] is None


async def test_a_few_people_who_are_really_gone_get_no_mail(stage: Stage) -> None:
    await stage.plan()
    for n in (3, 17, 40):
        await stage.dashboard.remove("users", n)

    await stage.delivery().run_once()

    mails = await stage.world.mails()
    gone = {stage.dashboard.key(n) for n in (3, 17, 40)}
    assert {person for person, mail in mails.items() if mail == ("skipped", "revalidated_away")} == gone
    assert await stage.states() == {"sent": PEOPLE - 3, "skipped": 3}
    assert stage.sync.health()["healthy"]


@pytest.mark.parametrize("people", [3, 12])
async def test_of_few_people_one_who_is_gone_gets_no_mail_and_the_others_theirs(
    stage: Stage, people: int
) -> None:
    await stage.plan(people)
    await stage.dashboard.remove("users", 2)

    await stage.delivery(batch=25).run_once()

    assert await stage.states() == {"sent": people - 1, "skipped": 1}
    assert stage.sync.health()["healthy"]


@pytest.mark.parametrize("batch", [1, 25])
async def test_few_people_of_whom_all_are_gone_at_once_are_waited_for(stage: Stage, batch: int) -> None:
    await stage.plan(3)
    await stage.dashboard.empty("users")

    await stage.delivery(batch=batch).run_once()

    assert await stage.states() == {"planned": 3}
    assert not stage.sync.health()["healthy"]

    await stage.dashboard.refill("users")
    await stage.world.at(LATER)
    await stage.delivery(batch=batch).run_once()

    assert await stage.states() == {"sent": 3}
