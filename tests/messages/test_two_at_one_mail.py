"""Who decides again about a mail, reports on it or lets it be tried now, while another has it in hand.

Each test notices that a condition is taken out; ``tests/guards.toml`` lists them.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import asyncpg
import pytest

from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.engine import queries
from service.messages import try_now as try_now_module
from service.messages.mail.smtp_reply import About
from service.messages.outbox import Outbox, Settlement
from service.messages.reason import Reason
from service.messages.suppression import Suppressions
from service.messages.try_now import WaitingFilter, try_now
from tests.given import GOALS, World, goal, user
from tests.interleaving import goes_on, waits

MAIL, NOTE = "email", "in_app"
_MAKE_DUE = queries.load(try_now_module.__file__)["make_due"]


@pytest.fixture
async def world(world: World) -> World:
    """Ann's mail and her notification are due at eight."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g-ann", "ann", "2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    return world


def _outbox(pool: Any) -> Outbox:
    return Outbox(pool, "a", timedelta(seconds=60))


@asynccontextmanager
async def _open(world: World) -> AsyncIterator[Any]:
    """A connection whose statements are all in one transaction, which is committed at the end."""
    async with world.pool.acquire() as connection, connection.transaction():
        yield connection


async def _claimed(pool: Any) -> tuple[int, int]:
    (claimed,) = await _outbox(pool).claim(5)
    return claimed.id, claimed.claim


async def _states(world: World) -> dict[tuple[str, bool], str]:
    """How messages stand, by channel and whether they take the place of another."""
    rows = await world.pool.fetch("SELECT channel, dedupe_key, state FROM service.delivery_with_state")
    return {(row["channel"], row["dedupe_key"].endswith(":r1")): row["state"] for row in rows}


# ── Decided again ───────────────────────────────────────────────────────────────────────────────────────────


async def _moved(world: World) -> DashboardState:
    """The goal is due today now."""
    await world.live(goal("g-ann", "ann", "2026-03-10"))
    return await world.current_state(StateQuery(users=["ann"], goals=["g-ann"], sessions=[], recent={}))


async def _note_replaced(world: World) -> dict[int, Reason]:
    """Decide again about the notification, and what has its key."""
    id_ = await world.pool.fetchval("SELECT id FROM service.delivery WHERE channel = 'in_app'")
    current = await _moved(world)
    async with world.pool.acquire() as connection, connection.transaction():
        return await world.replacements().replace(cast("asyncpg.Connection", connection), [id_], current)


async def _another_claim(world: World, id_: int, claim: int) -> tuple[int, int]:
    return id_, claim + 1


async def _ended(world: World, id_: int, claim: int) -> tuple[int, int]:
    await _outbox(world.pool).settle([Settlement(id_, claim, "failed")])
    return id_, claim


async def _sent_before(world: World, id_: int, claim: int) -> tuple[int, int]:
    await world.pool.execute("UPDATE service.delivery_state SET dot_at = service.now()")
    return id_, claim


@pytest.mark.parametrize("meanwhile", [_another_claim, _ended, _sent_before])
async def test_what_is_not_ours_or_may_have_been_sent_is_not_replaced(
    world: World, meanwhile: Callable[[World, int, int], Coroutine[Any, Any, tuple[int, int]]]
) -> None:
    mine = await meanwhile(world, *await _claimed(world.pool))
    before = await _states(world)

    assert await world.replacements().replace_mails([mine], await _moved(world)) == {}

    assert await _states(world) == before


async def test_a_mail_that_gets_its_dot_just_now_is_not_replaced(world: World) -> None:
    mine, current = await _claimed(world.pool), await _moved(world)

    async with _open(world) as connection:
        assert await _outbox(connection).mark_dots([mine])
        replaced = await waits(world.pool, world.replacements().replace_mails([mine], current))

    assert await replaced == {}
    assert await _states(world) == {(MAIL, False): "sending", (NOTE, False): "sent"}


@pytest.mark.parametrize(
    "how", ["state = 'sending', claim = 1", "state = 'failed', claim = 1", "dot_at = service.now()"]
)
async def test_a_mail_that_has_left_stays_when_its_notification_is_replaced(world: World, how: str) -> None:
    await world.pool.execute(f"UPDATE service.delivery_state SET {how}")
    before = (await _states(world))[MAIL, False]

    assert list((await _note_replaced(world)).values()) == [Reason.SUPERSEDED]

    assert await _states(world) == {
        (MAIL, False): before, (NOTE, False): "skipped", (NOTE, True): "sent",
    }  # fmt: skip


async def test_a_mail_that_another_claims_just_now_keeps_nobody_waiting(world: World) -> None:
    async with _open(world) as connection:
        await _claimed(connection)
        await goes_on(world.pool, _note_replaced(world))

    states = await _states(world)
    assert states == {(MAIL, False): "claimed", (NOTE, False): "skipped", (NOTE, True): "sent"}


