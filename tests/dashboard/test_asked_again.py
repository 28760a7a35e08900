"""Before a mail leaves, the dashboard is asked for what decided it; what changed is decided again, once.

The steps are those of copy_drift, scenarios 1 to 3, and what a crash, a second process or a late one does.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import asyncpg
import pytest

from service.clock import SystemClock
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.sync import Sync
from service.engine.run import RunRequest
from service.messages.delivery import DeliveryLoop
from service.messages.in_app.inbox import DashboardInbox
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.outbox import Outbox
from service.messages.planner import PlannerSettings
from service.messages.reason import Reason
from tests.dashboard.conftest import Dashboard, MongoDashboard, PostgresDashboard
from tests.given import GOALS, World, composer
from tests.messages.asking import Asking
from tests.process import spawn
from tests.smtp_server import RecordingServer

pytestmark = pytest.mark.either_dashboard

INACTIVE, DAILY = "reminder.inactiveUsers", "reminder.dailyCheck"
NINE = "2026-03-20T08:00:00Z"
TOMORROW = datetime(2026, 3, 21, tzinfo=UTC)
D5, D7, TODAY = (datetime(2026, 3, day, tzinfo=UTC) for day in (25, 27, 20))
AWAY_SINCE = datetime(2026, 3, 17, 9, tzinfo=UTC)
GONE, AGAIN = ("skipped", "revalidated_away"), ("skipped", "superseded")
SENT = ("sent", None)


class KeepingServer(RecordingServer):
    """Keeps each mail that it took as well."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[tuple[str, EmailMessage]] = []

    def _record(self, content: bytes, recipient: str, connection: int) -> None:
        super()._record(content, recipient, connection)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((recipient.partition("@")[0], mail))


class Stage:
    """A dashboard, its copy, a mail server, and what this service sends between them."""

    def __init__(self, pool: asyncpg.Pool, dashboard: Dashboard, server: KeepingServer) -> None:
        self.pool = pool
        self.world = World(pool)
        self.dashboard = dashboard
        self.sync = Sync(pool, dashboard.source)
        self.server = server
        self.transport = self.smtp()

    async def people(self, count: int, due: datetime = TOMORROW, **values: Any) -> None:
        """Person n has the goal n, due tomorrow; all were last there three days ago."""
        for n in range(1, count + 1):
            await self.person(n, **values)
            await self.goal(n, due)
        await self.world.at(NINE)
        await self.sync.run_once()

    async def person(self, n: int, **values: Any) -> None:
        usual = {"name": f"Person {n}", "email": f"p{n}@example.org", "timezone": "Europe/Berlin"}
        times = {"active": True, "last_login": AWAY_SINCE}
        await self.dashboard.put("users", n, **{**usual, **times, **values})

    async def goal(self, n: int, due: datetime | None, **values: Any) -> None:
        usual = {"user": n, "title": f"Goal {n}", "status": "active"}
        await self.dashboard.put("goals", n, **{**usual, "due": due, **values})

    async def session(self, n: int, started: datetime, **values: Any) -> None:
        ended = started + timedelta(minutes=25)
        usual = {"user": n, "kind": "focus", "status": "completed", "started": started, "ended": ended}
        await self.dashboard.put("timer_sessions", n, **{**usual, "planned": 1500, "focus": 1500, **values})

    async def plan(self, job: str = GOALS, at: str = NINE, **changes: Any) -> None:
        await self.world.at(at)
        assert (await (await self.world.runner(**changes)).run_manual(job)).state == "succeeded"

    def smtp(self) -> SmtpPool:
        """Connections of one process to the server."""
        return SmtpPool(SmtpConfig("127.0.0.1", self.server.port, "none", connections=2), SystemClock())

    def delivery(self, owner: str = "a", **changes: Any) -> DeliveryLoop:
        return self.world.delivery(
            changes.pop("transport", self.transport),
            owner,
            **{"current_state": self.sync.current_state, **changes},
        )

    async def send(self) -> list[str]:
        """Send what is due; the subjects of what arrived, by person."""
        before = len(self.server.mails)
        await self.delivery().run_once()
        return sorted(f"{who}: {mail['Subject']}" for who, mail in self.server.mails[before:])

    def text(self, person: str) -> str:
        """What somebody's mail says."""
        (mail,) = (mail for who, mail in self.server.mails if who == person)
        part = mail.get_body(("plain",))
        assert part is not None
        return " ".join(f"{mail['Subject']} {part.get_content()}".split())

    async def rows(self, channel: str = "email") -> dict[str, tuple[str, str | None]]:
        """State and reason of each message by its key, which names a person as p1."""
        rows = await self.pool.fetch(
            "SELECT dedupe_key, user_id, state, reason FROM service.delivery_with_state WHERE channel = $1",
            channel,
        )
        names = {self.dashboard.key(n): f"p{n}" for n in range(1, 30)}
        told = {}
        for row in rows:
            key = row["dedupe_key"].replace(f":{row['user_id']}:", f":{names[row['user_id']]}:")
            told[re.sub(":tz\\d+", ":tz", key)] = (row["state"], row["reason"])
        return told

    async def shown(self) -> list[str]:
        """The titles in our own inbox that stand."""
        rows = await self.pool.fetch(
            "SELECT title || ': ' || message AS said FROM service.notification WHERE withdrawn_at IS NULL"
        )
        return [row["said"] for row in rows]


