"""A dashboard that forgets for a moment what it had: nobody loses a message for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.clock import SystemClock
from service.dashboard.canaries import CanaryAnswer
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.sync import Sync
from service.errors import AnswerDoubted
from service.messages.delivery import DeliveryLoop
from service.messages.in_app.inbox import DashboardInbox
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from tests.dashboard.conftest import Dashboard
from tests.given import GOALS, World, composer
from tests.smtp_server import RecordingServer

pytestmark = pytest.mark.either_dashboard

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

    async def plan(self, people: int = PEOPLE, **changes: Any) -> None:
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
        assert (await (await self.world.runner(**changes)).run_manual(GOALS)).state == "succeeded"

    def delivery(self, **changes: Any) -> DeliveryLoop:
        values = {"current_state": self.sync.current_state, "batch": 5, "connections": 2, **changes}
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

    async def __call__(self, query: StateQuery) -> DashboardState:
        async with self._turn:
            self._asked += 1
            if self._asked == self._at:
                await self._stage.dashboard.empty(self._collection)
        return await self._stage.sync.current_state(query)


@pytest.mark.parametrize("collection", ["users", "goals"])
async def test_a_table_emptied_while_mails_leave_costs_nobody_a_mail(stage: Stage, collection: str) -> None:
    await stage.plan()

    await stage.delivery(current_state=Emptied(stage, collection, at=4)).run_once()

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


# ── What is no canary ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("canaries", "missing", "doubtful"),
    [(20, 4, False), (20, 5, True), (3, 1, False), (3, 2, True), (2, 2, True), (1, 1, False), (0, 0, False)],
)
def test_more_than_a_fifth_of_the_canaries_is_too_many(canaries: int, missing: int, doubtful: bool) -> None:
    assert CanaryAnswer(5, 0, canaries, missing).doubtful is doubtful


@pytest.mark.parametrize(
    ("own", "own_missing", "canaries", "doubtful"),
    [
        (25, 25, 20, False),  # everybody in the batch is gone, twenty others are there
        (25, 11, 0, True),  # it is the whole table: 20 % and ten rows may go
        (25, 10, 0, False),
        (2, 2, 0, True),
        (1, 1, 0, False),
        (3, 2, 1, False),
    ],
)
def test_a_batch_about_nearly_the_whole_table_is_judged_as_the_table(
    own: int, own_missing: int, canaries: int, doubtful: bool
) -> None:
    assert CanaryAnswer(own, own_missing, canaries, 0).doubtful is doubtful


async def running(stage: Stage) -> None:
    """Person 1 runs a timer (session 1); there are 40 other sessions."""
    await stage.plan(2)
    for n in range(2, 42):
        await session(stage.dashboard, n)
    await session(stage.dashboard, 1, status="active" if stage.dashboard.profile == "A" else "running")
    await stage.sync.run_once(compare=True)


async def ask_about_the_running_session(stage: Stage) -> frozenset[str]:
    key = stage.dashboard.key(1)
    return (await stage.sync.current_state(StateQuery([key], [], [key]))).running_sessions


async def test_sessions_that_were_archived_are_not_missed(stage: Stage) -> None:
    await running(stage)
    assert await ask_about_the_running_session(stage)
    for n in range(2, 40):
        await stage.pool.execute(
            "INSERT INTO service.archived_session (id, user_id, month) VALUES ($1, $2, '2026-03-01')",
            stage.dashboard.key(n),
            stage.dashboard.key(1),
        )
        await stage.dashboard.remove("timer_sessions", n)

    assert await ask_about_the_running_session(stage) == {stage.dashboard.key(1)}


async def test_sessions_that_nobody_archived_are(stage: Stage) -> None:
    await running(stage)
    for n in range(2, 40):
        await stage.dashboard.remove("timer_sessions", n)

    with pytest.raises(AnswerDoubted, match="timer_sessions that it had"):
        await ask_about_the_running_session(stage)


async def test_what_the_copy_let_go_of_is_not_missed(stage: Stage) -> None:
    """Another process swept, or somebody was erased, since the last look of this one."""
    await stage.plan(40)
    for n in range(2, 32):
        await stage.dashboard.remove("users", n)
        await stage.pool.execute("DELETE FROM service.users WHERE id = $1", stage.dashboard.key(n))

    standing = await stage.sync.current_state(StateQuery([stage.dashboard.key(1)]))

    assert set(standing.users) == {stage.dashboard.key(1)}


async def test_people_who_left_since_the_last_sweep_are_not_missed_after_the_next_look(stage: Stage) -> None:
    """A tenth is gone and still in the copy: they are no canaries any more, so that no chance decides."""
    await stage.plan()
    for n in range(1, PEOPLE, 10):
        await stage.dashboard.remove("users", n)
    await stage.sync.run_once(compare=False)

    for _ in range(20):
        await stage.sync.current_state(StateQuery([stage.dashboard.key(2)]))
    assert stage.sync.health()["healthy"]


async def test_a_synchronisation_that_meets_an_empty_table_changes_no_canary(stage: Stage) -> None:
    await stage.plan()
    await stage.dashboard.empty("users")
    await stage.sync.run_once(compare=False)
    assert "users that it had" in stage.sync.health()["error"]

    await stage.delivery().run_once()
    assert await stage.states() == {"planned": PEOPLE}

    await stage.dashboard.refill("users")
    await stage.sync.run_once(compare=False)
    assert stage.sync.health()["healthy"]


async def test_a_process_that_never_synchronised_doubts_as_well(stage: Stage) -> None:
    await stage.plan()
    await stage.dashboard.empty("users")
    stage.sync = Sync(stage.pool, stage.dashboard.source)

    await stage.delivery().run_once()

    assert await stage.states() == {"planned": PEOPLE}


async def test_why_mails_wait_is_logged_once(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await stage.plan()
    await stage.dashboard.empty("users")

    await stage.delivery().run_once()
    assert capsys.readouterr().out.count("delivery waits for the dashboard") == 1

    await stage.dashboard.refill("users")


async def test_notifications_for_the_dashboards_inbox_wait_as_well(stage: Stage) -> None:
    await stage.dashboard.open_inbox()
    await stage.plan(30, to_dashboard=True)
    inbox = DashboardInbox(
        stage.pool,
        stage.dashboard.source.notify,
        stage.sync.current_state,
        stage.world.jobs,
        stage.world.replacements(),
        composer().notice,
    )
    await stage.dashboard.empty("users")

    assert await inbox.run_once() == 0
    assert "users that it had" in str(inbox.problem)
    assert await stage.dashboard.notes() == []

    await stage.dashboard.refill("users")
    assert await inbox.run_once() == 30
    assert inbox.problem is None
    assert len(await stage.dashboard.notes()) == 30