@pytest.mark.parametrize("fate", ["read_at", "delivered_at", "withdrawn_at"])
async def test_a_notification_that_somebody_knows_stays_when_its_mail_is_replaced(
    world: World, fate: str
) -> None:
    mine = await _claimed(world.pool)
    await world.pool.execute(f"UPDATE service.notification SET {fate} = service.now()")

    assert await world.replacements().replace_mails([mine], await _moved(world)) == {
        mine[0]: Reason.SUPERSEDED
    }

    assert await _states(world) == {
        (MAIL, False): "skipped", (MAIL, True): "planned", (NOTE, False): "sent",
    }  # fmt: skip


async def test_a_notification_that_is_read_just_now_keeps_nobody_waiting(world: World) -> None:
    mine, current = await _claimed(world.pool), await _moved(world)

    async with _open(world) as connection:
        await connection.execute("UPDATE service.notification SET read_at = service.now()")
        await goes_on(world.pool, world.replacements().replace_mails([mine], current))

    assert await _states(world) == {
        (MAIL, False): "skipped", (MAIL, True): "planned", (NOTE, False): "sent",
    }  # fmt: skip


# ── Reports ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _sent(world: World, state: str = "sent") -> int:
    id_, _ = await _claimed(world.pool)
    await world.pool.execute("UPDATE service.delivery_state SET state = $1", state)
    return id_


def _suppressions(world: World) -> Suppressions:
    return Suppressions(world.pool, _outbox(world.pool))


async def _failure(world: World, about: About | None, id_: int, connection: Any = None) -> bool:
    return await _suppressions(world).record_failure(
        id_, "550", about, no_such_address=False, connection=connection
    )


@pytest.mark.parametrize("about", [About.ADDRESS, About.MAILBOX, About.US])
async def test_of_two_reports_at_once_one_counts(world: World, about: About) -> None:
    id_ = await _sent(world)

    async with _open(world) as connection:
        assert await _failure(world, about, id_, connection)
        second = await waits(world.pool, _failure(world, about, id_))

    assert not await second


async def test_of_two_complaints_at_once_one_counts(world: World) -> None:
    id_ = await _sent(world)
    complain = _suppressions(world).record_complaint

    async with _open(world) as connection:
        assert await complain(id_, "spam", connection)
        second = await waits(world.pool, complain(id_, "spam"))

    assert not await second


@pytest.mark.parametrize("report", ["record_arrival", "note_report"])
async def test_what_comes_after_a_failure_changes_nothing(world: World, report: str) -> None:
    id_ = await _sent(world, "unconfirmed")
    arrived = getattr(_suppressions(world), report)

    async with _open(world) as connection:
        assert await _failure(world, About.ADDRESS, id_, connection)
        late = await waits(world.pool, arrived(id_, "250"))

    assert not await late
    assert (await _states(world))[MAIL, False] == "bounced"


@pytest.mark.parametrize(
    ("about", "consequence"),
    [
        (About.MAILBOX, "SELECT rests FROM service.mailbox_rest"),
        (About.ADDRESS, "SELECT count(*) FROM service.suppression"),
    ],
)
async def test_two_that_fail_at_once_and_one_before_are_three(
    world: World, about: About, consequence: str
) -> None:
    first = await _sent(world)
    copies = [
        await world.pool.fetchval(
            "INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date,"
            " template, locale, address, facts, message_id, message_date, token, not_before, expires_at,"
            " state) SELECT dedupe_key || $2::text, channel, job, kind, user_id, zone, local_date,"
            " template, locale, address, facts, message_id || $2, message_date, token || $2, not_before,"
            " expires_at, 'sent' FROM service.delivery WHERE id = $1 RETURNING id",
            first,
            str(n),
        )
        for n in range(2)
    ]
    assert await _failure(world, about, first)

    async with _open(world) as connection:
        assert await _failure(world, about, copies[0], connection)
        second = await waits(world.pool, _failure(world, about, copies[1]))

    assert await second
    assert await world.pool.fetchval(consequence) == 1


# ── Try now ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_mail_that_another_claims_just_now_is_not_made_due(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO service.domain_pause (domain, failures, until, reply)"
        " VALUES ('example.org', 1, service.now() + interval '1 hour', '421')"
    )

    async def now() -> int:
        async with world.pool.acquire() as connection, connection.transaction():
            return (await try_now(WaitingFilter(), 10, connection)).tried

    async with _open(world) as connection:
        await connection.execute("UPDATE service.delivery_state SET claim = 1, state = 'claimed'")
        assert await goes_on(world.pool, now()) == 0


async def test_a_mail_that_is_claimed_or_due_already_is_left_as_it_is(world: World) -> None:
    ids = [await world.pool.fetchval("SELECT id FROM service.delivery_state")]
    due = "SELECT not_before FROM service.delivery_state"
    before = await world.pool.fetchval(due)
    await world.at("2026-03-10T09:00:00Z")
    assert len(await world.pool.fetch(_MAKE_DUE, ids)) == 1
    assert await world.pool.fetchval(due) == before
    await _claimed(world.pool)

    assert await world.pool.fetch(_MAKE_DUE, ids) == []


async def test_a_pause_that_is_over_is_not_ended_again(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO service.domain_pause (domain, failures, until, reply)"
        " VALUES ('example.org', 1, service.now(), '421')"
    )
    async with world.pool.acquire() as connection, connection.transaction():
        assert (await try_now(WaitingFilter(domain="example.org"), 10, connection)).domains == ()