@asynccontextmanager
async def _opened(pool: asyncpg.Pool, dashboard: Dashboard) -> AsyncIterator[Stage]:
    server = KeepingServer()
    async with server:
        stage = Stage(pool, dashboard, server)
        yield stage
        await stage.transport.close()


@pytest.fixture
async def stage(pool: asyncpg.Pool, dashboard: Dashboard) -> AsyncIterator[Stage]:
    async with _opened(pool, dashboard) as stage:
        yield stage


@pytest.fixture
async def mongo_stage(pool: asyncpg.Pool, mongo_dashboard: MongoDashboard) -> AsyncIterator[Stage]:
    """Where the kind of the dashboard makes no difference."""
    async with _opened(pool, mongo_dashboard) as stage:
        yield stage


def key(n: int, more: str = "", day: int = 20) -> str:
    return f"goalDeadlines:p{n}:2026-03-{day}{more}"


async def why(stage: Stage, job: str, n: int) -> str:
    """What is told to whoever asks why."""
    explainer = (await Asking.of(stage.world)).explainer
    return str((await explainer.explain(job, stage.dashboard.key(n)))["conclusion"])


# ── copy_drift, 2: dates ────────────────────────────────────────────────────────────────────────────────────


async def test_a_due_date_moved_by_a_script(stage: Stage) -> None:
    await stage.people(2)
    await stage.plan()
    await stage.goal(1, D5)

    assert await stage.send() == ["p2: Due tomorrow: Goal 2"]
    assert await stage.rows() == {key(1): GONE, key(2): SENT}
    assert [said for said in await stage.shown() if "Goal 1" in said] == []
    assert "not_due: None of the goals is due" in await why(stage, "goalDeadlines", 1)

    await stage.sync.run_once(compare=True)
    due = await stage.pool.fetchval(
        "SELECT due_date FROM service.goals WHERE id = $1", stage.dashboard.key(1)
    )
    assert due == D5.date()
    assert stage.sync.health()["healthy"]

    await stage.plan(at="2026-03-24T08:00:00Z")
    assert await stage.send() == ["p1: Due tomorrow: Goal 1", "p2: Overdue: Goal 2"]


