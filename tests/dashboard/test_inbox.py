"""One suite over both dashboards: notifications reach the dashboard's own inbox, once, if they hold."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from pymongo import MongoClient

from service.dashboard.mongo import MongoSource
from service.dashboard.notification import Notification, digest
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.errors import InboxClosed, SourceUnavailable
from service.messages.in_app.inbox import DashboardInbox
from service.messages.planner import PlannerSettings
from service.web.api import in_app
from tests import mongo
from tests.dashboard.conftest import INBOX, Dashboard, MongoDashboard, PostgresDashboard
from tests.dashboard.test_notification import note
from tests.given import GOALS, NINE_IN_BERLIN, World, composer
from tests.process import spawn

pytestmark = pytest.mark.either_dashboard

_MONTH = timedelta(days=30)


class Stage:
    """A dashboard, this service beside it, and the loop between them."""

    def __init__(self, pool: asyncpg.Pool, dashboard: Dashboard) -> None:
        self.pool = pool
        self.world = World(pool)
        self.dashboard = dashboard
        self.sync = Sync(pool, dashboard.source)
        self.inbox = self.inbox_on(dashboard.source)

    def inbox_on(self, source: Source, **changes: Any) -> DashboardInbox:
        return DashboardInbox(
            self.pool,
            source.notify,
            self.sync.current_state,
            self.world.jobs,
            self.world.replacements(settings=PlannerSettings("example.org", to_dashboard=True)),
            composer().notice,
            **changes,
        )

    async def people(self, *numbers: int, goals: int = 1, title: str = "Goal", **user: Any) -> None:
        """Each with goals due tomorrow; the n-th goal of person 1 is 1n."""
        for n in numbers:
            values = {
                "name": f"Person {n}",
                "email": f"p{n}@example.org",
                "timezone": "Europe/Berlin",
                **user,
            }
            await self.dashboard.put("users", n, active=True, **values)
            for g in range(goals):
                await self.goal(n * 10 + g, n, title=f"{title} {g}")

    async def goal(self, number: int, owner: int, *, status: str = "active", title: str = "Goal") -> None:
        due = datetime(2026, 3, 11, tzinfo=UTC)
        await self.dashboard.put("goals", number, user=owner, title=title, status=status, due=due)

    async def plan(self) -> None:
        """Nine o'clock in Berlin: everybody's notification is decided."""
        await self.world.at(NINE_IN_BERLIN.isoformat())
        await self.sync.run_once()
        runner = await self.world.runner(to_dashboard=True)
        assert (await runner.run_manual(GOALS)).state == "succeeded"

    async def kept(self) -> dict[str, tuple[Any, ...]]:
        """Person to: delivered, withdrawn, waiting; state, reason."""
        rows = await self.pool.fetch(
            "SELECT n.user_id, n.delivered_at IS NOT NULL, n.withdrawn_at IS NOT NULL,"
            " n.write_at IS NOT NULL, d.state, d.reason"
            " FROM service.notification AS n JOIN service.delivery_with_state AS d ON d.id = n.delivery_id"
        )
        return {row[0]: tuple(row)[1:] for row in rows}


DELIVERED = (True, False, False, "sent", None)
WAITING = (False, False, True, "sent", None)


def withdrawn(state: str, reason: str) -> tuple[Any, ...]:
    return False, True, False, state, reason


@pytest.fixture
async def stage(pool: asyncpg.Pool, dashboard: Dashboard) -> Stage:
    """The stage on each of the two dashboards, which has an inbox."""
    await dashboard.open_inbox()
    return Stage(pool, dashboard)


# ── What is written ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_notification_arrives_as_the_dashboard_expects_it(stage: Stage) -> None:
    key = stage.dashboard.key
    await stage.people(1)
    await stage.plan()

    assert await stage.inbox.run_once() == 1

    (found,) = await stage.dashboard.notes()
    found.pop("colour", None)  # a column of the dashboard's own, left to its default
    assert found == {
        "id": digest(f"goalDeadlines:{key(1)}:2026-03-10")[:12].hex(),
        "user_id": key(1), "type": "goal_deadline", "title": "Due tomorrow", "message": "Goal 0",
        "data": {"goalIds": [key(10)]}, "related_id": key(10), "related_model": "Goal", "priority": "high",
        "channels": {"inApp": True, "email": False, "push": False}, "status": "sent",
        "scheduled_for": NINE_IN_BERLIN, "sent_at": NINE_IN_BERLIN,
        "action": {"type": "navigate", "url": f"/goals/{key(10)}", "buttonText": "Open goal"},
        "expires_at": NINE_IN_BERLIN + _MONTH, "created_at": NINE_IN_BERLIN, "updated_at": NINE_IN_BERLIN,
    }  # fmt: skip
    assert await stage.kept() == {key(1): DELIVERED}
    assert stage.inbox.problem is None


async def test_what_was_planned_under_in_app_service_stays_here(stage: Stage) -> None:
    await stage.people(1)
    await stage.world.at(NINE_IN_BERLIN.isoformat())
    await stage.sync.run_once()
    await (await stage.world.runner()).run_manual(GOALS)

    assert await stage.inbox.run_once() == 0
    assert await stage.dashboard.notes() == []


async def test_batches_of_two_processes_share_the_work(stage: Stage) -> None:
    await stage.people(*range(1, 13))
    await stage.plan()
    pair = [stage.inbox_on(stage.dashboard.source, batch=3) for _ in "ab"]

    decided = 0
    while got := sum(await asyncio.gather(*(inbox.run_once() for inbox in pair))):
        decided += got

    assert decided == len(await stage.dashboard.notes()) == 12
    assert set((await stage.kept()).values()) == {DELIVERED}


async def test_hostile_words_arrive_as_words(stage: Stage) -> None:
    title = "$set {{7*7}} '; DROP TABLE notifications; -- <b>\u202e🎯🎯\" \\u0000"
    await stage.people(1, title=title)
    await stage.plan()

    await stage.inbox.run_once()

    (found,) = await stage.dashboard.notes()
    assert found["message"] == "$set {{7*7}} '; DROP TABLE notifications; -- <b>🎯🎯\" \\u0000 0"


# ── Once ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_writing_again_changes_nothing_not_even_what_was_read(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()
    await stage.inbox.run_once()
    await stage.dashboard.mark_read()
    await stage.pool.execute("UPDATE service.notification SET write_at = service.now(), title = 'Other'")

    assert await stage.inbox.run_once() == 1

    (found,) = await stage.dashboard.notes()
    assert (found["status"], found["title"]) == ("read", "Seen")
    assert await stage.kept() == {stage.dashboard.key(1): DELIVERED}


async def test_a_process_killed_between_the_write_and_the_mark_leaves_one_of_each(
    stage: Stage, dsn: str
) -> None:
    await stage.people(1, 2, 3)
    await stage.plan()
    arguments = ("tests.dashboard.inbox_worker", dsn, stage.dashboard.profile, *stage.dashboard.address())
    pipe = asyncio.subprocess.PIPE
    victim = await spawn(sys.executable, "-m", *arguments, stdout=pipe)
    assert victim.stdout
    try:
        async with asyncio.timeout(60):
            assert await victim.stdout.readline() == b"written 3 {}\n"
        assert set((await stage.kept()).values()) == {WAITING}
        before = await stage.dashboard.notes()
        await stage.dashboard.mark_read()
        os.kill(victim.pid, signal.SIGKILL)
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()

    async with asyncio.timeout(60):
        while not await stage.inbox.run_once():  # until our PostgreSQL has noticed the death
            await asyncio.sleep(0.02)

    after = await stage.dashboard.notes()
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert {one["status"] for one in after} == {"read"}
    assert set((await stage.kept()).values()) == {DELIVERED}


# ── Only what still holds ───────────────────────────────────────────────────────────────────────────────────


async def test_what_no_longer_holds_is_not_written_and_its_reason_is_kept(stage: Stage) -> None:
    key, put = stage.dashboard.key, stage.dashboard.put
    await stage.people(*range(1, 8))
    await stage.plan()
    await stage.goal(10, 1, status="completed")
    await stage.dashboard.remove("users", 2)
    await put("users", 3, name="Three", email="p3@example.org", active=False)
    off = {"notifications": {"goalReminders": False}}
    await put("users", 4, name="Four", email="p4@example.org", active=True, preferences=off)
    overrides = "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
    await stage.pool.execute(f"{overrides} VALUES ($1, 'deadlines', 'in_app', false, 'page')", key(5))
    pauses = "INSERT INTO service.recipient_setting (user_id, paused_until) VALUES ($1, '2026-03-12')"
    await stage.pool.execute(pauses, key(6))

    assert await stage.inbox.run_once() == 7

    assert [one["user_id"] for one in await stage.dashboard.notes()] == [key(7)]
    assert await stage.kept() == {
        key(1): withdrawn("skipped", "revalidated_away"),
        key(2): withdrawn("skipped", "revalidated_away"),
        key(3): withdrawn("skipped", "inactive_account"),
        key(4): withdrawn("skipped", "pref_category_off"),
        key(5): withdrawn("skipped", "pref_category_off"),
        key(6): withdrawn("skipped", "paused_until"),
        key(7): DELIVERED,
    }
    unread = [await stage.pool.fetchval(in_app._SQL["unread"], key(n)) for n in (1, 7)]
    assert unread == [0, 1]  # and this service's inbox shows no more


async def test_of_two_goals_the_one_still_open_is_named_alone(stage: Stage) -> None:
    key = stage.dashboard.key
    await stage.people(1, goals=2)
    await stage.plan()
    assert await stage.pool.fetchval("SELECT message FROM service.notification") == "Goal 0 and 1 more"
    await stage.goal(10, 1, status="completed")

    await stage.inbox.run_once()

    (found,) = await stage.dashboard.notes()
    assert (found["message"], found["related_id"]) == ("Goal 1", key(11))
    assert found["action"] == {"type": "navigate", "url": f"/goals/{key(11)}", "buttonText": "Open goal"}
    assert await stage.pool.fetchval("SELECT message FROM service.notification") == "Goal 1"


async def test_quiet_hours_are_kept_and_then_it_arrives(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()
    hours = "INSERT INTO service.recipient_setting (user_id, quiet_start, quiet_end)"
    await stage.pool.execute(f"{hours} VALUES ($1, '08:00', '11:00')", stage.dashboard.key(1))

    await stage.inbox.run_once()
    assert await stage.dashboard.notes() == []
    assert (await stage.kept())[stage.dashboard.key(1)][-1] == "quiet_hours"
    await stage.world.at("2026-03-10T09:59:59Z")
    assert await stage.inbox.run_once() == 0
    await stage.world.at("2026-03-10T10:00:00Z")
    await stage.inbox.run_once()

    assert len(await stage.dashboard.notes()) == 1
    assert await stage.kept() == {stage.dashboard.key(1): DELIVERED}


async def test_one_that_expired_before_it_could_be_written_is_not_written(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()
    await stage.world.at("2026-04-09T08:00:00Z")

    assert await stage.inbox.run_once() == 1
    assert await stage.dashboard.notes() == []
    assert await stage.kept() == {stage.dashboard.key(1): withdrawn("expired", "stale")}


async def test_one_that_is_to_be_seen_later_waits(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()
    await stage.world.at("2026-03-10T07:59:59Z")

    assert await stage.inbox.run_once() == 0
    assert await stage.kept() == {stage.dashboard.key(1): WAITING}


# ── An inbox that is closed, and one that refuses ───────────────────────────────────────────────────────────


async def test_without_an_inbox_notifications_wait_and_arrive_when_it_opens(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    stage = Stage(pool, dashboard)
    what = "collection" if dashboard.profile == "A" else "table"
    assert await stage.inbox.run_once() == 0  # told before there is anything to write
    assert stage.inbox.problem == (
        f"IN_APP=dashboard: the dashboard has no {what} notifications; create it,"
        " or set IN_APP=service to keep notifications here"
    )
    await stage.people(1, 2)
    await stage.plan()
    assert await stage.inbox.run_once() == 0
    assert set((await stage.kept()).values()) == {WAITING}
    assert "notifications" not in await dashboard.source.table_names()

    await dashboard.open_inbox()

    assert await stage.inbox.run_once() == 2
    assert stage.inbox.problem is None
    assert len(await dashboard.notes()) == 2


async def test_an_inbox_that_opens_while_nothing_waits_is_noticed(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    stage = Stage(pool, dashboard)
    await stage.inbox.run_once()
    assert stage.inbox.problem
    await dashboard.open_inbox()
    await stage.inbox.run_once()
    assert stage.inbox.problem is None


async def test_one_that_the_dashboard_refuses_stops_no_other_and_is_tried_again(stage: Stage) -> None:
    key = stage.dashboard.key
    await stage.people(1, 2, 3)
    await stage.plan()
    await stage.pool.execute(
        "UPDATE service.notification SET type = 'system_update' WHERE user_id = $1", key(2)
    )
    await stage.dashboard.refuse("system_update")

    await stage.inbox.run_once()

    assert [one["user_id"] for one in await stage.dashboard.notes()] == [key(1), key(3)]
    assert (await stage.kept())[key(2)] == (False, False, True, "sent", "refused_by_dashboard")
    assert await stage.pool.fetchval(
        "SELECT detail FROM service.delivery_with_state WHERE detail IS NOT NULL"
    )
    assert "refused 1 notifications" in (stage.inbox.problem or "")
    assert await stage.inbox.run_once() == 0

    await stage.dashboard.refuse("nothing")
    if stage.dashboard.profile == "PG":
        assert isinstance(stage.dashboard, PostgresDashboard)
        await stage.dashboard.connection.execute(
            "ALTER TABLE notifications DROP CONSTRAINT notifications_type_check"
        )
    await stage.world.at("2026-03-10T09:00:00Z")
    assert await stage.inbox.run_once() == 1
    assert (await stage.kept())[key(2)] == DELIVERED
    assert stage.inbox.problem is None


async def test_a_dashboard_that_is_down_or_slow_costs_nothing(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()

    async def down(_notes: Sequence[Notification]) -> dict[str, str]:
        raise SourceUnavailable("the dashboard does not answer")

    async def slow(_notes: Sequence[Notification]) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    for notify, said in ((down, "does not answer"), (slow, "longer than")):
        broken = DashboardInbox(
            stage.pool,
            notify,
            stage.sync.current_state,
            stage.world.jobs,
            stage.world.replacements(),
            composer().notice,
            timeout=0.5,
        )
        assert await broken.run_once() == 0
        assert said in (broken.problem or "")
        assert set((await stage.kept()).values()) == {WAITING}
    await stage.inbox.run_once()
    assert set((await stage.kept()).values()) == {DELIVERED}


# ── What is particular to one kind ──────────────────────────────────────────────────────────────────────────


async def test_a_postgres_role_that_may_not_write_is_told_what_to_grant(
    pool: asyncpg.Pool, postgres_dashboard: PostgresDashboard
) -> None:
    dashboard = postgres_dashboard
    await dashboard.open_inbox()
    stage = Stage(pool, dashboard)
    await stage.people(1)
    await stage.plan()
    role = f"reader_{os.urandom(4).hex()}"
    await dashboard.connection.execute(
        f"CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    sign = "&" if "?" in dashboard.url else "?"
    reader = PostgresSource(f"{dashboard.url}{sign}role={quote(role)}")
    inbox = stage.inbox_on(reader)
    try:
        assert await inbox.run_once() == 0
        assert "GRANT SELECT, INSERT ON notifications" in (inbox.problem or "")
        assert set((await stage.kept()).values()) == {WAITING}

        await dashboard.connection.execute(f"GRANT INSERT (id) ON notifications TO {role}")
        assert await inbox.run_once() == 0
        assert "permission denied for table notifications" in (inbox.problem or "")

        await dashboard.connection.execute(f"GRANT INSERT ON notifications TO {role}")
        assert await inbox.run_once() == 1
        assert len(await dashboard.notes()) == 1
    finally:
        await reader.close()
        await dashboard.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture(scope="module")
def guarded() -> Any:
    """A MongoDB with accounts."""
    with mongo.guarded() as found:
        yield found


async def test_a_mongodb_user_that_may_not_write_is_told_what_to_allow(
    guarded: tuple[str, MongoClient[dict[str, Any]]],
) -> None:
    address, client = guarded
    client["dash"].create_collection("notifications")
    client["admin"].command("createUser", "eve", pwd="eve", roles=[{"role": "read", "db": "dash"}])
    source = MongoSource(address.format("eve:eve"), database="dash")
    try:
        with pytest.raises(InboxClosed, match="allow find, insert and update there"):
            await source.notify([note()])
        client["admin"].command("grantRolesToUser", "eve", roles=[{"role": "readWrite", "db": "dash"}])
        assert await source.notify([note()]) == {}
    finally:
        await source.close()
    assert client["dash"]["notifications"].count_documents({}) == 1


async def test_a_mongodb_view_is_no_inbox(mongo_dashboard: MongoDashboard) -> None:
    await mongo_dashboard.database.create_collection("notifications", viewOn="users", pipeline=[])
    with pytest.raises(InboxClosed, match="may not be written to"):
        await mongo_dashboard.source.notify([note()])


async def test_ids_of_mongodb_are_object_ids_where_they_look_like_it(mongo_dashboard: MongoDashboard) -> None:
    await mongo_dashboard.open_inbox()
    oid = mongo_dashboard.oid(7)
    texts = [note(), note(key="k", user_id=str(oid), data={"goalIds": [str(oid)]})]
    assert await mongo_dashboard.source.notify(texts) == {}
    found = {
        one["userId"]: one for one in await mongo_dashboard.database["notifications"].find().to_list(None)
    }
    assert found.keys() == {"ann", oid}
    assert found[oid]["relatedId"] == oid


async def test_a_table_with_uuids_and_few_columns_gets_what_it_has(
    postgres_dashboard: PostgresDashboard,
) -> None:
    await postgres_dashboard.connection.execute(
        "CREATE TABLE notifications (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text, title text,"
        " message text, created_at timestamp, shouted text GENERATED ALWAYS AS (upper(title)) STORED)"
    )
    for _ in range(2):
        assert await postgres_dashboard.source.notify([note()]) == {}
    (found,) = await postgres_dashboard.connection.fetch("SELECT * FROM notifications")
    assert found["id"].bytes == digest(note().key)[:16]
    assert found["shouted"] == "DUE TOMORROW"
    assert found["created_at"] == datetime(2026, 3, 10, 8)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "CREATE TABLE notifications (id text PRIMARY KEY, title text, message text)",
            "no column user_id; add it",
        ),
        (INBOX.replace("id text PRIMARY", "id bigint PRIMARY"), "id is bigint.*make it text or uuid"),
        (INBOX.replace("id text PRIMARY KEY", "id text"), "not unique.*make it the primary key"),
    ],
)
async def test_a_table_that_cannot_hold_notes_is_told_apart(
    postgres_dashboard: PostgresDashboard, made: str, said: str
) -> None:
    await postgres_dashboard.connection.execute(made)
    with pytest.raises(InboxClosed, match=said):
        await postgres_dashboard.source.notify([])


async def test_a_server_that_cannot_be_written_to_is_told_apart(
    postgres_dashboard: PostgresDashboard,
) -> None:
    await postgres_dashboard.open_inbox()
    await postgres_dashboard.connection.execute(
        "CREATE FUNCTION standby() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE read_only_sql_transaction; END$$;"
        "CREATE TRIGGER standby BEFORE INSERT ON notifications EXECUTE FUNCTION standby()"
    )
    with pytest.raises(InboxClosed, match="let DASHBOARD_URL lead to its primary"):
        await postgres_dashboard.source.notify([note(user_id="1")])


async def test_ids_that_are_not_of_the_columns_type_are_refused_alone(
    postgres_dashboard: PostgresDashboard,
) -> None:
    await postgres_dashboard.open_inbox()
    refused = await postgres_dashboard.source.notify([note(user_id="1"), note(key="k", user_id="nobody")])
    assert refused.keys() == {"k"}
    assert "22P02" in refused["k"]
    assert len(await postgres_dashboard.notes()) == 1


async def test_a_rule_that_is_asked_at_the_end_of_the_transaction_is_asked_at_once(
    postgres_dashboard: PostgresDashboard,
) -> None:
    await postgres_dashboard.open_inbox()
    await postgres_dashboard.connection.execute(
        "INSERT INTO users (id) VALUES (1);"
        "ALTER TABLE notifications ADD FOREIGN KEY (user_id) REFERENCES users DEFERRABLE INITIALLY DEFERRED"
    )
    refused = await postgres_dashboard.source.notify([note(user_id="1"), note(key="k", user_id="2")])
    assert refused.keys() == {"k"}


async def test_reading_stays_read_only(postgres_dashboard: PostgresDashboard) -> None:
    await postgres_dashboard.open_inbox()
    await postgres_dashboard.source.notify([note(user_id="1")])
    assert isinstance(postgres_dashboard.source, PostgresSource)
    pool = await postgres_dashboard.source._open()
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("DELETE FROM notifications")