@pytest.mark.parametrize("compared", [False, True])
async def test_whoever_was_moved_to_another_stage_is_told_that(stage: Stage, compared: bool) -> None:
    """Whether or not the copy has heard of it since the mails were planned."""
    await stage.people(6)
    await stage.plan()
    for n, due in ((1, D5), (2, D7), (3, TODAY)):
        await stage.goal(n, due)
    await stage.goal(4, None)
    if compared:
        await stage.sync.run_once(compare=True)

    assert await stage.send() == [
        "p2: Due in one week: Goal 2",
        "p3: Due today: Goal 3",
        "p5: Due tomorrow: Goal 5",
        "p6: Due tomorrow: Goal 6",
    ]
    expected = {key(1): GONE, key(2): AGAIN, key(2, ":r1"): SENT, key(3): AGAIN, key(3, ":r1"): SENT}
    expected |= {key(4): GONE, key(5): SENT, key(6): SENT}
    assert await stage.rows() == expected
    assert await stage.rows("in_app") == expected
    assert "Fri 27 Mar" in stage.text("p2")
    assert "Fri 20 Mar" in stage.text("p3")
    assert "tomorrow" not in stage.text("p2") + stage.text("p3")
    assert len({mail["Message-ID"] for _, mail in stage.server.mails}) == 4
    assert "It took the place of one that was superseded." in await why(stage, "goalDeadlines", 2)

    await stage.sync.run_once(compare=True)
    await stage.plan()
    assert await stage.send() == []


async def test_a_new_title_is_told_under_the_same_key(stage: Stage) -> None:
    await stage.people(2)
    await stage.plan()
    await stage.goal(1, TOMORROW, title="Renamed", target=10, current=5, unit="books")

    assert await stage.send() == ["p1: Due tomorrow: Renamed", "p2: Due tomorrow: Goal 2"]
    assert await stage.rows() == {key(1): SENT, key(2): SENT}
    assert "Goal 1" not in stage.text("p1")
    assert "5 / 10 books (50 %)" in stage.text("p1")


async def test_the_rest_of_a_message_is_told(mongo_stage: Stage) -> None:
    """Of two goals one was moved, far ahead."""
    stage = mongo_stage
    await stage.people(1)
    await stage.goal(11, TOMORROW, user=1)
    await stage.sync.run_once(compare=True)
    await stage.plan()
    await stage.goal(1, D5 + timedelta(days=9))

    assert await stage.send() == ["p1: Due tomorrow: Goal 11"]
    stages = await stage.pool.fetch(
        "SELECT stage_key FROM service.delivery_stage AS s JOIN service.delivery AS d ON d.id = s.delivery_id"
        " WHERE d.channel = 'email'"
    )
    assert [row["stage_key"] for row in stages] == [f"goalDeadlines:{stage.dashboard.key(11)}:2026-03-21:D1"]


async def test_a_date_that_moves_on_and_on_is_decided_twice_again_at_most(mongo_stage: Stage) -> None:
    stage = mongo_stage
    await stage.people(1)
    await stage.plan()
    dates = iter([D7, TODAY, TOMORROW])

    async def moved(query: StateQuery) -> DashboardState:
        await stage.goal(1, next(dates))
        return await stage.sync.current_state(query)

    await stage.delivery(current_state=moved).run_once()

    assert await stage.rows() == {key(1): AGAIN, key(1, ":r1"): AGAIN, key(1, ":r2"): GONE}
    assert stage.server.mails == []
    assert "The dashboard changed again after 2 replacements." in await why(stage, "goalDeadlines", 1)


async def test_without_any_date_left_everything_waits(stage: Stage) -> None:
    """A renamed field is no answer; the comparison says what is missing."""
    await stage.people(3)
    await stage.plan()
    await stage.dashboard.rename("goals", "due", "finish")
    if isinstance(stage.dashboard, PostgresDashboard):
        await stage.dashboard.connection.execute("ALTER TABLE goals ADD COLUMN due_at timestamptz")

    assert await stage.send() == []
    assert set((await stage.rows()).values()) == {("planned", None)}
    assert "no date (goals.due) for any of" in stage.sync.health()["error"]


# ── copy_drift, 3: log-ins and sessions ─────────────────────────────────────────────────────────────────────

TEN = "2026-03-20T09:00:00Z"
MORNING = datetime(2026, 3, 20, 5, tzinfo=UTC)
HALF_PAST_EIGHT = datetime(2026, 3, 20, 7, 30, tzinfo=UTC)


async def test_a_log_in_written_without_a_stamp(stage: Stage) -> None:
    await stage.people(4)
    for n in (1, 2):
        await stage.person(n, last_login=HALF_PAST_EIGHT)
    await stage.plan(INACTIVE, TEN)

    told = await stage.send()

    assert [mail.partition(":")[0] for mail in told] == ["p3", "p4"]
    ends = {key.partition(":p")[2][0]: row for key, row in (await stage.rows()).items()}
    assert ends == {"1": GONE, "2": GONE, "3": SENT, "4": SENT}
    assert "not_due: Away for 0 days: no step is due." in await why(stage, "inactiveUsers", 1)
    assert [row for row in (await stage.rows("in_app")).values() if row == GONE] == [GONE] * 2

    await stage.sync.run_once(compare=True)
    assert stage.sync.health()["healthy"]
    await stage.plan(INACTIVE, "2026-03-23T09:00:00Z")
    assert "inactiveUsers:p1:2026-03-20:1" in await stage.rows()


@pytest.mark.parametrize("job", [INACTIVE, DAILY])
async def test_a_session_that_the_copy_does_not_have(stage: Stage, job: str) -> None:
    """Before the slot, after it, running still; and one of the past that changes nothing."""
    await stage.people(5, last_login=AWAY_SINCE if job == INACTIVE else MORNING)
    await stage.session(9, AWAY_SINCE - timedelta(days=1), user=5)
    await stage.sync.run_once()
    slot = datetime(2026, 3, 20, 9 if job == INACTIVE else 17, tzinfo=UTC)
    await stage.plan(job, slot.isoformat())
    await stage.session(1, HALF_PAST_EIGHT)
    await stage.world.at((slot + timedelta(minutes=30)).isoformat())
    await stage.session(2, slot + timedelta(minutes=2))
    await stage.session(3, slot - timedelta(minutes=20), status="active", ended=None, focus=0)
    await stage.session(5, AWAY_SINCE - timedelta(days=1))

    told = await stage.send()

    assert [mail.partition(":")[0] for mail in told] == ["p4", "p5"]


async def test_an_absence_that_is_shorter_is_told_as_it_is(mongo_stage: Stage) -> None:
    """Seven days by the copy, three by the dashboard: the step and the key of that absence."""
    stage = mongo_stage
    await stage.people(1, last_login=AWAY_SINCE - timedelta(days=4))
    await stage.plan(INACTIVE, TEN)
    await stage.session(1, AWAY_SINCE)

    (told,) = await stage.send()

    assert "Your goals are waiting" in told
    assert await stage.rows() == {
        "inactiveUsers:p1:2026-03-13:2": AGAIN,
        "inactiveUsers:p1:2026-03-17:1:r1": SENT,
    }
    await stage.sync.run_once(compare=True)
    await stage.plan(INACTIVE, "2026-03-21T09:00:00Z")
    assert await stage.send() == []


async def test_whoever_is_forced_gets_it_all_the_same(mongo_stage: Stage) -> None:
    stage = mongo_stage
    await stage.people(1)
    for n in range(4):
        await stage.session(n + 1, HALF_PAST_EIGHT - timedelta(days=n), user=1)
    await stage.sync.run_once(compare=True)
    await stage.world.at("2026-03-20T17:00:00Z")
    request = RunRequest(user_id=stage.dashboard.key(1), force=True)
    await (await stage.world.runner()).run_manual(DAILY, request)

    assert len(await stage.send()) == 1


async def test_a_preference_switched_off_without_a_stamp(stage: Stage) -> None:
    await stage.people(2)
    await stage.plan()
    await stage.person(1, preferences={"notifications": {"email": False}})

    assert await stage.send() == ["p2: Due tomorrow: Goal 2"]
    assert await stage.rows() == {key(1): ("skipped", "pref_email_off"), key(2): SENT}


# ── copy_drift, 1: zones ────────────────────────────────────────────────────────────────────────────────────


async def _slot(stage: Stage, asking: Asking, at: str) -> list[str]:
    await stage.world.at(at)
    await asking.sweep()
    return await stage.send()


async def test_a_zone_written_without_a_stamp(stage: Stage) -> None:
    """The copy hears of it after nine in Tokyo: nothing there, one mail at nine in New York."""
    stage.world.jobs = {GOALS: stage.world.jobs[GOALS]}
    await stage.people(2, due=TOMORROW + timedelta(days=1), timezone="Asia/Tokyo")
    asking = await Asking.of(stage.world)
    await stage.person(1, timezone="America/New_York")

    assert await _slot(stage, asking, "2026-03-21T00:00:00Z") == ["p2: Due tomorrow: Goal 2"]
    rows = await stage.rows()
    assert rows == {key(1, ":tz", 21): ("skipped", "tz_change"), key(2, day=21): SENT}

    await stage.sync.run_once(compare=True)
    assert await _slot(stage, asking, "2026-03-21T13:00:00Z") == ["p1: Due tomorrow: Goal 1"]
    assert await stage.rows() == {**rows, key(1, day=21): SENT}
    zones = await stage.pool.fetchval(
        "SELECT count(*) FROM service.user_zone WHERE user_id = $1", stage.dashboard.key(1)
    )
    assert zones == 2


async def test_another_zone_with_the_same_clocks_is_no_move(mongo_stage: Stage) -> None:
    stage = mongo_stage
    stage.world.jobs = {GOALS: stage.world.jobs[GOALS]}
    await stage.people(1, due=TOMORROW + timedelta(days=1))
    asking = await Asking.of(stage.world)
    await stage.person(1, timezone="Europe/Paris")

    assert await _slot(stage, asking, "2026-03-21T08:00:00Z") == ["p1: Due tomorrow: Goal 1"]


# ── Once, whatever dies ─────────────────────────────────────────────────────────────────────────────────────


async def _moved(stage: Stage, people: Iterable[int]) -> None:
    for n in people:
        await stage.goal(n, D7)


@pytest.mark.long(only=True)
async def test_a_death_between_decision_and_end_loses_nothing_and_doubles_nothing(
    mongo_stage: Stage, dsn: str
) -> None:
    stage = mongo_stage
    await stage.people(3)
    await stage.plan()
    await _moved(stage, [1, 2])
    arguments = (dsn, *stage.dashboard.address(), str(stage.server.port))
    worker = await spawn(
        sys.executable, "-m", "tests.dashboard.replacing_worker", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout
    assert await worker.stdout.readline() == b"planned\n"
    worker.kill()
    await worker.wait()
    assert set(await stage.rows()) == {key(1), key(2), key(3)}

    await stage.world.at("2026-03-20T08:10:00Z")
    told = await stage.send()

    assert told == ["p1: Due in one week: Goal 1", "p2: Due in one week: Goal 2", "p3: Due tomorrow: Goal 3"]
    expected = {key(1): AGAIN, key(1, ":r1"): SENT, key(2): AGAIN, key(2, ":r1"): SENT, key(3): SENT}
    assert await stage.rows() == expected


async def test_two_processes_decide_again_once(mongo_stage: Stage) -> None:
    stage = mongo_stage
    await stage.people(12)
    await stage.plan()
    await _moved(stage, range(1, 9))

    processes = [stage.delivery(owner, batch=3, transport=stage.smtp()) for owner in ("a", "b")]
    await asyncio.gather(*(process.run_once() for process in processes))

    assert sorted(who for who, _ in stage.server.mails) == sorted(f"p{n}" for n in range(1, 13))
    rows = await stage.rows()
    assert {name for name, row in rows.items() if row == AGAIN} == {key(n) for n in range(1, 9)}
    assert sum(row == SENT for row in rows.values()) == 12


async def test_whoever_lost_the_lease_decides_nothing(mongo_stage: Stage) -> None:
    stage = mongo_stage
    await stage.people(1)
    await stage.plan()
    await _moved(stage, [1])
    slow = Outbox(stage.pool, "slow", timedelta(seconds=60))
    (claimed,) = await slow.claim(10)
    current = await stage.sync.current_state(StateQuery([claimed.user_id], claimed.facts["goal_ids"]))
    await stage.world.at("2026-03-20T08:10:00Z")
    await slow.recover()
    (again,) = await Outbox(stage.pool, "b", timedelta(seconds=60)).claim(10)

    replacements = stage.world.replacements()
    assert await replacements.replace_mails([(claimed.id, claimed.claim)], current) == {}
    assert await stage.rows() == {key(1): ("claimed", None)}
    assert await replacements.replace_mails([(again.id, again.claim)], current) == {
        again.id: Reason.SUPERSEDED
    }
    assert await replacements.replace_mails([(again.id, again.claim)], current) == {}


async def test_the_copy_keeps_its_one_writer(mongo_stage: Stage) -> None:
    """While the row is being written the mail goes back, unspent; the decision leaves nothing in the copy."""
    stage = mongo_stage
    await stage.people(1)
    await stage.plan()
    await _moved(stage, [1])
    async with stage.pool.acquire() as connection:
        writing = connection.transaction()
        await writing.start()
        await connection.execute("UPDATE service.goals SET title = title")
        assert await stage.send() == []
        await writing.rollback()
    row = await stage.pool.fetchrow(
        "SELECT state, attempt FROM service.delivery_with_state WHERE channel = 'email'"
    )
    assert row is not None
    assert tuple(row) == ("planned", 0)

    await stage.world.at("2026-03-20T08:00:05Z")
    assert await stage.send() == ["p1: Due in one week: Goal 1"]
    row = await stage.pool.fetchrow("SELECT due_date, digest IS NOT NULL AS known FROM service.goals")
    assert row is not None
    assert (row["due_date"], row["known"]) == (TOMORROW.date(), True)
    assert (
        await stage.pool.fetchval("SELECT count(*) FROM service.stale_day WHERE local_day = '2026-03-27'")
        == 0
    )


async def test_a_mail_that_may_have_been_sent_never_says_something_else(mongo_stage: Stage) -> None:
    stage = mongo_stage
    await stage.people(2)
    await stage.plan()
    await stage.pool.execute("UPDATE service.delivery_state SET dot_at = service.now()")
    await stage.goal(1, D7)
    await stage.goal(2, TOMORROW, title="Renamed")

    assert await stage.send() == ["p2: Due tomorrow: Goal 2"]
    assert await stage.rows() == {key(1): GONE, key(2): SENT}


# ── The dashboard's own inbox ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mails_first", [True, False])
async def test_notifications_for_the_dashboard_are_decided_again_too(stage: Stage, mails_first: bool) -> None:
    """Whoever asks first decides for both channels."""
    await stage.dashboard.open_inbox()
    await stage.people(3)
    await stage.plan(to_dashboard=True)
    await stage.goal(1, D7)
    await stage.goal(2, D5)
    settings = PlannerSettings("example.org", to_dashboard=True)
    replacements = stage.world.replacements(settings=settings)
    inbox = DashboardInbox(
        stage.pool, stage.dashboard.source.notify, stage.sync.current_state, stage.world.jobs,
        replacements, composer().notice,
    )  # fmt: skip

    async def write() -> None:
        while await inbox.run_once():
            pass

    async def send() -> None:
        await stage.delivery(replacements=replacements).run_once()

    steps: list[Callable[[], Awaitable[None]]] = [send, write] if mails_first else [write, send]
    for step in steps:
        await step()

    subjects = sorted(f"{who}: {mail['Subject']}" for who, mail in stage.server.mails)
    assert subjects == ["p1: Due in one week: Goal 1", "p3: Due tomorrow: Goal 3"]
    notes = [(note["user_id"], note["title"]) for note in await stage.dashboard.notes()]
    assert notes == [(stage.dashboard.key(1), "Due in one week"), (stage.dashboard.key(3), "Due tomorrow")]
    expected = {key(1): AGAIN, key(1, ":r1"): SENT, key(2): GONE, key(3): SENT}
    assert await stage.rows() == await stage.rows("in_app") == expected
